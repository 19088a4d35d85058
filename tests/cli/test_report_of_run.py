"""`kinetrack report RUN`: what a real MLflow store has of a run; only its model is fetched here."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from mlflow.entities import Metric

from kinetrack.cli.report import of_run
from kinetrack.cli.report.command import print_report
from kinetrack.cli.report.of_run import tell_run
from kinetrack.cli.report.present import tell_present
from kinetrack.data.index import DroppedRow, write_index
from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.learning.checkpoint import read_card, save_model
from kinetrack.tables import read_csv
from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import experiment_id, open_store
from kinetrack.versioning.lock import folder_md5

from reports_made import PARAMS, make_report, network, write_lock, write_reports, write_test_clips

TENSORS = "data/tensors/mine"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after `dvc repro`, and an empty store."""
    folder = tmp_path_factory.mktemp("made") / "project"
    side = write_test_clips(folder / TENSORS)
    report = make_report(side)
    save_model(folder / "data/model", network(), report.card)
    write_reports(folder, report)
    (folder / "data/splits").mkdir()
    (folder / "data/splits/split.json").write_text("{}")
    dropped = DroppedRow(clip="late", label="Jump", side="train", reason="too many missing")
    write_index(folder / "data/splits/dropped.csv", DroppedRow, [dropped])
    (folder / "dvc.yaml").touch()
    write_lock(folder)
    prepare_database(folder / "mlruns/mlflow.db")
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, to work in."""
    folder = tmp_path / "project"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)

    def fetch(source: str, target: Path) -> None:
        assert source.startswith("run:")
        shutil.copytree(folder / "data/model", target)

    monkeypatch.setattr(of_run, "fetch_model", fetch)
    return folder


def add_run(root: Path, *, status: str = "FINISHED", **tags: str) -> str:
    """A run that was trained and evaluated, as the stages record it."""
    with quiet():
        client = open_store()
        run_id: str = client.create_run(
            experiment_id(client, "mine"), run_name="my run"
        ).info.run_id
        made = {
            "model_sha256": read_card(root / "data/model").weights_sha256,
            "data.tensors_md5": folder_md5(root / TENSORS),
            "data.split_md5": file_md5(root / "data/splits/split.json"),
            "git.commit": "c0ffee",
        }
        for name, value in (made | tags).items():
            client.set_tag(run_id, name, value)
        client.log_param(run_id, "dataset", "mine")
        client.log_text(run_id, yaml.safe_dump({"dataset": "mine", **PARAMS}), "params.yaml")
        client.log_artifacts(run_id, str(root / "reports/evaluate"), "evaluation")
        client.log_batch(run_id, metrics=list(_metrics(root)))
        client.set_terminated(run_id, status)
    return run_id


def _metrics(root: Path) -> Iterator[Metric]:
    for row in read_csv(root / "reports/train/history.csv"):
        step = int(row.pop("epoch"))
        for name, value in row.items():
            if value != "nan":
                yield Metric(name.replace("_", "/", 1), float(value), step, step)
    # As the stage evaluate does: no epoch of the training.
    yield Metric("test/accuracy", 0.5, 9, 0)


def test_report_of_a_run_is_that_of_the_same_model_here(root: Path) -> None:
    run_id = add_run(root)
    told, here = tell_run(run_id[:8], root), tell_present(root)
    assert told.run == here.run
    for ours, theirs in zip(told.report.history, here.report.history, strict=True):
        assert {name: float(ours[name]) for name in theirs} == pytest.approx(
            {name: float(value) for name, value in theirs.items()}, nan_ok=True
        )
        assert ours["test_accuracy"] == "nan"  # that of the evaluation is of no epoch
    same = {"history": [], "params": {}}
    assert told.report._replace(**same) == here.report._replace(**same)
    assert told.report.params == PARAMS
    assert told.test_side == here.test_side


def test_page_has_a_name_of_its_own_and_is_added_to_the_run(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = add_run(root)
    print_report(root, run=run_id, open_page=False, as_json=True)
    told = json.loads(capsys.readouterr().out)
    page = f".kinetrack/pages/report-{run_id[:8]}.html"
    assert told == {
        "page": page,
        "model_card": f".kinetrack/pages/model_card-{run_id[:8]}.md",
        "run_id": run_id,
        "is_added": True,
    }
    html = (root / page).read_text()
    for text in ("my run", "c0ffee", "Jump/late", "train.epochs", "<img "):
        assert text in html, text
    with quiet():
        added = [one.path for one in open_store().list_artifacts(run_id, "report")]
    assert sorted(added) == [
        f"report/model_card-{run_id[:8]}.md",
        f"report/report-{run_id[:8]}.html",
    ]


def test_of_other_data_there_are_neither_pictures_nor_guesses(root: Path) -> None:
    run_id = add_run(root, **{"data.tensors_md5": "0" * 32 + ".dir", "data.split_md5": "0" * 32})
    told = tell_run(run_id, root)
    assert (told.test_side, told.report.sides, told.report.dropped) == (None, [], None)
    print_report(root, run=run_id, open_page=False)
    html = (root / f".kinetrack/pages/report-{run_id[:8]}.html").read_text()
    assert "<img " not in html
    assert "Which clips the split dropped is not known here" in html
    assert "were dropped" not in (root / f".kinetrack/pages/model_card-{run_id[:8]}.md").read_text()


@pytest.mark.parametrize(
    ("tags", "status", "problem"),
    [
        ({"kind": "group"}, "FINISHED", "is a group of runs -> name one of them"),
        ({}, "FAILED", "has no finished model, found status failed"),
        ({"model_sha256": "0" * 64}, "FINISHED", "its model in MLflow is not the one that it made"),
    ],
)
def test_run_that_has_no_model_to_tell_of_is_refused(
    root: Path, tags: dict[str, str], status: str, problem: str
) -> None:
    run_id = add_run(root, status=status, **tags)
    with pytest.raises(InputError, match=problem):
        tell_run(run_id, root)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("confusion.csv", None, r"MLflow has no evaluation/confusion\.csv of it"),
        ("metrics.json", "{", r"its evaluation/metrics\.json cannot be read"),
        ("per_class.csv", "label\n", r"evaluation/per_class\.csv of run \w{8}: is no such table"),
    ],
)
def test_evaluation_that_is_not_whole_is_refused_and_nothing_is_written(
    root: Path, name: str, content: str | None, problem: str
) -> None:
    path = root / "reports/evaluate" / name
    path.unlink() if content is None else path.write_text(content)
    run_id = add_run(root)
    with pytest.raises(InputError, match=problem):
        print_report(root, run=run_id, open_page=False)
    assert not (root / ".kinetrack").exists()


def test_params_that_are_none_are_refused(root: Path) -> None:
    run_id = add_run(root)
    with quiet():
        open_store().log_text(run_id, "a: 1\na: 2\n", "params.yaml")
    with pytest.raises(InputError, match=r"its params\.yaml cannot be read"):
        tell_run(run_id, root)
