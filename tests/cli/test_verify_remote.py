import json
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from kinetrack.cli.main import app
from kinetrack.versioning import remotes

from project import environment
from tracked_files import CACHE, md5_of, object_file, overwrite, track_folder

FILES = {"a.avi": b"first", "b.avi": b"second"}
CONFIG = "[core]\nremote = team\n['remote \"team\"']\nurl = {place}\n"


@pytest.fixture
def place(tmp_path):
    return tmp_path / "remote"


@pytest.fixture
def root(tmp_path, place, monkeypatch):
    """A project, all of which a folder has that is its default remote."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    subprocess.run(["git", "init", "-q"], cwd=root, env=environment(), check=True)
    (root / ".dvc/config").write_text(CONFIG.format(place=place))
    (root / "dvc.yaml").write_text("stages: {}\n")
    track_folder(root, "videos", FILES)
    shutil.copytree(root / CACHE, place)
    monkeypatch.chdir(root)
    # A process of its own each time; it has tests of its own.
    monkeypatch.setattr(remotes, "check_remote", lambda *_, **__: None)
    return root


def verify(*options):
    return CliRunner().invoke(app, ["verify", "--remote", *options])


def there(place, content):
    return place / "files/md5" / md5_of(content)[:2] / md5_of(content)[2:]


@pytest.mark.parametrize("name", ["default", "team"])
def test_exit_code_0_when_all_is_there(root, place, name):
    result = verify(name)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        f"remote team ({place}):",
        "  videos         3 objects  141 bytes  ok",
        "verify: all is there",
    ]


def test_exit_code_1_with_a_line_and_the_commands_for_each_finding(root, place):
    there(place, b"first").unlink()
    result = verify("team")
    [listing] = place.glob("files/md5/*/*.dir")
    commands = [f"rm -f {listing}", 'DVC_SITE_CACHE_DIR="$(mktemp -d)" dvc push -r team']
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2:] == [
        f"    videos/a.avi: is missing on the remote -> {commands[0]} && {commands[1]}",
        "verify: 1 finding",
        "to repair, in the project's folder, in this order:",
        *(f"  {command}" for command in commands),
    ]


def test_exit_code_2_and_one_line_for_an_unknown_remote(root):
    result = verify("other")
    assert "other: is no remote of this project, expected team" in str(result.exception)


def test_what_this_cache_lacks_too_is_no_command_but_an_advice(root, place):
    overwrite(there(place, b"first"), b"fIrst")
    object_file(root, md5_of(b"first")).unlink()
    result = verify("team")
    assert "videos/a.avi: has other bytes on the remote -> the cache here has no" in result.stdout
    assert result.stdout.splitlines()[-1] == "verify: 1 finding"


def test_json_holds_every_finding_and_where_it_lies(root, place):
    there(place, b"first").unlink()
    result = verify("team", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], found["remote"]["name"]) == (1, False, "team")
    [finding] = found["tracked"][0]["findings"]
    assert finding["paths"] == ["videos/a.avi"]
    assert finding["place"] == str(there(place, b"first"))
    assert finding["commands"] == found["commands"]


def test_many_findings_of_a_kind_are_cut_short(root, place):
    track_folder(root, "videos", {f"{number}.avi": b"%d" % number for number in range(30)})
    result = verify("team")
    assert "    ... and 10 more: is missing on the remote" in result.stdout.splitlines()
    assert result.stdout.splitlines()[-1] == "  dvc push -r team"


def test_a_remote_without_a_known_command_names_the_place(root, place, monkeypatch):
    from kinetrack.versioning.remote_objects import RemoteObjects

    monkeypatch.setattr(RemoteObjects, "remove_commands", lambda self, md5s: [])
    overwrite(there(place, b"first"), b"fIrst")
    assert f"-> remove {there(place, b'first')}, " in verify("team").stdout


def test_what_is_not_sent_is_told(root):
    with (root / "videos.dvc").open("a") as file:
        file.write("  push: false\n")
    result = verify("team")
    assert "  videos  NOT CHECKED: is not to be pushed (push: false)" in result.stdout
    assert result.stdout.splitlines()[-1] == "verify: all is there; 1 not checked"


def test_a_name_cannot_forge_a_line(root, place):
    track_folder(root, "videos", {"a\n  rm -rf x": b"new"})
    result = verify("team")
    assert r"videos/a\n  rm -rf x: is missing" in result.stdout
