"""Repeating a run: what is refused and what is compared, on a made-up run; then real trainings."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from kinetrack.cli import reproduce as module
from kinetrack.cli.reproduce import reproduce
from kinetrack.errors import InputError
from kinetrack.files import write_json
from kinetrack.tables import write_csv
from kinetrack.tracking.records import RunRecord
from kinetrack.tracking.settings import quiet
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.lock import data_md5, folder_md5

from project import Project, make_project

COMMIT, RUN_ID = "c" * 40, "1" * 32
PATCH = b"a patch"
PARAMS: dict[str, Any] = {
    "dataset": "mine",
    "model": {"name": "small_3dcnn", "weights": None},
    "train": {"seed": 3, "init_from": None},
}


class MadeUp:
    """A run, its files, and a project where stages only write what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "project"
        self.root.mkdir()
        (folder / "packed").mkdir()
        (folder / "packed/clip.pt").write_text("clip")
        self.packed = folder / "packed"
        self.committed = {"params.yaml": yaml.safe_dump(PARAMS), "dvc.lock": "the commit's"}
        self.artifacts = {"params.yaml": yaml.safe_dump(PARAMS).encode(), "dvc.lock": b"the run's"}
        self.tags = {
            "git.commit": COMMIT,
            "git.dirty": "false",
            "data.tensors_md5": folder_md5(self.packed),
            "model_sha256": "weights",
            "device": "cpu",
            "processes": "1",
        }
        self.status = "FINISHED"
        self.metrics = {"train/loss": 0.5}
        self.set: dict[str, str] = {}
        self.weights_sha256 = "weights"
        self.cached, self.can_rebuild = True, True
        self.exit_codes: dict[str, int] = {}
        self.stages: list[tuple[str, dict[str, str]]] = []
        self.applied: list[bytes] = []

    @property
    def target(self) -> Path:
        return self.root.parent / "project-reproduce-11111111"

    def find_record(self, _: str) -> RunRecord:
        params = {"dataset": "mine", "train.seed": "3"}
        return RunRecord(RUN_ID, "a run", self.status, self.tags, params, self.metrics)

    def read_artifact(self, _: RunRecord, path: str) -> bytes | None:
        return self.artifacts.get(path)

    def set_tags(self, run_id: str, tags: dict[str, str]) -> None:
        assert run_id == RUN_ID
        self.set |= tags

    def clone_at(self, commit: str, *, root: Path, target: Path) -> Path:
        assert (commit, root) == (COMMIT, self.root)
        target.mkdir()
        for name, text in self.committed.items():
            (target / name).write_text(text)
        return target

    def apply_changes(self, _: Path, patch: bytes) -> None:
        self.applied.append(patch)

    def bring_folder(self, path: str, md5: str, *, checkout: Path) -> bool:
        if self.cached:
            shutil.copytree(self.packed, checkout / path)
        return self.cached and folder_md5(checkout / path) == md5

    def rebuild_tensors(self, dataset: str, *, checkout: Path) -> bool:
        target = checkout / "data/tensors" / dataset
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.packed, target)
        return self.can_rebuild

    def run_stage(self, stage: str, *, checkout: Path, variables: dict[str, str]) -> int:
        self.stages.append((stage, variables))
        if stage == "train":
            card = {"weights_sha256": self.weights_sha256}
            write_json(checkout / "data/model/model.json", card)
            rows = [{"epoch": 1, "train_loss": 0.5}]
            write_csv(checkout / "reports/train/history.csv", list(rows[0]), rows)
        return self.exit_codes.get(stage, 0)


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    fake = MadeUp(tmp_path)
    names = ("find_record", "read_artifact", "set_tags", "clone_at", "apply_changes")
    for name in (*names, "bring_folder", "rebuild_tensors", "run_stage"):
        monkeypatch.setattr(module, name, getattr(fake, name))
    here = {"host.capability": "X", "device": "cpu", "processes": "1", "version.torch": "9"}
    fake.tags |= here
    monkeypatch.setattr(module, "_describe_machine", lambda _: here)
    return fake


def test_an_equal_run_is_told_and_tagged_and_its_clone_removed(made_up, capsys):
    assert reproduce("a run", root=made_up.root)
    assert "reproduce: equal: the same weights" in capsys.readouterr().out
    assert made_up.set["reproduced"] == "equal"
    assert made_up.set["reproduced.date"][:2] == "20"
    assert not made_up.target.exists()


def test_the_clone_of_an_equal_run_can_be_kept(made_up, tmp_path, capsys):
    assert reproduce("a run", root=made_up.root, into=tmp_path / "mine", keep=True)
    assert (tmp_path / "mine/data/model/model.json").exists()
    assert f"the repetition lies in {tmp_path / 'mine'}" in capsys.readouterr().out


def test_a_different_run_is_told_and_tagged_and_its_clone_kept(made_up, capsys):
    made_up.weights_sha256 = "others"
    assert not reproduce("a run", root=made_up.root)
    printed = capsys.readouterr().out
    assert "different, on the same machine kind: the weights" in printed
    assert f"the repetition lies in {made_up.target}" in printed
    assert made_up.set["reproduced"] == "different"
    assert made_up.target.exists()


def test_a_run_within_tolerance_is_a_success(made_up):
    made_up.weights_sha256 = "others"
    made_up.tags["version.torch"] = "8"
    assert reproduce("a run", root=made_up.root)
    assert made_up.set["reproduced"] == "within tolerance"
    assert made_up.target.exists()


def test_a_tag_that_cannot_be_set_does_not_hide_the_result(made_up, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise InputError("run", "no answer")

    monkeypatch.setattr(module, "set_tags", refuse)
    assert reproduce("a run", root=made_up.root)
    assert "could not be tagged: run: no answer" in capsys.readouterr().err


def test_params_and_lock_are_those_of_the_run(made_up):
    made_up.committed["params.yaml"] = yaml.safe_dump({**PARAMS, "dataset": "other"})
    reproduce("a run", root=made_up.root, keep=True)
    assert yaml.safe_load((made_up.target / "params.yaml").read_text()) == PARAMS
    assert (made_up.target / "dvc.lock").read_text() == "the run's"


def test_where_the_run_has_none_params_and_lock_are_those_of_the_commit(made_up):
    made_up.artifacts = {}
    reproduce("a run", root=made_up.root, keep=True)
    assert (made_up.target / "dvc.lock").read_text() == "the commit's"


def test_params_of_the_commit_that_are_not_the_run_s_are_refused(made_up):
    made_up.artifacts = {}
    made_up.committed["params.yaml"] = yaml.safe_dump({**PARAMS, "train": {"seed": 4}})
    match = r"has another train\.seed, found 4, expected 3"
    with pytest.raises(InputError, match=match):
        reproduce("a run", root=made_up.root)
    assert not made_up.target.exists()


def test_uncommitted_changes_are_applied(made_up):
    made_up.artifacts["changes.diff"] = PATCH
    made_up.tags["git.diff_sha256"] = hashlib.sha256(PATCH).hexdigest()
    reproduce("a run", root=made_up.root)
    assert made_up.applied == [PATCH]


@pytest.mark.parametrize(
    ("patch", "sha256"), [(PATCH, "other"), (PATCH, None), (None, "some")], ids=str
)
def test_changes_that_are_not_the_recorded_ones_are_refused(patch, sha256, made_up):
    if patch is not None:
        made_up.artifacts["changes.diff"] = patch
    if sha256 is not None:
        made_up.tags["git.diff_sha256"] = sha256
    with pytest.raises(InputError, match=r"its changes\.diff is not the recorded one"):
        reproduce("a run", root=made_up.root)
    assert not made_up.target.exists()


def test_changes_that_nothing_kept_are_warned_of(made_up, capsys):
    made_up.tags["git.dirty"] = "true"
    assert reproduce("a run", root=made_up.root)
    assert "uncommitted changes that nothing kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tag", "value", "match"),
    [
        ("kind", "group", "is a group of runs -> name one of them"),
        ("model_sha256", None, "has no result to compare with"),
        ("git.commit", "unknown", "does not say which commit made it"),
        ("git.commit", None, "does not say which commit made it"),
        ("data.tensors_md5", None, "does not say which data .* started by hand"),
    ],
)
def test_a_run_that_cannot_be_repeated_is_refused(tag, value, match, made_up):
    made_up.tags[tag] = value
    made_up.tags = {name: fact for name, fact in made_up.tags.items() if fact is not None}
    with pytest.raises(InputError, match=rf"run a run \(1+\): {match}"):
        reproduce("a run", root=made_up.root)
    assert not made_up.target.exists()


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_a_run_without_an_end_is_refused(status, made_up):
    made_up.status = status
    with pytest.raises(InputError, match=f"no result to compare with, found {status}"):
        reproduce("a run", root=made_up.root)


def test_data_that_is_gone_is_packed_again(made_up, capsys):
    made_up.cached = False
    assert reproduce("a run", root=made_up.root)
    assert "data/tensors/mine cannot be had, and is packed again" in capsys.readouterr().out


def test_other_data_is_refused(made_up, capsys):
    (made_up.packed / "clip.pt").write_text("another clip")
    with pytest.raises(
        InputError, match=r"trained on other data: data/tensors/mine differs, found"
    ):
        reproduce("a run", root=made_up.root)
    assert made_up.stages == []
    assert f"lies in {made_up.target}; to remove it: rm -rf" in capsys.readouterr().err


def test_data_that_cannot_be_made_is_refused(made_up):
    made_up.cached = made_up.can_rebuild = False
    with pytest.raises(InputError, match="cannot be made again"):
        reproduce("a run", root=made_up.root)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_stage_that_fails_is_told_with_its_place(stage, made_up, capsys):
    made_up.metrics["test/accuracy"] = 1.0
    made_up.exit_codes[stage] = 255
    with pytest.raises(InputError, match=f"its stage {stage} fails here"):
        reproduce("a run", root=made_up.root)
    assert str(made_up.target) in capsys.readouterr().err
    assert made_up.set == {}


def test_ctrl_c_while_training_says_what_is_left(made_up, monkeypatch, capsys):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "run_stage", interrupt)
    with pytest.raises(KeyboardInterrupt):
        reproduce("a run", root=made_up.root)
    assert f"lies in {made_up.target}; to remove it" in capsys.readouterr().err


def test_nothing_is_left_of_changes_that_do_not_fit(made_up, monkeypatch):
    def refuse(*_: object) -> None:
        raise InputError("clone", "cannot be applied")

    monkeypatch.setattr(module, "apply_changes", refuse)
    with pytest.raises(InputError, match="cannot be applied"):
        reproduce("a run", root=made_up.root)
    assert not made_up.target.exists()


def test_it_is_evaluated_where_the_run_was_only(made_up):
    reproduce("a run", root=made_up.root)
    made_up.metrics["test/accuracy"] = 1.0
    reproduce("a run", root=made_up.root)
    assert [stage for stage, _ in made_up.stages] == ["train", "train", "evaluate"]


@pytest.mark.parametrize(
    ("device", "processes", "num_gpus", "wanted"),
    [
        ("cpu", "1", 0, {"KINETRACK_DEVICE": "cpu", "KINETRACK_PROCESSES": "1"}),
        ("cpu", "4", 1, {"KINETRACK_DEVICE": "cpu", "KINETRACK_PROCESSES": "4"}),
        ("cuda", "2", 2, {"KINETRACK_DEVICE": "cuda", "KINETRACK_PROCESSES": "2"}),
        ("cuda", "2", 1, {"KINETRACK_DEVICE": "cuda"}),
        ("cuda", "1", 0, {}),
        (None, None, 0, {}),
        ("mps", "x", 0, {}),
    ],
)
def test_the_run_s_device_and_processes_are_asked_for(
    *, device, processes, num_gpus, wanted, made_up, monkeypatch
):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    tags = {"device": device, "processes": processes}
    made_up.tags = {
        name: fact for name, fact in {**made_up.tags, **tags}.items() if fact is not None
    }
    reproduce("a run", root=made_up.root)
    assert made_up.stages == [("train", {**wanted, "KINETRACK_REPRODUCES": RUN_ID})]


def set_start(made_up: MadeUp, *, weights: str | None = None, model: str | None = None) -> None:
    params = {
        **PARAMS,
        "model": {"weights": weights},
        "train": {"seed": 3, "init_from": model},
    }
    made_up.artifacts["params.yaml"] = yaml.safe_dump(params).encode()


def test_first_weights_beside_git_come_along(made_up):
    (made_up.root / "models/first").mkdir(parents=True)
    (made_up.root / "models/first/model.json").write_text("card")
    (made_up.root / "models/published.pth").write_text("weights")
    set_start(made_up, weights="models/published.pth", model="models/first")
    reproduce("a run", root=made_up.root, keep=True)
    assert (made_up.target / "models/first/model.json").read_text() == "card"
    assert (made_up.target / "models/published.pth").read_text() == "weights"
    assert not (made_up.target / "models/first").is_symlink()


def test_first_weights_out_of_the_project_are_written_nowhere(made_up, tmp_path):
    (tmp_path / "elsewhere.pth").write_text("weights")
    (tmp_path / "deep").mkdir()
    set_start(made_up, weights="../elsewhere.pth")
    reproduce("a run", root=made_up.root, into=tmp_path / "deep/clone", keep=True)
    assert not (tmp_path / "deep/elsewhere.pth").exists()


@pytest.mark.parametrize(
    "text",
    ["dataset: ../mine", "- a", "dataset: [mine]", "{", "dataset: \xff", "a: 1", "a: &a 1\nb: *a"],
)
def test_params_that_are_none_are_refused(text, made_up):
    made_up.artifacts["params.yaml"] = text.encode("latin-1")
    problem = r"params\.yaml: (cannot be read|is no valid YAML|names no data set)"
    with pytest.raises(InputError, match=problem):
        reproduce("a run", root=made_up.root)
    assert not made_up.target.exists()


def test_sections_that_are_not_known_today_do_no_harm(made_up):
    made_up.artifacts["params.yaml"] = yaml.safe_dump({**PARAMS, "of old": {"a": 1}}).encode()
    assert reproduce("a run", root=made_up.root)


def test_a_first_model_of_mlflow_s_comes_along(made_up, monkeypatch):
    from kinetrack.tracking import fetching

    def fetch(source: str, folder: Path) -> None:
        assert source == "run:abc"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text("fetched")

    monkeypatch.setattr(fetching, "fetch_model", fetch)
    set_start(made_up, model="run:abc")
    reproduce("a run", root=made_up.root, keep=True)
    params = yaml.safe_load((made_up.target / "params.yaml").read_text())
    place = params["train"]["init_from"]
    assert (made_up.target / place / "model.json").read_text() == "fetched"


NEW_SOURCE = """\"\"\"A source that was never committed.\"\"\"

OFFSET = 1
"""


def edit_source(project: Project) -> None:
    """Change how seeds are derived, by a new source that the changed one imports."""
    folder = project.folder / "src/kinetrack/learning"
    (folder / "offset.py").write_text(NEW_SOURCE)
    seeds = (folder / "seeds.py").read_text()
    changed = seeds.replace(
        "import torch\n", "import torch\nfrom kinetrack.learning.offset import OFFSET\n"
    )
    changed = changed.replace("(purpose, *numbers))", "(purpose, *numbers) + OFFSET)")
    assert changed.count("OFFSET") == 2
    (folder / "seeds.py").write_text(changed)


class Trained:
    """A project with real trainings: `clean`, of a commit, and `dirty`, of changed code."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.run("dvc", "repro", "-q", "train")
        self.clean = self.last_run()
        edit_source(project)
        project.run("dvc", "repro", "-q", "-s", "-f", "train")
        self.dirty = self.last_run()

    @property
    def client(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{self.project.folder / 'mlruns/mlflow.db'}")

    def last_run(self) -> Any:
        with quiet():
            places = [one.experiment_id for one in self.client.search_experiments()]
            return self.client.search_runs(places, order_by=["start_time DESC"])[0]

    def tags(self, run: Any) -> dict[str, str]:
        with quiet():
            tags: dict[str, str] = self.client.get_run(run.info.run_id).data.tags
            return tags

    def reproduce(self, run: Any, *options: str) -> Any:
        command = ("python", "-m", "kinetrack.cli.main", "reproduce", run.info.run_id[:8])
        return self.project.run(*command, *options, check=False)

    def state(self) -> dict[str, tuple[float, bytes]]:
        """The project's files and Git's, but for the store of runs."""
        found = {}
        for path in sorted(self.project.folder.rglob("*")):
            name = path.relative_to(self.project.folder).as_posix()
            own = name.startswith((".dvc/tmp", "mlruns"))
            if path.is_file() and not own and "__pycache__" not in name:
                found[name] = (path.stat().st_mtime, path.read_bytes())
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(make_project(tmp_path_factory.mktemp("trained") / "a project"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clean", "dirty"])
def test_a_training_is_equal_again(name, trained):
    run, before = getattr(trained, name), trained.state()
    done = trained.reproduce(run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reproduce: equal" in done.stdout
    assert "train/loss" in done.stdout
    assert trained.tags(run)["reproduced"] == "equal"
    assert trained.state() == before
    assert [path.name for path in trained.project.folder.parent.iterdir()] == ["a project"]


@pytest.mark.slow
def test_the_two_trainings_differ(trained):
    hashes = [trained.tags(run)["model_sha256"] for run in (trained.clean, trained.dirty)]
    assert hashes[0] != hashes[1]


@pytest.mark.slow
def test_another_model_than_the_run_s_is_different(trained, tmp_path):
    tags, run_id = trained.tags(trained.dirty), trained.dirty.info.run_id
    trained.client.set_tag(run_id, "model_sha256", "0" * 64)
    done = trained.reproduce(trained.dirty, "--into", str(tmp_path / "clone"))
    trained.client.set_tag(run_id, "model_sha256", tags["model_sha256"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "different, on the same machine kind: the weights" in done.stdout
    assert trained.tags(trained.dirty)["reproduced"] == "different"
    # The clone is a project of its own, of the changed code, with a run of its own.
    clone = Project(tmp_path / "clone")
    [again] = tracked(clone)
    assert again.data.tags["reproduces"] == run_id
    for name in ("git.commit", "git.diff_sha256", "data.tensors_md5", "train_key"):
        assert again.data.tags[name] == tags[name], name


def tracked(project: Project) -> list[Any]:
    from mlflow import MlflowClient

    with quiet():
        client = MlflowClient(f"sqlite:///{project.folder / 'mlruns/mlflow.db'}")
        places = [one.experiment_id for one in client.search_experiments()]
        return list(client.search_runs(places))


@pytest.mark.slow
def test_an_experiment_in_a_temporary_checkout_is_equal_again(trained):
    trained.project.run("git", "add", "-N", "src")  # DVC takes no untracked files along
    trained.project.run("dvc", "exp", "run", "--temp", "-q", "-S", "train.seed=7", "train")
    run = trained.last_run()
    assert run.data.params["train.seed"] == "7"
    assert "dvc.exp_name" in run.data.tags
    done = trained.reproduce(run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "reproduce: equal" in done.stdout


@pytest.mark.slow
def test_data_that_is_gone_is_made_again_from_the_videos(trained):
    folder = trained.project.folder
    for path in ("data/tensors/sample", "data/frames/sample"):
        md5 = data_md5(path, root=folder)
        assert md5 is not None
        object_path(folder / ".dvc/cache", md5).unlink()
    done = trained.reproduce(trained.clean)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be had, and is packed again" in done.stdout
    assert "Running stage 'frames'" in done.stdout
    assert "Running stage 'sample'" not in done.stdout
    assert "reproduce: equal" in done.stdout
