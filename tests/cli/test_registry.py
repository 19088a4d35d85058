"""Promoting: what is refused and what is made, on a made-up registry; then a real project."""

import base64
import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinetrack.cli import places, scores
from kinetrack.cli import registry as module
from kinetrack.cli.registry import promote
from kinetrack.errors import InputError
from kinetrack.files import write_alone
from kinetrack.learning.checkpoint import read_card, save_model
from kinetrack.learning.models import build_model
from kinetrack.tracking.records import RunRecord
from kinetrack.tracking.registry import ModelVersion
from kinetrack.tracking.settings import quiet
from kinetrack.using.inference import load_recogniser

from factories import model_card
from mlflow_servers import Server
from project import Project, environment, make_project

COMMIT = "c" * 40
CLIPS = tuple(f"Walk/clip{number}" for number in range(10))
LABELS = ("Jump", "Walk")


def predictions(num_right: int, *, clips: Sequence[str] = CLIPS) -> bytes:
    """Of clips in groups of two; the first ones are right."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["clip", "actual", "predicted", "group"])
    for number, clip in enumerate(clips):
        predicted = "Walk" if number < num_right else "Jump"
        writer.writerow([clip.partition("/")[2], "Walk", predicted, f"g{number // 2}"])
    return text.getvalue().encode()


class MadeUp:
    """Runs, their predictions and models, and a registry in memory."""

    def __init__(self, folder: Path, models: dict[tuple[str, ...], Path]) -> None:
        self.root, self.models = folder, models
        self.runs: dict[str, RunRecord] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        self.predictions: dict[str, bytes] = {}
        self.versions: list[ModelVersion] = []
        self.descriptions: dict[tuple[str, int], str] = {}

    def add_run(
        self,
        name: str,
        num_right: int,
        *,
        clips: Sequence[str] = CLIPS,
        labels: tuple[str, ...] = LABELS,
        **tags: str,
    ) -> str:
        """A run with a test result; its name is its id."""
        card = read_card(self.models[labels])
        given = {
            "git.commit": COMMIT,
            "git.dirty": "false",
            "data.split_md5": "split",
            "data.videos_md5": "videos",
            "model_sha256": card.weights_sha256,
            "model_md5": "1" * 32 + ".dir",
        }
        metrics = {
            "test/accuracy": num_right / len(clips),
            "test/loss": 1 - num_right / 100,
            "test/calibration_error": 1 - num_right / 100,
            "test/num_clips": len(clips),
        }
        self.runs[name] = RunRecord(
            name, name, "FINISHED", given | tags, {"dataset": "mine"}, metrics
        )
        self.labels[name] = labels
        self.predictions[name] = predictions(num_right, clips=clips)
        return name

    def change_run(self, name: str, **fields: Any) -> None:
        self.runs[name] = self.runs[name]._replace(**fields)

    def find_record(self, name: str) -> RunRecord:
        return self.runs[name]

    def read_artifact(self, record: RunRecord, path: str) -> bytes | None:
        assert path == "evaluation/predictions.csv"
        return self.predictions.get(record.run_id)

    def fetch_model(self, source: str, folder: Path) -> None:
        shutil.copytree(self.models[self.labels[source.removeprefix("run:")]], folder)

    def list_model_versions(self) -> list[ModelVersion]:
        return sorted(self.versions, key=lambda one: (one.name, one.version))

    def register_model(
        self, run_id: str, name: str, *, tags: dict[str, str], description: str
    ) -> ModelVersion:
        of_name = [one for one in self.versions if one.name == name]
        known = next((one for one in of_name if one.run_id == run_id), None)
        if known is None:
            known = ModelVersion(name, len(of_name) + 1, (), run_id, f"m-{run_id}", 0, tags)
            self.versions.append(known)
            self.descriptions[name, known.version] = description
        return known

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        for number, one in enumerate(self.versions):
            if one.name == version.name:
                others = {*one.aliases} - {alias}
                own = {alias} if one.version == version.version else set()
                self.versions[number] = one._replace(aliases=tuple(sorted(others | own)))

    def promote(self, run: str, *, alias: str = "champion", **options: Any) -> str:
        return promote(run, alias=alias, root=self.root, **options).describe()

    def holder(self, alias: str = "champion", *, name: str = "mine") -> str | None:
        """The run whose version has an alias."""
        found = [x.run_id for x in self.versions if x.name == name and alias in x.aliases]
        return found[0] if found else None


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Path]:
    """Model folders by their classes."""
    folders = {}
    for labels in (LABELS, ("Run", "Walk"), ("Walk", "Jump")):
        folder = tmp_path_factory.mktemp("model")
        net = build_model("small_3dcnn", num_classes=2, num_frames=4, size_px=16)
        save_model(folder, net, model_card(labels=labels), trained_on=["a"])
        folders[labels] = folder
    return folders


@pytest.fixture
def made_up(
    tmp_path: Path, models: dict[tuple[str, ...], Path], monkeypatch: pytest.MonkeyPatch
) -> MadeUp:
    fake = MadeUp(tmp_path, models)
    for name in (
        "find_record",
        "fetch_model",
        "list_model_versions",
        "register_model",
        "set_alias",
    ):
        monkeypatch.setattr(module, name, getattr(fake, name))
    monkeypatch.setattr(scores, "read_artifact", fake.read_artifact)
    return fake


def test_the_first_one_needs_no_comparison(made_up):
    told = made_up.promote(made_up.add_run("one", 8))
    assert told.startswith("promote: mine version 1 is champion: run one (one)\n")
    assert "test/accuracy 0.8000 (0.400-1.000) on 10 clips in 5 groups" in told
    assert made_up.holder() == "one"


def test_without_a_run_it_is_that_of_the_model_here(made_up, monkeypatch):
    weights = read_card(made_up.models[LABELS]).weights_sha256
    shutil.copytree(made_up.models[LABELS], made_up.root / "data/model")
    made_up.add_run("a", 8)
    monkeypatch.setattr(module, "find_latest_of_model", {weights: made_up.runs["a"]}.get)
    promote(None, alias="champion", root=made_up.root)
    assert [version.run_id for version in made_up.versions] == ["a"]


def test_without_a_run_of_the_model_here_it_is_one_line(made_up, monkeypatch):
    shutil.copytree(made_up.models[LABELS], made_up.root / "data/model")
    monkeypatch.setattr(module, "find_latest_of_model", lambda _: None)
    with pytest.raises(InputError, match="no finished run in MLflow made it -> kinetrack track"):
        promote(None, alias="champion", root=made_up.root)


def test_what_was_done_is_told_as_plain_values_too(made_up):
    made_up.promote(made_up.add_run("one", 8))
    run = made_up.add_run("two", 9)
    asked = promote(run, alias="champion", root=made_up.root, dry_run=True).to_json()
    assert (asked["is_done"], asked["version"], made_up.holder()) == (False, None, "one")
    done = json.loads(json.dumps(promote(run, alias="champion", root=made_up.root).to_json()))
    assert len(done.pop("interval")) == 2
    assert done == {
        "name": "mine",
        "version": 2,
        "alias": "champion",
        "run_id": "two",
        "is_done": True,
        "metric": "test/accuracy",
        "value": 0.9,
        "before": {"version": 1, "run_id": "one", "value": 0.8},
    }


def test_a_better_one_takes_the_alias_over_and_the_earlier_one_is_told(made_up):
    made_up.promote(made_up.add_run("one", 8))
    told = made_up.promote(made_up.add_run("two", 9))
    assert made_up.holder() == "two"
    assert told.splitlines()[-1].startswith("  before: mine version 1: test/accuracy 0.8000 (0.")


@pytest.mark.parametrize("num_right", [0, 7, 8])
def test_one_that_is_not_better_is_refused_with_both_figures(num_right, made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.add_run("two", num_right)
    with pytest.raises(InputError) as told:
        made_up.promote("two")
    line = str(told.value)
    assert "run two (two): is not better than mine version 1, which is champion" in line
    assert f"found test/accuracy 0.{num_right}000 (0." in line
    assert "expected more than test/accuracy 0.8000 (0.400-1.000) on 10 clips in 5 groups" in line
    assert line.endswith("--force makes it champion all the same")
    assert made_up.holder() == "one"
    assert len(made_up.versions) == 1


def test_one_that_is_not_better_can_be_forced(made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.promote(made_up.add_run("two", 7), force=True)
    assert made_up.holder() == "two"


@pytest.mark.parametrize(
    ("clips", "tags"),
    [
        (tuple(reversed(CLIPS)), {}),
        (CLIPS, {"data.split_md5": "with other validation clips"}),
        (CLIPS, {"data.videos_md5": "with more training clips"}),
    ],
)
def test_the_same_test_clips_can_be_compared(clips, tags, made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.promote(made_up.add_run("two", 9, clips=clips, **tags))
    assert made_up.holder() == "two"


@pytest.mark.parametrize(
    ("clips", "tags"),
    [
        (CLIPS[:9], {}),  # dropped, since too short for a window
        ((*CLIPS[:9], "Walk/another"), {"data.split_md5": "another fold"}),
        (CLIPS, {"data.split_md5": "other", "data.videos_md5": "other frames of the same names"}),
    ],
)
def test_other_test_clips_cannot_be_compared(clips, tags, made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.add_run("two", 9, clips=clips, **tags)
    problem = "it was tested on other clips than mine version 1, now champion, found test/accuracy"
    with pytest.raises(InputError, match=problem):
        made_up.promote("two")
    assert made_up.holder() == "one"
    made_up.promote("two", force=True)
    assert made_up.holder() == "two"


def test_where_nothing_says_which_clips_these_are_they_cannot_be_compared(made_up):
    for name, num_right in (("one", 8), ("two", 9)):
        made_up.add_run(name, num_right)
        tags = {key: x for key, x in made_up.runs[name].tags.items() if "data" not in key}
        made_up.change_run(name, tags=tags)
    made_up.promote("one")
    with pytest.raises(InputError, match="other clips"):
        made_up.promote("two")


def test_a_version_that_was_made_by_hand_cannot_be_compared(made_up):
    made_up.versions.append(ModelVersion("mine", 1, ("champion",), "", "", 0, {}))
    made_up.add_run("two", 9)
    problem = "mine version 1, which is champion, has no recorded test/accuracy"
    with pytest.raises(InputError, match=problem):
        made_up.promote("two")
    told = made_up.promote("two", force=True)
    assert told.splitlines()[-1] == "  before: mine version 1"


@pytest.mark.parametrize("metric", ["test/loss", "test/calibration_error"])
def test_of_a_loss_or_an_error_less_is_better(metric, made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.add_run("two", 7)
    made_up.add_run("three", 9)
    expected = rf"found {metric} 0\.9300 on .*expected less than {metric} 0\.9200 on 10 clips"
    with pytest.raises(InputError, match=expected):
        made_up.promote("two", metric=metric)
    made_up.promote("three", metric=metric)
    assert made_up.holder() == "three"


def test_the_same_run_twice_is_one_version(made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.promote("one")
    made_up.promote("one", alias="newest")
    assert [one.aliases for one in made_up.versions] == [("champion", "newest")]


def test_an_earlier_one_is_compared_as_any_other(made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.promote(made_up.add_run("two", 9))
    with pytest.raises(InputError, match="is not better than mine version 2"):
        made_up.promote("one")
    made_up.promote("one", force=True)
    assert [one.run_id for one in made_up.versions] == ["one", "two"]
    assert made_up.holder() == "one"


def test_aliases_and_names_are_compared_each_for_itself(made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.add_run("two", 7)
    made_up.promote("two", alias="small")
    made_up.promote("two", name="other net")
    found = [made_up.holder(), made_up.holder("small"), made_up.holder(name="other net")]
    assert found == ["one", "two", "two"]


@pytest.mark.parametrize("labels", [("Run", "Walk"), ("Walk", "Jump")])
def test_other_classes_under_a_name_are_refused(labels, made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.add_run("two", 9, labels=labels)
    problem = f"tells other classes apart than mine version 1, found {', '.join(labels)}, expected"
    for alias in ("champion", "newest"):
        with pytest.raises(InputError, match=f"{problem} Jump, Walk -> give it a --name"):
            made_up.promote("two", alias=alias)
    made_up.promote("two", force=True)
    made_up.promote("two", name="other")
    assert len(made_up.versions) == 3


def test_the_classes_of_a_name_are_those_of_its_newest_version(made_up):
    made_up.promote(made_up.add_run("one", 8))
    made_up.promote(made_up.add_run("two", 7, labels=("Run", "Walk")), force=True)
    made_up.promote(made_up.add_run("three", 9, labels=("Run", "Walk")))
    assert made_up.holder() == "three"


def test_a_dry_run_says_what_would_be_and_does_nothing(made_up):
    told = made_up.promote(made_up.add_run("one", 8), dry_run=True)
    assert told.startswith("promote: mine would have a new champion: run one (one)")
    assert made_up.versions == []
    made_up.promote("one")
    made_up.add_run("two", 7)
    with pytest.raises(InputError, match="is not better"):
        made_up.promote("two", dry_run=True)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"status": "RUNNING"}, "has no finished model, found status running, expected a fin"),
        ({"status": "FAILED"}, "has no finished model"),
        ({"tags": {}}, "has no finished model"),
        ({"tags": {"kind": "group"}}, "is a group of runs -> name one of them"),
        ({"metrics": {"val/accuracy": 1.0}}, "was not evaluated: it has no test .*dvc repro eval"),
        ({"metrics": {"test/loss": 1.0}}, "has no metric test/accuracy, expected one of test/loss"),
        ({"metrics": {"test/accuracy": float("nan")}}, "its test/accuracy is no number, found nan"),
        ({"metrics": {"test/accuracy": 0.9}}, r"is not that of its evaluation/predictions\.csv, f"),
        ({"params": {}}, "cannot be the name of a registered model"),
    ],
)
def test_a_run_that_cannot_be_promoted_is_one_line(fields, problem, made_up):
    made_up.add_run("one", 8)
    made_up.change_run("one", **fields)
    with pytest.raises(InputError, match=problem):
        made_up.promote("one")
    assert made_up.versions == []


def test_the_number_of_clips_is_no_result(made_up):
    made_up.add_run("one", 8)
    with pytest.raises(InputError, match="has no metric test/num_clips, expected one of test/acc"):
        made_up.promote("one", metric="test/num_clips")


@pytest.mark.parametrize("content", [None, b"", b"\xff", b"clip,actual\na,b\n", b'a,"b\n"\0'])
def test_predictions_that_are_none_are_one_line(content, made_up):
    made_up.add_run("one", 8)
    made_up.predictions["one"] = content
    with pytest.raises(InputError, match=r"predictions\.csv.*-> bring its model back"):
        made_up.promote("one")


def test_a_model_that_the_run_did_not_make_is_refused(made_up):
    made_up.add_run("one", 8, model_sha256="0" * 64)
    with pytest.raises(InputError, match="its model in MLflow is not the one that it made, found"):
        made_up.promote("one")


def test_a_damaged_model_is_refused(made_up, models, tmp_path):
    made_up.add_run("one", 8)
    damaged = shutil.copytree(models[LABELS], tmp_path / "damaged")
    (damaged / "trained_on.txt").write_text("")
    made_up.models = {LABELS: damaged}
    with pytest.raises(InputError, match=r"trained_on\.txt: is damaged"):
        made_up.promote("one")


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"alias": "v1"}, "cannot be an alias"), ({"name": "a/b"}, "cannot be the name of a reg")],
)
def test_names_are_checked_before_anything_is_read(options, problem, made_up, monkeypatch):
    made_up.add_run("one", 8)
    monkeypatch.setattr(module, "fetch_model", None)
    with pytest.raises(InputError, match=problem):
        made_up.promote("one", **options)


def test_two_at_once_follow_each_other(made_up, monkeypatch):
    monkeypatch.setattr("kinetrack.files._PATIENCE_S", 0.1)
    made_up.add_run("one", 8)
    with (
        write_alone(made_up.root / ".kinetrack/promote"),
        pytest.raises(InputError, match=r"promote: is being written by another process"),
    ):
        made_up.promote("one")
    made_up.promote("one")


def test_a_kill_before_the_alias_is_made_good_by_the_next(made_up, monkeypatch):
    made_up.add_run("one", 8)
    with monkeypatch.context() as patched:
        patched.setattr(module, "set_alias", interrupt)
        with pytest.raises(KeyboardInterrupt):
            made_up.promote("one")
    assert made_up.holder() is None
    made_up.promote("one")
    assert (made_up.holder(), len(made_up.versions)) == ("one", 1)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_version_says_what_it_is_and_what_made_it(made_up):
    made_up.promote(made_up.add_run("one", 8))
    [version] = made_up.versions
    tags = version.tags
    assert tags["labels"] == '["Jump", "Walk"]'
    assert (tags["dataset"], tags["git.commit"], tags["data.split_md5"]) == (
        "mine",
        COMMIT,
        "split",
    )
    assert tags["model.input"] == "4 x 16 x 16, rgb"
    assert int(tags["model.bytes"]) > 1000
    assert json.loads(tags["test.metrics"])["test/accuracy"] == 0.8
    assert json.loads(tags["test.interval"]) == [0.4, 1.0]
    description = made_up.descriptions["mine", 1]
    assert "- **Test:** test/accuracy 0.8000 (0.400-1.000) on 10 clips in 5 groups" in description
    assert "- **Classes:** 2: Jump, Walk" in description
    assert f"- **Commit:** {COMMIT}\n" in description
    assert "- **Model, by DVC's MD5:** " + "1" * 32 in description


def test_uncommitted_changes_and_names_of_people_are_told_inertly(made_up):
    made_up.add_run("<img src=x onerror=alert(1)>", 8, **{"git.dirty": "true"})
    made_up.promote("<img src=x onerror=alert(1)>", name="mine")
    description = made_up.descriptions["mine", 1]
    assert f"- **Commit:** {COMMIT} with uncommitted changes" in description
    assert "**Run:** &#60;img src&#61;x onerror&#61;alert&#40;1&#41;&#62;" in description
    assert "<" not in description


def test_many_classes_are_cut_short():
    labels = [f"Class{number}" for number in range(101)]
    told = module._name_some(labels, most=40)
    assert told.endswith("Class39, ... (101)")


def test_outside_of_a_project_a_server_must_be_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="inside the project, or set MLFLOW_TRACKING_URI"):
        places.enter_if_project()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert places.enter_if_project() is None


class Trained:
    """A project with DVC's cache and remote, and two runs; data/model is of the second."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.runs = [self.train(epochs) for epochs in (1, 2)]

    def train(self, epochs: int) -> str:
        self.project.set_params(train={"epochs": epochs})
        self.project.run("dvc", "repro", "-q")
        return self.newest()

    def newest(self) -> str:
        run_id: str = self.listed()[0]["run_id"]
        return run_id

    def listed(self, **variables: str) -> list[dict[str, Any]]:
        """What MLflow has, the newest run first."""
        runs: list[dict[str, Any]] = json.loads(
            self.kinetrack("runs", "--json", **variables).stdout
        )
        return runs

    def kinetrack(
        self, *arguments: str, check: bool = True, folder: Path | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with the project's code."""
        source = {"PYTHONPATH": str(self.project.folder / "src")}
        done = subprocess.run(
            [sys.executable, "-m", "kinetrack.cli.main", *arguments],
            cwd=folder or self.project.folder,
            env={**environment(), **source, **variables},
            text=True,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    project = make_project(folder / "a project")
    project.run("dvc", "remote", "add", "-q", "-d", "team", str(folder / "remote"))
    return Trained(project)


def probabilities(folder: Path) -> np.ndarray:
    return load_recogniser(folder).probabilities(CLIP)


CLIP = np.random.default_rng(1).integers(0, 256, (2, 3, 16, 32, 32), dtype=np.uint8)


@pytest.mark.slow
def test_a_real_project_promotes_and_gives_its_best_model_away(trained, tmp_path):
    # Of two short trainings the accuracies may be equal; their losses are not.
    runs = sorted(trained.listed(), key=lambda run: -run["metrics"]["test/loss"])
    worse, better = (run["run_id"] for run in runs)
    options = ("--alias", "champion", "--metric", "test/loss")
    told = trained.kinetrack("promote", worse[:8], *options).stdout
    assert "promote: sample version 1 is champion" in told
    told = trained.kinetrack("promote", better, *options).stdout
    assert "promote: sample version 2 is champion" in told
    assert "on 6 clips in 1 group\n" in told
    refused = trained.kinetrack("promote", worse, *options, check=False)
    assert refused.returncode == 2
    assert "is not better than sample version 2" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    first, second = json.loads(trained.kinetrack("models", "--json").stdout)
    assert (first["aliases"], second["aliases"]) == ([], ["champion"])
    assert (second["in_mlflow"], second["in_dvc"]) == (True, "yes")
    trained.kinetrack("pull-model", "sample@champion", "--into", str(tmp_path / "mine"))
    assert read_card(tmp_path / "mine").weights_sha256 == runs[1]["tags"]["model_sha256"]
    assert trained.listed()[0]["tags"]["git.dirty"] == "true"  # of the params


@pytest.mark.slow
def test_a_moved_project_loads_serves_and_pulls_by_the_alias(trained, tmp_path):
    trained.kinetrack("promote", trained.runs[1], "--alias", "moved", "--name", "to move")
    moved = shutil.copytree(trained.project.folder, tmp_path / "another place")
    hidden = trained.project.folder.rename(tmp_path / "not here")
    try:
        asked, answered = tmp_path / "asked.json", tmp_path / "answered.json"
        video = next((moved / "data/videos/sample").rglob("*.avi"))
        sent = base64.b64encode(video.read_bytes()).decode()
        asked.write_text(json.dumps({"dataframe_records": [{"video": sent}]}))
        command = ["-m", "mlflow", "models", "predict", "--env-manager", "local"]
        files = ["-m", "models:/to move@moved", "-i", str(asked), "-o", str(answered)]
        subprocess.run(
            [sys.executable, *command, *files],
            cwd=moved / "data",
            env={
                **environment(),
                "MLFLOW_TRACKING_URI": f"sqlite:///{moved}/mlruns/mlflow.db",
                "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            },
            check=True,
        )
        [told] = json.loads(answered.read_text())["predictions"]
        named = load_recogniser(moved / "data/model").predict(video)
        assert told["labels"] == list(named.labels)
        assert told["probabilities"] == pytest.approx(named.probabilities, abs=1e-6)
        source = {"PYTHONPATH": str(moved / "src")}
        trained.kinetrack("pull-model", "to move@moved", folder=moved / "data", **source)
        expected = probabilities(moved / "data/model")
        assert probabilities(moved / "models/to move@moved") == pytest.approx(expected)
    finally:
        hidden.rename(trained.project.folder)


@pytest.mark.slow
def test_a_model_that_mlflow_and_the_cache_lost_comes_from_the_remote(trained, tmp_path):
    trained.kinetrack("promote", trained.runs[1], "--alias", "kept", "--name", "kept")
    trained.project.run("dvc", "push", "-q", "train")
    clone = shutil.copytree(trained.project.folder, tmp_path / "clone")
    shutil.rmtree(clone / "mlruns/artifacts")
    shutil.rmtree(clone / ".dvc/cache")
    source = {"PYTHONPATH": str(clone / "src")}
    done = trained.kinetrack("pull-model", "kept@kept", folder=clone, **source)
    assert "from the DVC remote" in done.stdout, done.stderr
    expected = probabilities(trained.project.folder / "data/model")
    assert probabilities(clone / "models/kept@kept") == pytest.approx(expected)


@pytest.mark.slow
def test_a_team_s_server_gives_its_models_to_an_empty_folder(trained, tmp_path):
    from kinetrack.tracking.database import database_path

    (tmp_path / "server").mkdir()
    (tmp_path / "elsewhere").mkdir()
    with quiet():
        server = Server(tmp_path / "server", empty_copy(tmp_path))
    try:
        there = {"MLFLOW_TRACKING_URI": server.address}
        trained.kinetrack("store", "import", str(trained.project.folder / "mlruns"), **there)
        sha256 = read_card(trained.project.folder / "data/model").weights_sha256
        runs = {run["tags"]["model_sha256"]: run["run_id"] for run in trained.listed(**there)}
        best = runs[sha256]
        told = trained.kinetrack("promote", best, "--alias", "best", "--name", "net", **there)
        assert "promote: net version 1 is best" in told.stdout
        folder = tmp_path / "elsewhere"
        trained.kinetrack("pull-model", "net@best", folder=folder, **there)
        expected = probabilities(trained.project.folder / "data/model")
        assert probabilities(folder / "models/net@best") == pytest.approx(expected)
        listed = json.loads(trained.kinetrack("models", "--json", folder=folder, **there).stdout)
        [version] = [one for one in listed if one["name"] == "net"]
        assert (version["in_mlflow"], version["in_dvc"]) == (True, None)
    finally:
        server.end()
    gone = trained.kinetrack(
        "pull-model",
        "net@best",
        folder=folder,
        check=False,
        **there,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
    )
    assert (gone.returncode, len(gone.stderr.splitlines())) == (2, 1)
    assert not database_path(folder).exists()


def empty_copy(folder: Path) -> Path:
    """A database without runs."""
    from kinetrack.tracking.database import prepare_database

    path = folder / "empty.db"
    prepare_database(path)
    return path
