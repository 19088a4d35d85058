import json
import subprocess
import sys
from pathlib import Path

import pytest

from kinetrack.cli import runs
from kinetrack.cli.runs import print_runs
from kinetrack.errors import InputError
from kinetrack.tracking import ui
from kinetrack.tracking.listing import Entry, ListedRun, Listing
from kinetrack.versioning.cache import object_path

from project import environment

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA, MODEL = "1" * 32, "2" * 32


def listed(run_id: str = "ab" * 16, **fields: object) -> ListedRun:
    values = {
        "name": "lr 0.003",
        "experiment": "sample",
        "status": "FINISHED",
        "begun_ms": 1_700_000_000_000,
        "ended_ms": 1_700_000_060_000,
        "tags": {
            "git.commit": COMMIT,
            "git.dirty": "false",
            "dvc.exp_name": "bulky-lamb",
            "data.tensors_md5": DATA,
            "model_md5": MODEL,
        },
        "params": {"dataset": "sample"},
        "metrics": {"val/accuracy": 0.5, "test/accuracy": 0.875},
    }
    return ListedRun(run_id, **{**values, **fields})


def group(run_id: str = "cd" * 16) -> ListedRun:
    metrics = {"val/accuracy_mean": 0.5, "val/accuracy_std": 0.0123, "num_runs": 2.0}
    name = "2 runs by seed"
    return listed(run_id, name=name, tags={"kind": "group"}, params={}, metrics=metrics)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has the data of `listed` and not its model."""
    path = object_path(tmp_path, DATA)
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(runs, "cache_folder", lambda root: tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *entries: Entry,
    as_json: bool = False,
    has_more: bool = False,
) -> str:
    found = Listing(list(entries), has_more=has_more)
    monkeypatch.setattr(runs, "list_runs", lambda **_: found)
    print_runs(Path("root"), as_json=as_json, experiment=None, show_all=False)
    return capsys.readouterr().out


def rows(text: str) -> list[list[str]]:
    """The words of each line of the table."""
    return [line.split() for line in text.partition("\n\n")[0].splitlines()]


def test_a_training_is_one_row(cache, monkeypatch, capsys):
    header, row = rows(printed(monkeypatch, capsys, Entry(listed(name="lr"))))
    assert " ".join(header) == "run name status dataset experiment val test commit data model"
    assert " ".join(row) == "abababab lr finished sample bulky-lamb 0.5000 0.8750 0123456 yes no"


@pytest.mark.parametrize(
    ("tags", "end"),
    [
        ({"git.commit": COMMIT, "git.dirty": "true"}, ["0123456*", "?", "?"]),
        ({"git.commit": "unknown", "git.dirty": "unknown"}, ["?", "?", "?"]),
        ({}, ["?", "?", "?"]),
        ({"model_md5": "../../../etc/passwd"}, ["?", "?", "no"]),
    ],
)
def test_what_a_run_does_not_say_is_a_question_mark(cache, monkeypatch, capsys, tags, end):
    run = listed(name="lr", status="RUNNING", tags=tags, params={}, metrics={})
    _, row = rows(printed(monkeypatch, capsys, Entry(run)))
    assert row == ["abababab", "lr", "running", "?", *end]


def test_repetitions_are_indented_below_the_mean_and_deviation_of_their_parent(
    cache, monkeypatch, capsys
):
    entry = Entry(group(), (listed("a" * 32), listed("b" * 32)))
    _, parent, first, second = printed(monkeypatch, capsys, entry).splitlines()[:4]
    assert parent.startswith("cdcdcdcd   2 runs by seed ")
    assert parent.split()[-1] == "0.500±0.012"
    assert first.startswith("  aaaaaaaa lr 0.003")
    assert second.startswith("  bbbbbbbb lr 0.003")


def test_a_pipe_gets_whole_plain_lines(cache, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    long = "v" * 300
    text = printed(monkeypatch, capsys, Entry(listed(name=long)))
    assert long in text
    assert "\x1b" not in text
    assert len(rows(text)) == 2


@pytest.mark.parametrize(("columns", "width"), [(200, 200), (120, 120), (80, 80), (30, 80)])
def test_a_screen_gets_one_line_a_run_with_shortened_names(
    cache, monkeypatch, capsys, columns, width
):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a screen
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    run = listed(name="nnn " * 80, tags=dict(listed().tags, **{"dvc.exp_name": "e" * 300}))
    _, row = printed(monkeypatch, capsys, Entry(run)).partition("\n\n")[0].splitlines()
    assert len(row) == width
    assert row.count("…") == 2
    assert row.startswith("abababab nnn ")
    assert row.split()[-5:] == ["0.5000", "0.8750", "0123456", "yes", "no"]


def test_a_name_is_text_and_not_markup(cache, monkeypatch, capsys):
    name = "[red]x[/] :smile:\n\x1b[31m"
    text = printed(monkeypatch, capsys, Entry(listed(name=name)))
    assert r"[red]x[/] :smile:\n\x1b[31m" in text


def test_the_last_line_explains_and_tells_of_older_runs(cache, monkeypatch, capsys):
    told = printed(monkeypatch, capsys, Entry(listed())).splitlines()[-1]
    assert told.startswith("*: in a name, other params than the preset's; in a commit, with ")
    assert told.endswith("data, model: whether DVC's cache has their bytes")
    text = printed(monkeypatch, capsys, Entry(listed()), has_more=True)
    assert text.splitlines()[-1] == f"{told}; older runs: kinetrack runs --all"


def test_json_has_all_that_a_script_needs(cache, monkeypatch, capsys):
    child = listed(metrics={"val/accuracy": float("nan"), "train/loss": 0.25})
    text = printed(monkeypatch, capsys, Entry(group(), (child,)), as_json=True)
    parent, described = json.loads(text, parse_constant=pytest.fail)  # NaN is no JSON
    assert (parent["kind"], parent["parent"], parent["val_accuracy"]) == ("group", None, 0.5)
    assert described == {
        "run_id": "ab" * 16,
        "kind": "training",
        "parent": "cd" * 16,
        "name": "lr 0.003",
        "experiment": "sample",
        "status": "FINISHED",
        "begun": "2023-11-14T22:13:20+00:00",
        "ended": "2023-11-14T22:14:20+00:00",
        "dataset": "sample",
        "dvc_experiment": "bulky-lamb",
        "val_accuracy": None,
        "test_accuracy": None,
        "commit": COMMIT,
        "dirty": "false",
        "data_cached": "yes",
        "model_cached": "no",
        "metrics": {"train/loss": 0.25, "val/accuracy": None},
        "params": {"dataset": "sample"},
        "tags": child.tags,
    }


def test_json_leaves_out_what_mlflow_keeps_for_itself(cache, monkeypatch, capsys):
    run = listed(tags={"mlflow.log-model.history": "[]", "train_key": "x"}, ended_ms=None)
    [described] = json.loads(printed(monkeypatch, capsys, Entry(run), as_json=True))
    assert described["tags"] == {"train_key": "x"}
    assert described["ended"] is None


def test_no_run_is_one_line(cache, monkeypatch, capsys):
    assert printed(monkeypatch, capsys) == "no runs yet: make repro\n"
    assert printed(monkeypatch, capsys, as_json=True) == "[]\n"


def test_without_dvc_the_rest_is_still_shown(cache, monkeypatch, capsys):
    def refuse(root):
        raise InputError(root, "is not under DVC")

    monkeypatch.setattr(runs, "cache_folder", refuse)
    _, row = rows(printed(monkeypatch, capsys, Entry(listed())))
    assert row[-3:] == ["0123456", "?", "?"]


def test_every_content_is_looked_for_once(cache, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(runs, "holds", lambda cache, md5: asked.append(md5) or "yes")
    printed(monkeypatch, capsys, Entry(listed("a" * 32)), Entry(listed("b" * 32)))
    assert sorted(asked) == [DATA, MODEL]


@pytest.mark.slow
def test_a_server_that_does_not_answer_ends_in_one_line_and_code_2(tmp_path):
    (tmp_path / "dvc.yaml").touch()
    address = f"http://{ui.HOST}:{ui._any_free_port()}"
    result = subprocess.run(
        [sys.executable, "-m", "kinetrack.cli.main", "runs"],
        cwd=tmp_path,
        env={**environment(), "MLFLOW_TRACKING_URI": address},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"error: MLflow at {address}: does not answer")
    assert "Traceback" not in result.stderr
