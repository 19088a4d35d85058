"""The `kinetrack` command: everything for people, in the order of use."""

import signal
import sys

from kinetrack.cli.app import app
from kinetrack.cli.commands import data, models, results, stages, start, store  # noqa: F401  # each adds its commands
from kinetrack.cli.examples import add_examples
from kinetrack.errors import EXIT_BAD_INPUT, InputError

add_examples(app)


def main() -> None:
    """Run the command line; bad input ends in one line and exit code 2."""
    # As Ctrl-C: what is half-written is removed.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
