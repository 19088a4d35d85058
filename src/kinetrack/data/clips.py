"""The clips of a data set: folders of videos into a sorted list with labels and groups."""

import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from kinetrack.data.index import check_name
from kinetrack.errors import InputError

VIDEO_SUFFIXES = (".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm")
Classes = int | Literal["all"] | list[str]


class Clip(NamedTuple):
    """One video of a data set; `label` is its folder, `group` the individual shown in it."""

    name: str
    label: str
    group: str
    path: Path


def list_clips(folder: Path, *, classes: Classes, group_pattern: str) -> list[Clip]:
    """List the clips of the chosen classes, sorted by class and name.

    `classes` is how many of the sorted class names to take from the front, their list, or "all".
    `group_pattern` is searched in each file name without its suffix; its first group is the group.

    Raises:
        InputError: no folder, no classes, a class without clips, a name without group, two files
            of one clip name, or an entry that is no regular file.
    """
    labels = choose_classes(list_classes(folder), classes=classes, folder=folder)
    return [clip for label in labels for clip in _clips_of(folder / label, group_pattern)]


def list_classes(folder: Path) -> list[str]:
    """Sorted names of the class folders.

    Raises:
        InputError: the folder does not exist or holds no class folder.
    """
    if not folder.is_dir():
        raise InputError(folder, "is no folder of videos", remedy=_REMEDY)
    labels = sorted(entry.name for entry in folder.iterdir() if _is_visible_folder(entry))
    if not labels:
        raise InputError(folder, "holds no class folder", remedy=_REMEDY)
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


def _clips_of(class_folder: Path, group_pattern: str) -> list[Clip]:
    paths = sorted(filter(is_video_name, class_folder.iterdir()), key=_by_clip_name)
    if not paths:
        raise InputError(
            class_folder,
            "is a class without clips",
            expected=f"files that end in {' '.join(VIDEO_SUFFIXES)}",
            remedy="add clips, or leave the class out of frames.classes",
        )
    clips = [_to_clip(path, group_pattern) for path in paths]
    for clip, following in pairwise(clips):
        if clip.name == following.name:
            raise InputError(following.path, f"has the clip name of {clip.path.name} too")
    return clips


def _by_clip_name(path: Path) -> tuple[str, str]:
    return path.stem, path.name


def list_ignored(folder: Path, *, labels: Collection[str]) -> list[Path]:
    """Files of these classes and beside the classes that are no videos by their names, sorted.

    Hidden files and folders are not listed.
    """
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


def is_video_name(path: Path) -> bool:
    """Whether the name is one of a video; hidden files never are."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def _to_clip(path: Path, group_pattern: str) -> Clip:
    # A FIFO or a device would block or never end; stat follows DVC's own symbolic links.
    if not path.is_file():
        raise InputError(path, "is no regular file", remedy="remove it")
    _check_names(path)
    match = re.search(group_pattern, path.stem)
    if match is None or not match.group(1):
        raise InputError(
            path,
            "has no group in its name",
            expected=f"a match of frames.group_pattern {group_pattern}",
            remedy="rename the file or change the pattern",
        )
    return Clip(name=path.stem, label=path.parent.name, group=match.group(1), path=path)


def _check_names(path: Path) -> None:
    for name in (path.parent.name, path.stem):
        try:
            check_name(name)
        except ValueError as error:
            raise InputError(path, str(error), remedy="rename it") from None


def _is_visible_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


_REMEDY = (
    "put <Class>/<clip>.avi files there, or set dataset in params.yaml to a folder that has them"
)
