"""The page on every key of `params.yaml` and `.kinetrack/machine.yaml`, from their classes."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from handbook.text import code, paragraphs, plain, table
from kinetrack import machine
from kinetrack.cli.check import AllParams
from kinetrack.params import SECTIONS, load_params

ROOT = Path(__file__).parent.parent
DEFAULT_PRESET = "sample"
_INTRODUCTION = """\
# params.yaml

Made from the code by `make docs`; a test compares. An unknown key, a wrong type and a number beyond
its ends are refused in one line that names the key, before anything is touched. YAML is read by
version 1.2, so `1e-4` is a number and `no` is text. `kinetrack check` reads the whole file.

`dataset` names a folder of `data/videos/` (`kinetrack use NAME` sets it). Every other key is in the
section of its owner. The last column is the value of the preset `sample`;
[the last table but one](#what-the-presets-say) shows where presets differ."""
_MACHINE = """\
## This machine: `.kinetrack/machine.yaml`

What belongs to the machine is no param. `device` and `processes` change the last bits of a model,
and each run records them; the others change no byte. Each key stands for an environment variable,
which wins over the file; all may be left out."""


def describe_params() -> str:
    """The whole page."""
    presets = read_presets()
    lines = [_INTRODUCTION, ""]
    for section in SECTIONS:
        lines += [*_describe_section(section, presets[DEFAULT_PRESET][section]), ""]
    lines += ["## What the presets say", "", *_compare(presets), "", *_describe_machine()]
    return "\n".join(lines)


def read_presets() -> dict[str, dict[str, Any]]:
    """Params by the name of their preset, the default one first."""
    names = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))
    names.sort(key=lambda name: name != DEFAULT_PRESET)
    return {name: load_params(ROOT / "presets" / f"{name}.yaml") for name in names}


def _describe_section(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    kind: type[BaseModel] = AllParams.__annotations__[name]
    yield from [f"## {name}", ""]
    told = inspect.cleandoc(kind.__doc__ or "").removeprefix(f"Section `{name}` of params.yaml.")
    yield from [paragraphs(told), ""]
    rows = (
        [code(f"{name}.{key}"), told, allowed, code(_as_yaml(values[key]))]
        for key, allowed, told in _keys(kind)
    )
    yield from table(["key", "means", "allowed", DEFAULT_PRESET], rows)


def _keys(kind: type[BaseModel]) -> Iterator[tuple[str, str, str]]:
    """Name, allowed values and meaning of each key."""
    for key, schema in kind.model_json_schema()["properties"].items():
        yield key, _allowed(schema), plain(kind.model_fields[key].description or "")


def _allowed(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_allowed, schema["anyOf"]))
    if choices := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return ", ".join(code(_as_yaml(choice)) for choice in choices)
    kinds: dict[str, Callable[[], str]] = {
        "integer": lambda: f"whole number{_ends(schema)}",
        "number": lambda: f"number{_ends(schema)}",
        "array": lambda: f"list of {_members(schema)}",
        "boolean": lambda: "`true`, `false`",
        "null": lambda: "`null`",
        "string": lambda: "text",
    }
    return kinds[schema["type"]]()


def _members(schema: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return " and ".join(map(_allowed, schema["prefixItems"]))
    return _allowed(schema.get("items", {"type": "string"}))


def _ends(schema: Mapping[str, Any]) -> str:
    words = {
        "minimum": "from",
        "exclusiveMinimum": "above",
        "maximum": "to",
        "exclusiveMaximum": "below",
    }
    return "".join(
        f" {word} {_number(schema[key])}" for key, word in words.items() if key in schema
    )


def _number(value: float) -> str:
    if value == 2**63:
        return "2^63"
    return f"{int(value) if value == int(value) else value:,}"


def _as_yaml(value: object) -> str:
    """As the file would have it: JSON is YAML, and plain text needs no quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def _compare(presets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows = []
    for section in SECTIONS:
        for key in presets[DEFAULT_PRESET][section]:
            values = [_as_yaml(params[section][key]) for params in presets.values()]
            if len(set(values)) > 1:
                rows.append([code(f"{section}.{key}"), *map(code, values)])
    return table(["key", *presets], rows)


def _describe_machine() -> Iterator[str]:
    yield from [_MACHINE, ""]
    rows = (
        [code(key), told, allowed.removesuffix(" or `null`"), code(machine._VARIABLES[key])]
        for key, allowed, told in _keys(machine.MachineOptions)
    )
    yield from table(["key", "means", "allowed", "variable"], rows)
