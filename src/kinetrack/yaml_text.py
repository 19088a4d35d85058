"""Single values in the text of a YAML file; comments and everything else stay as they are."""

from collections.abc import Sequence

import yaml

from kinetrack.params import Yaml12Loader

_UNREADABLE = (yaml.YAMLError, RecursionError, ValueError)


def quote_value(value: str | None) -> str:
    """Write a text, or none, as YAML in one line; blanks and backslashes stay what they are."""
    if value is None:
        return "null"
    style = "'" if value.isprintable() else '"'
    # Never folded: it is to stand in one line.
    written = yaml.safe_dump(value, default_style=style, width=float("inf"), allow_unicode=True)
    return written.rstrip("\n")


def put_value(text: str, keys: Sequence[str], value: str | None) -> str:
    """Put another value behind `keys`, from the outermost to the innermost.

    A text that has no such key, or has that value, comes back as it is.
    """
    node = _find_scalar(text, keys)
    if node is None or _value_of(node) == value:
        return text
    start, end = node.start_mark.index, node.end_mark.index
    # Nothing behind a colon is null; a block scalar ends with its line.
    blank = " " if start == end and not text[:start].endswith(" ") else ""
    line_end = "\n" if text[start:end].endswith("\n") else ""
    return f"{text[:start]}{blank}{quote_value(value)}{line_end}{text[end:]}"


def leave_out_value(text: str, keys: Sequence[str]) -> str:
    """Leave out the value behind `keys`, and a comment behind it, as if there were none."""
    node = _find_scalar(text, keys)
    if node is None:
        return text
    end = node.end_mark.index
    rest, line_end, below = text[end:].partition("\n")
    if rest.lstrip().startswith("#"):
        rest = ""
    return f"{text[: node.start_mark.index].rstrip(' ')}{rest.rstrip()}{line_end}{below}"


def _find_scalar(text: str, keys: Sequence[str]) -> yaml.ScalarNode | None:
    try:
        node = yaml.compose(text, Yaml12Loader)
    except _UNREADABLE:
        return None
    for key in keys:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for name, value in node.value if name.value == key), None)
    return node if isinstance(node, yaml.ScalarNode) else None


def _value_of(node: yaml.ScalarNode) -> object:
    """Text, None, or what is neither: the node itself."""
    kind = node.tag.rpartition(":")[2]
    return {"str": node.value, "null": None}.get(kind, node)
