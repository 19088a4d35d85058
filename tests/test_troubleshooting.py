"""docs/troubleshooting.md: each message of its tables is one, and is told for that mistake."""

import ast
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinetrack.cli.main import main

from factories import write_data_set, write_video
from project import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
ROWS = [
    (code or plain).strip()
    for code, plain in re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`) \|", PAGE, re.MULTILINE)
]
# Said by other programs; those of DVC are looked for in its modules.
OTHERS = {
    "kinetrack: command not found": None,
    "make: python3.11: No such file": None,
    "Unable to acquire lock": "dvc.lock",
    "you are not inside of a DVC repository": "dvc.repo",
    "Create a default remote with": "dvc.data_cloud",
    "No remote provided and no default remote set": "dvc.commands.data_sync",
    "No file hash info found for": "dvc_data.index.checkout",
    "Worker status: ": "dvc.commands.queue.status",
    "Could not override": "hydra._internal.config_loader_impl",
}
# Mistakes that another test makes: they need a training, a server, a full disk or a package gone.
ELSEWHERE = {
    "is not the code of this checkout": "tests/test_pipeline.py",
    "needs a tool for ONNX": None,
    "KINETRACK_DASK: needs a package": None,
    "its MLflow plugin is not installed": "tests/tracking/test_store.py",
    "schedule one_cycle has too few steps": "tests/learning/test_optimising.py",
    "holds equal clips": "tests/stages/test_split.py",
    "for which no tool is installed": "tests/collecting/test_archives.py",
    "is not what model.weights_sha256": "tests/learning/models/test_pretrained.py",
    "cannot be downloaded": "tests/learning/models/test_pretrained.py",
    "does not suffice for a single clip": "tests/stages/test_train_faults.py",
    "is no longer finite": "tests/stages/test_train_faults.py",
    "a process that loads clips has died": "tests/stages/test_train_faults.py",
    "nothing was imported": "tests/cli/test_importing.py",
    "goes on after epoch": "tests/stages/test_train_resume.py",
    "that the model does not know": "tests/stages/test_evaluate.py",
    "was trained on clips": "tests/stages/test_evaluate.py",
    "is too short for this model": "tests/cli/test_predict_timeline.py",
    "cannot be written": "tests/test_files.py",
    "is being written by another process": "tests/test_files.py",
    "a worker process was ended": "tests/test_parallel.py",
    "this port is taken": "tests/tracking/test_ui.py",
    "this port cannot be had": "tests/using/test_demo.py",
    "sends it later": "tests/tracking/test_outages.py",
    "an older MLflow made": "tests/tracking/test_store.py",
    "a newer MLflow made": "tests/tracking/test_store.py",
    "there is no run yet": "tests/tracking/test_ui.py",
    "`kinetrack runs` lists them": "tests/tracking/test_records.py",
    "a registered model has this name": "tests/tracking/test_registry.py",
    "no model is registered in MLflow": "tests/tracking/test_registry.py",
    "there is no such file or folder": "tests/cli/test_predict.py",
    "is not better than": "tests/cli/test_registry.py",
    "names no remote": "tests/versioning/test_remotes.py",
    "cannot be reached": "tests/versioning/test_remotes.py",
    "no Dask scheduler answers": "tests/test_cluster.py",
}


class Place:
    """A project with a few clips, as far as the mistakes below need one."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        (folder / "dvc.yaml").touch()
        shutil.copytree(ROOT / "presets", folder / "presets")
        shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")

    def set(self, dataset: str = "sample", **sections: dict[str, Any]) -> None:
        """Put values into params.yaml."""
        values = yaml.safe_load((self.folder / "params.yaml").read_text())
        values["dataset"] = dataset
        for name, section in sections.items():
            values[name] |= section
        (self.folder / "params.yaml").write_text(yaml.safe_dump(values))

    def write(self, text: str) -> None:
        """Add a line to params.yaml."""
        with (self.folder / "params.yaml").open("a") as file:
            file.write(text)

    def clips(self, **options: Any) -> Path:
        """Have a data set `mine`, and choose it."""
        folder = self.folder / "data/videos/mine"
        write_data_set(folder, **{"groups": 4, "num_frames": 20, **options})
        ratio = {"strategy": "ratio", "test_share": 0.25, "val_share": 0.25}
        self.set("mine", split=ratio, train={"watch": []})
        return folder

    def repository(self) -> None:
        """Have what `import` looks for."""
        for name in (".git/objects", ".git/refs", ".dvc"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / ".git/HEAD").write_text("ref: refs/heads/main\n")


Mistake = Callable[[Place], str]


def leave(place: Place) -> str:
    (place.folder / "dvc.yaml").unlink()
    return "check"


def forget_dvc(place: Place) -> str:
    place.repository()
    (place.folder / ".dvc").rmdir()
    return "import videos --name mine"


def wrong_device(place: Place) -> str:
    place.patch.setenv("KINETRACK_DEVICE", "cuda:99")
    return "check"


def lose_a_key(place: Place) -> str:
    path = place.folder / "params.yaml"
    path.write_text(path.read_text().replace("  epochs: 16\n", ""))
    return "check"


def lose_params(place: Place) -> str:
    (place.folder / "params.yaml").unlink()
    return "check"


def choose_another(place: Place) -> str:
    path = place.folder / "params.yaml"
    path.write_text(path.read_text().replace("dataset: sample", "dataset: mine"))
    return "preset lecture"


def leave_data_elsewhere(place: Place) -> str:
    place.clips().rename(place.folder / "elsewhere")
    (place.folder / "data/videos/mine.dvc").touch()
    return "check"


def import_twice(place: Place) -> str:
    place.repository()
    folder = place.clips()
    folder.with_name("mine.dvc").touch()
    return f"import {folder} --name mine"


def import_loose_video(place: Place) -> str:
    place.repository()
    write_data_set(place.folder / "mine", groups=1)
    write_video(place.folder / "mine/v_Jump_g09_c01.avi", num_frames=8)
    return f"import {place.folder}/mine --name mine"


def write_text_for_video(place: Place) -> str:
    folder = place.clips()
    (folder / "Jump/v_Jump_g09_c01.avi").write_text("no video")
    return "check"


def name_no_group(place: Place) -> str:
    write_video(place.clips() / "Jump/anna.avi", num_frames=20)
    return "check"


def split(place: Place, strategy: str) -> None:
    place.set("mine", split={"strategy": strategy, "val_share": 0.0})


def after(change: Callable[[Place], object], command: str = "check") -> Mistake:
    def make(place: Place) -> str:
        change(place)
        return command

    return make


MISTAKES: dict[str, Mistake] = {
    "no dvc.yaml here or above": leave,
    "is no Git repository": lambda _: "import videos --name mine",
    "is not under DVC": forget_dvc,
    "names no device": wrong_device,
    "unknown key": after(lambda place: place.set(train={"epoch": 3})),
    "params.yaml: key": lose_a_key,
    "params.yaml: train.epochs": after(lambda place: place.set(train={"epochs": 0})),
    "is no valid YAML": after(lambda place: place.write("dataset: twice\n")),
    "params.yaml: does not exist": lose_params,
    "commit or copy it": after(lambda place: place.set(train={"epochs": 3}), "preset lecture"),
    "give the data set up": choose_another,
    "no preset": lambda _: "preset lectur",
    "the clip is too small": after(lambda place: place.set(model={"name": "lecture_3dcnn"})),
    "train.watch names val": after(lambda place: place.set(split={"val_groups": 0})),
    "is no data set": lambda _: "use kitchen",
    "is no folder of videos": after(lambda place: place.set("kitchen")),
    "is not here": leave_data_elsewhere,
    "is there already": import_twice,
    "is no name for a data set": after(Place.repository, "import videos --name Mine"),
    "lies in no class folder": import_loose_video,
    "has no group in its name": name_no_group,
    "is a class without clips": after(lambda place: (place.clips() / "Run").mkdir()),
    "gives one class only": after(lambda place: place.clips(labels=["Jump"])),
    "is shorter than the window": after(lambda place: place.clips(num_frames=10)),
    "side empty": after(lambda place: (place.clips(), split(place, "first_groups"))),
    # By UCF101's rule the groups 1 to 7 test.
    "without a usable training clip": after(
        lambda place: (place.clips(), split(place, "official"))
    ),
    "cannot be opened as a video": write_text_for_video,
    "index.csv: does not exist yet": lambda _: "data",
    "put the weights there": after(
        lambda place: place.set(model={"name": "r3d_18", "weights": "r3d_18.pth"})
    ),
    "model.weights_sha256 is null": after(
        lambda place: (
            (place.folder / "r3d_18.pth").touch(),
            place.set(model={"name": "r3d_18", "weights": "r3d_18.pth"}, pack={"size_px": 48}),
        )
    ),
    "data/model: is no model folder": lambda _: "predict clip.avi",
}


def fragments(row: str) -> list[str]:
    """The parts of a message that do not differ from case to case."""
    return [
        part for part in re.split(r"…|: |, found |, expected | -> |`", row) if part.strip(" :,")
    ]


def the_row(phrase: str) -> str:
    (row,) = [row for row in ROWS if phrase in row]
    return row


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.chdir(tmp_path)
    for variable in ("DVC_ROOT", "MLFLOW_TRACKING_URI", "KINETRACK_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return Place(tmp_path, monkeypatch)


@pytest.mark.parametrize("phrase", MISTAKES)
def test_mistake_is_told_as_the_page_says(phrase, place, monkeypatch, capsys):
    arguments = MISTAKES[phrase](place)
    monkeypatch.setattr(sys, "argv", ["kinetrack", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1].removeprefix("error: ")
    pattern = ".*".join(map(re.escape, the_row(phrase).split("…")))
    assert re.fullmatch(pattern, line), line


def test_every_row_is_made_here_or_elsewhere_or_is_of_others():
    phrases = [*MISTAKES, *ELSEWHERE, *OTHERS]
    assert sorted(map(the_row, phrases)) == sorted(ROWS)
    assert len(MISTAKES) >= 25


def text_and_patterns() -> tuple[str, list[str]]:
    """All text of the code, and what its f-strings could give."""
    texts, patterns = [], []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [getattr(value, "value", None) for value in node.values]
                pattern = "".join(re.escape(x) if isinstance(x, str) else ".+" for x in parts)
                patterns += [pattern] if len(pattern) > 15 else []
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts), patterns


def test_words_of_other_rows_are_those_of_the_code():
    text, patterns = text_and_patterns()
    parts = {part.strip(" :;,") for phrase in ELSEWHERE for part in fragments(the_row(phrase))}
    missing = [part for part in parts if part not in text]
    assert [x for x in missing if not any(re.fullmatch(one, x) for one in patterns)] == []


@pytest.mark.parametrize("phrase", [phrase for phrase, path in ELSEWHERE.items() if path])
def test_the_named_test_meets_the_message(phrase):
    path = ROOT / ELSEWHERE[phrase]
    assert phrase.partition(": ")[2] in path.read_text() or phrase in path.read_text()


@pytest.mark.parametrize("phrase", [phrase for phrase, module in OTHERS.items() if module])
def test_words_of_dvc_are_those_of_dvc(phrase):
    spec = find_spec(OTHERS[phrase])
    assert spec.origin
    assert phrase in Path(spec.origin).read_text()
