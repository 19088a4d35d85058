"""The clips of a data set: a folder of videos into a sorted list with labels and groups."""

import os
import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from kinetrack.data.manifest import MANIFEST_NAME, ManifestRow, read_manifest
from kinetrack.data.names import check_name, find_alike, fold_name
from kinetrack.errors import InputError

VIDEO_SUFFIXES = (".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")
Classes = int | Literal["all"] | list[str]
# Where DVC's links lead when its cache type is "symlink", wherever that cache lies.
_DVC_OBJECT = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


class Clip(NamedTuple):
    """A video of a data set, or the segment [start_s, end_s) of one.

    `group` is the individual shown in it; `official` the side that the collection's authors gave
    it, one word a fold.
    """

    name: str
    label: str
    group: str
    path: Path
    official: str = ""
    start_s: float | None = None
    end_s: float | None = None


def list_clips(folder: Path, *, classes: Classes, group_pattern: str | None) -> list[Clip]:
    """List the clips of the chosen classes, sorted by class and name.

    They are those of the folder's `manifest.csv`, or else the videos in its class folders, whose
    names are the labels. `classes` is how many of the sorted class names to take from the front,
    their list, or "all". `group_pattern` is searched in each file name without its suffix, where
    the manifest names no group; its first group is the group. With None each video is one.

    Raises:
        InputError: no folder, no classes, a class without clips, a name without group, names that
            differ in case or Unicode form only, or an entry that is no regular file of this folder.
    """
    labels = choose_classes(list_classes(folder), classes=classes, folder=folder)
    if (folder / MANIFEST_NAME).exists():
        clips = _clips_of_manifest(folder, labels, group_pattern)
    else:
        clips = [clip for label in labels for clip in _clips_of_class(folder, label, group_pattern)]
    _refuse_alike(clips)
    if alike := find_alike(sorted({clip.group for clip in clips})):
        raise InputError(
            folder,
            "holds groups that differ in case or Unicode form only",
            found=f"{alike[0]!a} and {alike[1]!a}",
            remedy="spell one group one way",
        )
    return clips


def list_classes(folder: Path) -> list[str]:
    """Sorted names of the classes: those of the manifest, or else the class folders.

    Raises:
        InputError: the folder does not exist or holds no class, or two that are one name.
    """
    if not folder.is_dir():
        raise InputError(folder, "is no folder of videos", remedy=_REMEDY)
    if (folder / MANIFEST_NAME).exists():
        labels = sorted({row.label for row in read_manifest(folder / MANIFEST_NAME)})
    else:
        labels = sorted(entry.name for entry in folder.iterdir() if _is_visible_folder(entry))
    if not labels:
        raise InputError(folder, "holds no class folder", remedy=_REMEDY)
    if alike := find_alike(labels):
        raise InputError(
            folder,
            "holds classes whose names are one on some file systems",
            found=f"{alike[0]!a} and {alike[1]!a}",
            remedy="rename one",
        )
    return labels


def choose_classes(labels: Sequence[str], *, classes: Classes, folder: Path) -> list[str]:
    """The labels that `classes` asks for, sorted; `folder` is for the message only.

    Raises:
        InputError: more classes are asked for than there are, or one that is not there.
    """
    if classes == "all":
        return sorted(labels)
    if isinstance(classes, int):
        if classes > len(labels):
            raise InputError(
                folder,
                "has too few classes for frames.classes",
                found=f"{len(labels)} class folders ({', '.join(labels)})",
                expected=classes,
            )
        return sorted(labels)[:classes]
    absent = sorted(set(classes) - set(labels))
    if absent:
        raise InputError(folder, f"has no class folder {absent[0]}", expected=", ".join(labels))
    return sorted(set(classes))


def _clips_of_class(folder: Path, label: str, group_pattern: str | None) -> Iterator[Clip]:
    class_folder = folder / label
    paths = sorted(filter(is_video_name, class_folder.iterdir()), key=_by_clip_name)
    if not paths:
        raise InputError(
            class_folder,
            "is a class without clips",
            expected=f"files that end in {' '.join(VIDEO_SUFFIXES)}",
            remedy="add clips, or leave the class out of frames.classes",
        )
    for path in paths:
        check_file(path, root=folder)
        _check_names(path)
        group = _find_group(path, group_pattern) or f"{label}/{path.stem}"
        yield Clip(name=path.stem, label=label, group=group, path=path)


def _by_clip_name(path: Path) -> tuple[str, str]:
    return path.stem, path.name


def _clips_of_manifest(
    folder: Path, labels: Collection[str], group_pattern: str | None
) -> list[Clip]:
    rows = [row for row in read_manifest(folder / MANIFEST_NAME) if row.label in labels]
    clips = [_to_clip(row, folder, group_pattern) for row in rows]
    return sorted(clips, key=lambda clip: (clip.label, clip.name))


def _to_clip(row: ManifestRow, folder: Path, group_pattern: str | None) -> Clip:
    path = folder / row.path
    check_file(path, root=folder)
    _check_names(path)
    found = row.group or _find_group(path, group_pattern)
    return Clip(
        name=row.clip_name,
        label=row.label,
        group=found or row.path,  # parts of one recording belong together
        path=path,
        official=row.official,
        start_s=row.start_s,
        end_s=row.end_s,
    )


def check_file(path: Path, *, root: Path) -> None:
    """Refuse what is no regular file below `root`, before anything opens it.

    A FIFO or a device would block or never end; a link may lead to somebody else's file. Links
    into a DVC cache are DVC's own.

    Raises:
        InputError: no such file, no regular one, or a link out of the root.
    """
    if not path.is_file():
        raise InputError(path, "is no regular file", found=_kind_of(path), remedy="remove it")
    real = path.resolve()
    if not real.is_relative_to(root.resolve()) and not _DVC_OBJECT.search(real.as_posix()):
        raise InputError(
            path,
            "is a link out of the data set",
            found=real,
            remedy="put a copy of the file in its place",
        )


def _kind_of(path: Path) -> str:
    if path.is_symlink():
        return "a link that leads to none"
    if path.is_dir():
        return "a folder"
    return "a device, pipe or socket" if path.exists() else "nothing"


def _find_group(path: Path, pattern: str | None) -> str:
    """The group in a file name; "" when no pattern is asked for."""
    if pattern is None:
        return ""
    match = re.search(pattern, path.stem)
    if match is None or not match.group(1):
        raise InputError(
            path,
            "has no group in its name",
            expected=f"a match of frames.group_pattern {pattern}",
            remedy="rename the file, change the pattern (import: --group-pattern '^([a-z]+)_' takes"
            " anna of anna_003), or make it null: each its own group (import: --no-groups)",
        )
    return match.group(1)


def _check_names(path: Path) -> None:
    for name in (path.parent.name, path.stem):
        try:
            check_name(name)
        except ValueError as error:
            raise InputError(path, str(error), remedy="rename it") from None


def _refuse_alike(clips: Sequence[Clip]) -> None:
    # Their archives would be one file: here, or on another machine's file system.
    for clip, following in pairwise(sorted(clips, key=_folded_name)):
        if _folded_name(clip) == _folded_name(following):
            raise InputError(
                following.path,
                f"has the clip name of {clip.path.name} too, in class {following.label}",
                found=f"{clip.name!a} and {following.name!a}",
                expected="names that differ in more than case and Unicode form",
                remedy="rename one",
            )


def _folded_name(clip: Clip) -> tuple[str, str]:
    return fold_name(clip.label), fold_name(clip.name)


def list_ignored(folder: Path, *, labels: Collection[str]) -> list[Path]:
    """Files that no clip comes from though they lie among those of these classes, sorted.

    Without a manifest: files of these classes and beside the classes that are no videos by their
    names. With one: videos that it does not name. Hidden files and folders are not listed.
    """
    if (folder / MANIFEST_NAME).exists():
        named = {row.path for row in read_manifest(folder / MANIFEST_NAME)}
        return sorted(
            path for path in walk_videos(folder) if path.relative_to(folder).as_posix() not in named
        )
    entries = [
        *folder.iterdir(),
        *(path for label in labels for path in (folder / label).iterdir()),
    ]
    return sorted(
        path
        for path in entries
        if not path.name.startswith(".")
        and not (is_video_name(path) and path.parent != folder)
        and not (path.is_dir() and path.parent == folder)
    )


def walk_videos(folder: Path) -> Iterator[Path]:
    """Entries below a folder that are videos by their names; no link to a folder is followed."""
    for parent, folders, files in os.walk(folder, onerror=_refuse_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from filter(is_video_name, (Path(parent, name) for name in sorted(files)))


def _refuse_unreadable(error: OSError) -> None:
    raise InputError(error.filename, "cannot be read", found=error.strerror)


def is_video_name(path: Path) -> bool:
    """Whether the name is one of a video; hidden files never are."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _is_visible_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


_REMEDY = (
    "put <Class>/<clip>.avi files there, or set dataset in params.yaml to a folder that has them"
)
