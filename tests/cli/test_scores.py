"""The test result of a run: read with its groups, kept as tags, compared clip by clip."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.cli import scores
from kinetrack.cli.scores import Score, are_same_clips, from_tags, read_score, to_tags
from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.tables import write_csv
from kinetrack.tracking.records import RunRecord
from kinetrack.using.intervals import group_interval
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.lock import folder_md5

GROUPS = ["a", "a", "b", "b", "c"]
RIGHT = [True, True, True, False, False]
SCORE = Score({"test/accuracy": 0.6}, 5, "0" * 64)
INTERVALS = st.tuples(st.floats(0, 1), st.floats(0, 1))


def predictions(*, with_groups: bool) -> bytes:
    group = ",group" if with_groups else ""
    lines = [f"clip,actual,predicted{group}"]
    for number, (right, name) in enumerate(zip(RIGHT, GROUPS, strict=True)):
        told = "Walk" if right else "Jump"
        lines.append(f"clip{number},Walk,{told}" + (f",{name}" if with_groups else ""))
    return "\n".join(lines).encode()


def record(**tags: str) -> RunRecord:
    metrics = {"test/accuracy": 0.6, "test/loss": float("inf"), "val/accuracy": 0.9}
    return RunRecord("1" * 32, "a run", "FINISHED", tags, {}, metrics)


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(scores, "read_artifact", lambda *_: content)


@pytest.fixture
def cached_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The md5 of tensors whose list and index are in DVC's cache."""
    folder = tmp_path / "tensors"
    rows = [
        {"clip": f"clip{number}", "label": "Walk", "group": group}
        for number, group in enumerate(GROUPS)
    ]
    write_csv(folder / "index.csv", list(rows[0]), rows)
    md5, index_md5 = folder_md5(folder), file_md5(folder / "index.csv")
    listing = f'[{{"md5": "{index_md5}", "relpath": "index.csv"}}]'
    for name, content in (
        (md5, listing.encode()),
        (index_md5, (folder / "index.csv").read_bytes()),
    ):
        path = object_path(tmp_path / "cache", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.setattr(scores, "cache_folder", lambda root: tmp_path / "cache")
    return md5


def test_groups_of_the_predictions_make_the_interval(monkeypatch, tmp_path):
    give(monkeypatch, predictions(with_groups=True))
    score = read_score(record(), root=tmp_path)
    assert score.metrics == {"test/accuracy": 0.6}
    assert (score.num_clips, score.num_groups) == (5, 3)
    assert score.interval == group_interval(RIGHT, GROUPS)


def test_groups_come_from_the_index_of_the_tensors_where_predictions_have_none(
    monkeypatch, tmp_path, cached_index
):
    give(monkeypatch, predictions(with_groups=False))
    score = read_score(record(**{"data.tensors_md5": cached_index}), root=tmp_path)
    assert (score.num_groups, score.interval) == (3, group_interval(RIGHT, GROUPS))


@pytest.mark.parametrize("md5", ["", "0" * 32 + ".dir", "../../etc/passwd"])
def test_without_groups_there_is_no_interval(md5, monkeypatch, tmp_path, cached_index):
    give(monkeypatch, predictions(with_groups=False))
    score = read_score(record(**{"data.tensors_md5": md5}), root=tmp_path)
    assert (score.num_groups, score.interval) == (None, None)
    assert score.describe() == "test/accuracy 0.6000 on 5 clips"


def test_an_index_that_lacks_a_clip_makes_no_interval(monkeypatch, tmp_path, cached_index):
    more = predictions(with_groups=False).replace(b"clip0,", b"another,")
    give(monkeypatch, more)
    score = read_score(record(**{"data.tensors_md5": cached_index}), root=tmp_path)
    assert score.interval is None


def test_without_dvc_there_is_no_interval(monkeypatch, tmp_path):
    def fail(root: Path) -> Path:
        raise InputError(root, "is not under DVC")

    monkeypatch.setattr(scores, "cache_folder", fail)
    give(monkeypatch, predictions(with_groups=False))
    assert read_score(record(), root=tmp_path).interval is None


def test_a_figure_that_is_not_that_of_the_predictions_is_refused(monkeypatch, tmp_path):
    give(monkeypatch, predictions(with_groups=True))
    other = record()._replace(metrics={"test/accuracy": 0.61})
    with pytest.raises(InputError, match=r"is not that of its .*, found 0\.61, expected 0\.6 ->"):
        read_score(other, root=tmp_path)


@pytest.mark.parametrize(("full", "rounded"), [(1 / 3, 0.333333), (2 / 3, 0.666667)])
def test_a_figure_has_the_digits_of_reports(full, rounded, monkeypatch, tmp_path):
    told = ["Walk" if number < round(full * 3) else "Jump" for number in range(3)]
    rows = [f"clip{number},Walk,{one}" for number, one in enumerate(told)]
    give(monkeypatch, "\n".join(["clip,actual,predicted", *rows]).encode())
    for value in (full, rounded):
        score = read_score(record()._replace(metrics={"test/accuracy": value}), root=tmp_path)
        assert score.metrics == {"test/accuracy": rounded}
    kept = to_tags(score) | {"test.metrics": json.dumps({"test/accuracy": full})}
    found = from_tags(kept)  # as an earlier version has it
    assert found is not None
    assert found.metrics == {"test/accuracy": rounded}


@given(
    metrics=st.dictionaries(st.text(), st.floats(-1e9, 1e9).map(lambda x: round(x, 6))),
    num_clips=st.integers(1, 10**6),
    num_groups=st.integers(1, 1000),
    interval=INTERVALS,
)
def test_tags_give_the_score_back(metrics, num_clips, num_groups, interval):
    whole = Score(metrics, num_clips, "0" * 64, num_groups, interval)
    found = from_tags(to_tags(whole))
    assert found is not None
    assert found._replace(interval=None) == whole._replace(interval=None)
    assert found.interval == pytest.approx(interval, abs=1e-6)
    bare = Score(metrics, num_clips, "0" * 64)
    assert from_tags(to_tags(bare)) == bare


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("test.metrics", "{"),
        ("test.metrics", "[1]"),
        ("test.metrics", '{"a": "b"}'),
        ("test.metrics", '{"a": NaN}'),
        ("test.metrics", f'{{"a": 1{"0" * 400}}}'),
        ("test.metrics", "[" * 100_000),
        ("test.clips", "many"),
        ("test.interval", "[1]"),
        ("test.interval", "[0, null]"),
    ],
)
def test_tags_that_a_person_wrote_are_no_score(name, value):
    tags = to_tags(SCORE._replace(num_groups=2, interval=(0, 1)))
    assert from_tags(tags) is not None
    assert from_tags({**tags, name: value}) is None


def test_no_tags_are_no_score():
    assert from_tags({}) is None


@pytest.mark.parametrize(
    ("other", "tags", "expected"),
    [
        (SCORE, {"data.split_md5": "s"}, True),
        (SCORE, {"data.split_md5": "x", "data.videos_md5": "v"}, True),
        (SCORE, {"data.split_md5": "x", "data.videos_md5": "x"}, False),
        (SCORE, {}, False),
        (SCORE._replace(clips_sha256="1" * 64), {"data.split_md5": "s"}, False),
    ],
)
def test_results_are_of_the_same_clips_when_names_and_data_are(other, tags, expected):
    own = {"data.split_md5": "s", "data.videos_md5": "v"}
    assert are_same_clips(SCORE, own, other, tags) is expected
    assert are_same_clips(other, tags, SCORE, own) is expected


@pytest.mark.parametrize(
    ("metric", "num_groups", "expected"),
    [
        ("test/accuracy", 2, "test/accuracy 0.6000 (0.100-0.900) on 5 clips in 2 groups"),
        ("test/accuracy", 1, "test/accuracy 0.6000 (0.100-0.900) on 5 clips in 1 group"),
        ("test/loss", 2, "test/loss nan on 5 clips in 2 groups"),
    ],
)
def test_the_interval_is_told_of_the_accuracy(metric, num_groups, expected):
    score = SCORE._replace(num_groups=num_groups, interval=(0.1, 0.9))
    assert score.describe(metric) == expected
