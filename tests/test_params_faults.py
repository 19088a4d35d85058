"""Rows P1 to P9 of hostile input: a params file with any fault, for every command that reads it.

Each command runs through the function that its process calls, in this process; that the process
ends the same way is tested once a stage in `stages/test_bad_input.py`, and here for `make repro`.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from typer.main import get_command

import kinetrack
from kinetrack.cli.check import AllParams, read_params
from kinetrack.cli.main import app, main
from kinetrack.errors import InputError
from kinetrack.files import write_json
from kinetrack.learning.checkpoint import save_model
from kinetrack.learning.models import build_model
from kinetrack.params import SECTIONS
from kinetrack.stages import door
from kinetrack.tables import write_csv

from factories import model_card, write_data_set
from project import ROOT, TINY, Project, make_project

LONGEST_LINE = 10_000
ALL_SECTIONS = ["check", "sample", "frames", "split", "tensors", "train", "evaluate"]
# How each of the other commands that read params.yaml is called.
READ_THE_DATA_SET = [
    "preset lecture --keep-dataset",
    "use sample",
    "import ../videos --name mine",
    "import ../videos --name mine --no-groups",
    "import ../videos --name mine --group-pattern (x)",
    "frames show x",
    "data",
    "data --diff HEAD",
    "verify",
    "forget x",
    "summary",
]
TELL_AND_GO_ON = {
    "doctor": "names what is broken, the params among it, and ends with 1",
    "ui": "shows runs, which need no params",
}
READ_NO_PARAMS = {
    *("disk", "gc", "track", "runs", "report", "compare", "reproduce", "promote", "models"),
    *("pull-model", "predict", "export", "demo", "store upgrade", "store import"),
}
# What a stage is given, and the sections that it reads.
STAGES = {
    "sample": ("out/videos", ["sample"]),
    "frames": ("data/videos/mine out/frames", ["frames"]),
    "split": ("data/frames/mine/index.csv out/splits", ["split"]),
    "tensors": ("data/frames/mine data/splits/split.json out/tensors", ["pack"]),
    "train": (
        "data/tensors/mine out/model out/reports",
        ["pack", "input", "augment", "model", "train"],
    ),
    "evaluate": ("data/tensors/mine data/model out/reports", ["evaluate"]),
}


class Fault(NamedTuple):
    """What is done to the text of a good params file, and what the line then says."""

    spoil: Callable[[str], str | bytes | None]
    told: str


def add(text: str) -> Callable[[str], str]:
    return lambda good: good + text


BOMB = "bomb: [&a [x, x], &b [*a, *a], &c [*b, *b], &d [*c, *c], [*d, *d]]\n"
FILE_FAULTS = {
    "unknown key": Fault(add("surprise: 1\n"), "unknown key surprise, expected only dataset, "),
    "no key": Fault(lambda good: good.replace("\npack:", "\npuck:"), "unknown key puck, expected"),
    "duplicate key": Fault(add("dataset: sample\n"), "the key dataset twice in line "),
    "tag": Fault(
        add("a: !!python/object/apply:os._exit [7]\n"), "the tag tag:yaml.org,2002:python"
    ),
    "alias bomb": Fault(add(BOMB), "an alias in line "),
    "data set": Fault(
        lambda good: good.replace("dataset: sample", "dataset: ../x"), "dataset, found '../x'"
    ),
    "no mapping": Fault(lambda _: "- a\n", "is not a mapping, expected the keys dataset, "),
    "no text": Fault(lambda _: b"\x80\xff", "cannot be read"),
    "huge file": Fault(lambda good: good + "#" * 1_000_000, "expected at most 1000000 bytes"),
    "huge key": Fault(add(f"? {'k' * 100_000}\n: 1\n"), "unknown key kkk"),
    "huge tag": Fault(add(f"a: !<{'t' * 100_000}> 1\n"), "the tag ttt"),
    "missing file": Fault(lambda _: None, "does not exist -> kinetrack preset sample"),
}
# A number of each section that has one.
NUMBERS = {
    "sample": "groups",
    "frames": "jpeg_quality",
    "split": "train_groups",
    "pack": "size_px",
    "augment": "mixup",
    "train": "learning_rate",
    "evaluate": "top_k",
}
WRONG_NUMBERS: dict[str, Any] = {
    "wrong type": "many",
    "negative": -1,
    "zero": 0,
    "huge": 10**400,
    "NaN": float("nan"),
    "infinite": float("inf"),
    "bool for a number": True,
    "list": [[]],
}
VALID_ZEROS = {"augment.mixup"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with a model and its reports, as far as they are asked for before the params."""
    project = make_project(tmp_path_factory.mktemp("faults") / "project")
    write_data_set(project.folder.parent / "videos", groups=2)
    card = model_card()
    model = build_model(card.model, num_classes=2, num_frames=4, size_px=16)
    save_model(project.folder / "data/model", model, card)
    sides = [f"{side}_accuracy" for side in ("train", "val", "test")]
    write_csv(project.folder / "reports/train/history.csv", sides, [dict.fromkeys(sides, 0.5)])
    scores = {"label": "Jump", "precision": 0.5, "recall": 1.0, "f1": 2 / 3, "num_clips": 4}
    write_csv(project.folder / "reports/evaluate/per_class.csv", list(scores), [scores])
    write_json(project.folder / "reports/evaluate/metrics.json", {"accuracy": 0.5, "num_clips": 4})
    return project


@pytest.fixture
def project(made: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """The project, where this process is too; afterwards its params are good again."""
    monkeypatch.chdir(made.folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(kinetrack, "__file__", str(made.folder / "src/kinetrack/__init__.py"))
    good = (made.folder / "params.yaml").read_text()
    handler = signal.getsignal(signal.SIGTERM)
    yield made
    signal.signal(signal.SIGTERM, handler)
    (made.folder / "params.yaml").write_text(good)


class Run:
    """Runs a command in this process; what it printed is kept."""

    def __init__(
        self, project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._project, self._monkeypatch, self._capsys = project, monkeypatch, capsys

    def __call__(self, function: Callable[[], None], arguments: str) -> tuple[int, str, str]:
        """Run it with these arguments: exit code, standard output, errors."""
        self._monkeypatch.setattr(sys, "argv", arguments.split())
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            function()
        out, errors = self._capsys.readouterr()
        return ended.value.code, out, errors

    def refuse(self, function: Callable[[], None], arguments: str) -> str:
        """Run a command that must end in one line and exit code 2, with nothing written."""
        before = snapshot(self._project.folder.parent)
        code, out, errors = self(function, arguments)
        assert (code, out) == (2, "")
        [line] = errors.splitlines()
        assert line.startswith("error: ")
        assert line.isprintable()
        assert len(line) < LONGEST_LINE
        assert snapshot(self._project.folder.parent) == before
        return line


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    return Run(project, monkeypatch, capsys)


def snapshot(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file and folder but those of code and of Git's objects: time, size and inode."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", "objects", "src")]
        for path in (Path(parent), *(Path(parent, name) for name in names)):
            status = path.lstat()
            found[path] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found


def spoil_file(project: Project, fault: Fault) -> None:
    path = project.folder / "params.yaml"
    content = fault.spoil(path.read_text())
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def wrong_numbers(section: str) -> Iterator[tuple[str, Any]]:
    """Faulty values of the number of a section, by kind of fault; JSON that YAML reads too."""
    for kind, value in WRONG_NUMBERS.items():
        if kind != "zero" or f"{section}.{NUMBERS[section]}" not in VALID_ZEROS:
            yield kind, value


def set_value(project: Project, section: str, key: str, value: Any) -> None:
    values = project.read_params()
    values[section][key] = value
    text = yaml.safe_dump(values)  # PyYAML writes .nan and .inf, and 4:2:0 in quotes
    (project.folder / "params.yaml").write_text(text)


def test_every_command_is_known_to_read_params_or_not():
    """A new command has its place in one of the lists above."""
    group = get_command(app)
    names = set()
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {})
        names |= {f"{name} {other}" for other in inner} | ({name} if name != "store" else set())
    listed = {" ".join(call.split()[: 2 if " show" in call else 1]) for call in READ_THE_DATA_SET}
    assert names == {*ALL_SECTIONS, *listed, *TELL_AND_GO_ON, *READ_NO_PARAMS}


@pytest.mark.parametrize("command", [*ALL_SECTIONS, *READ_THE_DATA_SET])
def test_a_file_with_a_fault_is_refused_by_every_command(command, project, run):
    good = (project.folder / "params.yaml").read_text()
    for name, fault in FILE_FAULTS.items():
        spoil_file(project, fault)
        assert fault.told in run.refuse(main, f"kinetrack {command}"), name
        (project.folder / "params.yaml").write_text(good)


@pytest.mark.parametrize("stage", STAGES)
def test_a_file_with_a_fault_is_refused_by_every_stage(stage, project, run):
    good = (project.folder / "params.yaml").read_text()
    for name, fault in FILE_FAULTS.items():
        spoil_file(project, fault)
        line = run.refuse(lambda: door.run(stage), f"{stage} {STAGES[stage][0]}")
        assert fault.told in line, name
        (project.folder / "params.yaml").write_text(good)


@pytest.mark.parametrize("command", ALL_SECTIONS)
@pytest.mark.parametrize("section", SECTIONS)
def test_an_unknown_key_of_a_section_is_refused_by_every_command(command, section, project, run):
    set_value(project, section, "surprise", 1)
    line = run.refuse(main, f"kinetrack {command}")
    first, *_ = AllParams.__annotations__[section].model_fields
    assert f"unknown key {section}.surprise" in line
    assert f"-> allowed here: {first}" in line


@pytest.mark.parametrize("command", ALL_SECTIONS)
@pytest.mark.parametrize("kind", WRONG_NUMBERS)
def test_a_wrong_number_is_refused_by_every_command(command, kind, project, run):
    set_value(project, "train", "learning_rate", WRONG_NUMBERS[kind])
    assert "train.learning_rate: Input should be " in run.refuse(main, f"kinetrack {command}")


@pytest.mark.parametrize("section", NUMBERS)
def test_a_wrong_number_of_any_section_is_refused_before_dvc(section, project, run):
    for kind, value in wrong_numbers(section):
        set_value(project, section, NUMBERS[section], value)
        line = run.refuse(main, "kinetrack check")
        assert f"{section}.{NUMBERS[section]}: Input should be " in line, kind


@pytest.mark.parametrize(
    ("stage", "section"),
    [(stage, section) for stage, (_, sections) in STAGES.items() for section in sections],
)
def test_a_fault_in_its_section_is_refused_by_every_stage(stage, section, project, run):
    good = (project.folder / "params.yaml").read_text()
    faults = [("surprise", 1, f"unknown key {section}.surprise")]
    if key := NUMBERS.get(section):
        told = f"{section}.{key}: Input should be "
        faults += [(key, value, told) for _, value in wrong_numbers(section)]
    for key, value, told in faults:
        set_value(project, section, key, value)
        line = run.refuse(lambda: door.run(stage), f"{stage} {STAGES[stage][0]}")
        assert told in line, value
        (project.folder / "params.yaml").write_text(good)


def test_frames_of_which_import_takes_the_pattern_are_checked(project, run):
    for value in (None, [], {}, "text", {"group_pattern": 1}):
        params = {**project.read_params(), "frames": value}
        (project.folder / "params.yaml").write_text(yaml.safe_dump(params))
        for option in ("", "--no-groups", "--group-pattern (x)"):
            line = run.refuse(main, f"kinetrack import ../videos --name mine {option}")
            assert "frames" in line


def numeric_keys() -> Iterator[str]:
    params = yaml.safe_load((ROOT / "presets/sample.yaml").read_text())
    may_be_numbers = {
        "frames.classes",
        "train.step_epochs",
        "train.clip_gradient",
        "train.patience",
    }
    for section in SECTIONS:
        for key, value in params[section].items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number or f"{section}.{key}" in may_be_numbers:
                yield f"{section}.{key}"


@pytest.mark.parametrize("name", [*numeric_keys()])
def test_every_number_has_two_ends_and_is_no_bool(name, tmp_path):
    """What no end bounds fills a disk or a memory, or stumbles over a C integer, hours later."""
    section, key = name.split(".")
    params = yaml.safe_load((ROOT / "presets/sample.yaml").read_text())
    path = tmp_path / "params.yaml"
    for value in (-1, 10**9 + 1, 10**30, 10**400, 1e300, float("nan"), float("-inf"), True, "1"):
        if key == "seed" and value == 10**9 + 1:
            continue  # any number of 63 bits is one
        params[section][key] = value
        path.write_text(yaml.safe_dump(params))
        with pytest.raises(InputError, match=rf"{section}\b.*\b{key}\b"):
            read_params(path)


def test_doctor_names_the_fault_and_changes_nothing(project, run):
    set_value(project, "train", "epochs", 0)
    before = snapshot(project.folder)
    code, out, _ = run(main, "kinetrack doctor --json")
    assert code == 1
    assert "train.epochs" in json.dumps(json.loads(out))
    assert snapshot(project.folder) == before


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../videos", "is no name of a data set"),
        ("UCF101", "is no name of a data set"),
        ("-", "is no name of a data set"),
    ],
)
def test_use_takes_no_name_that_params_could_not_have(name, told, project, run):
    (project.folder / "data/videos" / name).mkdir(parents=True, exist_ok=True)
    assert told in run.refuse(main, f"kinetrack use -- {name}")


def test_use_chooses_in_json_too(project, run):
    before = {**project.read_params(), "dataset": "mine"}
    (project.folder / "params.yaml").write_text(json.dumps(before))
    assert run(main, "kinetrack use sample")[0] == 0
    assert project.read_params() == {**before, "dataset": "sample"}


@pytest.mark.parametrize("content", [b"dataset: sample\n", b"\xff", b"{"])
def test_a_damaged_preset_replaces_nothing_and_hinders_no_other(content, project, run):
    preset = project.folder / "presets/broken.yaml"
    preset.write_bytes(content)
    try:
        assert "presets/broken.yaml" in run.refuse(main, "kinetrack preset broken --force")
        assert run(main, "kinetrack preset lecture --force")[0] == 0
    finally:
        preset.unlink()


def test_a_folder_in_place_of_the_params_is_refused(project, run):
    path = project.folder / "params.yaml"
    path.unlink()
    path.mkdir()
    try:
        for command in ("preset sample", "preset sample --force", "check", "use sample"):
            assert "is no regular file" in run.refuse(main, f"kinetrack {command}")
    finally:
        path.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["alias bomb", "tag", "duplicate key", "missing file"])
def test_make_repro_refuses_before_dvc_starts(fault, project, tmp_path):
    copy = Project(shutil.copytree(project.folder, tmp_path / "copy"))
    for name in ("Makefile", "constraints.txt", "pyproject.toml"):
        shutil.copyfile(ROOT / name, copy.folder / name)
    borrow_environment(copy.folder / ".venv")
    spoil_file(copy, FILE_FAULTS[fault])
    before = snapshot(copy.folder)
    refused = copy.run("make", "repro", check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert FILE_FAULTS[fault].told in refused.stderr.splitlines()[0]
    assert snapshot(copy.folder) == before


def borrow_environment(folder: Path) -> None:
    """Have the packages of this environment, as `make install` would have installed them."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin/python").chmod(0o755)
    (folder / "installed").touch()


@pytest.mark.slow
def test_a_bare_repro_has_the_line_in_its_log(project, tmp_path):
    """DVC has no exit code of ours, and its own parser speaks first of what is no YAML."""
    copy = Project(shutil.copytree(project.folder, tmp_path / "copy"))
    copy.set_params(**{**TINY, "sample": {"groups": True}})
    refused = copy.run("dvc", "repro", "sample", check=False)
    assert refused.returncode == 255
    told = "error: params.yaml: sample.groups: Input should be a valid integer, found 'True'"
    assert told in refused.stderr
    assert not (copy.folder / "data/videos/sample").exists()
