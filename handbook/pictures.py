"""Pictures of the pipeline and of the house, as SVG, from `dvc.yaml` and `pyproject.toml`."""

import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import yaml

ROOT = Path(__file__).parent.parent
# Light grounds with dark letters: they are read on a dark page too.
_STYLE = """\
<style>
  text { font-family: system-ui, sans-serif; font-size: 17px; fill: #263238; }
  .name { font-weight: bold; }
  .middle { text-anchor: middle; }
  .small { font-size: 15px; }
  .file { font-family: ui-monospace, monospace; font-size: 15px; }
  .ground { fill: #ffffff; }
  .box { fill: #e0f2f1; stroke: #00796b; stroke-width: 1.5; }
  .data { fill: #fff8e1; stroke: #b28704; stroke-width: 1.5; }
  .line { stroke: #546e7a; stroke-width: 2; fill: none; }
</style>"""
_MARKER = """\
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" \
orient="auto"><path d="M0 0L10 5L0 10z" fill="#546e7a"/></marker></defs>"""
_MARGIN = 12


def draw_pipeline() -> str:
    """The stages from top to bottom; to the right of each, what it writes."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    row, box, width = 84, 300, 620
    parts = []
    for number, (name, stage) in enumerate(stages.items()):
        top = _MARGIN + number * row
        parts += _stage(name, stage["desc"], top=top, width=box)
        parts += _outputs(list(_written(stage)), top=top, left=box + 64, width=width - box - 64)
        parts.append(_arrow(box + _MARGIN, top + 30, box + 64, top + 30))
        if number:
            parts.append(_arrow(box / 2, top - row + 62, box / 2, top))
    title = "The pipeline: " + ", ".join(stages)
    return _picture(parts, title, width=width + _MARGIN, height=len(stages) * row + _MARGIN - 10)


def _stage(name: str, told: str, *, top: int, width: int) -> Iterator[str]:
    yield _box("box", _MARGIN, top, width, 62)
    yield _text("name", _MARGIN + 12, top + 20, name)
    for line, words in enumerate(textwrap.wrap(told, 35)):
        yield _text("small", _MARGIN + 12, top + 38 + 17 * line, words)


def _outputs(names: list[str], *, top: int, left: int, width: int) -> Iterator[str]:
    yield _box("data", left, top, width, 62)
    for line, name in enumerate(names):
        yield _text("file", left + 12, top + (36 if len(names) == 1 else 26 + 22 * line), name)


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


def _arrow(left: float, top: float, right: float, bottom: float) -> str:
    path = f"M{left:g} {top:g}L{right:g} {bottom:g}"
    return f'<path class="line" marker-end="url(#tip)" d="{path}"/>'
