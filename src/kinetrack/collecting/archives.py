"""Archives from elsewhere: every entry is checked before the first byte is written.

No library and no tool writes a file: each member's bytes are read, counted and written here.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from kinetrack.collecting.archive_checks import (
    GET_AGAIN,
    Entry,
    Member,
    byte_limit,
    check_collisions,
    check_folders,
    check_path,
    check_total,
    shown,
)
from kinetrack.collecting.archive_formats import (
    read_content,
    read_entries,
)
from kinetrack.errors import InputError
from kinetrack.parallel import with_progress


def list_archive(archive: Path) -> list[Member]:
    """List the regular files, sorted; hidden ones and `__MACOSX` too.

    Folders are left out: those with files come from the paths.

    Raises:
        InputError: the archive is no whole one, or holds anything else than files and folders
            with plain relative paths, two files on one path, or far more than its own size.
    """
    members, folders = [], set()
    for entry in read_entries(archive):
        path = check_path(archive, entry.name)
        if entry.kind == "file":
            members.append(Member(path, entry.size_bytes))
        elif entry.kind == "folder":
            folders.add(path)
    total = sum(member.size_bytes for member in members)
    check_total(archive, total, limit=byte_limit(archive))
    check_folders(archive, members)
    check_collisions(archive, members, folders)
    return sorted(members)


def extract_archive(archive: Path, folder: Path, *, description: str = "Unpacking") -> list[Path]:
    """Write the files of an archive into `folder`, which exists and is empty; return them sorted.

    Each keeps its path and nothing else: no mode, owner or date. After an error `folder` is empty
    again. The caller gives it a hidden name and renames it when all is well.

    Raises:
        InputError: as `list_archive`, before anything is written; or the disk is too small, a
            member is broken, or is longer or shorter than the archive says.
    """
    members = list_archive(archive)
    _require_space(archive, folder, members)
    if any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty")
    sizes = dict(members)
    files = (entry for entry in read_entries(archive) if entry.kind == "file")
    try:
        written = [
            _write_member(archive, entry, folder, sizes)
            for entry in with_progress(files, total=len(members), description=description)
        ]
        if len(written) != len(members):
            raise InputError(archive, "changed while it was read", remedy="import it again")
        return sorted(written)
    except BaseException:
        _empty(folder)
        raise


def _write_member(archive: Path, entry: Entry, folder: Path, sizes: Mapping[str, int]) -> Path:
    path = check_path(archive, entry.name)
    if sizes.get(path) != entry.size_bytes:
        raise InputError(archive, "changed while it was read", remedy="import it again")
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    # Exclusive: nothing that is there is ever written through or over.
    with target.open("xb") as file:
        for chunk in read_content(archive, entry):
            written += len(chunk)
            if written > entry.size_bytes:
                break
            file.write(chunk)
    if written != entry.size_bytes:
        raise InputError(
            archive,
            f"has another size for member {shown(path)} than it says",
            found=f"more than {entry.size_bytes}" if written > entry.size_bytes else written,
            expected=f"{entry.size_bytes} bytes",
            remedy=GET_AGAIN,
        )
    return target


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _require_space(archive: Path, folder: Path, members: Sequence[Member]) -> None:
    total = sum(member.size_bytes for member in members)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            archive,
            f"does not fit on the disk of {folder}",
            found=f"{free} bytes free",
            expected=f"{total} bytes",
            remedy="make room",
        )
