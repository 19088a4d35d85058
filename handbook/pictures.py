"""Pictures of the pipeline and of the house, as SVG, from `dvc.yaml` and `pyproject.toml`."""

import math
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import yaml

ROOT = Path(__file__).parent.parent
# Light grounds with dark letters: they are read on a dark page too.
_STYLE = """\
<style>
  text { font-family: system-ui, sans-serif; font-size: 17px; fill: #263238; }
  .name { font-weight: bold; }
  .middle { text-anchor: middle; }
  .small { font-size: 14px; }
  .file { font-family: ui-monospace, monospace; font-size: 13.5px; }
  .ground { fill: #ffffff; }
  .box { fill: #e0f2f1; stroke: #00796b; stroke-width: 1.5; }
  .data { fill: #fff8e1; stroke: #b28704; stroke-width: 1.5; }
  .line { stroke: #546e7a; stroke-width: 2; fill: none; }
</style>"""
_MARKER = """\
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0 0L10 5L0 10z" fill="#546e7a"/></marker></defs>"""
_MARGIN = 12


class _Size(NamedTuple):
    width: int
    height: int


_CELL, _GAP = _Size(204, 130), 30


def draw_pipeline() -> str:
    """The stages in two rows, each with what it writes."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    columns = math.ceil(len(stages) / 2)
    parts: list[str] = []
    for number, (name, stage) in enumerate(stages.items()):
        row, column = divmod(number, columns)
        left = _MARGIN + column * (_CELL.width + _GAP)
        top = _MARGIN + row * (_CELL.height + _GAP)
        parts += _stage(name, stage, left=left, top=top)
        if column:
            parts.append(_arrow((left - _GAP, top + 30), (left, top + 30)))
        elif row:
            parts.append(_turn(columns))
    width = columns * (_CELL.width + _GAP) - _GAP + 2 * _MARGIN
    height = 2 * _CELL.height + _GAP + 2 * _MARGIN
    return _picture(parts, "The pipeline: " + ", ".join(stages), width=width, height=height)


def _stage(name: str, stage: Mapping[str, Any], *, left: int, top: int) -> Iterator[str]:
    outputs = list(_written(stage))
    yield _box("box", left, top, _CELL.width, _CELL.height)
    yield _text("name", left + 10, top + 22, name)
    for line, words in enumerate(textwrap.wrap(stage["desc"], 26)):
        yield _text("small", left + 10, top + 41 + 17 * line, words)
    yield _box("data", left, top + _CELL.height - 48, _CELL.width, 48)
    for line, output in enumerate(outputs):
        middle = top + _CELL.height - 20
        yield _text("file", left + 10, middle + 18 * line - 9 * (len(outputs) - 1), output)


def _turn(columns: int) -> str:
    """From the end of the first row to the begin of the second."""
    right = _MARGIN + (columns - 1) * (_CELL.width + _GAP) + _CELL.width // 2
    left, bottom = _MARGIN + _CELL.width // 2, _MARGIN + _CELL.height
    middle = bottom + _GAP // 2
    return _arrow((right, bottom), (right, middle), (left, middle), (left, bottom + _GAP))


def _written(stage: Mapping[str, Any]) -> Iterable[str]:
    """Folders that a stage writes: its outputs, and those of its reports."""
    outputs = [_path(one) for one in stage.get("outs", [])]
    reports = [_path(one) for kind in ("metrics", "plots") for one in stage.get(kind, [])]
    folders = [str(Path(report).parent) for report in reports]
    return dict.fromkeys(path.replace("${dataset}", "<dataset>") for path in [*outputs, *folders])


def _path(output: str | Mapping[str, Any]) -> str:
    return output if isinstance(output, str) else next(iter(output))


def draw_house() -> str:
    """The rooms of the package by their floors: who is above may use who is below."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = contracts["tool"]["importlinter"]["contracts"][0]["layers"]
    floors = [[room.strip().rpartition(".")[2] for room in floor.split("|")] for floor in layers]
    width, floor_height, roof = 640, 52, 64
    slopes = f"M{_MARGIN} {roof}L{width / 2:g} {_MARGIN}L{width - _MARGIN} {roof}z"
    parts = [f'<path class="box" d="{slopes}"/>']
    for number, rooms in enumerate(floors):
        top, room_width = roof + 8 + number * floor_height, (width - 2 * _MARGIN) / len(rooms)
        for place, room in enumerate(rooms):
            left = _MARGIN + place * room_width
            kind = "box" if (ROOT / "src/kinetrack" / room).is_dir() else "data"
            parts.append(_box(kind, left + 2, top, room_width - 4, floor_height - 8))
            parts.append(_text("name middle", left + room_width / 2, top + 28, room))
    title = "The house: who is above may use who is below"
    return _picture(parts, title, width=width, height=roof + 12 + len(floors) * floor_height)


def _picture(parts: Iterable[str], title: str, *, width: int, height: int) -> str:
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        _STYLE,
        _MARKER,
        f'<rect class="ground" width="{width}" height="{height}" rx="8"/>',
        *parts,
        "</svg>",
    ]
    return "\n".join(lines)


def _box(kind: str, left: float, top: float, width: float, height: float) -> str:
    place = f'x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}"'
    return f'<rect class="{kind}" {place} rx="6"/>'


def _text(kind: str, left: float, top: float, words: str) -> str:
    return f'<text class="{kind}" x="{left:g}" y="{top:g}">{escape(words)}</text>'


def _arrow(*places: tuple[float, float]) -> str:
    path = "L".join(f"{left:g} {top:g}" for left, top in places)
    return f'<path class="line" marker-end="url(#tip)" d="M{path}"/>'
