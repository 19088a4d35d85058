"""The `kinetrack` command: everything for people, in the order of use."""

import sys

from kinetrack.cli.app import app
from kinetrack.cli.commands import data, models, results, stages, start, store  # noqa: F401  # each adds its commands
from kinetrack.cli.examples import add_examples
from kinetrack.errors import EXIT_BAD_INPUT, InputError
from kinetrack.signals import exit_when_asked

add_examples(app)


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 2."""
    exit_when_asked()  # what is half-written is removed then
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
