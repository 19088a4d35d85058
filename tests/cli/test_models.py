"""The table of registered models."""

import json
from pathlib import Path

import pytest

from kinetrack.cli import models
from kinetrack.cli.models import print_models, read_labels
from kinetrack.cli.scores import Score, to_tags
from kinetrack.errors import InputError
from kinetrack.tracking.registry import ModelVersion
from kinetrack.versioning.cache import object_path

MD5 = "2" * 32
SCORE = Score({"test/accuracy": 0.875}, 40, "0" * 64, 8, (0.75, 0.9625))
TAGS = {
    **to_tags(SCORE),
    "labels": '["Jump", "Walk"]',
    "dataset": "mine",
    "git.commit": "0123456789abcdef0123456789abcdef01234567",
    "git.dirty": "true",
    "model.bytes": str(3 * 2**20),
    "model_md5": MD5,
}
FULL = ModelVersion("mine", 2, ("champion", "newest"), "ab" * 16, "m-1", 1_700_000_000_000, TAGS)
BARE = ModelVersion("by hand", 1, (), "", "", 0, {})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that has the model of `FULL`."""
    path = object_path(tmp_path, MD5)
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(models, "cache_folder", lambda root: tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


def printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *versions: ModelVersion,
    root: Path | None = Path("root"),
    as_json: bool = False,
) -> str:
    monkeypatch.setattr(models, "list_model_versions", lambda: list(versions))
    held = [True if one.model_id else None for one in versions]
    monkeypatch.setattr(models, "look_for_files", lambda _: held)
    print_models(root, as_json=as_json)
    return capsys.readouterr().out


def test_a_version_is_one_row(cache, monkeypatch, capsys):
    header, row, _, legend = printed(monkeypatch, capsys, FULL).splitlines()
    expected = "model version alias test/accuracy clips dataset commit run size mlflow dvc"
    assert header.split() == expected.split()
    told = "mine 2 champion, newest 0.8750 (0.750-0.963) 40 mine 0123456* abababab 3.0 MiB yes yes"
    assert row.split() == told.split()
    assert legend.startswith("mlflow, dvc: whether MLflow, and DVC's cache here, have")


def test_what_a_version_does_not_say_is_a_question_mark(cache, monkeypatch, capsys):
    row = printed(monkeypatch, capsys, BARE).splitlines()[1]
    assert row.split() == ["by", "hand", "1", *"????????"]


def test_outside_of_a_project_what_dvc_has_is_not_known(cache, monkeypatch, capsys):
    row = printed(monkeypatch, capsys, FULL, root=None).splitlines()[1]
    assert row.split()[-2:] == ["yes", "?"]


def test_a_project_without_dvc_shows_what_mlflow_knows(monkeypatch, capsys):
    def fail(root: Path) -> Path:
        raise InputError(root, "is not under DVC")

    monkeypatch.setattr(models, "cache_folder", fail)
    assert printed(monkeypatch, capsys, FULL).splitlines()[1].split()[-1] == "?"


def test_json_has_every_figure(cache, monkeypatch, capsys):
    full, bare = json.loads(printed(monkeypatch, capsys, FULL, BARE, as_json=True))
    assert full["metrics"] == {"test/accuracy": 0.875}
    assert (full["interval"], full["num_groups"]) == ([0.75, 0.9625], 8)
    assert full["labels"] == ["Jump", "Walk"]
    assert (full["in_mlflow"], full["in_dvc"]) == (True, "yes")
    assert full["registered"] == "2023-11-14T22:13:20+00:00"
    assert {name for name, value in bare.items() if value in (None, {}, [])} == set(bare) - {
        "name",
        "version",
        "registered",
    }


def test_where_there_are_none_it_says_how_to_make_one(cache, monkeypatch, capsys):
    told = printed(monkeypatch, capsys)
    assert told == "no models are registered yet: kinetrack promote RUN --alias champion\n"
    assert json.loads(printed(monkeypatch, capsys, as_json=True)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"tags": {"model.bytes": "9" * 5000, "labels": "[" * 100_000, "model_md5": "../../x"}},
        {"tags": {"labels": "{}", "test.metrics": "1", "git.commit": "unknown"}},
        {"created_ms": 10**30},
        {"name": "[red]a\x1b[2J"},
    ],
)
def test_whatever_a_version_says_is_shown_in_one_line(fields, cache, monkeypatch, capsys):
    version = FULL._replace(**fields)
    told = printed(monkeypatch, capsys, version)
    assert len(told.splitlines()) == 4
    assert "\x1b" not in told
    assert json.loads(printed(monkeypatch, capsys, version, as_json=True))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [({}, None), ({"labels": "1"}, None), ({"labels": "["}, None), ({"labels": "[1]"}, ["1"])],
)
def test_classes_that_are_none_are_not_known(tags, expected):
    assert read_labels(tags) == expected
