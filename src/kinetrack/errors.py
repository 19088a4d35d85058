"""The one way to tell a person that an input is not usable."""

from pathlib import Path

EXIT_BAD_INPUT = 2
# Of each part of a line: what was found may be a file's worth of text.
_MOST_SHOWN = 2000


class InputError(Exception):
    """An input that cannot be used, told in one line: path, what, found, expected, remedy.

    Every command ends with exit code 2 on it and prints no traceback.
    """

    def __init__(
        self,
        path: Path | str,
        problem: str,
        *,
        found: object = None,
        expected: object = None,
        remedy: str = "",
    ) -> None:
        self.path = path
        self.problem = problem
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(path, problem, found, expected, remedy)

    def __str__(self) -> str:
        parts = [f"{_shorten(self.path)}: {_shorten(self.problem)}"]
        if self.found is not None:
            parts.append(f"found {_shorten(self.found)}")
        if self.expected is not None:
            parts.append(f"expected {_shorten(self.expected)}")
        line = ", ".join(parts)
        if self.remedy:
            line += f" -> {self.remedy}"
        return printable(line)

    def __reduce__(self) -> tuple[object, ...]:
        # Worker processes send it back by pickle, which knows no keyword arguments.
        values = (self.path, self.problem, self.found, self.expected, self.remedy)
        return _rebuild, (type(self), values)


class WriteError(InputError):
    """A file that cannot be written: another one could not be either."""


def _rebuild(
    kind: type[InputError], values: tuple[Path | str, str, object, object, str]
) -> InputError:
    path, problem, found, expected, remedy = values
    return kind(path, problem, found=found, expected=expected, remedy=remedy)


def _shorten(part: object) -> str:
    text = str(part)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def printable(text: str) -> str:
    """Escape line breaks, control characters and undecodable bytes that a file name may hold."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in text
    )
