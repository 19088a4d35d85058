"""Comparing results: of runs in a real store, of registered models, of files."""

import csv
import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kinetrack.cli.compare.command import print_comparison
from kinetrack.cli.compare.packed import find_packed_clips
from kinetrack.cli.main import app
from kinetrack.errors import InputError
from kinetrack.tracking.database import prepare_database
from kinetrack.tracking.settings import quiet
from kinetrack.tracking.store import experiment_id, open_store
from kinetrack.using.comparison import compare, parse_predictions
from kinetrack.using.intervals import group_interval

from factories import model_card
from reports_made import write_test_clips

DATA = {"data.split_md5": "split", "data.videos_md5": "videos"}
COLUMNS = ("clip", "group", "actual", "predicted", "correct", "probability", "actual_probability")
NUM_CLIPS = 24
GROUPS = [f"g{number // 2}" for number in range(NUM_CLIPS)]
# Which clips of twelve groups are classified correctly; of these the first one has 18.
FIRST = [number >= 6 for number in range(NUM_CLIPS)]
SECOND = [number >= 1 and number != 23 for number in range(NUM_CLIPS)]
# Groups of runs: each fold tests a half, each seed all of them.
FOLDS = {"1": slice(0, 12), "2": slice(12, NUM_CLIPS)}
GROUPED = {
    "plain": {"0": FIRST, "1": [number >= 8 for number in range(NUM_CLIPS)]},
    "better": {"0": SECOND, "1": FIRST},
}


def rows(is_right: Sequence[bool], *, groups: Sequence[str] = GROUPS) -> list[dict[str, Any]]:
    """A table of predictions; even clips walk, odd ones jump."""
    labels = ("Walk", "Jump")
    return [
        {
            "clip": f"clip{number:02}",
            "group": group,
            "actual": labels[number % 2],
            "predicted": labels[(number + (not right)) % 2],
            "correct": right,
            "probability": 0.75,
            "actual_probability": 0.75 if right else 0.25,
        }
        for number, (right, group) in enumerate(zip(is_right, groups, strict=False))
    ]


def write(path: Path, table: Sequence[dict[str, Any]], *, columns: Sequence[str] = COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(table)
    return path


class Store:
    """A project with a real MLflow store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.client = open_store()

    def add_run(self, name: str, predictions: Path | None, **tags: str) -> str:
        place = experiment_id(self.client, "sample")
        run_id: str = self.client.create_run(place, run_name=name).info.run_id
        for tag, value in {**DATA, **tags}.items():
            self.client.set_tag(run_id, tag, value)
        if predictions:
            self.client.log_artifact(run_id, str(predictions), "evaluation")
        self.client.set_terminated(run_id, "FINISHED")
        return run_id

    def add_group(self, name: str, tables: dict[tuple[str, str], Path | None]) -> str:
        """A group of runs by fold and seed, with their predictions."""
        parent = self.add_run(name, None, kind="group")
        for (fold, seed), predictions in tables.items():
            self.add_part(parent, fold, seed, predictions)
        return parent

    def add_part(self, parent: str, fold: str, seed: str, predictions: Path | None) -> None:
        below = {"mlflow.parentRunId": parent}
        run_id = self.add_run(f"{fold} {seed} of {parent}", predictions, **below)
        self.client.log_param(run_id, "split.fold", fold)
        self.client.log_param(run_id, "train.seed", seed)

    def register(self, name: str, run_id: str | None, *, alias: str) -> None:
        self.client.create_registered_model(name)
        self.client.create_model_version(name, "kinetrack:///artifacts/x", run_id)
        self.client.set_registered_model_alias(name, alias, "1")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The folder of a project, and the ids of its runs by name; tests only read it."""
    folder = tmp_path_factory.mktemp("a project")
    (folder / "dvc.yaml").touch()
    prepare_database(folder / "mlruns/mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        with quiet():
            return folder, fill(Store(folder), folder / "made")


def fill(store: Store, made: Path) -> dict[str, str]:
    def table(name: str, *arguments: Any, **options: Any) -> Path:
        return write(made / name / "predictions.csv", *arguments, **options)

    first, second = table("first", rows(FIRST)), table("second", rows(SECOND))
    bare = [name for name in COLUMNS if name != "group"]
    garbage = made / "garbage/predictions.csv"
    garbage.parent.mkdir()
    garbage.write_text("no table")
    empty = write(made / "empty/predictions.csv", [])
    empty.write_text("")
    regrouped = rows(FIRST, groups=[*GROUPS[:-1], "g99"])
    relabelled = rows(FIRST)
    relabelled[3]["actual"] = "Run"
    runs = {
        "first": store.add_run("first", first, **{"dvc.exp_name": "calm-owl"}),
        "second": store.add_run("second", second),
        "other data": store.add_run(
            "other data", second, **dict.fromkeys(DATA, "another one of these")
        ),
        "new split": store.add_run("new split", second, **{"data.split_md5": "other"}),
        "older": store.add_run("older", table("older", rows(SECOND), columns=bare)),
        "older too": store.add_run("older too", table("older_too", rows(FIRST), columns=bare)),
        "not evaluated": store.add_run("not evaluated", None),
        "untested": store.add_group("untested", {("1", "0"): None, ("2", "0"): None}),
        "again": store.add_group("again", {("1", "0"): first, ("2", "0"): second}),
        **{
            name: store.add_group(
                name,
                {
                    (fold, seed): table(f"{name}{fold}{seed}", rows(is_right)[half])
                    for (fold, half), (seed, is_right) in product(FOLDS.items(), drawn.items())
                },
            )
            for name, drawn in GROUPED.items()
        },
        "garbage": store.add_run("garbage", garbage),
        "empty": store.add_run("empty", empty),
        "fewer": store.add_run("fewer", table("fewer", rows(FIRST[:-2]))),
        "regrouped": store.add_run("regrouped", table("regrouped", regrouped)),
        "relabelled": store.add_run("relabelled", table("relabelled", relabelled)),
        "many": store.add_run("many", table("many", rows([not right for right in FIRST]))),
        "[red]\n\x1b": store.add_run("[red]\n\x1b", second),
    }
    repeated = {("1", seed): first for seed in "01"}
    runs |= {name: store.add_group(name, repeated) for name in ("twice", "once")}
    store.add_part(runs["twice"], "1", "1", None)  # the same training again, not evaluated yet
    store.register("net", runs["second"], alias="champion")
    store.register("by hand", None, alias="champion")
    return runs


def enter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def runs(filled: tuple[Path, dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The ids of the runs by name, in their project."""
    enter(filled[0], monkeypatch)
    return filled[1]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def show(*names: str) -> str:
        print_comparison(names, as_json=False)
        return capsys.readouterr().out

    return show


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    def tell(*names: str) -> dict[str, Any]:
        print_comparison(names, as_json=True)
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return tell


def test_two_runs_are_a_table_with_intervals_and_a_p_value(runs, shown):
    text = shown("first", "second")
    header, first, second = text.splitlines()[:3]
    assert " ".join(header.split()) == "run accuracy difference p won lost macro F1"
    low, high = group_interval(FIRST, GROUPS)
    name = f"first ({runs['first'][:8]})"
    assert " ".join(first.split()) == f"{name} 0.7500 ({low:.3f} to {high:.3f}) 0.7500"
    # Won 5, lost 1: 14 of 64 tosses of a coin are at most as likely.
    assert f"second ({runs['second'][:8]}) 0.9167 (" in second
    assert "+0.1667 (" in second
    assert second.split()[-5:] == ["0.22", "5", "1", "0.9167", "(+0.1667)"]
    assert "24 test clips in 12 groups" in text
    assert "note:" not in text


def test_the_clips_that_only_one_gets_right_are_listed_with_both_answers(runs, shown):
    lines = [" ".join(line.split()) for line in shown("first", "second").splitlines()]
    assert f"second ({runs['second'][:8]}): recall of Jump +0.167, Walk +0.167" in lines
    changed = lines[
        next(n for n, line in enumerate(lines) if line.startswith("right in one only")) :
    ]
    assert changed[0] == (
        f"right in one only first ({runs['first'][:8]}) second ({runs['second'][:8]})"
    )
    assert sorted(changed[1:]) == [
        "Jump/clip01 wrong: Walk 0.750 right: Jump 0.750",
        "Jump/clip03 wrong: Walk 0.750 right: Jump 0.750",
        "Jump/clip05 wrong: Walk 0.750 right: Jump 0.750",
        "Jump/clip23 right: Jump 0.750 wrong: Walk 0.750",
        "Walk/clip02 wrong: Jump 0.750 right: Walk 0.750",
        "Walk/clip04 wrong: Jump 0.750 right: Walk 0.750",
    ]


def test_of_many_clips_twenty_are_printed_and_json_has_all(runs, shown, told):
    text = shown("first", "many")
    assert text.count("wrong: ") == 20
    assert text.endswith("... and 4 more: --json lists all\n")
    assert len(told("first", "many")["runs"][1]["changed_sides"]) == NUM_CLIPS


def test_groups_of_runs_are_compared_by_all_of_their_tests(runs, told):
    found = told("plain", "better")
    assert (found["num_clips"], found["num_tests"], found["num_groups"]) == (24, 48, 12)
    plain, better = found["runs"]
    rightness = {
        name: [one for drawn in GROUPED[name].values() for one in drawn] for name in GROUPED
    }
    assert plain["accuracy"] == pytest.approx(sum(rightness["plain"]) / 48, abs=1e-6)
    assert plain["interval"] == pytest.approx(
        group_interval(rightness["plain"], GROUPS * 2), abs=1e-6
    )
    pairs = list(zip(rightness["plain"], rightness["better"], strict=True))
    difference = better["difference"]
    assert difference["num_won"] == sum(not one and other for one, other in pairs)
    assert difference["num_lost"] == sum(one and not other for one, other in pairs)
    assert difference["accuracy"] == pytest.approx(
        (sum(rightness["better"]) - sum(rightness["plain"])) / 48, abs=1e-6
    )
    assert difference["p_value"] is None
    low, high = difference["interval"]
    assert low < difference["accuracy"] < high
    assert {(one["fold"], one["repetition"]) for one in plain["parts"]} == {
        (fold, f"train.seed {seed}") for fold in "12" for seed in "01"
    }
    assert better["changed_sides"][0]["repetition"] in ("train.seed 0", "train.seed 1")


def test_a_repetition_that_was_trained_again_keeps_its_result_until_the_new_one_has_one(runs, told):
    found = told("once", "twice")
    assert (found["num_clips"], found["num_tests"]) == (24, 48)
    assert [one["repetition"] for one in found["runs"][1]["parts"]] == [
        "train.seed 0",
        "train.seed 1",
    ]


def test_groups_are_shown_fold_by_fold(runs, shown):
    text = shown("plain", "better")
    assert "24 test clips, 48 tests of them, in 12 groups" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    table = lines.index("group runs mean ± deviation fold 1 fold 2")
    # Right of the twelve clips of fold 1: 6 and 4, then 11 and 6; of fold 2: all; then 11 and all.
    parts = [6 / 12, 4 / 12, 1, 1], [11 / 12, 6 / 12, 11 / 12, 1]
    for line, name, values in zip(lines[table + 1 :], ("plain", "better"), parts, strict=False):
        spread = f"{fmean(values):.4f} ± {stdev(values):.4f}"
        folds = f"{fmean(values[:2]):.4f} {fmean(values[2:]):.4f}"
        assert line == f"{name} ({runs[name][:8]}) 4 {spread} {folds}"


def test_json_has_every_figure(runs, told):
    found = told("first", "second")
    assert (found["num_clips"], found["num_groups"], found["notes"]) == (24, 12, [])
    first, second = found["runs"]
    assert (first["name"], first["run_id"]) == ("first", runs["first"])
    assert (first["difference"], first["changed_sides"]) == (None, [])
    assert first["accuracy"] == 0.75
    assert first["recalls"] == {"Jump": 0.75, "Walk": 0.75}
    folder = Path("made")
    expected = compare(
        *(
            parse_predictions((folder / name / "predictions.csv").read_bytes())
            for name in ("first", "second")
        )
    )
    difference = second["difference"]
    assert difference["accuracy"] == pytest.approx(expected.difference, abs=1e-6)
    assert difference["interval"] == pytest.approx(expected.interval, abs=1e-6)
    assert difference["p_value"] == expected.p_value
    assert (difference["num_lost"], difference["num_won"]) == (1, 5)
    assert difference["f1_macro"] == pytest.approx(expected.f1_difference, abs=1e-6)
    assert difference["recalls"] == pytest.approx(expected.recall_differences, abs=1e-6)
    lost = [one for one in second["changed_sides"] if one["is_right"] == [True, False]]
    assert lost == [
        {
            "clip": "clip23",
            "repetition": None,
            "label": "Jump",
            "group": "g11",
            "is_right": [True, False],
            "predicted": ["Jump", "Walk"],
            "probability": [0.75, 0.75],
            "actual_probability": [0.75, 0.25],
        }
    ]


def test_the_same_run_twice_is_no_difference(runs, shown):
    text = shown("first", "first")
    assert text.splitlines()[2].split()[-5:-2] == ["1", "0", "0"]
    assert text.endswith(f"\nfirst ({runs['first'][:8]}): gets the same clips right\n")


def test_a_run_is_named_by_id_experiment_or_registered_model(runs, told):
    found = told(runs["first"][:8], "calm-owl", "models:/net@champion", "models:/net/1")
    ids = [one["run_id"] for one in found["runs"]]
    assert ids == [runs["first"]] * 2 + [runs["second"]] * 2


def test_of_several_each_is_compared_with_the_first(runs, told):
    found = told("second", "first", "many")
    differences = [one["difference"] for one in found["runs"]]
    assert [one and one["num_won"] for one in differences] == [None, 1, 1]
    assert [one and one["num_lost"] for one in differences] == [None, 5, 17]
    [note] = found["notes"]
    assert note.startswith("of 2 differences, one may look sure by chance")


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_file_of_predictions_stands_for_a_run(is_absolute, runs, told):
    path = Path("made/second/predictions.csv")
    found = told("first", str(path.absolute() if is_absolute else path))
    assert found["runs"][1]["name"] == "made/second/predictions.csv"
    assert found["runs"][1]["run_id"] is None
    assert found["runs"][1]["difference"]["num_won"] == 5


def test_files_are_compared_without_mlflow(tmp_path, monkeypatch, told):
    enter(tmp_path, monkeypatch)
    first = write(tmp_path / "a.csv", rows(FIRST))
    second = write(tmp_path / "b.csv", rows(SECOND))
    assert told(str(first), str(second))["runs"][1]["difference"]["num_won"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]


@pytest.mark.parametrize("names", [("first", "older"), ("older", "first")])
def test_groups_that_an_older_run_does_not_know_are_those_of_the_other(names, runs, told):
    found = told(*names)
    assert (found["num_groups"], found["notes"]) == (12, [])
    assert all(one["interval"] for one in found["runs"])
    assert found["runs"][1]["difference"]["interval"]


def test_where_nobody_knows_the_groups_there_are_no_intervals(runs, told, shown):
    found = told("older", "older too")
    assert found["num_groups"] is None
    assert [one["interval"] for one in found["runs"]] == [None, None]
    assert found["runs"][1]["difference"]["interval"] is None
    assert found["runs"][1]["changed_sides"][0]["group"] is None
    [note] = found["notes"]
    assert note.startswith("no intervals: the groups of the clips are not known")
    text = shown("older", "older too")
    assert "24 test clips; differences" in text
    assert " to " not in text.splitlines()[1]


def test_few_groups_are_said_to_be_few(tmp_path, monkeypatch, told):
    enter(tmp_path, monkeypatch)
    path = write(tmp_path / "a.csv", rows(FIRST, groups=[name[:2] for name in GROUPS[:10]]))
    [note] = told(str(path), str(path))["notes"]
    assert note == "with only 5 groups, intervals are too narrow"


@pytest.mark.parametrize(
    ("other", "is_noted"), [("other data", True), ("new split", False), ("second", False)]
)
def test_runs_of_other_data_are_compared_with_a_note(other, is_noted, runs, told):
    found = told("first", other)
    notes = [note for note in found["notes"] if "was made of other data than first (" in note]
    assert bool(notes) == is_noted
    assert found["runs"][1]["difference"]["num_won"] == 5


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ("not evaluated", r"was not evaluated: MLflow has no evaluation/predictions\.csv of it"),
        ("untested", "is a group of runs of which none was evaluated -> bring its"),
        ("again", "is a group of which two runs tested one clip, found Jump/clip01 -> name sin"),
        ("plain", "was tested on other clips than first"),
        ("garbage", r"its evaluation/predictions\.csv cannot be read, found it holds no clip ->"),
        ("empty", r"its evaluation/predictions\.csv cannot be read, found it holds no clip ->"),
        ("no such", "no such run in MLflow"),
        ("fewer", r"other clips than first \(\w{8}\), found 2 of 24 differ, as Jump/clip23, exp"),
        ("regrouped", "found 1 of 24 differ, as Jump/clip23, expected the same names, classes and"),
        ("relabelled", "found 2 of 25 differ, as Jump/clip03"),
        ("models:/by hand@champion", "by hand version 1: does not say which run made it"),
        ("models:/none@champion", "no such registered model"),
        ("models:/net@newest", "has no version newest"),
        ("missing.csv", r"missing\.csv: does not exist -> dvc repro evaluate"),
        ("made/garbage/predictions.csv", "is no table of predictions, found it holds no clip"),
        ("folder.csv", r"folder\.csv: is no regular file"),
    ],
)
def test_what_cannot_be_compared_is_one_line(other, problem, runs, shown):
    Path("folder.csv").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=problem) as refused:
        shown("first", other)
    assert len(str(refused.value).splitlines()) == 1


def test_clips_are_also_compared_among_the_others(runs, shown):
    with pytest.raises(InputError, match=r"regrouped .* other clips than first .*1 of 24 differ"):
        shown("older", "first", "regrouped")


@pytest.mark.parametrize(("names", "found"), [((), "0 results"), (("first",), "1 result$")])
def test_one_result_is_compared_with_nothing(names, found, shown):
    with pytest.raises(InputError, match=f"compare: needs two or more results, found {found}"):
        shown(*names)


def test_a_name_is_printed_inertly(runs, shown):
    text = shown("first", runs["[red]\n\x1b"])
    assert text.splitlines()[2].startswith(r"[red]\n\x1b (")
    assert "\x1b" not in text


def test_a_file_s_clips_and_classes_are_printed_inertly(tmp_path, monkeypatch, shown):
    enter(tmp_path, monkeypatch)
    tables = []
    for number, predicted in enumerate(("[b]\n", "Wa\x1blk")):
        table = [{**row, "actual": "Wa\x1blk", "predicted": predicted} for row in rows(FIRST)]
        tables.append(str(write(tmp_path / f"[i]{number}.csv", table)))
    text = shown(*tables)
    assert "\x1b" not in text
    assert r"wrong: [b]\n 0.750" in text
    assert r"Wa\x1blk/clip00" in text
    assert "[i]1.csv: recall of " in text


def test_the_page_tells_what_the_text_tells(
    runs: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "made/compare.html"
    print_comparison([runs["first"], "second"], as_json=False, page=page, root=Path.cwd())
    said, html = capsys.readouterr().out, page.read_text()
    assert said.endswith(f"page {page}\n")
    for text in (f"first ({runs['first'][:8]})", "Jump/clip23", "the same 24 test clips"):
        assert text in html, text
    assert "<img " not in html  # the packed clips are not here
    assert "href=" not in html.replace('href="#', "")  # no server shows the runs


def test_a_page_that_cannot_be_written_is_told(runs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    page = tmp_path / "file/compare.html"
    with pytest.raises(InputError, match=r"cannot be written|Not a directory"):
        print_comparison([runs["first"], "second"], as_json=False, page=page, root=None)


def test_the_command_puts_the_page_among_the_projects_pages(
    runs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, opened = Path.cwd(), []
    monkeypatch.setattr("kinetrack.cli.track.track_if_possible", lambda root: None)
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    result = CliRunner().invoke(app, ["compare", runs["first"], "second", "--open"])
    assert result.exit_code == 0, result.output
    page = folder / ".kinetrack/pages/compare.html"
    assert "2 results on the same 24" in page.read_text()
    assert opened == [page.as_uri()]


@pytest.mark.parametrize("split_md5", ["split", "another"])
def test_packed_clips_are_shown_only_of_the_split_of_a_run(tmp_path: Path, split_md5: str) -> None:
    write_test_clips(tmp_path / "data/tensors/mine")
    stages = {
        "split": {"outs": [{"path": "data/splits", "md5": "2.dir"}]},
        "tensors": {
            "deps": [{"path": "data/splits/split.json", "md5": split_md5}],
            "outs": [{"path": "data/tensors/mine", "md5": "1.dir"}],
            "params": {"params.yaml": {"pack": model_card().clip.model_dump()}},
        },
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": stages}))
    found = find_packed_clips(tmp_path, {"split"})
    if split_md5 == "another":
        assert found is None
    else:
        assert found
        assert len(found.side.rows) == 6
        assert found.geometry == model_card().clip
        (tmp_path / "data/tensors/mine/index.csv").unlink()
        assert find_packed_clips(tmp_path, {"split"}) is None


def test_a_page_to_open_needs_a_place_outside_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = CliRunner().invoke(app, ["compare", "a", "b", "--open"])
    assert result.exit_code == 2
    assert "needs --page" in result.output


def test_the_command_compares_files_outside_of_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(tmp_path, monkeypatch)
    for name, is_right in (("before.csv", FIRST), ("after.csv", SECOND)):
        write(tmp_path / name, rows(is_right))
    result = CliRunner().invoke(app, ["compare", "before.csv", "after.csv", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["runs"][1]["difference"]["num_won"] == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["after.csv", "before.csv"]
