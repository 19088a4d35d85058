"""Clips that share content: under two labels, on two sides, or twice on one side."""

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from kinetrack.data.index import DroppedRow, FramesRow, Side
from kinetrack.splitting.filters import FilteredSplit
from kinetrack.splitting.splits import clip_id

# Of two equal clips on two sides the earlier here stays: figures on the test side stay comparable.
_STAYS_FIRST: tuple[Side, ...] = ("test", "val", "train")


class Placed(NamedTuple):
    """A clip on its side."""

    row: FramesRow
    side: Side

    def __str__(self) -> str:
        return f"{clip_id(self.row)} ({self.side})"


class Leak(NamedTuple):
    """A clip that must go; the reason names its twin, another clip that shares content with it."""

    clip: Placed
    reason: str


def find_leaks(sides: Sequence[tuple[FramesRow, Side]]) -> list[Leak]:
    """Find the clips that must go so that the others share nothing, sorted by class and name.

    Clips are equal when they have the same frames. Under two labels all of them go, since nobody
    knows which is right. On two sides the test clip stays, or else the val clip; on one side the
    first by class and name. Of segments that overlap in one file, those on two sides are treated
    so too; on one side, or under two labels there, they may well be meant.
    """
    placed = _find_suspects(sides)
    contradictions = list(_find_contradictions(placed))
    gone = {clip_id(leak.clip.row) for leak in contradictions}
    rest = [clip for clip in placed if clip_id(clip.row) not in gone]
    return sorted(
        [*contradictions, *_find_twins(rest)],
        key=lambda leak: (leak.clip.row.label, leak.clip.row.clip),
    )


def drop_leaks(sides: Sequence[tuple[FramesRow, Side]], leaks: Iterable[Leak]) -> FilteredSplit:
    """Take out the clips that must go."""
    reasons = {clip_id(leak.clip.row): leak.reason for leak in leaks}
    return FilteredSplit(
        kept=[(row, side) for row, side in sides if clip_id(row) not in reasons],
        dropped=[
            DroppedRow(clip=row.clip, label=row.label, side=side, reason=reasons[clip_id(row)])
            for row, side in sides
            if clip_id(row) in reasons
        ],
    )


def _find_suspects(sides: Sequence[tuple[FramesRow, Side]]) -> list[Placed]:
    """Clips that have their frames or their video in common with another, few as a rule."""
    frames = Counter(row.frames_sha256 for row, _ in sides)
    videos = Counter(row.video_sha256 for row, _ in sides)
    return [
        Placed(row, side)
        for row, side in sides
        if frames[row.frames_sha256] > 1 or videos[row.video_sha256] > 1
    ]


def _find_contradictions(placed: Sequence[Placed]) -> Iterator[Leak]:
    """Clips that another label has too."""
    first_of: dict[str, dict[str, Placed]] = {}  # frames, then label
    for clip in _in_order(placed):
        first_of.setdefault(clip.row.frames_sha256, {}).setdefault(clip.row.label, clip)
    for clip in placed:
        twins = first_of[clip.row.frames_sha256] if clip.row.frames_sha256 else {}
        others = [twin for label, twin in twins.items() if label != clip.row.label]
        if others:
            yield Leak(clip, f"{_describe(clip, others[0])}, under another label")


def _find_twins(placed: Sequence[Placed]) -> Iterator[Leak]:
    """Clips that one that stays makes superfluous."""
    staying: dict[str, Placed] = {}
    videos: list[dict[str, _Video]] = []  # of each side that is done
    for side in _STAYS_FIRST:
        segments: dict[str, list[Placed]] = {}
        for clip in _in_order(clip for clip in placed if clip.side == side):
            row = clip.row
            if row.frames_sha256 and row.frames_sha256 in staying:
                yield Leak(clip, _describe(clip, staying[row.frames_sha256]))
            elif overlapped := _find_overlapped(clip, videos):
                yield Leak(clip, f"overlaps {overlapped} in the same video")
            else:
                staying[row.frames_sha256] = clip
                segments.setdefault(row.video_sha256, []).append(clip)
        videos.append({video: _Video(clips) for video, clips in segments.items()})


def _find_overlapped(clip: Placed, videos: Sequence[dict[str, "_Video"]]) -> Placed | None:
    """A clip of another side that has a part of this one."""
    video_sha256 = clip.row.video_sha256
    if not video_sha256:
        return None
    found = (video[video_sha256].find(clip) for video in videos if video_sha256 in video)
    return next((other for other in found if other), None)


class _Video:
    """The segments of one video, to be asked for the first that overlaps another segment."""

    def __init__(self, clips: Sequence[Placed]) -> None:
        self._clips = clips
        segments = [_segment(clip.row) for clip in clips]
        # Between two neighbouring times, the same segments go on.
        self._times = sorted({time for segment in segments for time in segment})
        # The least number of a segment there; then over 2, 4, 8, ... such stretches from there.
        self._first = [_find_first(segments, self._times)]
        width = 1
        while 2 * width <= len(self._times):
            shorter = self._first[-1]
            self._first.append([min(*pair) for pair in zip(shorter, shorter[width:], strict=False)])
            width *= 2

    def find(self, clip: Placed) -> Placed | None:
        """The first of the segments that overlaps this one."""
        start, end = _segment(clip.row)
        begin = max(bisect_right(self._times, start) - 1, 0)
        stop = bisect_left(self._times, end)
        if begin >= stop:
            return None
        level = (stop - begin).bit_length() - 1
        first = min(self._first[level][begin], self._first[level][stop - 2**level])
        return self._clips[first] if first < len(self._clips) else None


def _find_first(segments: Sequence[tuple[float, float]], times: Sequence[float]) -> list[int]:
    """From each time to the next, the least number of a segment; how many there are for none."""
    later = sorted(range(len(segments)), key=lambda number: segments[number], reverse=True)
    open_now: list[int] = []
    first = []
    for time in times:
        while later and segments[later[-1]][0] <= time:
            heapq.heappush(open_now, later.pop())
        while open_now and segments[open_now[0]][1] <= time:
            heapq.heappop(open_now)
        first.append(open_now[0] if open_now else len(segments))
    return first


def _in_order(placed: Iterable[Placed]) -> list[Placed]:
    """Those that stay first."""
    return sorted(
        placed, key=lambda clip: (_STAYS_FIRST.index(clip.side), clip.row.label, clip.row.clip)
    )


def _describe(clip: Placed, twin: Placed) -> str:
    is_one_file = clip.row.video_sha256 == twin.row.video_sha256
    is_one = is_one_file and _segment(clip.row) == _segment(twin.row)
    return f"{'is the same video as' if is_one else 'has the frames of'} {twin}"


def _segment(row: FramesRow) -> tuple[float, float]:
    """The interval [start, end) of its video that a clip is, in seconds."""
    start = 0.0 if row.start_s is None else row.start_s
    return start, math.inf if row.end_s is None else row.end_s
