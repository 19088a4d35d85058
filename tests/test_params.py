import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from ruamel.yaml import YAML  # what DVC reads and writes with

from kinetrack.errors import InputError
from kinetrack.params import SECTIONS, Section, load_params, load_section
from kinetrack.stages.train_params import TrainParams

ROOT = Path(__file__).parent.parent


class Train(Section):
    """A section with one key of every kind that Kinetrack has."""

    epochs: PositiveInt = 1
    learning_rate: PositiveFloat = 0.1
    seed: NonNegativeInt = 0
    mode: Literal["keep", "repeat"] = "keep"
    classes: PositiveInt | Literal["all"] | Annotated[list[str], Field(min_length=1)] = "all"


def params_text(*, train: str = "{epochs: 2}", dataset: str = "sample", extra: str = "") -> str:
    others = "".join(f"{name}: {{}}\n" for name in SECTIONS if name != "train")
    return f"dataset: {dataset}\n{others}train: {train}\n{extra}"


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    return tmp_path / "params.yaml"


def refusal(path: Path) -> str:
    """The one line with which the section `train` is refused."""
    with pytest.raises(InputError) as caught:
        load_section(Train, "train", path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line


def test_section_is_read_with_its_types(params_file: Path) -> None:
    params_file.write_text(params_text(train="{epochs: 3, learning_rate: 1, classes: [a, b]}"))
    read = load_section(Train, "train", params_file)
    assert read == Train(epochs=3, learning_rate=1.0, classes=["a", "b"])


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.e-4", "1.0e-4", "0.0001"])
def test_number_is_a_number_as_dvc_reads_it(params_file: Path, number: str) -> None:
    params_file.write_text(params_text(train=f"{{learning_rate: {number}}}"))
    assert load_section(Train, "train", params_file).learning_rate == 1e-4


@pytest.mark.parametrize(
    ("train", "key", "reason"),
    [
        ("{epoch: 2}", "unknown key train.epoch", "-> epochs? allowed here: epochs, learning_rate"),
        ("{banana: 2}", "unknown key train.banana", "-> allowed here: epochs, learning_rate"),
        ("{epochs: two}", "train.epochs", "valid integer, found 'two' -> docs/reference/params.md"),
        ("{epochs: '2'}", "train.epochs", "valid integer"),
        ("{epochs: 2.0}", "train.epochs", "valid integer"),
        ("{epochs: true}", "train.epochs", "valid integer, found 'True'"),
        ("{epochs: null}", "train.epochs", "valid integer"),
        ("{epochs: [1]}", "train.epochs", "valid integer"),
        ("{epochs: -1}", "train.epochs", "greater than 0, found '-1'"),
        ("{epochs: 0}", "train.epochs", "greater than 0"),
        ("{seed: -1}", "train.seed", "greater than or equal to 0"),
        ("{learning_rate: 0}", "train.learning_rate", "greater than 0"),
        ("{learning_rate: .nan}", "train.learning_rate", "finite number"),
        ("{learning_rate: .inf}", "train.learning_rate", "finite number"),
        ("{learning_rate: 1e999}", "train.learning_rate", "finite number"),
        ("{learning_rate: true}", "train.learning_rate", "valid number"),
        ("{learning_rate: '0.1'}", "train.learning_rate", "valid number"),
        ("{mode: skip}", "train.mode", "'keep' or 'repeat'"),
        ("{mode: 1}", "train.mode", "'keep' or 'repeat'"),
        ("{classes: 0}", "train.classes", "'all'"),
        ("{classes: []}", "train.classes", "at least 1 item"),
        ("{classes: [1]}", "train.classes", "valid string"),
        ("{classes: false}", "train.classes", "'all'"),
        ("{epochs: 0, seed: -1}", "train.epochs", "(and 1 more)"),
        ("[1, 2]", "section train", "not a mapping"),
        ("null", "section train", "not a mapping"),
    ],
)
def test_wrong_value_is_named_with_its_key(
    params_file: Path, train: str, key: str, reason: str
) -> None:
    params_file.write_text(params_text(train=train))
    line = refusal(params_file)
    assert key in line
    assert reason in line


@pytest.mark.parametrize("key", ["seed", "threads"])
def test_huge_number_is_refused_with_its_key(params_file: Path, key: str) -> None:
    values = load_params(ROOT / "params.yaml")["train"] | {key: 10**30}
    params_file.write_text(params_text(train=json.dumps(values)))
    with pytest.raises(InputError, match=f"train.{key}: .*less than"):
        load_section(TrainParams, "train", params_file)


def test_missing_key_is_named(params_file: Path) -> None:
    class Strict(Section):
        epochs: PositiveInt

    params_file.write_text(params_text(train="{}"))
    with pytest.raises(InputError, match=r"key train\.epochs is missing"):
        load_section(Strict, "train", params_file)


def test_misspelt_key_is_named_before_the_one_that_is_missing_for_it(params_file: Path) -> None:
    class Strict(Section):
        epochs: PositiveInt
        seed: NonNegativeInt

    params_file.write_text(params_text(train="{epoch: 2, seed: 0}"))
    with pytest.raises(InputError, match=r"unknown key train\.epoch \(and 1 more\) -> epochs\?"):
        load_section(Strict, "train", params_file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (params_text(extra="trian: {}"), "unknown key trian, expected only dataset, sample"),
        (params_text().replace("pack: {}\n", ""), "key pack is missing"),
        (params_text().replace("dataset: sample\n", ""), "key dataset is missing"),
        (params_text(extra="train: {}"), "the key train twice in line 11"),
        (params_text(train="{seed: 1, seed: 2}"), "the key seed twice"),
        (params_text(train="{1: 2}"), "a key that is no text (1)"),
        (params_text(train="{[1]: 2}"), "a key that is no text"),
        (params_text(train="{<<: {epochs: 1}}"), "unknown key train.<<"),
        (params_text(train="!!python/object:os.system {}"), "the tag"),
        (params_text(train="!!python/object/apply:os._exit [7]"), "the tag"),
        (params_text(train="&a {mode: *a}"), "an alias"),
        (params_text(train="[&a [x, x], &b [*a, *a], [*b, *b]]"), "an alias"),
        (params_text(train="[" * 1000), "is no valid YAML"),
        (params_text(train="{epochs: " + "9" * 5000 + "}"), "is no valid YAML"),
        (params_text(train="{epochs: 2026-13-45}"), "valid integer"),
        (params_text(train="{"), "is no valid YAML"),
        (params_text(extra="---\ndataset: other"), "is no valid YAML"),
        (params_text(train="\x00"), "is no valid YAML"),
        ("", "is not a mapping, expected the keys dataset"),
        ("[a]", "is not a mapping"),
        ("just words", "is not a mapping"),
        ("#" * 1_000_001, "is too large"),
    ],
)
def test_unusable_file_is_named_with_its_fault(params_file: Path, text: str, reason: str) -> None:
    params_file.write_text(text)
    assert reason in refusal(params_file)


def test_binary_file_is_named(params_file: Path) -> None:
    params_file.write_bytes(b"\x80\x02\xff")
    assert "cannot be read" in refusal(params_file)


def test_missing_file_is_named_with_the_remedy(params_file: Path) -> None:
    assert refusal(params_file).endswith("does not exist -> kinetrack preset sample")


def test_folder_in_place_of_the_file_is_named(params_file: Path) -> None:
    params_file.mkdir()
    assert "is no regular file" in refusal(params_file)


@pytest.mark.parametrize("name", ["sample", "ucf101", "hmdb-51", "0_a"])
def test_dataset_is_a_plain_name(params_file: Path, name: str) -> None:
    params_file.write_text(params_text(dataset=f"'{name}'"))
    assert load_params(params_file)["dataset"] == name


@pytest.mark.parametrize(
    "value",
    ['"../x"', "/etc", ".", "a/b", "UCF101", "-a", '"a\\n"', '"a b"', '""', "1", "null", "[a]"],
)
def test_dataset_that_is_no_plain_name_is_refused(params_file: Path, value: str) -> None:
    params_file.write_text(params_text(dataset=value))
    assert "dataset, found" in refusal(params_file)


@given(content=st.binary(max_size=60) | st.text(alphabet="{}[]:&*!-?|>%@\"' \n\ta1.e", max_size=60))
def test_any_content_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refusal(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4:2:0", "4:2:0"),
        ("no", "no"),
        ("010", 10),
        ("1e-4", 1e-4),
        ("-3", -3),
        ("+.5", 0.5),
        ("2.", 2.0),
        ("True", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
    ],
)
def test_values_are_read_as_dvc_reads_them(params_file: Path, text: str, value: object) -> None:
    params_file.write_text(params_text(train=f"{{key: {text}}}"))
    found = load_params(params_file)["train"]["key"]
    assert (found, type(found)) == (value, type(value))
    assert YAML(typ="safe").load(f"key: {text}")["key"] == value


@pytest.mark.parametrize("value", ["!!int '3'", "!!bool maybe", "!!timestamp abc", "!mine 3"])
def test_tag_is_refused(params_file: Path, value: str) -> None:
    params_file.write_text(params_text(train=f"{{epochs: {value}}}"))
    assert "the tag" in refusal(params_file)
