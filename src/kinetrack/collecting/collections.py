"""Collections of videos as people keep them: which file is which clip of a data set."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from kinetrack.data.clips import check_file, is_video_name
from kinetrack.data.manifest import MANIFEST_NAME, ManifestRow
from kinetrack.data.names import check_name
from kinetrack.errors import InputError

LabelFrom = Literal["top", "parent"]


class Placement(NamedTuple):
    """Where a video lies, and where it goes below the data set's folder."""

    source: Path
    place: str


class Plan(NamedTuple):
    """What of a collection becomes a data set, and which files are left out.

    `manifest` holds the clips when folders and file names alone do not say it all. `top` is the
    folder inside the wrappers, "." without any.
    """

    placements: list[Placement]
    manifest: list[ManifestRow]
    left_out: list[str]
    top: str = "."


def plan_folders(source: Path, *, label_from: LabelFrom) -> Plan:
    """Plan `<Class>/<clip>` for every video below a folder.

    With "top", the first folder inside the wrappers is the label, and deeper folders become the
    front of the clip's name: `Jump/anna/1.avi` gives clip `anna_1` of class `Jump`. With "parent"
    the folder that holds a video is its label, as in `train/Jump/1.avi`.

    Raises:
        InputError: no video, one outside of every class folder, two of one place, a name that no
            file system should hold, a link that leads out, or an entry that is no regular file.
    """
    top = find_top(source)
    videos, others = _list_files(top)
    if not videos:
        raise InputError(source, "holds no video", remedy="give a folder of <Class>/<clip>.avi")
    placements = [Placement(path, _choose_place(path, top, label_from)) for path in videos]
    placements.sort(key=lambda placement: placement.place)
    _refuse_same_places(placements)
    return Plan(
        placements,
        manifest=[],
        left_out=_names_below(source, others),
        top=top.relative_to(source).as_posix(),
    )


def _names_below(folder: Path, paths: Sequence[Path]) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in paths]


def find_manifest(source: Path) -> Path | None:
    """The manifest beside the videos, inside the wrappers; None without one."""
    path = find_top(source) / MANIFEST_NAME
    return path if path.is_file() else None


def find_top(folder: Path) -> Path:
    """The folder that holds the class folders: a folder in a folder in a folder is unwrapped."""
    only = _only_folder(folder)
    if only is None or _holds_videos(folder) or _holds_videos(only):
        return folder
    return find_top(only)


def _only_folder(folder: Path) -> Path | None:
    folders = [
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.is_symlink() and not _is_hidden(path.name)
    ]
    return folders[0] if len(folders) == 1 else None


def _holds_videos(folder: Path) -> bool:
    return any(is_video_name(path) for path in folder.iterdir())


class _Files(NamedTuple):
    videos: list[Path]
    others: list[Path]


def _list_files(top: Path) -> _Files:
    files = _Files([], [])
    for parent, folders, names in os.walk(top, onerror=_refuse_unreadable):
        for name in (name for name in folders if Path(parent, name).is_symlink()):
            # os.walk would pass over it, and its videos would be missing without a word.
            raise InputError(
                Path(parent, name), "is a link to a folder", remedy="put the folder in its place"
            )
        for path in (Path(parent, name) for name in (*folders, *names)):
            if is_video_name(path):
                check_file(path, root=top)
                files.videos.append(path)
            elif not _is_hidden(path.name) and not path.is_dir():
                files.others.append(path)
        folders[:] = [name for name in folders if not _is_hidden(name)]
    return _Files(sorted(files.videos), sorted(files.others))


def _refuse_unreadable(error: OSError) -> None:
    # Passed over, its clips would be missing without a word.
    raise InputError(error.filename, "cannot be read", found=error.strerror)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # beside the files of a Mac's zip


def _choose_place(path: Path, top: Path, label_from: LabelFrom) -> str:
    parts = path.relative_to(top).parts
    if len(parts) < 2:
        raise InputError(
            path,
            "lies in no class folder",
            remedy="put it into a folder named after its class, or give a --manifest",
        )
    label = parts[0] if label_from == "top" else parts[-2]
    name = "_".join(parts[1:]) if label_from == "top" else parts[-1]
    for part in (label, Path(name).stem):
        try:
            check_name(part)
        except ValueError as error:
            raise InputError(path, str(error), remedy="rename it") from None
    return f"{label}/{name}"


def _refuse_same_places(placements: Sequence[Placement]) -> None:
    taken: dict[str, Path] = {}
    for source, place in placements:
        if place in taken:
            raise InputError(
                source,
                f"would be {place}",
                found=f"{taken[place]} too",
                remedy="rename one, or give a --manifest",
            )
        taken[place] = source


def plan_manifest(source: Path, rows: Sequence[ManifestRow], *, manifest: Path) -> Plan:
    """Plan what a manifest names, at the paths that it names; other videos are left out.

    Its paths are below `source`, or below the folder inside its wrappers.

    Raises:
        InputError: a video that is not there, no regular file, or a link that leads out.
    """
    top = _find_base(source, rows[0].path)
    paths = sorted({row.path for row in rows})
    for path in paths:
        if not (top / path).exists():
            raise InputError(manifest, f"names {path}, which is not in {source.name}")
        check_file(top / path, root=top)
    placements = [Placement(top / path, path) for path in paths]
    named = {placement.source for placement in placements}
    left_out = [path for path in _list_videos(top) if path not in named]
    return Plan(
        placements,
        manifest=list(rows),
        left_out=_names_below(source, left_out),
        top=top.relative_to(source).as_posix(),
    )


def _list_videos(top: Path) -> list[Path]:
    """What looks like a video, sorted, without a judgement: a manifest may lie in a large folder.

    What cannot be read, and where links lead, is nobody's business who is not asked for it.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(top):
        found += filter(is_video_name, (Path(parent, name) for name in names))
        folders[:] = [name for name in folders if not _is_hidden(name)]
    return sorted(found)


def _find_base(folder: Path, path: str) -> Path:
    only = _only_folder(folder)
    return folder if only is None or (folder / path).exists() else _find_base(only, path)
