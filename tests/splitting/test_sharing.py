import hashlib
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetrack.splitting.sharing import share_out

counts = st.dictionaries(st.sampled_from("ABC"), st.integers(1, 9), min_size=1).map(Counter)
group_lists = st.dictionaries(st.text(max_size=3), counts, max_size=20)


@given(groups=group_lists, seed=st.integers(0, 99))
def test_every_group_goes_to_one_part_whatever_the_order(
    groups: dict[str, Counter[str]], seed: int
) -> None:
    shares = {"train": 0.7, "test": 0.3}
    found = share_out(groups, shares, seed=seed)
    assert set(found) == set(groups)
    assert set(found.values()) <= set(shares)
    backwards = {
        name: Counter(dict(reversed(count.items()))) for name, count in reversed(groups.items())
    }
    assert share_out(backwards, shares, seed=seed) == found


@given(
    groups=group_lists,
    shares=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    seed=st.integers(0, 99),
)
def test_each_group_goes_where_it_lowers_the_deviation_most(
    groups: dict[str, Counter[str]], shares: list[int], seed: int
) -> None:
    """The rule as it is told: (has - wanted)² / wanted, summed over classes and all clips."""
    wholes = {name: count + Counter({"all": count.total()}) for name, count in groups.items()}
    sizes = sum(wholes.values(), Counter())
    parts = range(len(shares))
    wanted = [{x: Fraction(share, sum(shares)) * sizes[x] for x in sizes} for share in shares]
    has = [Counter() for _ in shares]

    def deviation(part: int, more: Counter[str]) -> Fraction:
        found = has[part] + more
        return sum((found[x] - wanted[part][x]) ** 2 / wanted[part][x] for x in sizes)

    chosen = share_out(
        groups, {part: share / sum(shares) for part, share in enumerate(shares)}, seed=seed
    )
    for name in sorted(groups, key=lambda name: place_in_the_order(groups, name, seed)):
        falls = [deviation(part, Counter()) - deviation(part, wholes[name]) for part in parts]
        assert falls[chosen[name]] == pytest.approx(float(max(falls)))
        has[chosen[name]] += wholes[name]


def place_in_the_order(groups: dict[str, Counter[str]], name: str, seed: int) -> tuple[int, str]:
    """Groups of 2-3, 4-7, 8-15, ... clips by chance, the largest first."""
    size_class = math.floor(math.log2(groups[name].total()))
    return -size_class, hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


@given(groups=group_lists.filter(lambda groups: len(groups) >= 4), seed=st.integers(0, 99))
def test_no_equal_part_stays_empty(groups: dict[str, Counter[str]], seed: int) -> None:
    found = share_out(groups, dict.fromkeys(range(4), 0.25), seed=seed)
    assert set(found.values()) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.5, 0.5), (4, 4)),
        ((0.75, 0.25), (6, 2)),
        ((0.53, 0.24, 0.23), (4, 2, 2)),
        ((0.9, 0.1), (7, 1)),
    ],
)
def test_equal_groups_are_shared_out_as_seats(
    shares: tuple[float, ...], expected: tuple[int, ...]
) -> None:
    groups = {str(number): Counter(A=5) for number in range(8)}
    found = Counter(share_out(groups, dict(enumerate(shares)), seed=0).values())
    assert tuple(found[part] for part in range(len(shares))) == expected


def test_a_large_group_goes_where_it_fits() -> None:
    groups = {"large": Counter(A=60), **{str(number): Counter(A=4) for number in range(10)}}
    found = share_out(groups, {"test": 0.4, "train": 0.6}, seed=0)
    assert found["large"] == "train"
    assert Counter(found.values()) == {"train": 1, "test": 10}
