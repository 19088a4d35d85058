"""Public collections that `kinetrack import` knows by name."""

from collections.abc import Sequence
from typing import NamedTuple

from kinetrack.data.clips import Clip
from kinetrack.errors import InputError


class KnownCollection(NamedTuple):
    """Where a collection is published, and how many it has of what."""

    archive_url: str
    lists_url: str
    classes: int
    clips: int
    groups_per_class: int
    group_pattern: str
    """Regular expression for the groups in its file names."""


# Figures and addresses of its authors' page, https://www.crcv.ucf.edu/data/UCF101.php
CATALOGUE = {
    "ucf101": KnownCollection(
        archive_url="https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
        lists_url=(
            "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"
        ),
        classes=101,
        clips=13_320,
        groups_per_class=25,
        group_pattern=r"_g(\d+)_c\d+$",
    )
}


def check_counts(name: str, known: KnownCollection, clips: Sequence[Clip]) -> None:
    """Check that a collection is whole.

    Raises:
        InputError: it has more or fewer classes, clips or groups than its authors published.
    """
    groups = _count_groups(clips)
    odd = {label: count for label, count in groups.items() if count != known.groups_per_class}
    if len(groups) == known.classes and len(clips) == known.clips and not odd:
        return
    found = f"{len(groups)} classes, {len(clips)} clips"
    if odd:
        label = min(odd)
        found += f", {odd[label]} groups in {label} ({len(odd)} such classes)"
    raise InputError(
        name,
        "is not the whole collection",
        found=found,
        expected=f"{known.classes} classes, {known.clips} clips, {known.groups_per_class} groups a"
        " class",
        remedy="take another copy, or import a part of it as a folder under another name",
    )


def _count_groups(clips: Sequence[Clip]) -> dict[str, int]:
    groups: dict[str, set[str]] = {}
    for clip in clips:
        groups.setdefault(clip.label, set()).add(clip.group)
    return {label: len(found) for label, found in groups.items()}
