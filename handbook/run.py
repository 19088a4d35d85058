"""Make what of the documentation comes from the code: `make docs`, or `python -m handbook.run`."""

import sys
from collections.abc import Callable

from handbook.command_line import describe_commands
from handbook.params import ROOT, describe_params
from handbook.pictures import draw_house, draw_pipeline
from kinetrack.files import write_text

# A test holds the committed files equal to what these give.
MADE: dict[str, Callable[[], str]] = {
    "docs/reference/commands.md": describe_commands,
    "docs/reference/params.md": describe_params,
    "docs/pictures/pipeline.svg": draw_pipeline,
    "docs/pictures/house.svg": draw_house,
}


def main() -> None:
    """Write the files that differ, and name them."""
    for name, make in MADE.items():
        path, content = ROOT / name, make().rstrip("\n") + "\n"
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            write_text(path, content)
            sys.stdout.write(f"docs: {name} made anew\n")


if __name__ == "__main__":
    main()
