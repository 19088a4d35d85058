"""A repository with versions of data, made up without DVC: files, objects, locks, commits."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml

from tracked_files import md5_of, put_object, track_folder, track_listing

IGNORED = (
    "/data/**\n!/data/**/\n!/data/videos/*.dvc\n/.dvc/cache\n/.dvc/tmp\n/.kinetrack\n/mlruns\n"
)
PERSON = {
    f"GIT_{role}_{key}": value
    for role in ("AUTHOR", "COMMITTER")
    for key, value in {"NAME": "Test", "EMAIL": "test@example.org"}.items()
}


def git(root: Path, *arguments: str, **variables: str) -> str:
    """Run Git and return what it prints."""
    environ = {**os.environ, **PERSON, **variables}
    result = subprocess.run(
        ["git", *arguments], cwd=root, env=environ, check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


def start(root: Path) -> Path:
    """Make a repository with a first commit, without data."""
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").touch()
    (root / ".gitignore").write_text(IGNORED)
    (root / "params.yaml").write_text("dataset: mine\n")
    (root / "dvc.yaml").write_text("stages: {}\n")
    git(root, "init", "-q", "-b", "main")
    commit(root, "first", time_s=1_600_000_000)
    return root


def add_videos(root: Path, files: Mapping[str, bytes], *, dataset: str = "mine") -> str:
    """Put videos, and nothing else, under DVC; return the MD5 of their folder."""
    folder = root / "data/videos" / dataset
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()
    return track_folder(root, f"data/videos/{dataset}", files)


def make_output(root: Path, path: str, files: Mapping[str, bytes], *, stage: str = "") -> str:
    """Write what a stage makes, its objects and its entry in dvc.lock; return the MD5."""
    for name, content in files.items():
        place = root / path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        put_object(root, content)
    md5 = track_listing(root, path, {name: md5_of(content) for name, content in files.items()})
    (root / f"{path}.dvc").unlink()  # the lock has it
    record(root, stage or path.split("/")[1], {path: md5})
    return md5


def record(root: Path, stage: str, outputs: Mapping[str, str]) -> None:
    """Write the outputs of a stage into dvc.lock."""
    lock = root / "dvc.lock"
    content = yaml.safe_load(lock.read_text()) if lock.exists() else {"schema": "2.0", "stages": {}}
    outs = [{"path": path, "hash": "md5", "md5": md5} for path, md5 in outputs.items()]
    content["stages"][stage] = {"cmd": stage, "outs": outs}
    lock.write_text(yaml.safe_dump(content, sort_keys=False))


def commit(root: Path, message: str, *, time_s: int = 1_700_000_000) -> str:
    """Commit everything that is not ignored; return the id."""
    git(root, "add", "-A")
    date = f"{time_s} +0000"
    git(root, "commit", "-q", "--allow-empty", "-m", message, GIT_COMMITTER_DATE=date)
    return git(root, "rev-parse", "HEAD")


def make_experiment(root: Path, name: str) -> str:
    """Make an experiment of DVC's of what lies here, and go back to the commit."""
    baseline = git(root, "rev-parse", "HEAD")
    made = commit(root, name)
    git(root, "reset", "-q", "--hard", baseline)
    git(root, "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", made)
    return made


def objects(root: Path) -> dict[str, bytes]:
    """Contents of the cache by MD5."""
    home = root / ".dvc/cache/files/md5"
    files = (path for path in sorted(home.rglob("*")) if path.is_file())
    return {"".join(path.relative_to(home).parts): path.read_bytes() for path in files}
