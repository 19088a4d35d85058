import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kinetrack import files
from kinetrack.errors import InputError
from kinetrack.files import write_alone
from kinetrack.learning.processes import Team, alone
from kinetrack.stages import train_resume
from kinetrack.stages.train_resume import open_resume

ROOT = Path(__file__).parent.parent.parent
CPU = torch.device("cpu")
PATHS = {"tensors": Path("tensors"), "model": Path("model"), "reports": Path("reports")}
PARAMS = yaml.safe_load((ROOT / "presets/sample.yaml").read_text())


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where checkpoints go, of a project that is the working directory."""
    folder = tmp_path / "project"
    for name in ("tensors/index.csv", "src/a.py", "src/unused.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("content")
    stages = {"train": {"cmd": "train", "deps": ["tensors", "src/a.py"]}}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(files, "_PATIENCE_S", 0.0)
    return folder / ".kinetrack/resume"


def folder_of(
    params: dict[str, Any] = PARAMS,
    *,
    paths: dict[str, Path] = PATHS,
    device: torch.device = CPU,
    team: Team | None = None,
) -> Path:
    """The folder of a training's checkpoints, which is made."""
    with open_resume(params, paths, device=device, team=team or alone(CPU)) as resume:
        return resume.folder


def interrupted(params: dict[str, Any] = PARAMS) -> Path:
    """The folder of a training that was killed after its first epoch."""
    folder = folder_of(params)
    (folder / "epoch_000001.safetensors").touch()
    return folder


def changed(section: str, key: str, value: object) -> dict[str, Any]:
    params = copy.deepcopy(PARAMS)
    params[section][key] = value
    return params


KEYS = [
    (section, key)
    for section in ("pack", "input", "augment", "model", "train")
    for key in PARAMS[section]
]


@pytest.mark.parametrize(("section", "key"), KEYS, ids=".".join)
def test_another_param_is_another_training(section: str, key: str) -> None:
    assert folder_of(changed(section, key, "another")) != folder_of()


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (section, key)
        for section in ("sample", "frames", "split", "evaluate")
        for key in PARAMS[section]
    ],
    ids=".".join,
)
def test_params_that_the_data_tell_or_that_come_later_change_nothing(
    section: str, key: str
) -> None:
    assert folder_of(changed(section, key, "another")) == folder_of()


def write(name: str) -> Callable[[], object]:
    def change() -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("other")

    return change


@pytest.mark.parametrize("name", ["tensors/index.csv", "src/a.py"])
def test_another_input_is_another_training(name: str) -> None:
    before = folder_of()
    write(name)()
    assert folder_of() != before


def test_another_model_to_start_from_is_another_training() -> None:
    params = changed("train", "init_from", "first")
    before = folder_of(params)
    write("first/model.json")()
    assert folder_of(params) != before


@pytest.mark.parametrize(
    "keys",
    [
        {"device": torch.device("meta")},
        {"team": Team(rank=0, size=2, device=CPU)},
        *[{"paths": {**PATHS, name: Path("other")}} for name in PATHS],
    ],
    ids=["device", "processes", *PATHS],
)
def test_another_start_is_another_training(keys: dict[str, Any]) -> None:
    assert folder_of(**keys) != folder_of()


@pytest.mark.parametrize(
    ("owner", "name"),
    [(train_resume, "version"), (torch.backends.cpu, "get_cpu_capability")],
    ids=["torch", "processor"],
)
def test_another_machine_is_another_training(
    owner: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder_of()
    monkeypatch.setattr(owner, name, lambda *_: "another")
    assert folder_of() != before


@pytest.mark.parametrize(
    "variable",
    [
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
        "KINETRACK_LOADERS",
        "KINETRACK_RESIDENT",
        "DVC_EXP_NAME",
    ],
)
def test_variables_that_decide_about_no_weight_change_nothing(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder_of()
    monkeypatch.setenv(variable, "1")
    assert folder_of() == before


@pytest.mark.parametrize("name", ["src/unused.py", "others/index.csv", "model/model.json"])
def test_other_files_change_nothing(name: str) -> None:
    before = folder_of()
    write(name)()
    assert folder_of() == before


def test_all_processes_of_a_training_find_the_same_folder() -> None:
    teams = [Team(rank=rank, size=2, device=CPU) for rank in (0, 1)]
    assert folder_of(team=teams[0]) == folder_of(team=teams[1])


def test_temporary_checkouts_leave_their_checkpoints_in_the_project(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folder_of()
    assert Path.cwd() / here.parent == home
    project = tmp_path / "the project itself"
    monkeypatch.setenv("DVC_ROOT", str(project))
    there = folder_of()
    assert there == project / ".kinetrack/resume" / here.name


def told(params: dict[str, Any] = PARAMS, *, epochs_before: int = 0, **keys: Any) -> str:
    with open_resume(params, PATHS, device=CPU, team=alone(CPU), **keys) as resume:
        return resume.describe_start(epochs_before)


def test_first_start() -> None:
    assert told() == "train: starts"


def test_going_on() -> None:
    interrupted()
    assert told(epochs_before=7) == "train: goes on after epoch 7, where it was interrupted"


def test_same_training_without_a_usable_checkpoint_has_no_change_to_tell() -> None:
    interrupted()
    assert told() == "train: starts"


def change_code() -> dict[str, Any]:
    write("src/a.py")()
    return PARAMS


def change_data() -> dict[str, Any]:
    write("tensors/index.csv")()
    return PARAMS


AFRESH = "train: starts afresh; since the interrupted training "


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda: changed("train", "learning_rate", 0.01),
            "train.learning_rate (0.003 -> 0.01) changed",
        ),
        (lambda: changed("model", "weights", "a.pth"), "model.weights (None -> a.pth) changed"),
        (change_code, "src/a.py changed"),
        (change_data, "the data changed"),
        (
            lambda: {**PARAMS, "augment": dict.fromkeys(PARAMS["augment"], 0.5)},
            "augment.brightness (0.0 -> 0.5), augment.contrast (0.0 -> 0.5),"
            " augment.cutout (0.0 -> 0.5) and 5 more changed",
        ),
    ],
    ids=["rate", "weights", "code", "data", "many"],
)
def test_what_changed_since_is_told(change: Callable[[], dict[str, Any]], line: str) -> None:
    interrupted()
    assert told(change()) == AFRESH + line


def test_what_changed_is_told_of_the_last_one() -> None:
    for number, epochs in enumerate((30, 40)):
        folder = interrupted(changed("train", "epochs", epochs))
        os.utime(folder, (number, number))
    assert told() == f"{AFRESH}train.epochs (40 -> 16) changed"


def test_training_that_had_finished_no_epoch_is_no_earlier_one() -> None:
    folder_of(changed("train", "epochs", 30))
    assert told() == "train: starts"


@pytest.mark.parametrize("content", ["", "no JSON", "[1]", "\udcff"])
def test_damaged_facts_of_an_earlier_training_stop_nothing(content: str) -> None:
    folder = interrupted(changed("train", "epochs", 30))
    (folder / "facts.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert told().startswith("train: starts")


def test_training_keeps_its_name_until_it_has_finished() -> None:
    names = []
    for _ in range(2):
        with open_resume(PARAMS, PATHS, device=CPU, team=alone(CPU)) as resume:
            names.append(resume.name_training())
    resume.finish()
    with open_resume(PARAMS, PATHS, device=CPU, team=alone(CPU)) as resume:
        names.append(resume.name_training())
    assert names[0] == names[1] != names[2]


def test_finished_training_leaves_nothing(home: Path) -> None:
    with open_resume(PARAMS, PATHS, device=CPU, team=alone(CPU)) as resume:
        (resume.folder / "epoch_000001.safetensors").touch()
        resume.finish()
    assert list(home.iterdir()) == []


def test_half_removed_training_is_removed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(train_resume, "discard", lambda path: None)
        with open_resume(PARAMS, PATHS, device=CPU, team=alone(CPU)) as resume:
            (resume.folder / "epoch_000001.safetensors").touch()
            resume.finish()
    assert not resume.folder.exists()
    assert told(changed("train", "epochs", 30)) == "train: starts"
    assert len(list(home.iterdir())) == 1


def test_half_written_checkpoint_is_removed(home: Path) -> None:
    folder = interrupted()
    (folder / ".0123abcd.77.partial").touch()
    folder_of()
    assert sorted(path.name for path in folder.iterdir()) == [
        "epoch_000001.safetensors",
        "facts.json",
    ]


def interrupt_others(number: int) -> list[Path]:
    """Folders of other trainings, the newest first."""
    folders = [interrupted(changed("train", "seed", seed)) for seed in range(1, number + 1)]
    for age, folder in enumerate(folders):
        os.utime(folder, (1000 - age, 1000 - age))
    return folders


def test_three_other_trainings_are_kept() -> None:
    others = interrupt_others(3)
    folder_of()
    folder_of(changed("train", "seed", 1))
    assert all(folder.exists() for folder in others)


def test_oldest_ones_are_removed() -> None:
    kept, removed = (others := interrupt_others(3))[:2], others[2]
    newest = [folder_of(changed("train", "seed", seed)) for seed in (100, 101)]
    assert not removed.exists()
    assert all(folder.exists() for folder in (*kept, *newest))


def test_training_that_is_at_work_is_never_removed() -> None:
    others = interrupt_others(3)
    with write_alone(others[-1]):
        for seed in range(100, 105):
            folder_of(changed("train", "seed", seed))
        assert others[-1].exists()
    assert not others[0].exists()


def test_training_that_is_at_work_is_refused_a_second_time() -> None:
    keys = {"device": CPU, "team": alone(CPU)}
    with (
        open_resume(PARAMS, PATHS, **keys),
        pytest.raises(InputError, match="is being written by another process"),
        open_resume(PARAMS, PATHS, **keys),
    ):
        pytest.fail("two at once")


def test_another_training_may_be_at_work() -> None:
    keys = {"device": CPU, "team": alone(CPU)}
    with (
        open_resume(PARAMS, PATHS, **keys) as first,
        open_resume(changed("train", "seed", 9), PATHS, **keys) as second,
    ):
        assert first.folder != second.folder
        assert first.folder.exists()
