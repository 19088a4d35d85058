"""What the sides of a split hold of each class and each group."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from kinetrack.data.index import SIDES, Side
from kinetrack.errors import InputError
from kinetrack.splitting.strategies import GroupedClip, Sides


def refuse_untrained(
    labels: Iterable[str], sides: Sides, *, reasons: Mapping[str, Sequence[str]]
) -> None:
    """Refuse a class that no training clip shows.

    Args:
        reasons: of each label, why clips were dropped.

    Raises:
        InputError: the first such class, with where its clips are.
    """
    trained = {clip.label for clip, side in sides.items() if side == "train"}
    for label in sorted(set(labels) - trained):
        counts = Counter(side for clip, side in sides.items() if clip.label == label)
        found = [f"{counts[side]} {side} clips" for side in SIDES if counts[side]]
        if lost := reasons.get(label):
            found.append(f"{len(lost)} dropped clips, the first: {lost[0]}")
        raise InputError(
            label,
            "is a class without a usable training clip",
            found=", ".join(found),
            remedy="add clips of other groups, or leave it out of frames.classes",
        )


def find_absent(sides: Sides) -> list[tuple[Side, str]]:
    """Each class that a side lacks, where the side holds others."""
    labels = {clip.label for clip in sides}
    held = {at: {clip.label for clip, side in sides.items() if side == at} for at in SIDES}
    return [(side, label) for side in SIDES if held[side] for label in sorted(labels - held[side])]


def find_shared(sides: Sides) -> list[tuple[str, str]]:
    """Label and group of each group of a class that is on two sides, sorted."""
    places: dict[tuple[str, str], set[Side]] = {}
    for clip, side in sides.items():
        places.setdefault((clip.label, clip.group), set()).add(side)
    return sorted(group for group, held in places.items() if len(held) > 1)


def most_groups(clips: Iterable[GroupedClip]) -> int:
    """Groups of the class that has the most."""
    counts = Counter(label for label, _ in {(clip.label, clip.group) for clip in clips})
    return max(counts.values(), default=0)
