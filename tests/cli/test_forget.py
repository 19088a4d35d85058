"""`kinetrack forget` on versions made up for the purpose; the slow test runs all for real."""

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kinetrack.cli.forget import clips as forget_clips
from kinetrack.cli.forget import report as forget_report
from kinetrack.cli.forget import traces
from kinetrack.cli.forget.report import forget
from kinetrack.data.manifest import ManifestRow, read_manifest, write_manifest
from kinetrack.errors import InputError
from kinetrack.tracking import registry
from kinetrack.tracking.registry import ModelVersion
from kinetrack.tracking.run_data import RunData
from kinetrack.versioning import remotes
from kinetrack.versioning.remotes import Remote

from factories import write_video
from project import Project, make_project
from tracked_files import CACHE, md5_of, object_file
from versions_made import add_videos, commit, git, make_output, objects, record, start

VIDEOS = "data/videos/mine"
CLIPS = {"Run/c.avi": b"c", "Walk/a.avi": b"a", "Walk/b.avi": b"b"}
INDEX = "clip,label,frames_sha256\na,Walk,aaaa\nb,Walk,bbbb\n"


class Store(NamedTuple):
    """What MLflow and the remotes are to answer."""

    runs: list[RunData]
    models: list[ModelVersion]
    remotes: list[Remote]
    remote: set[str]


class RemoteStub:
    """A remote that holds some objects."""

    def __init__(self, held: set[str]) -> None:
        self._held = held

    def which_are_there(self, md5s: list[str]) -> set[str]:
        return self._held & set(md5s)

    def path_of(self, md5: str) -> str:
        return f"/far/{md5}"

    def remove_commands(self, md5s: list[str]) -> list[str]:
        return [f"rm -f {' '.join(map(self.path_of, md5s))}"]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    answers = Store([], [], [], set())
    monkeypatch.setattr(traces, "list_run_data", lambda **_: answers.runs)
    monkeypatch.setattr(registry, "list_model_versions", lambda: answers.models)
    monkeypatch.setattr(remotes, "list_remotes", lambda _: answers.remotes)
    monkeypatch.setattr(remotes, "open_remote", lambda *_: RemoteStub(answers.remote))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return answers


@pytest.fixture
def root(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = start(tmp_path / "my project")
    monkeypatch.setattr(forget_report, "cache_folder", lambda _: root / CACHE)
    monkeypatch.setattr(forget_clips, "add_data", add)
    return root


def add(path: Path, *, root: Path) -> None:
    """As `dvc add`, without DVC."""
    add_videos(root, contents(root / path), dataset=path.name)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def ask(root: Path, capsys: pytest.CaptureFixture[str], *clips: str, yes: bool = False) -> Any:
    forget(clips, dataset="mine", root=root, yes=yes, as_json=True)
    return json.loads(capsys.readouterr().out)


def commands(report: Any) -> list[str]:
    return [one for step in report["steps"] for one in step["commands"]]


def everything(root: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(root).items() if ".git/" not in name}


def test_without_yes_nothing_is_changed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_videos(root, CLIPS)
    commit(root, "one")
    before = everything(root)
    report = ask(root, capsys, "a")
    assert everything(root) == before
    assert report["clips"] == ["Walk/a"]
    assert report["is_present"]
    assert commands(report)[0] == "kinetrack forget --dataset mine --yes -- Walk/a"


def test_with_yes_the_present_version_alone_is_changed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    made = commit(root, "one")
    before = objects(root)
    report = ask(root, capsys, "Walk/a", yes=True)
    assert contents(root / VIDEOS) == {"Run/c.avi": b"c", "Walk/b.avi": b"b"}
    assert before.items() < objects(root).items()
    assert not report["is_present"]
    assert [one["commit"] for one in report["versions"]] == [made]
    assert report["contents"][0]["md5"] == md5_of(b"a")
    assert f"rm -f {object_file(root, md5_of(b'a')).relative_to(root)}" in commands(report)


def test_folder_of_a_class_without_clips_goes_too(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    ask(root, capsys, "c", yes=True)
    assert sorted(path.name for path in (root / VIDEOS).iterdir()) == ["Walk"]


def write_segments(root: Path) -> None:
    rows = [
        ManifestRow(path="long.avi", label="Walk", clip="a", end_s=1),
        ManifestRow(path="long.avi", label="Run", clip="b", start_s=1),
        ManifestRow(path="short.avi", label="Run", clip="c"),
    ]
    folder = root / VIDEOS
    folder.mkdir(parents=True)
    write_manifest(folder / "manifest.csv", rows)
    manifest = (folder / "manifest.csv").read_bytes()
    add_videos(root, {"long.avi": b"l", "short.avi": b"s", "manifest.csv": manifest})


def test_video_stays_as_long_as_another_clip_is_a_part_of_it(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_segments(root)
    commit(root, "one")
    report = ask(root, capsys, "a")
    assert report["parts"] == {"long.avi": ["Run/b"]}
    assert report["contents"] == []
    ask(root, capsys, "a", yes=True)
    assert [row.clip for row in read_manifest(root / VIDEOS / "manifest.csv")] == ["b", "c"]
    assert (root / VIDEOS / "long.avi").exists()
    report = ask(root, capsys, "b", yes=True)
    assert [row.clip for row in read_manifest(root / VIDEOS / "manifest.csv")] == ["c"]
    assert not (root / VIDEOS / "long.avi").exists()


def test_segments_of_one_video_that_go_together_take_it_along(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_segments(root)
    commit(root, "one")
    report = ask(root, capsys, "a", "Run/b", yes=True)
    assert not (root / VIDEOS / "long.avi").exists()
    assert [one["md5"] for one in report["contents"]] == [md5_of(b"l")]


def test_video_that_is_another_clips_now_stays_with_its_bytes(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    commit(root, "by folders")
    manifest = root / VIDEOS / "manifest.csv"
    rows = [ManifestRow(path=path, label="Run", clip=path[-5]) for path in CLIPS]
    write_manifest(manifest, rows)
    add_videos(root, {**CLIPS, "manifest.csv": manifest.read_bytes()})
    report = ask(root, capsys, "Walk/a", yes=True)
    assert (root / VIDEOS / "Walk/a.avi").exists()
    assert report["contents"][0]["shared_with"] == [f"{VIDEOS}/Walk/a.avi"]
    assert not any(one.startswith("rm -f .dvc") for one in commands(report))


def test_weights_of_the_present_model_stay_until_it_is_trained_again(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    make_output(root, "data/frames/mine", {"Walk/a.zip": b"fa", "index.csv": INDEX.encode()})
    files = {"trained_on.txt": b"aaaa\n", "weights.safetensors": b"weights"}
    md5 = make_output(root, "data/model", files)
    commit(root, "one")
    report = ask(root, capsys, "a")
    assert (report["models"], report["weights"]) == ([{"md5": md5, "is_sure": True}], [])
    make_output(root, "data/model", {"trained_on.txt": b"bbbb\n", "weights.safetensors": b"new"})
    assert ask(root, capsys, "a")["weights"] == [str(object_file(root, md5_of(b"weights")))]


def test_lists_of_the_authors_lose_the_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_videos(root, {**CLIPS, "trainlist01.txt": b"Walk/a.avi 1\nWalk/b.avi 1\nRun/c.avi 2\n"})
    ask(root, capsys, "a", yes=True)
    text = (root / VIDEOS / "trainlist01.txt").read_text()
    assert text == "Walk/b.avi 1\nRun/c.avi 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["folders", "segments"])
@pytest.mark.usefixtures("root")
def test_after_a_kill_at_any_moment_the_next_call_completes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    made = start(tmp_path / "made")
    add_videos(made, CLIPS) if form == "folders" else write_segments(made)
    commit(made, "one")

    def prepare(folder: Path) -> Path:
        monkeypatch.setattr(forget_report, "cache_folder", lambda _: folder / CACHE)
        return Path(shutil.copytree(made, folder))

    clips = ["Walk/a", "Walk/b"] if form == "folders" else ["Walk/a", "Run/b"]
    undisturbed = prepare(tmp_path / "undisturbed")
    ask(undisturbed, capsys, *clips, yes=True)
    steps = ("unlink", "rmdir", "replace", "write_text")
    for number in range(20):
        project = prepare(tmp_path / f"{form} {number}")
        with monkeypatch.context() as patched, killing(patched, number, steps) as was_killed:
            ask(project, capsys, *clips, yes=True)
        ask(project, capsys, *clips, yes=True)
        assert contents(project / "data") == contents(undisturbed / "data")
        if not was_killed():
            break
    assert 1 < number < 19


class Killed(BaseException):
    """As SIGKILL: nothing handles it."""


class killing:  # noqa: N801  used as a function
    """End the block at the n-th change of a file."""

    def __init__(self, patched: pytest.MonkeyPatch, number: int, names: tuple[str, ...]) -> None:
        self._left = number
        for name in names:
            patched.setattr(Path, name, self._counting(getattr(Path, name)))

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def change(*args: Any, **kwargs: Any) -> Any:
            if self._left == 0:
                raise Killed
            self._left -= 1
            return real(*args, **kwargs)

        return change

    def __enter__(self) -> Callable[[], bool]:
        return lambda: self._left == 0

    def __exit__(self, kind: object, *_: object) -> bool:
        return kind is Killed


def test_clip_that_only_older_versions_have_is_found(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    made = commit(root, "one")
    add_videos(root, {"Run/c.avi": b"c"})
    commit(root, "two", time_s=1_700_000_001)
    report = ask(root, capsys, "a", yes=True)
    assert not report["is_present"]
    assert [one["commit"] for one in report["versions"]] == [made]


def test_frames_tensors_and_models_are_found_by_content(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    make_output(root, "data/frames/mine", {"Walk/a.zip": b"fa", "index.csv": INDEX.encode()})
    tensors = make_output(root, "data/tensors/mine", {"train/Walk/a.pt": b"ta"})
    old = make_output(
        root, "data/model", {"trained_on.txt": b"aaaa\n", "weights.safetensors": b"old"}
    )
    commit(root, "one")
    other = make_output(
        root, "data/model", {"trained_on.txt": b"bbbb\n", "weights.safetensors": b"new"}
    )
    store.runs.extend(
        [
            run("1" * 32, **{"data.tensors_md5": tensors, "model_md5": other}),
            run("2" * 32, **{"model_md5": old}, is_deleted=True),
            run("3" * 32, **{"model_md5": other}),
        ]
    )
    store.models.append(ModelVersion("walker", 3, (), "1" * 32, "m-1", 0, {}))
    report = ask(root, capsys, "a")
    kept = [one["md5"] for one in report["contents"]]
    assert sorted(kept) == sorted(map(md5_of, (b"a", b"fa", b"ta")))
    assert report["models"] == [{"md5": old, "is_sure": True}]
    assert report["weights"] == [str(object_file(root, md5_of(b"old")))]
    assert report["runs"] == ["1" * 32, "2" * 32]
    assert report["model_versions"] == [["walker", 3]]
    told = "\n".join(commands(report))
    scripts = [words[-1] for line in commands(report) if "-c" in (words := shlex.split(line))]
    assert scripts == [
        "from mlflow import MlflowClient; c = MlflowClient(); c.delete_model_version('walker', '3')"
        f"; c.delete_logged_model('m-{'1' * 32}'); c.delete_logged_model('m-{'2' * 32}')"
    ]
    assert f"mlflow runs delete --run-id {'1' * 32}" in told
    assert f"mlflow runs delete --run-id {'2' * 32}" not in told  # it is already
    assert f"--run-ids {'1' * 32},{'2' * 32} --logged-model-ids m-{'1' * 32},m-{'2' * 32}" in told


def run(run_id: str, *, is_deleted: bool = False, **tags: str) -> RunData:
    return RunData(run_id, "lr 0.1", is_deleted, "mine", tags, (f"m-{run_id}",), b"")


def test_model_without_its_list_is_judged_by_its_data(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = make_output(root, "data/tensors/mine", {"train/Walk/a.pt": b"ta"})
    add_videos(root, CLIPS)
    store.runs.append(run("1" * 32, **{"data.tensors_md5": tensors, "model_md5": "e" * 32}))
    assert ask(root, capsys, "a")["models"] == [{"md5": "e" * 32, "is_sure": False}]


def test_run_and_model_of_an_equal_data_set_stay(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = add_videos(root, CLIPS)
    assert add_videos(root, CLIPS, dataset="other") == videos
    tags = {"data.videos_md5": videos, "data.tensors_md5": "f" * 32, "model_md5": "e" * 32}
    store.runs.append(run("1" * 32, **tags))
    store.runs.append(run("2" * 32, **tags)._replace(dataset="other"))
    report = ask(root, capsys, "a")
    assert report["runs"] == ["1" * 32]
    assert "2" * 32 not in str(report["steps"])


def test_data_that_only_a_run_was_trained_on_are_found(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = add_videos(root, CLIPS)
    packed = {"train/Walk/a.pt": b"other params", "index.csv": INDEX.encode()}
    tensors = make_output(root, "data/tensors/mine", packed)
    trained = {"trained_on.txt": b"aaaa\n", "weights.safetensors": b"weights"}
    model = make_output(root, "data/model", trained)
    (root / "dvc.lock").unlink()  # never committed, and not here any more
    shutil.rmtree(root / "data/tensors")
    tags = {"data.videos_md5": videos, "data.tensors_md5": tensors, "model_md5": model}
    store.runs.append(run("1" * 32, **tags))
    store.runs.append(run("2" * 32, **tags)._replace(dataset="other"))
    report = ask(root, capsys, "a")
    kept = {one["md5"] for one in report["contents"]}
    assert kept == {md5_of(b"a"), md5_of(b"other params")}
    assert report["models"] == [{"md5": model, "is_sure": True}]
    assert report["weights"] == [str(object_file(root, md5_of(b"weights")))]
    assert (report["runs"], report["unnamed"]) == (["1" * 32], [])


def test_what_lies_in_the_cache_without_a_name_is_found(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_videos(root, CLIPS)
    frames = {"Walk/a.zip": b"of a rate of 5", "Walk/b.zip": b"fb", "index.csv": INDEX.encode()}
    md5 = make_output(root, "data/frames/mine", frames)
    trained = {"trained_on.txt": b"aaaa\n", "weights.safetensors": b"weights"}
    model = make_output(root, "data/model", trained)
    (root / "dvc.lock").unlink()
    shutil.rmtree(root / "data/frames")
    report = ask(root, capsys, "a")
    assert report["unnamed"] == [["data/frames/mine", md5]]
    kept = {one["md5"] for one in report["contents"]}
    assert kept == {md5_of(b"a"), md5_of(b"of a rate of 5")}
    assert report["models"] == [{"md5": model, "is_sure": True}]
    monkeypatch.setattr(traces, "is_own_cache", lambda *_: False)
    report = ask(root, capsys, "a")
    assert (report["unnamed"], report["models"], report["has_own_cache"]) == ([], [], False)
    assert [one["md5"] for one in report["contents"]] == [md5_of(b"a")]


def test_run_of_whose_data_nothing_is_here_is_told(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = add_videos(root, CLIPS)
    gone = {"data.videos_md5": "e" * 32 + ".dir", "data.tensors_md5": "../" * 12}
    store.runs.append(run("1" * 32, **gone))
    store.runs.append(run("2" * 32, **{**gone, "data.videos_md5": videos}))
    store.runs.append(run("3" * 32))  # says nothing of data, as those of other programs
    report = ask(root, capsys, "a")
    assert (report["unknown_runs"], report["runs"]) == (["1" * 32], ["2" * 32])


def test_pulled_models_that_were_trained_on_it_are_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    make_output(root, "data/frames/mine", {"Walk/a.zip": b"fa", "index.csv": INDEX.encode()})
    for name, text in {"actions@old": "aaaa\nbbbb\n", "actions@new": "bbbb\n"}.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        (folder / "trained_on.txt").write_text(text)
    assert ask(root, capsys, "a")["local"] == ["models/actions@old/"]


def test_each_place_that_git_has_it_in_has_its_command(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    made = commit(root, "with it")
    for ref in ("heads/old", "tags/v 1", "remotes/origin/main", "remotes/origin/theirs/x"):
        git(root, "update-ref", f"refs/{ref.replace(' ', '_')}", made)
    git(root, "update-ref", "--create-reflog", "refs/exps/celery/stash", made)
    add_videos(root, {**CLIPS, "Run/d.avi": b"d"})
    git(root, "stash", "-q")
    add_videos(root, {"Run/d.avi": b"d"})
    git(root, "stash", "-q")
    add_videos(root, {**CLIPS, "Run/e.avi": b"e"})
    git(root, "stash", "-q")
    add_videos(root, {**CLIPS, "Run/f.avi": b"f"})
    git(root, "add", "-u")
    add_videos(root, {"Run/c.avi": b"c"})
    git(root, "add", "-u")
    commit(root, "without it")
    told = commands(ask(root, capsys, "a"))
    listed = [line for line in told if line.startswith("#")]
    assert listed == [
        "# old: git switch old && dvc checkout, then as above; or git branch -D old",
        "# origin/main: git push origin main, once that is done",
        "# origin/theirs/x: the same there, and git fetch; or git push origin --delete theirs/x",
        "# v_1: git tag -d v_1; where it was pushed, git push REMOTE --delete v_1",
    ]
    # Each was made where the clip is, so the one between has it too: in what it began from.
    assert [line for line in told if line.startswith("git")] == [
        "git stash drop 2",
        "git stash drop 1",
        "git stash drop 0",
    ]
    assert f"dvc queue remove {made}" in told


def test_what_git_add_alone_has_is_taken_back(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, {"Run/c.avi": b"c"})
    commit(root, "without it")
    add_videos(root, CLIPS)
    git(root, "add", "-u")
    add_videos(root, {"Run/c.avi": b"c"})
    report = ask(root, capsys, "a")
    assert [one["description"] for one in report["versions"]] == ["what git add has set aside"]
    assert "git reset -q" in commands(report)
    git(root, "reset", "-q")
    report = ask(root, capsys, "a")
    assert (report["versions"], len(report["unnamed"])) == ([], 1)
    assert [one["md5"] for one in report["contents"]] == [md5_of(b"a")]


def test_project_without_git_commits_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], root: Path
) -> None:
    add_videos(root, CLIPS)
    shutil.rmtree(root / ".git")
    assert commands(ask(root, capsys, "a"))[:2] == [
        "kinetrack forget --dataset mine --yes -- Walk/a",
        "dvc repro",
    ]


def test_bytes_that_another_clip_has_too_are_named_and_kept(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, {**CLIPS, "Run/copy.avi": b"a"})
    report = ask(root, capsys, "a")
    assert report["contents"][0]["shared_with"] == [f"{VIDEOS}/Run/copy.avi"]
    assert not any(one.startswith("rm -f .dvc") for one in commands(report))
    report = ask(root, capsys, "a", "copy")
    assert any(one.startswith("rm -f .dvc") for one in commands(report))


def test_remotes_are_asked_and_one_that_is_down_is_named(
    root: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_videos(root, CLIPS)
    store.remotes.append(Remote("team", "/far", is_default=True))
    store.remote.add(md5_of(b"a"))
    assert f"rm -f /far/{md5_of(b'a')}" in commands(ask(root, capsys, "a"))

    def refuse(*_: object) -> None:
        raise InputError("team", "cannot be reached")

    monkeypatch.setattr(remotes, "open_remote", refuse)
    (remote,) = ask(root, capsys, "a")["remotes"]
    assert remote["problem"] == "team: cannot be reached"


def test_what_this_machine_keeps_beside_dvc_is_named(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS | {"Walk/ä b.avi": b"d"})
    for name, text in {
        ".kinetrack/made/frames/x/y/mine.csv": "clip,label\nä b,Walk\n",
        ".kinetrack/made/frames/x/z/mine.csv": "clip,label\nä b,Run\n",
        ".kinetrack/made/frames/x/z/others.csv": "clip,label\nä b,Walk\n",
        ".kinetrack/spool/1.jsonl": "{}\n",
        ".kinetrack/resume/k/epoch_000001.safetensors": "weights",
        ".kinetrack/resume/.k.lock": "",
        ".kinetrack/pages/data.html": "",
        "data/frames/mine/Walk/ä b.zip": "frames",  # of a data set that is not chosen now
        "data/frames/mine/Walk/a.zip": "frames",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    report = ask(root, capsys, "ä b")
    assert report["local"] == [
        ".kinetrack/made/frames/x/y/mine.csv",
        ".kinetrack/resume/k/",
        ".kinetrack/pages/",
        "data/frames/mine/Walk/ä b.zip",
    ]
    assert shlex.join(["rm", "-rf", *report["local"]]) in commands(report)


def test_versions_whose_lists_are_not_here_are_told(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    md5 = add_videos(root, {**CLIPS, "Walk/d.avi": b"d"})
    made = commit(root, "one")
    add_videos(root, CLIPS)
    object_file(root, md5).unlink()
    assert ask(root, capsys, "a")["unknown_versions"] == [made]
    forget(["a"], dataset="mine", root=root, yes=False, as_json=False)
    assert "not known of 1 versions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v_Wlk_a", "is no clip of this data set"),
        ("Walk/bb", "is no clip of this data set.* expected Walk/b"),
        ("x", "is a clip of 2 classes, expected Run/x or Walk/x"),
        ("../a", "is no clip of this data set"),
    ],
)
def test_unknown_and_ambiguous_names_are_refused(root: Path, name: str, message: str) -> None:
    add_videos(root, {**CLIPS, "Run/x.avi": b"1", "Walk/x.avi": b"2"})
    with pytest.raises(InputError, match=message):
        forget([name], dataset="mine", root=root, yes=True, as_json=False)
    assert len(contents(root / VIDEOS)) == 5


def test_generated_clips_are_refused(root: Path) -> None:
    record(root, "sample", {"data/videos/sample": "a" * 32 + ".dir"})
    with pytest.raises(InputError, match="is made by a stage"):
        forget(["a"], dataset="sample", root=root, yes=True, as_json=False)


def test_data_set_that_dvc_does_not_know_is_refused(root: Path) -> None:
    add_videos(root, CLIPS)
    with pytest.raises(InputError, match=r"is not under DVC, expected one of mine -> dvc add"):
        forget(["a"], dataset="others", root=root, yes=True, as_json=False)


def test_videos_that_are_not_here_are_to_be_pulled(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_videos(root, CLIPS)
    for path in sorted((root / VIDEOS).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / VIDEOS).rmdir()
    assert ask(root, capsys, "a")["is_present"]
    with pytest.raises(InputError, match=r"is not here -> dvc pull data/videos/mine\.dvc"):
        forget(["a"], dataset="mine", root=root, yes=True, as_json=False)


def test_last_clips_of_a_data_set_are_refused(root: Path) -> None:
    add_videos(root, CLIPS)
    with pytest.raises(InputError, match="would hold no clip any more"):
        forget(["a", "b", "c"], dataset="mine", root=root, yes=True, as_json=False)
    assert contents(root / VIDEOS) == CLIPS


def test_list_of_a_stranger_leads_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.avi"
    outside.write_bytes(b"mine")
    add_videos(root, CLIPS)
    (root / VIDEOS / "link").symlink_to(tmp_path)
    for path in ("../../../../outside.avi", str(outside), "link/outside.avi"):
        forget_clips._remove_video(root / VIDEOS, path)
    assert outside.exists()


def test_text_names_the_commands_in_an_order_that_does_no_harm(
    root: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = make_output(root, "data/tensors/mine", {"train/Walk/a.pt": b"ta"})
    add_videos(root, CLIPS)
    commit(root, "one")
    git(root, "tag", "v1")
    store.runs.append(run("1" * 32, **{"data.tensors_md5": tensors}))
    forget(["a"], dataset="mine", root=root, yes=False, as_json=False)
    _, _, text = capsys.readouterr().out.partition("in this order")
    order = ("--yes", "dvc repro", "git commit", "v1", "mlflow gc", "rm -f .dvc", "their names")
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    assert "forget: nothing was changed" in text


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project for the real commands."""
    return make_project(tmp_path_factory.mktemp("forget") / "my project")


@pytest.mark.slow
def test_after_the_printed_commands_nothing_has_the_clip_and_all_else_is_whole(
    real: Project, tmp_path: Path
) -> None:
    folder = real.folder
    for number in range(8):
        label = ("Walk", "Run")[number % 2]
        name = f"v_{label}_g{number // 2 + 1:02}_c01.avi"
        write_video(folder / VIDEOS / label / name, num_frames=20, start=9 * number)
    real.set_params(dataset="mine", pack={"num_frames": 4}, model={"name": "separable_3dcnn"})
    real.run("dvc", "add", VIDEOS)
    real.run("dvc", "remote", "add", "-d", "team", str(tmp_path / "remote"))
    real.run("dvc", "repro")
    real.commit("with it")
    real.run("dvc", "push")
    real.set_params(pack={"num_frames": 6})  # of this, only a run tells
    real.run("dvc", "repro")
    real.run("git", "stash")
    real.run("dvc", "exp", "run", "--queue", "--name", "waiting", "-S", "train.epochs=2")
    real.set_params(pack={"num_frames": 5})  # and of this, nothing
    real.run("dvc", "repro", "tensors")
    real.run("git", "checkout", "--", ".")
    real.run("dvc", "checkout")
    kinetrack = ("python", "-m", "kinetrack.cli.main")
    clip = "v_Walk_g01_c01"
    report = json.loads(real.run(*kinetrack, "forget", clip, "--json").stdout)
    contents = {one["md5"]: one["paths"] for one in report["contents"]}
    assert sorted(map(len, contents.values())) == [1] * 5  # the video, frames, three tensors
    assert len(report["unnamed"]) == 1
    assert {"git stash drop 0"} < set(commands(report))
    real.run(*kinetrack, "forget", clip, "--yes")
    for _ in range(2):  # what is an older version after the commit comes second
        report = json.loads(real.run(*kinetrack, "forget", clip, "--json").stdout)
        for line in commands(report):
            if not line.startswith("#"):
                real.run("bash", "-c", line)
    report = json.loads(real.run(*kinetrack, "forget", clip, "--json").stdout)
    assert not any(one["cached"] for one in report["contents"])
    assert contents.keys().isdisjoint(objects(folder))
    assert real.run("git", "stash", "list").stdout == ""
    assert "waiting" not in real.run("dvc", "queue", "status").stdout
    assert (report["runs"], report["local"], report["run_cache"]) == ([], [], [])
    assert report["remotes"][0]["paths"] == []
    assert real.run(*kinetrack, "verify").stdout.endswith("verify: all is as recorded\n")


def test_no_password_is_printed(
    root: Path,
    store: Store,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@host:5000")
    add_videos(root, CLIPS)
    store.runs.append(run("1" * 32, **{"data.videos_md5": add_videos(root, CLIPS)}))
    assert "secret" not in json.dumps(ask(root, capsys, "a"))
