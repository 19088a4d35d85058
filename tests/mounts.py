"""Disks that are full, small, read-only or unreadable, for the processes of one test alone.

And a network on which nobody is but them, with a name server that notes what it is asked.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Mounts:
    """A mount namespace: what is mounted there, nobody else sees, and it ends with the test.

    In a user namespace where that is allowed, so that the tests need not be run as root.
    """

    def __init__(self, keeper: subprocess.Popen[bytes], *entered: str) -> None:
        self.keeper = keeper
        self._inside = ("nsenter", f"--target={keeper.pid}", "--mount", *entered)

    def run(self, *command: str | Path) -> None:
        """Run a command such as mount."""
        subprocess.run([*self._inside, *command], check=True, capture_output=True)

    def prefix(self, folder: Path) -> tuple[str, ...]:
        """What a command begins with that is to run there, in this working directory."""
        # nsenter itself would lose the working directory.
        go = ("sh", "-c", 'cd "$1" && shift && exec "$@"', "sh", str(folder))
        return (*self._inside, *go)

    def see(self, path: Path) -> Path:
        """A path of there, as seen from here."""
        return Path(f"/proc/{self.keeper.pid}/root{path}")

    def put_disk(self, folder: Path, *, room_kib: int) -> None:
        """Have a folder with its content on a disk of its own with that much room."""
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder.with_name(f"{folder.name} as it was")
        shutil.copytree(folder, kept)
        self.run("mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", folder)
        self.run("cp", "-a", f"{kept}/.", folder)
        shutil.rmtree(kept)
        self.set_room(folder, room_kib=room_kib)

    def set_room(self, folder: Path, *, room_kib: int) -> None:
        """Have that much room on the disk of a folder."""
        used = shutil.disk_usage(self.see(folder)).used
        self.run("mount", "-o", f"remount,size={used // 1024 + room_kib}k", folder)

    def make_unreadable(self, path: Path) -> None:
        """Have every read of a file end in an input/output error, for root too.

        It shows the memory of a process then, which has nothing at the address 0.
        """
        self.run("mount", "--bind", f"/proc/{self.keeper.pid}/mem", path)


_USER = ("--user", "--map-root-user")
_KEEP = ("sh", "-c", "echo ready; exec sleep 3600")


@contextmanager
def open_mounts(scratch: Path, *, network: bool = False) -> Iterator[Mounts]:
    """Skips where this machine lets nobody mount anything, not even root.

    `network`: a network of their own as well, on which there is nothing, not even loopback.
    """
    net = ("--net",) * network
    for user, entered in ((_USER, ("--user", "--preserve-credentials")), ((), ())):
        keeper = subprocess.Popen(
            ["unshare", *user, *net, "--mount", *_KEEP],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            mounts = Mounts(keeper, *entered, *net)
            if keeper.stdout.readline() and _can_mount(mounts, scratch):
                yield mounts
                return
        finally:
            keeper.kill()
            keeper.communicate()
    pytest.skip("neither a user namespace nor root may mount here: no full or read-only disk")


def _can_mount(mounts: Mounts, folder: Path) -> bool:
    try:
        mounts.run("mount", "-t", "tmpfs", "tmpfs", folder)
        mounts.run("umount", folder)
    except subprocess.CalledProcessError:
        return False
    return True
