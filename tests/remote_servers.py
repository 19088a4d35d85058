"""DVC remotes of every kind that the documents name, on this machine: a folder, SSH, S3."""

import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

SSHD = Path("/usr/sbin/sshd")
_HOST = "127.0.0.1"
_BUCKET = "team"
_KEYS = {"access_key_id": "testing", "secret_access_key": "testing"}


class Place:
    """Where a remote lies: its address and settings, and the objects behind DVC's back.

    `environ` is for the commands that a person runs beside DVC: `ssh`, `aws`.
    """

    def __init__(
        self, url: str, folder: Path, *, settings: Mapping[str, str], environ: Mapping[str, str]
    ) -> None:
        self.url, self.folder = url, folder
        self.settings, self.environ = settings, environ

    def read(self, md5: str) -> bytes | None:
        """The bytes of an object; None when it is not there."""
        path = self.folder / "files/md5" / md5[:2] / md5[2:]
        return path.read_bytes() if path.exists() else None

    def write(self, md5: str, content: bytes) -> None:
        """Put an object there, or other bytes in its place."""
        path = self.folder / "files/md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o444)

    def remove(self, md5: str) -> None:
        """Lose an object."""
        (self.folder / "files/md5" / md5[:2] / md5[2:]).unlink()

    def count(self) -> int:
        """How many objects are there, whole or not."""
        return sum(path.is_file() for path in self.folder.glob("files/md5/*/*"))

    def run_removal(self, command: str) -> None:
        """Run a command that Kinetrack has printed, as a person would."""
        environ = {**os.environ, **self.environ}
        subprocess.run(command, shell=True, env=environ, check=True, capture_output=True)


class _S3Place(Place):
    def __init__(self, endpoint: str, name: str) -> None:
        import boto3

        settings = {"endpointurl": endpoint, **_KEYS}
        environ = {
            "AWS_ACCESS_KEY_ID": _KEYS["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": _KEYS["secret_access_key"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        super().__init__(f"s3://{_BUCKET}/{name}", Path(), settings=settings, environ=environ)
        self._name = name
        self._client: Any = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        with suppress(self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket=_BUCKET)

    def _key(self, md5: str) -> dict[str, str]:
        return {"Bucket": _BUCKET, "Key": f"{self._name}/files/md5/{md5[:2]}/{md5[2:]}"}

    def read(self, md5: str) -> bytes | None:
        try:
            return self._client.get_object(**self._key(md5))["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None

    def write(self, md5: str, content: bytes) -> None:
        self._client.put_object(**self._key(md5), Body=content)

    def remove(self, md5: str) -> None:
        self._client.delete_object(**self._key(md5))

    def count(self) -> int:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=_BUCKET, Prefix=f"{self._name}/"
        )
        return sum(page["KeyCount"] for page in pages)

    def run_removal(self, command: str) -> None:
        """Where there is no `aws`, make the call that it would make."""
        if shutil.which("aws"):
            super().run_removal(command)
            return
        *words, url = shlex.split(command)
        assert words == ["aws", "s3", "rm", "--endpoint-url", self.settings["endpointurl"]]
        bucket, _, key = url.removeprefix("s3://").partition("/")
        self._client.delete_object(Bucket=bucket, Key=key)


def folder_place(folder: Path) -> Place:
    """A folder, as of a network share."""
    return Place(str(folder), folder, settings={}, environ={})


@contextmanager
def ssh_server(folder: Path) -> Iterator[Callable[[str], Place]]:
    """An SSH server of a test's own; yields what makes a place on it."""
    if not SSHD.exists():
        pytest.fail(f"no SSH server at {SSHD}: apt install openssh-server")
    folder.mkdir(parents=True)
    for name in ("host_key", "user_key"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(keygen, check=True)
    port = _free_port()
    (folder / "sshd_config").write_text(
        f'Port {port}\nListenAddress {_HOST}\nHostKey "{folder}/host_key"\n'
        f'AuthorizedKeysFile "{folder}/user_key.pub"\nStrictModes no\nPidFile none\nUsePAM no\n'
        "PasswordAuthentication no\nPermitRootLogin yes\nMaxStartups 100\n"
        "Subsystem sftp internal-sftp\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # without it a server of root's ends
    server = [str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config")]
    with _running(server, port, log=folder / "sshd.log"):
        environ = _with_plain_ssh(folder)

        def make_place(name: str) -> Place:
            place = folder / name
            settings = {"port": str(port), "keyfile": str(folder / "user_key")}
            return Place(f"ssh://{_HOST}{place}", place, settings=settings, environ=environ)

        yield make_place


def _with_plain_ssh(folder: Path) -> dict[str, str]:
    """Have `ssh` believe this server, and read nothing of the person's who runs the tests."""
    command = folder / "bin/ssh"
    command.parent.mkdir()
    options = (
        "-F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
    )
    command.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} {options} "$@"\n')
    command.chmod(0o755)
    return {"PATH": os.pathsep.join([str(command.parent), os.environ["PATH"]])}


@contextmanager
def s3_server(folder: Path) -> Iterator[Callable[[str], Place]]:
    """A server that speaks S3, in a process of its own; yields what makes a place on it."""
    folder.mkdir(parents=True)
    port = _free_port()
    server = [sys.executable, "-m", "moto.server", "-H", _HOST, "-p", str(port)]
    with _running(server, port, log=folder / "moto.log"):
        yield lambda name: _S3Place(f"http://{_HOST}:{port}", name)


@contextmanager
def _running(command: list[str], port: int, *, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        _wait_for(process, port, log)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait_for(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text()[-1000:]}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind((_HOST, 0))
        return int(taken.getsockname()[1])
