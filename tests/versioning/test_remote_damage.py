import shutil

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning import remote_damage
from kinetrack.versioning.remote_damage import check_remote_objects, repair_commands
from kinetrack.versioning.remote_objects import RemoteObjects, open_objects
from kinetrack.versioning.tracked import list_tracked

from tracked_files import CACHE, md5_of, object_file, overwrite, track_folder

FILES = {"Jump/a.avi": b"first", "Jump/b.avi": b"second", "Walk/c d.avi": b"third"}
PUSH = "dvc push -r team"
PUSH_ANEW = f'DVC_SITE_CACHE_DIR="$(mktemp -d)" {PUSH}'


class Team:
    """A project and a remote that is a folder and has all of it."""

    def __init__(self, root, place):
        self.root, self.place = root, place
        self.md5 = track_folder(root, "videos", FILES)
        objects, _ = open_objects(root, "team")
        self.remote = RemoteObjects("team", str(place), objects)
        self.push()

    def push(self):
        shutil.copytree(self.root / CACHE, self.place, dirs_exist_ok=True)

    def there(self, md5):
        return self.place / "files/md5" / md5[:2] / md5[2:]

    def check(self, *, unsent=None):
        tracked, cache = list_tracked(self.root), self.root / CACHE
        return check_remote_objects(self.remote, tracked, cache=cache, unsent=unsent or {})

    def findings(self):
        return [finding for one in self.check() for finding in one.findings]

    def told(self):
        """Of every finding: its paths, its state, and whether this machine can repair it."""
        return [(one.paths, one.state, one.can_repair) for one in self.findings()]

    def commands(self):
        return repair_commands(self.remote, self.findings())

    def remove(self, *md5s):
        return f"rm -f {' '.join(str(self.there(md5)) for md5 in sorted(md5s))}"


@pytest.fixture
def team(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = tmp_path / "project"
    (root / ".dvc").mkdir(parents=True)
    (root / ".git").mkdir()  # enough for DVC to open a remote
    text = f"[core]\nremote = team\nno_scm = true\n['remote \"team\"']\nurl = {tmp_path}/remote\n"
    (root / ".dvc/config").write_text(text)
    return Team(root, tmp_path / "remote")


def test_what_was_pushed_whole_is_right(team):
    [checked] = team.check()
    assert (checked.path, checked.num_objects, checked.findings) == ("videos", 4, [])
    assert checked.num_bytes == 16 + team.there(team.md5).stat().st_size
    assert team.commands() == []


def test_a_missing_file_is_sent_again_after_the_list_that_hides_it_is_removed(team):
    team.there(md5_of(b"second")).unlink()
    assert team.told() == [(("videos/Jump/b.avi",), "missing", True)]
    assert team.commands() == [team.remove(team.md5), PUSH_ANEW]


@pytest.mark.parametrize("content", [b"sEcond", b"", b"second and more"])
def test_other_bytes_are_found_whatever_the_mode_and_removed_with_their_list(team, content):
    overwrite(team.there(md5_of(b"second")), content)
    assert team.told() == [(("videos/Jump/b.avi",), "damaged", True)]
    assert team.commands() == [team.remove(team.md5, md5_of(b"second")), PUSH_ANEW]


def test_a_damaged_list_is_removed_alone(team):
    overwrite(team.there(team.md5), b"[]")
    assert team.told() == [(("videos",), "damaged", True)]
    assert team.commands() == [team.remove(team.md5), PUSH_ANEW]
    assert "(the list of its files)" in team.findings()[0].problem


def test_an_interrupted_push_has_sent_no_list_and_is_only_run_again(team):
    team.there(team.md5).unlink()
    team.there(md5_of(b"third")).unlink()
    assert [paths for paths, _, _ in team.told()] == [("videos",), ("videos/Walk/c d.avi",)]
    assert team.commands() == [PUSH]


def test_files_of_the_same_bytes_are_one_finding(team):
    team.md5 = track_folder(team.root, "videos", {**FILES, "Jump/z.avi": b"first"})
    team.push()
    team.there(md5_of(b"first")).unlink()
    assert team.told() == [(("videos/Jump/a.avi", "videos/Jump/z.avi"), "missing", True)]


def test_every_list_that_names_a_file_is_removed(team):
    other = track_folder(team.root, "others", {"b.avi": b"second"})
    team.push()
    team.there(md5_of(b"second")).unlink()
    assert len(team.findings()) == 2
    assert team.commands() == [team.remove(team.md5, other), PUSH_ANEW]


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_nothing_is_removed_that_this_cache_could_not_send_again(team, damage):
    overwrite(team.there(md5_of(b"second")), b"sEcond")
    cached = object_file(team.root, md5_of(b"second"))
    cached.unlink() if damage == "missing" else overwrite(cached, b"seconD")
    assert team.told() == [(("videos/Jump/b.avi",), "damaged", False)]
    assert not team.findings()[0].is_right_here
    assert team.commands() == []


def test_a_list_stays_while_one_of_its_files_cannot_be_sent(team):
    for content in (b"second", b"third"):
        overwrite(team.there(md5_of(content)), b"X")
    object_file(team.root, md5_of(b"second")).unlink()
    assert [(one.is_right_here, one.can_repair) for one in team.findings()] == [
        (False, False),
        (True, False),
    ]
    assert team.commands() == []


def test_a_clone_that_pulled_nothing_reads_the_list_from_the_remote(team):
    shutil.rmtree(team.root / CACHE)
    assert team.told() == []
    assert team.check()[0].num_objects == 4
    team.there(md5_of(b"first")).unlink()
    assert team.told() == [(("videos/Jump/a.avi",), "missing", False)]


@pytest.mark.parametrize(
    "content", [b"[", b"[1]", b"", b'[{"relpath": "z", "md5": "%s"}]' % (b"0" * 32)]
)
def test_a_damaged_list_is_not_followed(team, content):
    shutil.rmtree(team.root / CACHE)
    overwrite(team.there(team.md5), content)
    assert team.told() == [(("videos",), "damaged", False)]


def test_a_list_of_other_things_than_md5s_is_not_followed(team):
    shutil.rmtree(team.root / CACHE)
    content = b'[{"relpath": "a", "md5": "../../x"}]'
    md5 = f"{md5_of(content)}.dir"
    entry = f"outs:\n- md5: {md5}\n  hash: md5\n  path: videos\n"
    (team.root / "videos.dvc").write_text(entry)
    team.there(md5).parent.mkdir(parents=True, exist_ok=True)
    team.there(md5).write_bytes(content)
    assert team.check()[0].num_objects == 1


def test_an_object_that_cannot_be_read_is_named(team):
    path = team.there(md5_of(b"second"))
    path.unlink()
    path.mkdir()
    [finding] = team.findings()
    assert finding.problem == "cannot be read (Is a directory) on the remote"


def test_a_connection_that_breaks_off_ends_the_check(team, monkeypatch):
    def fail(_: str) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(team.remote, "open", fail)
    with pytest.raises(InputError, match="broke off, found Connection reset by peer"):
        team.check()


def test_what_is_not_sent_is_said_and_not_missed(team):
    track_folder(team.root, "private", {"a.avi": b"mine"})
    checked = team.check(unsent={"private": "is not to be pushed"})
    assert [(one.path, one.not_checked) for one in checked] == [
        ("private", "is not to be pushed"),
        ("videos", ""),
    ]
    assert [one.findings for one in checked] == [[], []]


def test_a_large_object_is_read_in_parts(team, monkeypatch):
    monkeypatch.setattr(remote_damage, "_READ_BYTES", 2)
    assert team.told() == []
    assert team.check()[0].num_bytes > 16


def test_without_a_command_for_the_kind_the_push_is_left(team, monkeypatch):
    team.there(md5_of(b"second")).unlink()
    monkeypatch.setattr(team.remote, "remove_commands", lambda md5s: [])
    assert team.commands() == [PUSH_ANEW]
