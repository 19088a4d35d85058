"""What a DVC remote holds: its objects, read through DVC's own code for each kind of remote."""

import json
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kinetrack.errors import InputError
from kinetrack.versioning.tracked import is_md5

# s3fs would hold 50 MB of each file that is open.
_S3_BLOCK_BYTES = 4 * 2**20
# So many paths stand in one command.
_MANY = 50
_LONGEST = 200


class RemoteObjects:
    """The objects of a remote, by their MD5 as DVC writes it: a folder's list ends in ".dir"."""

    def __init__(self, name: str, url: str, objects: Any) -> None:
        self.name, self.url = name, url
        self._objects = objects  # a HashFileDB of dvc_data, which has few types
        self._fs = objects.fs

    def which_are_there(self, md5s: Collection[str]) -> set[str]:
        """Return those of the MD5s of which the remote has an object, whatever its bytes.

        Raises:
            InputError: the connection broke off.
        """
        if not md5s:
            return set()
        with self._telling_trouble():
            if self._fs.protocol == "local":
                # DVC's `oids_exist` would remove damaged ones from a folder.
                return set(self._objects.list_oids_exists(list(md5s)))
            return set(self._objects.oids_exist(set(md5s)))

    def all_md5s(self) -> Iterator[str]:
        """List every object, whatever its bytes.

        Raises:
            InputError: the connection broke off.
        """
        with self._telling_trouble():
            if self._fs.exists(self._objects.path):
                # Beside them may lie parts of uploads that were interrupted.
                yield from (md5 for md5 in self._objects.all() if is_md5(md5))

    def open(self, md5: str) -> BinaryIO:
        """Open an object for reading.

        Raises:
            FileNotFoundError: the remote has it not.
            Exception: it cannot be read; each kind of remote has its own.
        """
        options = {"block_size": _S3_BLOCK_BYTES} if self._fs.protocol == "s3" else {}
        opened: BinaryIO = self._fs.open(self._objects.oid_to_path(md5), "rb", **options)
        return opened

    def path_of(self, md5: str) -> str:
        """Where an object lies or would lie, as a person types it for a remote of this kind."""
        path: str = self._objects.oid_to_path(md5)
        if self._fs.protocol == "local":
            return path
        if self._fs.protocol == "ssh":
            return f"{self._host()}:{path}"
        return str(self._fs.unstrip_protocol(path))

    def remove_commands(self, md5s: Sequence[str]) -> list[str]:
        """Return shell commands that remove objects; none for a kind of which we know none."""
        commands: list[str] = []
        for start in range(0, len(md5s), _MANY):
            commands += self._remove_some(md5s[start : start + _MANY])
        return commands

    def broken_off(self, error: Exception) -> InputError:
        """Return what to raise when the remote does not answer any more."""
        remedy = "look at the net and the remote, then run this again"
        return InputError(self.url, "broke off", found=explain(error), remedy=remedy)

    def _remove_some(self, md5s: Sequence[str]) -> list[str]:
        remove = shlex.join(["rm", "-f", *map(self._objects.oid_to_path, md5s)])
        match self._fs.protocol:
            case "local":
                return [remove]
            case "ssh":  # quoted twice: the shell over there reads it too
                return [shlex.join([*self._ssh(), remove])]
            case "s3":
                return [shlex.join([*self._aws_rm(), self.path_of(md5)]) for md5 in md5s]
        return []

    def _host(self) -> str:
        known = self._fs.fs_args
        user = known.get("username")
        return f"{user}@{known['host']}" if user else str(known["host"])

    def _ssh(self) -> list[str]:
        known = self._fs.fs_args
        port = ["-p", str(known["port"])] if "port" in known else []
        keys = [word for key in known.get("client_keys", ()) for word in ("-i", key)]
        return ["ssh", *port, *keys, self._host()]

    def _aws_rm(self) -> list[str]:
        known = self._fs.fs_args
        named = {
            "--endpoint-url": known.get("client_kwargs", {}).get("endpoint_url"),
            "--profile": known.get("profile"),
        }
        options = [word for name, value in named.items() if value for word in (name, value)]
        return ["aws", "s3", "rm", *options]

    @contextmanager
    def _telling_trouble(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of remote has its own
            raise self.broken_off(error) from None


def open_objects(root: Path, name: str) -> tuple[Any, str]:
    """Open a remote's objects, as DVC does; also return where its address leads.

    Raises:
        Exception: whatever DVC or the kind of remote raises.
    """
    from dvc.repo import Repo

    with closing(Repo(str(root))) as repo:
        place: str = repo.cloud.get_remote(name).path
        return repo.cloud.get_remote_odb(name, "verify"), place


def explain(error: BaseException) -> str:
    """Return the first line of what DVC says, or one of its clients for a kind of remote."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[Errno -?\d+\] ", "", lines[0])[:_LONGEST]


def answer() -> None:
    """Be the process that tries a remote: write what is wrong, as JSON."""
    root, name = Path(sys.argv[1]), sys.argv[2]
    try:
        trouble = _reach(root, name)
    except Exception as error:
        trouble = explain(error)
    sys.stdout.write(f"{json.dumps(trouble)}\n")
    sys.stdout.flush()
    # Not by way of what waits for connections to close.
    os._exit(0)


def _reach(root: Path, name: str) -> str | None:
    objects, place = open_objects(root, name)
    _ = objects.fs.fs  # connects; what is missing for that is not missing over there
    for path in _needed(objects.fs, place):
        try:
            objects.fs.info(path)
            return None
        except FileNotFoundError:
            missing = path
    return f"answers, but {missing} is not there"


def _needed(fs: Any, place: str) -> Iterator[str]:
    """One of these has to be there: a new remote has no folder yet."""
    from dvc_objects.fs.base import ObjectFileSystem

    yield place
    # Stores of objects have no folders: the bucket.
    is_store = isinstance(fs, ObjectFileSystem)
    yield place.partition("/")[0] if is_store else fs.parent(place)
