"""Names of classes and clips: safe as one part of a path, and never two for one."""

import unicodedata
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

# A clip's archive and tensor carry a suffix of four bytes more.
_MOST_BYTES = 251


def check_name(name: str) -> str:
    """Return a class or clip name that is safe as one part of a path.

    Raises:
        ValueError: it is empty, a dot name, too long, no UTF-8, or holds a separator or a NUL byte.
    """
    # Bytes that are no UTF-8 come from the file system as lone surrogates.
    if len(name.encode()) > _MOST_BYTES:
        raise ValueError(f"{name[:40]!r}... is longer than {_MOST_BYTES} bytes")
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise ValueError(f"{name!r} is no plain file name")
    return name


Name = Annotated[str, AfterValidator(check_name)]


def check_text(text: str) -> str:
    """Return a text that a table can hold.

    Raises:
        ValueError: it is no UTF-8; JSON can spell half a character.
    """
    text.encode()
    return text


Text = Annotated[str, AfterValidator(check_text)]


def fold_name(name: str) -> str:
    """What names have in common that some file systems take for one: case and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def find_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two names that are equal but for case or Unicode form, or wholly equal."""
    seen: dict[str, str] = {}
    for name in names:
        folded = fold_name(name)
        if folded in seen:
            return seen[folded], name
        seen[folded] = name
    return None
