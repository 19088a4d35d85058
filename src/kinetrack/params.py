"""Reading `params.yaml`: safe YAML, typed sections, one line for every mistake."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from kinetrack.errors import InputError

PARAMS_FILE = Path("params.yaml")
# The top level: which data set, then one section an owner, in the order of the pipeline.
SECTIONS = ("sample", "frames", "split", "pack", "input", "augment", "model", "train", "evaluate")
TOP_LEVEL = ("dataset", *SECTIONS)
DATASET_PATTERN = r"[a-z0-9][a-z0-9_-]*"
_MAX_BYTES = 1_000_000


class Section(BaseModel):
    """Base of every params section: frozen, no unknown keys, no silent conversion."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


SectionType = TypeVar("SectionType", bound=BaseModel)


def load_section(kind: type[SectionType], name: str, path: Path = PARAMS_FILE) -> SectionType:
    """Read the section `name` of a params file as `kind`.

    Raises:
        InputError: no such file, no safe YAML, an unknown top-level key, or a wrong key or value.
    """
    return parse_section(kind, name, load_params(path), path)


def parse_section(
    kind: type[SectionType], name: str, params: Mapping[str, Any], path: Path
) -> SectionType:
    """Read the section `name` of loaded params as `kind`; `path` is for the message only."""
    if not isinstance(params.get(name), dict):
        raise InputError(path, f"section {name} is missing or not a mapping", remedy=_remedy(kind))
    try:
        return kind.model_validate(params[name])
    except ValidationError as error:
        raise InputError(path, _describe(error, name), remedy=_mend(error, kind)) from None


def load_part(kind: type[SectionType], name: str, path: Path = PARAMS_FILE) -> SectionType:
    """Read of the section `name` the keys that `kind` has; the others are for somebody else.

    Raises:
        InputError: as `load_section`.
    """
    params = load_params(path)
    section = params[name]
    if isinstance(section, dict):
        part = {key: value for key, value in section.items() if key in kind.model_fields}
        params = {**params, name: part}
    return parse_section(kind, name, params, path)


def load_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read a whole params file as plain values; its top level holds exactly `TOP_LEVEL`.

    Raises:
        InputError: no such file, no safe YAML, a missing or an unknown top-level key, or a
            `dataset` that is no plain name.
    """
    values = load_yaml(path)
    if not isinstance(values, dict):
        raise InputError(path, "is not a mapping", expected=f"the keys {', '.join(TOP_LEVEL)}")
    _check_top_level(values, path)
    return values


def _check_top_level(values: dict[str, Any], path: Path) -> None:
    unknown = [str(key) for key in values if key not in TOP_LEVEL]
    missing = [key for key in TOP_LEVEL if key not in values]
    allowed = ", ".join(TOP_LEVEL)
    if unknown:
        raise InputError(path, f"unknown key {unknown[0]}", expected=f"only {allowed}")
    if missing:
        raise InputError(path, f"key {missing[0]} is missing", expected=allowed)
    dataset = values["dataset"]
    if not isinstance(dataset, str) or not re.fullmatch(DATASET_PATTERN, dataset):
        raise InputError(path, "dataset", found=repr(dataset), expected=f"a name {DATASET_PATTERN}")


def _problems(error: ValidationError) -> list[Any]:
    # An unknown key comes first: it is the slip by which another one is missing.
    problems = error.errors(include_url=False)
    return sorted(problems, key=lambda problem: problem["type"] != "extra_forbidden")


def _describe(error: ValidationError, section: str) -> str:
    problems = _problems(error)
    name = problems[0]["loc"][0] if problems[0]["loc"] else None
    # One value of a union gives one problem for each kind that it could have been.
    same = [problem for problem in problems if problem["loc"][:1] == problems[0]["loc"][:1]]
    key = section if name is None else f"{section}.{name}"
    if same[0]["type"] == "extra_forbidden":
        text = f"unknown key {key}"
    elif same[0]["type"] == "missing":
        text = f"key {key} is missing"
    else:
        expected = " or ".join(dict.fromkeys(problem["msg"] for problem in same))
        text = f"{key}: {expected.removeprefix('Value error, ')}"
        if name is not None:  # else it is of several keys, and the whole section says little
            text += f", found {str(same[0]['input'])[:80]!r}"
    more = len(problems) - len(same)
    return f"{text} (and {more} more)" if more else text


def _mend(error: ValidationError, kind: type[BaseModel]) -> str:
    problem, *_ = _problems(error)
    if problem["type"] == "missing":
        return _remedy(kind)
    if problem["type"] != "extra_forbidden":
        return "docs/reference/params.md tells what each key takes"
    near = get_close_matches(str(problem["loc"][0]), kind.model_fields, n=1)
    return f"{near[0]}? {_remedy(kind)}" if near else _remedy(kind)


def _remedy(kind: type[BaseModel]) -> str:
    return f"allowed here: {', '.join(kind.model_fields)}"


def load_yaml(path: Path) -> object:
    """Read a small file of safe YAML 1.2.

    Raises:
        InputError: there is none, it is too large, or no YAML.
    """
    if path.exists() and not path.is_file():
        raise InputError(path, "is no regular file")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(path, "is too large", expected=f"at most {_MAX_BYTES} bytes")
        return yaml.load(path.read_text(encoding="utf-8"), _ParamsLoader)
    except FileNotFoundError:
        raise InputError(path, "does not exist", remedy="kinetrack preset sample") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, "cannot be read", found=error) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(path, "is no valid YAML", found=_yaml_problem(error)) from None


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} in line {error.problem_mark.line + 1}"
    return str(error)


class Yaml12Loader(yaml.SafeLoader):
    """The safe loader by YAML 1.2, as DVC reads and writes it.

    By 1.1, PyYAML would take 1e-4 for text, `no` for false, 010 for 8, and 4:2:0, which DVC writes
    without quotes, for a number to the base of 60.
    """


class _ParamsLoader(Yaml12Loader):
    """As that, without aliases (bombs) and without keys that stand twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.get_mark())
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag:
            raise yaml.composer.ComposerError(None, None, f"the tag {tag}", self.get_mark())
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"a key that is no text ({key!r})", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key} twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


Yaml12Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _tag = f"tag:yaml.org,2002:{_kind}"
    Yaml12Loader.add_implicit_resolver(_tag, re.compile(f"(?:{_pattern})$"), [*_first, ""])
Yaml12Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))
