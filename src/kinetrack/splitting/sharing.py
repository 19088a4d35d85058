"""Sharing out whole groups so that each part gets about its share of every class."""

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Part = TypeVar("Part", bound=Hashable)
# All clips count as one more class, so that small classes do not add up to a small part. No real
# class has an empty name.
_ALL_CLASSES = ""


def share_out(
    groups: Mapping[str, Counter[str]], shares: Mapping[Part, float], *, seed: int | str
) -> dict[str, Part]:
    """Give each group to one part.

    Larger groups first, since the later ones make up for what they leave uneven. Each goes where
    it lowers the squared deviation from what is wanted, relative to that, the most: for one class
    and groups of one size this is the rule of Sainte-Lague for seats in a parliament.

    Args:
        groups: how many clips of each class a group has.
        shares: what each part should get of every class, greater than 0 and together 1.
        seed: another one gives another order of groups of about one size.
    """
    sizes = _count_all(groups.values())
    # In clips, of each part and class.
    lacks = {
        part: {label: share * size for label, size in sizes.items()}
        for part, share in shares.items()
    }
    chosen = {}
    for name in _shuffle(groups, seed):
        # Sorted, since a sum of floats depends on its order.
        counts = sorted([*groups[name].items(), (_ALL_CLASSES, groups[name].total())])
        needs = {part: _need(counts, lacks[part], sizes) / share for part, share in shares.items()}
        part = max(needs, key=needs.__getitem__)  # the first of equals
        chosen[name] = part
        for label, count in counts:
            lacks[part][label] -= count
    return chosen


def _count_all(groups: Iterable[Counter[str]]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for group in groups:
        for label, count in group.items():
            sizes[label] += count
    return {**sizes, _ALL_CLASSES: sizes.total()}


def _shuffle(groups: Mapping[str, Counter[str]], seed: int | str) -> list[str]:
    """An order of chance, within groups of about one size; the same on every machine."""

    def place(name: str) -> tuple[int, str]:
        size_class = groups[name].total().bit_length()  # 1, 2-3, 4-7, 8-15, ... clips
        return -size_class, hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()

    return sorted(groups, key=place)


def _need(
    counts: Iterable[tuple[str, int]], lacks: Mapping[str, float], sizes: Mapping[str, int]
) -> float:
    """By how much a part's squared lacks fall with these clips, relative to the classes' sizes."""
    return sum(count * (2 * lacks[label] - count) / sizes[label] for label, count in counts)
