"""`kinetrack report` on a project whose files and lock are made up, with a real MLflow store."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from kinetrack.cli.report.command import print_report
from kinetrack.cli.reported import read_lock
from kinetrack.data.index import DroppedRow, write_index
from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.learning.checkpoint import read_card, save_model
from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import experiment_id, open_store
from kinetrack.versioning.lock import folder_md5

from reports_made import PARAMS, make_report, network, write_lock, write_reports, write_test_clips

TENSORS = "data/tensors/mine"
NAMED = [("per_class", "scores"), ("confusion", "confusion"), ("reliability", "reliability")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after `dvc repro`, and the store with the run of its model."""
    folder = tmp_path_factory.mktemp("made") / "a project"
    side = write_test_clips(folder / TENSORS)
    report = make_report(side)
    save_model(folder / "data/model", network(), report.card)
    write_reports(folder, report)
    dropped = DroppedRow(clip="late", label="Jump", side="train", reason="too many missing")
    write_index(folder / "data/splits/dropped.csv", DroppedRow, [dropped])
    (folder / "dvc.yaml").touch()
    write_lock(folder)
    prepare_database(folder / "mlruns/mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        add_run(folder)
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    folder = tmp_path / "a project"
    shutil.copytree(made, folder)
    enter(folder, monkeypatch)
    return folder


def enter(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
        patch.delenv(name, raising=False)


def add_run(folder: Path, *, name: str = "my run", **tags: str) -> str:
    with quiet():
        client = open_store()
        place = experiment_id(client, "mine")
        run_id: str = client.create_run(place, run_name=name).info.run_id
        made = {
            "model_sha256": read_card(folder / "data/model").weights_sha256,
            "data.tensors_md5": folder_md5(folder / TENSORS),
            "git.commit": "c0ffee",
            "git.dirty": "true",
        }
        for tag, value in (made | tags).items():
            client.set_tag(run_id, tag, value)
        client.set_terminated(run_id, "FINISHED")
    return run_id


def artifacts(run_id: str) -> list[str]:
    with quiet():
        return [one.path for one in open_store().list_artifacts(run_id, "report")]


def only_run() -> str:
    with quiet():
        client = open_store()
        (run,) = client.search_runs([experiment_id(client, "mine")])
        return str(run.info.run_id)


def test_page_and_card_are_made_and_added_to_the_run(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(root, open_page=False)
    said = capsys.readouterr().out
    assert "page .kinetrack/pages/report.html, model card .kinetrack/pages/model_card.md" in said
    assert f"artifacts of run my run ({only_run()[:8]}), in report/" in said
    html = (root / ".kinetrack/pages/report.html").read_text()
    for text in ("my run", "c0ffee", "with uncommitted changes", "Jump/late", "train.epochs"):
        assert text in html, text
    # What another section's owner has whole is not listed as a single key.
    assert "frames.gaps" not in html
    assert html.count("<img ") == 6 * 4 * 2
    assert "my run" in (root / ".kinetrack/pages/model_card.md").read_text()
    assert artifacts(only_run()) == ["report/model_card.md", "report/report.html"]


def test_a_second_report_replaces_the_first(root: Path) -> None:
    print_report(root, open_page=False)
    first = (root / ".kinetrack/pages/report.html").read_bytes()
    print_report(root, open_page=False)
    assert (root / ".kinetrack/pages/report.html").read_bytes() == first


def test_the_browser_opens_the_page_when_asked(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    print_report(root, open_page=True)
    assert opened == [(root / ".kinetrack/pages/report.html").as_uri()]


def test_of_several_runs_of_the_model_it_is_the_newest_of_this_data(root: Path) -> None:
    newest = add_run(root, name="again")
    add_run(root, name="other data", **{"data.tensors_md5": "other.dir"})
    print_report(root, open_page=False)
    assert "again" in (root / ".kinetrack/pages/report.html").read_text()
    assert artifacts(newest)


def test_without_a_run_the_page_is_made_of_files_alone(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with quiet():
        open_store().delete_run(only_run())
    print_report(root, open_page=False)
    assert "no run in MLflow has them" in capsys.readouterr().out
    html = (root / ".kinetrack/pages/report.html").read_text()
    assert "none in MLflow" in html
    assert "dvc repro" in html


def test_without_mlflow_the_page_is_made_and_a_line_says_so(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    print_report(root, open_page=False)
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "report: the run is not known" in captured.err
    assert (root / ".kinetrack/pages/report.html").is_file()


def test_without_the_packed_clips_the_page_has_no_pictures(root: Path) -> None:
    (root / TENSORS / "index.csv").unlink()
    print_report(root, open_page=False)
    html = (root / ".kinetrack/pages/report.html").read_text()
    assert "<img " not in html
    assert "The packed clips are not here" in html


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("data/model/model.json", "data/model"),
        ("reports/evaluate/metrics.json", "metrics.json"),
        ("reports/train/history.csv", "history.csv"),
    ],
)
def test_what_is_not_as_recorded_is_refused_and_an_earlier_page_stays(
    root: Path, path: str, text: str
) -> None:
    print_report(root, open_page=False)
    before = (root / ".kinetrack/pages/report.html").read_bytes()
    (root / path).write_bytes((root / path).read_bytes() + b" ")
    with pytest.raises(InputError, match=f"{text}: is not what the evaluation recorded"):
        print_report(root, open_page=False)
    assert (root / ".kinetrack/pages/report.html").read_bytes() == before


def test_a_report_that_is_gone_is_named(root: Path) -> None:
    (root / "reports/evaluate/confusion.csv").unlink()
    with pytest.raises(InputError, match=r"confusion\.csv: is not what the evaluation recorded"):
        print_report(root, open_page=False)


def test_a_project_before_its_first_repro_is_told_what_to_do(root: Path) -> None:
    (root / "dvc.lock").unlink()
    with pytest.raises(InputError, match="is of no model yet -> make repro"):
        print_report(root, open_page=False)


def test_the_lock_tells_data_set_and_params(root: Path) -> None:
    locked = read_lock(root)
    assert locked.dataset == "mine"
    assert locked.tensors_md5 == folder_md5(root / TENSORS)
    assert locked.params == {"split": PARAMS["split"], "train": PARAMS["train"]}
    assert json.loads((root / "reports/evaluate/metrics.json").read_text())["num_clips"] == 6


def test_a_name_of_a_run_is_printed_on_one_line(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(root, name="two\nlines\x1b[31m")
    print_report(root, open_page=False)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 2
    assert "two\\nlines\\x1b[31m" in said


@pytest.mark.parametrize("path", ["data/tensors/mine", "data/splits/split.json"])
def test_a_stage_that_ran_again_since_the_evaluation_is_refused(root: Path, path: str) -> None:
    """Else the page would tell the params and dropped clips of another split."""
    (root / "data/splits/split.json").write_text("{}")
    lock = yaml.safe_load((root / "dvc.lock").read_text())
    tensors = lock["stages"]["tensors"]
    read = {"path": "data/splits/split.json", "md5": file_md5(root / "data/splits/split.json")}
    tensors["deps"] = [read]
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    assert read_lock(root).dataset == "mine"
    if path == "data/tensors/mine":
        tensors["outs"][0]["md5"] = "0" * 32 + ".dir"
    else:
        read["md5"] = "0" * 32
    (root / "dvc.lock").write_text(yaml.safe_dump(lock))
    with pytest.raises(InputError, match=f"{path}: was made anew since the model was evaluated"):
        print_report(root, open_page=False)
