"""Classes that change places in a mirror, by their names: MoveLeft becomes MoveRight."""

import re
from collections import defaultdict
from collections.abc import Sequence

_SWAPPED = {
    "left": "right",
    "right": "left",
    "clockwise": "anticlockwise",
    "anticlockwise": "clockwise",
}
# The longest first: "anticlockwise" holds "clockwise".
_WORDS = re.compile("|".join(sorted(_SWAPPED, key=len, reverse=True)))


def mirror_classes(labels: Sequence[str]) -> list[int]:
    """Index of the class that each class becomes when left and right change places.

    It is another one only where the name of another class differs by just these words: left and
    right, clockwise and anticlockwise (counterclockwise). Case, blanks, `-` and `_` do not count.
    """
    places = defaultdict(list)
    for place, label in enumerate(labels):
        places[_plain(label)].append(place)
    return [_find(places, label, place) for place, label in enumerate(labels)]


def _find(places: dict[str, list[int]], label: str, place: int) -> int:
    name = _plain(label)
    others = places.get(_WORDS.sub(lambda word: _SWAPPED[word[0]], name), [])
    # Two classes of one name but for case: no telling which of them is meant.
    is_clear = len(others) == 1 and len(places[name]) == 1
    return others[0] if is_clear else place


def _plain(label: str) -> str:
    name = re.sub(r"[-_\s]", "", label.casefold())
    return name.replace("counterclockwise", "anticlockwise")
