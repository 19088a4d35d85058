import os
import socket
import subprocess
from pathlib import Path

import pytest

from kinetrack.errors import InputError
from kinetrack.versioning.remote_objects import RemoteObjects, open_objects
from kinetrack.versioning.remotes import (
    Remote,
    check_remote,
    find_remote,
    list_remotes,
    list_unsent,
    open_remote,
    secrets_in_git,
)

from project import environment
from tracked_files import md5_of, track_folder

TEAM = """
[core]
    remote = team
['remote "team"']
    url = {url}
"""


def git(root, *arguments):
    subprocess.run(["git", *arguments], cwd=root, env=environment(), check=True)


def configure(root, text, *, name="config"):
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc" / name).write_text(text)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository without remotes, that knows nothing of the person who runs the tests."""
    for level in ("SYSTEM", "GLOBAL"):
        monkeypatch.setenv(f"DVC_{level}_CONFIG_DIR", str(tmp_path / level))
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    configure(folder, "")
    return folder


@pytest.fixture
def remote(root, tmp_path):
    """A folder that is the default remote."""
    configure(root, TEAM.format(url=tmp_path / "remote"))
    return tmp_path / "remote"


def put(remote, content, *, md5="", mode=0o444):
    md5 = md5 or md5_of(content)
    path = remote / "files/md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return md5


# Which remotes there are.


def test_a_remote_is_told_with_the_files_that_name_it(root):
    configure(root, TEAM.format(url="ssh://host/srv") + "['remote \"b\"']\n url = ../near\n")
    configure(root, "['remote \"team\"']\n password = geheim\n", name="config.local")
    assert list_remotes(root) == [
        Remote("b", str(root / "near"), is_default=False, where=("project",)),
        Remote("team", "ssh://host/srv", is_default=True, where=("project", "local")),
    ]


def test_a_remote_may_stand_in_the_files_of_user_and_machine(root, tmp_path):
    for level in ("SYSTEM", "GLOBAL"):
        (tmp_path / level).mkdir()
        (tmp_path / level / "config").write_text("['remote \"team\"']\n url = s3://bucket/x\n")
    [remote] = list_remotes(root)
    assert remote.where == ("user", "system")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("ssh://ann:geheim@host:22/srv", "ssh://ann@host:22/srv"),
        ("ssh://ann@host/srv", "ssh://ann@host/srv"),
        ("https://host/data?token=geheim", "https://host/data"),
        ("s3://bucket/a folder", "s3://bucket/a folder"),
        ("/mnt/a:b@c", "/mnt/a:b@c"),
    ],
)
def test_an_address_is_told_without_its_password(root, url, shown):
    configure(root, TEAM.format(url=url))
    assert [remote.url for remote in list_remotes(root)] == [shown]


def test_without_a_default_remote_the_others_are_named(root):
    configure(root, "['remote \"a\"']\n url = /a\n['remote \"b\"']\n url = /b\n")
    with pytest.raises(InputError, match="names no default remote, found a, b -> dvc remote def"):
        find_remote(root, None)


def test_an_unknown_remote_is_refused_and_the_others_are_named(root, remote):
    with pytest.raises(InputError, match="other: is no remote of this project, expected team"):
        open_remote(root, "other")


def test_a_project_without_a_remote_is_told_how_to_add_one(root):
    with pytest.raises(InputError, match="names no remote -> dvc remote add -d team ADDRESS"):
        find_remote(root, None)


@pytest.mark.parametrize("text", ["[core", "['remote \"team\"']\n urk = /a\n"])
def test_a_damaged_configuration_is_one_line(root, text):
    configure(root, text)
    with pytest.raises(InputError, match=r"\.dvc/config: cannot be read"):
        list_remotes(root)


def test_a_folder_that_is_not_under_dvc_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not under DVC"):
        list_remotes(tmp_path)


# Secrets.


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["url = ssh://host/srv", "user = ann", "port = 22", "ask_password = true"], []),
        (["url = ssh://host/srv", "password = geheim"], ["remote.team.password"]),
        (["url = ssh://ann:geheim@host/srv"], ["remote.team.url"]),
        (["url = ssh://ann@host/srv", "keyfile = ~/.ssh/id"], []),
        (
            ["url = s3://bucket", "access_key_id = geheim", "Secret_Access_Key = geheim"],
            ["remote.team.access_key_id", "remote.team.secret_access_key"],
        ),
        (["url = s3://bucket", "profile = team", "endpointurl = http://host"], []),
        (
            ["url = azure://c", "connection_string = 'a=geheim;b'"],
            ["remote.team.connection_string"],
        ),
        (["url = webdav://host", "token = geheim"], ["remote.team.token"]),
        (["url = ssh://host", "password ="], []),
        (["url = ssh://host", "# password = geheim"], []),
        (["<<<<<<< HEAD", "password = geheim"], ["remote.team.password"]),
    ],
)
def test_secrets_are_named_and_never_shown(root, lines, found):
    configure(root, "\n".join(["['remote \"team\"']", *(f"    {line}" for line in lines)]))
    assert secrets_in_git(root) == found
    assert "geheim" not in str(secrets_in_git(root))


def test_a_secret_of_the_last_commit_is_found_though_it_was_taken_out(root):
    configure(root, TEAM.format(url="ssh://host/srv") + "    password = geheim\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "oops")
    configure(root, TEAM.format(url="ssh://host/srv"))
    assert secrets_in_git(root) == ["remote.team.password"]


@pytest.mark.parametrize(("is_forced", "found"), [(False, []), (True, ["remote.team.password"])])
def test_the_local_file_is_the_place_for_secrets_unless_git_has_it(root, is_forced, found):
    (root / ".dvc/.gitignore").write_text("/config.local\n")
    configure(root, "['remote \"team\"']\n    password = geheim\n", name="config.local")
    git(root, "add", "-A", *(["-f"] if is_forced else []))
    assert secrets_in_git(root) == found


# Whether one answers.


@pytest.mark.parametrize("place", ["remote", "remote/new"])
def test_a_folder_that_is_there_or_can_be_made_is_reachable(root, tmp_path, place):
    (tmp_path / "remote").mkdir()
    configure(root, TEAM.format(url=tmp_path / place))
    assert check_remote(root, "team", timeout_s=60) is None


def test_a_folder_below_nothing_is_told(root, tmp_path):
    configure(root, TEAM.format(url=tmp_path / "not mounted/remote"))
    told = f"answers, but {tmp_path}/not mounted is not there"
    assert check_remote(root, "team", timeout_s=60) == told
    with pytest.raises(InputError, match="the remote team cannot be reached, found answers, but"):
        open_remote(root, None)


def test_a_host_that_never_answers_is_given_up(root):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        configure(root, TEAM.format(url="ssh://127.0.0.1/srv") + f"    port = {port}\n")
        assert check_remote(root, "team", timeout_s=1.5) == "does not answer within 1.5 s"


def test_a_refused_connection_is_told_without_secrets(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    # A password that stands in the client's own words.
    settings = f"    port = {port}\n    password = 127.0.0.1\n"
    configure(root, TEAM.format(url="ssh://127.0.0.1/srv") + settings)
    assert check_remote(root, "team", timeout_s=60) == f"Connect call failed ('***', {port})"


def test_a_missing_key_is_not_taken_for_a_missing_folder(root):
    configure(root, TEAM.format(url="ssh://127.0.0.1/srv") + "    keyfile = /not/there\n")
    told = "No such file or directory: '/not/there'"
    assert check_remote(root, "team", timeout_s=60) == told


def test_a_remote_that_asks_a_person_is_not_tried(root):
    configure(root, TEAM.format(url="ssh://127.0.0.1/srv") + "    ask_password = true\n")
    assert "was not tried" in (check_remote(root, "team", timeout_s=60) or "")


def test_a_kind_whose_package_is_missing_is_told(root):
    configure(root, TEAM.format(url="oss://bucket/x"))
    assert "dvc-oss" in (check_remote(root, "team", timeout_s=60) or "")


# What one holds.


def test_objects_are_found_listed_and_read(root, remote):
    md5s = {put(remote, b"one"), put(remote, b"two"), put(remote, b"[]", md5="0" * 32 + ".dir")}
    objects = open_remote(root, None)
    assert set(objects.all_md5s()) == md5s
    assert objects.which_are_there([*md5s, "f" * 32]) == md5s
    with objects.open(md5_of(b"two")) as file:
        assert file.read() == b"two"
    with pytest.raises(FileNotFoundError):
        objects.open("f" * 32)


def test_a_remote_that_nothing_was_pushed_to_is_empty(root, remote):
    objects = open_remote(root, None)
    assert list(objects.all_md5s()) == []
    assert objects.which_are_there(["f" * 32]) == set()


def test_looking_at_a_damaged_object_leaves_it_where_it_is(root, remote):
    md5 = put(remote, b"damaged", md5="f" * 32, mode=0o644)  # DVC would remove it
    assert open_remote(root, None).which_are_there([md5, "0" * 32]) == {md5}
    assert (remote / "files/md5/ff" / md5[2:]).exists()


def test_what_lies_beside_the_objects_is_no_object(root, remote):
    md5 = put(remote, b"one")
    for name in ("ab/.x.tmp", "ab/x", "README", f"{md5[:2]}/.{md5[2:]}.part"):
        path = remote / "files/md5" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert list(open_remote(root, None).all_md5s()) == [md5]


MD5 = "0123456789abcdef0123456789abcdef"
OBJECT = "files/md5/01/23456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("url", "settings", "path", "commands"),
    [
        ("/mnt/a b", {}, f"/mnt/a b/{OBJECT}", [f"rm -f '/mnt/a b/{OBJECT}'"]),
        ("ssh://host/srv", {}, f"host:/srv/{OBJECT}", [f"ssh host 'rm -f /srv/{OBJECT}'"]),
        (
            "ssh://host/srv",
            {"user": "ann", "port": 2222, "keyfile": "/k"},
            f"ann@host:/srv/{OBJECT}",
            [f"ssh -p 2222 -i /k ann@host 'rm -f /srv/{OBJECT}'"],
        ),
        ("s3://b/x", {}, f"s3://b/x/{OBJECT}", [f"aws s3 rm s3://b/x/{OBJECT}"]),
        (
            "s3://b",
            {"endpointurl": "http://host:9000", "profile": "team"},
            f"s3://b/{OBJECT}",
            [f"aws s3 rm --endpoint-url http://host:9000 --profile team s3://b/{OBJECT}"],
        ),
        ("http://host/x", {}, f"http://host/x/{OBJECT}", []),
    ],
)
def test_paths_and_removals_are_as_a_person_types_them(root, url, settings, path, commands):
    lines = [f"    {name} = {value}\n" for name, value in settings.items()]
    configure(root, TEAM.format(url=url) + "".join(lines))
    objects = RemoteObjects("team", url, open_objects(root, "team")[0])  # connects to nothing
    assert objects.path_of(MD5) == path
    assert objects.remove_commands([MD5]) == commands


def test_many_removals_are_several_commands(root, remote):
    objects = RemoteObjects("team", str(remote), open_objects(root, "team")[0])
    md5s = [f"{number:032x}" for number in range(120)]
    commands = objects.remove_commands(md5s)
    assert [command.count("files/md5") for command in commands] == [50, 50, 20]
    assert objects.remove_commands([]) == []


def test_a_connection_that_breaks_off_is_one_line(root, remote, monkeypatch):
    objects = open_remote(root, None)

    def fail(_: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(objects._objects, "list_oids_exists", fail)
    with pytest.raises(InputError, match="broke off, found Connection reset by peer"):
        objects.which_are_there([MD5])


def test_the_process_that_tries_a_remote_is_gone_afterwards(root):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        configure(root, TEAM.format(url="ssh://127.0.0.1/srv") + f"    port = {port}\n")
        check_remote(root, "team", timeout_s=0.1)
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _is_ours(path)]
    assert not [line for line in running if os.fsencode(root) in line]


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid() and path.read_bytes() != b""
    except OSError:
        return False


# What is sent at all.


def test_what_dvc_does_not_push_is_told(root, remote):
    for name in ("sent", "kept", "elsewhere"):
        track_folder(root, name, {"a.avi": name.encode()})
    with (root / "kept.dvc").open("a") as file:
        file.write("  push: false\n")
    with (root / "elsewhere.dvc").open("a") as file:
        file.write("  remote: other\n")
    assert list_unsent(root, "team") == {
        "kept": "is not to be pushed (push: false)",
        "elsewhere": "has a remote of its own, other",
    }
    assert set(list_unsent(root, "other")) == {"kept"}


def test_what_dvc_cannot_read_is_one_line(root, remote):
    (root / "dvc.yaml").write_text("stages: [\n")
    with pytest.raises(InputError, match="DVC cannot read"):
        list_unsent(root, "team")
