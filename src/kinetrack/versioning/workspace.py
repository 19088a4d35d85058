"""What the files of a checkout have that its commit has not, as a patch of Git's."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from kinetrack.errors import InputError

# Sources are small; what is larger is data that somebody forgot to ignore.
_LARGEST_FILE_BYTES = 1_000_000
_MOST_BYTES = 20_000_000
# Plumbing, so that nobody's settings change the form of a patch; the rest is said here.
_DIFF = (
    "diff-index",
    "--binary",
    "--full-index",
    "--no-ext-diff",
    "--no-textconv",
    "--ignore-submodules=all",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--relative",
)


class Changes(NamedTuple):
    """A binary Git patch, empty for a clean checkout, and the new files that are not in it.

    Paths are relative to the project. Left out are new files that are large or cannot be read,
    and Git repositories of their own.
    """

    patch: bytes
    left_out: list[str]


def uncommitted_changes(
    root: Path, *, excluded: Sequence[str], private: Sequence[str] = ()
) -> Changes | None:
    """Compare the files of a checkout with its commit; None without Git or without a commit.

    New files count too, unless Git ignores them. Nothing of the repository is written to, not
    even its index: DVC may be using it. Submodules are not looked into.

    Args:
        root: the project, where Git's checkout is or below it.
        excluded: patterns of Git's `glob` kind, relative to `root`, of paths that do not count.
        private: such patterns of new files that are left out.
    """
    paths = (".", *(f":(exclude,glob){pattern}" for pattern in excluded))
    with TemporaryDirectory(prefix="kinetrack-changes-") as scratch:
        git = _Git(root, Path(scratch))
        # An index of its own, of the commit: in the person's, files may be marked as unchanged.
        if git.run("read-tree", "HEAD") is None:
            return None
        new = _find_new(git, paths, private)
        if new is None or not git.mark_as_new(new.kept):
            return None
        git.run("update-index", "-q", "--refresh")  # it ends in 1 where something has changed
        patch = git.run(*_DIFF, "HEAD", "--", *paths)
    return None if patch is None else Changes(patch, new.left_out)


def apply_changes(root: Path, patch: bytes) -> None:
    """Change the files of a checkout by a patch that `uncommitted_changes` made; all or nothing.

    Raises:
        InputError: it does not fit the files that are there, or leads out of the project.
    """
    if not patch:
        return
    top = subprocess.run(
        ["git", "rev-parse", "--show-prefix"], cwd=root, capture_output=True, check=False
    )
    below = os.fsdecode(top.stdout.removesuffix(b"\n"))
    # Git tries the whole patch before it writes, and refuses paths that leave the checkout, also
    # through links. People's settings may have it correct white space.
    command = ["git", "apply", "--binary", "--whitespace=nowarn", "--no-ignore-whitespace"]
    result = subprocess.run(
        [*command, f"--directory={below}", "-"],
        cwd=root,
        input=patch,
        capture_output=True,
        check=False,
    )
    if result.returncode != 0:
        raise InputError(
            root,
            "the uncommitted changes of the run cannot be applied here",
            found=" ".join(result.stderr.decode(errors="replace").split())[:300],
        )


class _New(NamedTuple):
    """Files that the commit has not."""

    kept: list[str]
    left_out: list[str]


class _Git:
    """Git's commands on a checkout, with an index and a store of objects of their own."""

    def __init__(self, root: Path, scratch: Path) -> None:
        self.root = root
        self._index = {**os.environ, "GIT_INDEX_FILE": str(scratch / "index")}
        self._objects = scratch / "objects"

    def run(
        self, *arguments: str, stdin: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> bytes | None:
        """Return what Git prints, None when it is missing or refuses."""
        command = ["git", "-C", str(self.root), "-c", "core.fsmonitor=false", *arguments]
        environ = self._index if environ is None else environ
        try:
            result = subprocess.run(
                command, input=stdin, env=environ, capture_output=True, check=False
            )
        except OSError:
            return None
        return result.stdout if result.returncode == 0 else None

    def list_staged(self, paths: Sequence[str]) -> list[str]:
        """List the new files in the person's own index; some of them may be ignored by rules."""
        command = ("--no-optional-locks", "diff-index", "--cached", "--name-only", "-z")
        options = ("--diff-filter=A", "--relative", "HEAD", "--", *paths)
        return _names(self.run(*command, *options, environ=os.environ))

    def list_new(self, patterns: Sequence[str]) -> set[str]:
        """List new files that fit a pattern; those that Git ignores are none."""
        if not patterns:
            return set()
        paths = [f":(glob){pattern}" for pattern in patterns]
        command = ("ls-files", "-z", "--others", "--exclude-standard")
        return set(_names(self.run(*command, "--", *paths)))

    def mark_as_new(self, names: Iterable[str]) -> bool:
        """Put new files into the index without their contents; return whether this was possible."""
        listed = b"\0".join(os.fsencode(name) for name in names)
        if not listed:
            return True
        self._objects.mkdir()
        # Git notes an empty content for them. Without the project's store in sight it goes here.
        environ = {**self._index, "GIT_OBJECT_DIRECTORY": str(self._objects)}
        options = ("--force", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul")
        command = ("--literal-pathspecs", "-c", "core.safecrlf=false", "add", *options)
        return self.run(*command, stdin=listed, environ=environ) is not None


def _find_new(git: _Git, paths: Sequence[str], private: Sequence[str]) -> _New | None:
    """Find the new files and choose which are kept, the smallest first."""
    others = git.run("ls-files", "-z", "--others", "--exclude-standard", "--", *paths)
    if others is None:
        return None
    names = {*_names(others), *git.list_staged(paths)}
    hidden = git.list_new(private)
    sizes = {name: _size(git.root / name) for name in names}
    kept: list[str] = []
    room = _MOST_BYTES
    for name in sorted(names - hidden, key=lambda name: (sizes[name] or 0, name)):
        size = sizes[name]
        if size is not None and size <= min(room, _LARGEST_FILE_BYTES):
            kept.append(name)
            room -= size
    return _New(kept, sorted(names.difference(kept)))


def _size(path: Path) -> int | None:
    """Bytes of a file; None for what is none, or cannot be read."""
    if path.is_symlink():
        return 0
    return path.stat().st_size if path.is_file() and os.access(path, os.R_OK) else None


def _names(listed: bytes | None) -> list[str]:
    return [os.fsdecode(name) for name in (listed or b"").split(b"\0") if name]
