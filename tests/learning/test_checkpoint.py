import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import (
    CARD_NAME,
    TRAINED_NAME,
    WEIGHTS_NAME,
    load_model,
    read_card,
    read_trained_on,
    save_model,
    to_channels_last,
)
from kinetrack.learning.models import ModelName, build_model

from factories import model_card


def build(name: ModelName = "small_3dcnn", *, num_classes: int = 2, size: int = 16) -> nn.Module:
    """A network with weights from a fixed seed, for `size` frames of `size` px."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model(name, num_classes=num_classes, num_frames=size, size_px=size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved model of two classes."""
    save_model(tmp_path / "model", build(), model_card())
    return tmp_path / "model"


def replace_weights(folder: Path, content: bytes) -> None:
    """Put other bytes in place of the weights, with the checksum that belongs to them."""
    (folder / WEIGHTS_NAME).write_bytes(content)
    change_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def change_card(folder: Path, **values: object) -> None:
    card = json.loads((folder / CARD_NAME).read_text())
    (folder / CARD_NAME).write_text(json.dumps(card | values))


@pytest.mark.parametrize(("name", "size"), [("small_3dcnn", 16), ("lecture_3dcnn", 32)])
def test_loaded_model_gives_the_same_logits(tmp_path: Path, name: ModelName, size: int) -> None:
    model = to_channels_last(build(name, size=size))
    card = save_model(tmp_path, model, model_card(name, num_frames=size, size_px=size))
    loaded, loaded_card = load_model(tmp_path)
    clips = torch.rand(2, 3, size, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(loaded(clips), model.eval()(clips))
    assert loaded_card == card
    assert not loaded.training


def test_same_model_gives_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "again", to_channels_last(build()), model_card())
    for name in (WEIGHTS_NAME, CARD_NAME):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_folder_holds_weights_card_and_training_clips_alone(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == [CARD_NAME, TRAINED_NAME, WEIGHTS_NAME]


CLIPS = [f"{number:064x}" for number in (3, 1, 2)]


def test_model_knows_the_clips_that_it_was_trained_on(tmp_path: Path) -> None:
    card = save_model(tmp_path, build(), model_card(), trained_on=CLIPS)
    assert read_trained_on(tmp_path, card) == set(CLIPS)
    assert read_card(tmp_path) == card
    assert (tmp_path / TRAINED_NAME).read_text().split() == sorted(CLIPS)


def test_order_of_the_training_clips_does_not_change_the_bytes(tmp_path: Path) -> None:
    for name, clips in (("a", CLIPS), ("b", [*reversed(CLIPS), CLIPS[0]])):
        save_model(tmp_path / name, build(), model_card(), trained_on=clips)
    for file in (CARD_NAME, TRAINED_NAME):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_model_of_ten_thousand_clips_stays_small_and_readable(tmp_path: Path) -> None:
    clips = [f"{number:064x}" for number in range(10_000)]
    save_model(tmp_path, build(), model_card(), trained_on=clips)
    assert len((tmp_path / CARD_NAME).read_text().splitlines()) < 50
    assert (tmp_path / TRAINED_NAME).stat().st_size == 650_000


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_text(""), "is damaged"),
        (lambda path: path.write_bytes(pickle.dumps(CLIPS)), "is damaged"),
        (Path.unlink, "cannot be read"),
    ],
)
def test_damaged_list_of_training_clips_is_named(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    card = save_model(tmp_path, build(), model_card(), trained_on=CLIPS)
    damage(tmp_path / TRAINED_NAME)
    with pytest.raises(InputError, match=rf"trained_on\.txt: {reason}.* -> dvc repro"):
        read_trained_on(tmp_path, card)


@pytest.mark.parametrize("field", ["split_fingerprint", "trained_sha256"])
def test_card_of_a_model_without_memory_is_refused(folder: Path, field: str) -> None:
    values = json.loads((folder / CARD_NAME).read_text())
    del values[field]
    (folder / CARD_NAME).write_text(json.dumps(values))
    with pytest.raises(InputError, match=rf"is no model card, found {field}: Field required"):
        load_model(folder)


def test_card_says_what_the_weights_are(folder: Path) -> None:
    content = (folder / WEIGHTS_NAME).read_bytes()
    assert read_card(folder).weights_sha256 == hashlib.sha256(content).hexdigest()
    assert set(safetensors.torch.load(content)) == set(build().state_dict())


def flip_last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_last_bit, "is damaged, found sha256 [0-9a-f]{64}, expected [0-9a-f]{64}"),
        (cut_in_half, "is damaged"),
        (Path.unlink, "cannot be read, found No such file"),
    ],
)
def test_damaged_weights_are_named_with_the_remedy(
    folder: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(folder / WEIGHTS_NAME)
    with pytest.raises(InputError, match=rf"weights\.safetensors: {reason}.* -> dvc repro"):
        load_model(folder)


def test_weights_of_another_shape_are_named_in_one_line(folder: Path) -> None:
    replace_weights(folder, safetensors.torch.save(build(num_classes=3).state_dict()))
    with pytest.raises(InputError, match=r"does not fit model\.json.*head\.weight") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("weights", [{}, build("lecture_3dcnn", size=32).state_dict()])
def test_weights_of_another_network_are_named(folder: Path, weights: dict[str, Tensor]) -> None:
    replace_weights(folder, safetensors.torch.save(weights))
    with pytest.raises(InputError, match=r"does not fit model\.json"):
        load_model(folder)


class Attack:
    """Makes a file where the pickle that holds it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


def test_pickle_in_place_of_the_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    replace_weights(folder, pickle.dumps(Attack(tmp_path / "executed")))
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_model(folder)


def test_pickle_in_place_of_the_weights_is_not_run(folder: Path, tmp_path: Path) -> None:
    replace_weights(folder, pickle.dumps(Attack(tmp_path / "executed")))
    with pytest.raises(Exception):  # noqa: B017, PT011 - which one is the test above
        load_model(folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 20, b"\x08" + b"\0" * 7 + b"[]      "])
def test_weights_that_are_no_safetensors_are_refused(folder: Path, content: bytes) -> None:
    replace_weights(folder, content)
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"normalise": True}, "normalise: Extra inputs"),
        ({"format": 1}, "format: "),
        ({"model": "os.system"}, "model: .*'small_3dcnn', 'separable_3dcnn'"),
        ({"labels": "Walk"}, "labels: "),
        ({"divide_by": 1}, "divide_by: "),
        ({"parameters": 0}, "parameters: .*greater than 0"),
        ({"clip": {}}, r"clip\.num_frames: Field required"),
        ({"clip": None}, "clip: "),
    ],
)
def test_wrong_value_of_the_card_is_named(
    folder: Path, change: dict[str, object], reason: str
) -> None:
    change_card(folder, **change)
    with pytest.raises(InputError, match=rf"model\.json: is no model card, found {reason}"):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 5000])
def test_card_that_is_no_json_is_refused_in_one_line(folder: Path, content: bytes) -> None:
    (folder / CARD_NAME).write_bytes(content)
    with pytest.raises(InputError, match="is no model card") as caught:
        read_card(folder)
    assert "\n" not in str(caught.value)


def test_missing_card_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model\.json: cannot be read, found No such file.* -> "):
        load_model(tmp_path)


def test_card_of_a_clip_too_small_for_its_network_is_refused(folder: Path) -> None:
    change_card(folder, model="lecture_3dcnn")
    with pytest.raises(InputError, match="too small for model lecture_3dcnn"):
        load_model(folder)


def test_card_of_a_huge_network_is_refused_before_memory_is_spent(folder: Path) -> None:
    clip = model_card().clip.model_dump() | {"num_frames": 10**12, "size_px": 32, "resize_px": 32}
    change_card(folder, model="lecture_3dcnn", clip=clip)
    with pytest.raises(InputError):
        load_model(folder)


def test_card_of_huge_clips_is_refused_before_memory_is_spent(folder: Path) -> None:
    """Its network takes clips of any size."""
    clip = model_card().clip.model_dump() | {"num_frames": 20_000, "size_px": 200, "resize_px": 200}
    change_card(folder, clip=clip)
    with pytest.raises(
        InputError, match=r"model\.json: asks for absurdly large clips, found 20000"
    ):
        load_model(folder)
