"""The release notes of a version, out of CHANGELOG.md: `make notes`."""

import re
import sys
from pathlib import Path

from kinetrack.errors import EXIT_BAD_INPUT, InputError

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
UNRELEASED = "Unreleased"


def release_notes(version: str, changelog: str) -> str:
    """Return the section of a version: all below its heading, up to that of the next.

    Raises:
        InputError: the changelog has no such section, or an empty one.
    """
    parts = re.split(r"^## (.+)\n", changelog, flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    # A heading may have the day behind the version: `0.2.0 (2026-12-24)`.
    found = {name.split()[0]: text.strip() for name, text in sections.items()}
    if not found.get(version):
        raise InputError(CHANGELOG.name, f"has no notes of {version}", expected=", ".join(found))
    return found[version]


def main(version: str = UNRELEASED) -> None:
    """Print the notes; bad input ends in one line."""
    try:
        notes = release_notes(version, CHANGELOG.read_text(encoding="utf-8"))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
    sys.stdout.write(f"{notes}\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
