"""Which clips differ between two versions of a data set."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.data.clips import is_video_name
from kinetrack.data.manifest import ManifestRow

_FOLDER_AND_FILE = 2


class Member(NamedTuple):
    """A clip of one version; `video` is a path below the data set's folder."""

    video: str
    start_s: float | None = None
    end_s: float | None = None
    group: str = ""
    official: str = ""


class Differences(NamedTuple):
    """Clips as `<Class>/<clip>`; `moved` holds (old, new), `changed` holds (clip, what)."""

    classes_added: list[str]
    classes_removed: list[str]
    added: list[str]
    removed: list[str]
    moved: list[tuple[str, str]]
    changed: list[tuple[str, str]]


def members_of_folder(paths: Iterable[str]) -> dict[str, Member]:
    """Clips by id of a data set whose class folders hold these files, as `<Class>/<file>`."""
    found = {}
    for path in map(Path, paths):
        is_clip = len(path.parts) == _FOLDER_AND_FILE and is_video_name(path)
        if is_clip and not path.parts[0].startswith("."):
            found[f"{path.parts[0]}/{path.stem}"] = Member(video=path.as_posix())
    return found


def members_of_manifest(rows: Sequence[ManifestRow]) -> dict[str, Member]:
    """Clips by id of a data set with this manifest."""
    return {
        f"{row.label}/{row.clip_name}": Member(
            video=row.path,
            start_s=row.start_s,
            end_s=row.end_s,
            group=row.group,
            official=row.official,
        )
        for row in rows
    }


def compare_members(
    old: Mapping[str, Member],
    new: Mapping[str, Member],
    *,
    modified: Collection[str],
    renamed: Mapping[str, str],
) -> Differences:
    """Name what differs; `modified` are videos with new content, `renamed` new paths by old ones.

    A clip whose video and segment are those of one that is gone is taken for moved.
    """
    moved = _pair_moved(old, new, renamed)
    old_labels, new_labels = _labels(old), _labels(new)
    changes = {
        clip: _describe_change(old[clip], new[clip], modified, renamed)
        for clip in sorted(old.keys() & new.keys())
    }
    return Differences(
        classes_added=sorted(new_labels - old_labels),
        classes_removed=sorted(old_labels - new_labels),
        added=sorted(new.keys() - old.keys() - set(moved.values())),
        removed=sorted(old.keys() - new.keys() - set(moved)),
        moved=sorted(moved.items()),
        changed=[(clip, what) for clip, what in changes.items() if what],
    )


def _labels(members: Mapping[str, Member]) -> set[str]:
    return {clip.partition("/")[0] for clip in members}


def _pair_moved(
    old: Mapping[str, Member], new: Mapping[str, Member], renamed: Mapping[str, str]
) -> dict[str, str]:
    arrived: dict[tuple[object, ...], list[str]] = {}
    for clip in sorted(new.keys() - old.keys(), reverse=True):
        arrived.setdefault(new[clip][:3], []).append(clip)
    moved = {}
    for clip in sorted(old.keys() - new.keys()):
        member = old[clip]
        waiting = arrived.get(
            (renamed.get(member.video, member.video), member.start_s, member.end_s)
        )
        if waiting:
            moved[clip] = waiting.pop()
    return moved


def _describe_change(
    old: Member, new: Member, modified: Collection[str], renamed: Mapping[str, str]
) -> str:
    is_other_video = renamed.get(old.video, old.video) != new.video or new.video in modified
    whats = ["content"] if is_other_video else []
    if old[1:3] != new[1:3]:
        whats.append(f"segment {_segment(old)} -> {_segment(new)}")
    for name in ("group", "official"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            whats.append(f"{name} {before or '-'} -> {after or '-'}")
    return ", ".join(whats)


def _segment(member: Member) -> str:
    if member.start_s is None and member.end_s is None:
        return "whole"
    end = "end" if member.end_s is None else f"{member.end_s:g} s"
    return f"{member.start_s or 0:g} s to {end}"
