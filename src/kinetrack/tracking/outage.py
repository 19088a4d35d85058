"""What a person is told when MLflow cannot be reached: one line, and the work goes on."""

import re
import sys

from kinetrack.tracking.store import tracking_uri

_LONGEST_REASON = 200


def report(error: Exception) -> None:
    """Print one warning line to stderr; passwords in addresses are left out."""
    line = f"MLflow at {address()} does not answer; this run is not tracked: {reason(error)}"
    sys.stderr.write(line + "\n")


def address() -> str:
    """Return the address of the tracking store, without a password."""
    return _without_passwords(tracking_uri())


def reason(error: Exception) -> str:
    """Return in one line why MLflow failed, without passwords."""
    cause = _first_cause(error)
    text = " ".join(str(cause).split())[:_LONGEST_REASON] or type(cause).__name__
    return _without_passwords(text)


def _first_cause(error: BaseException) -> BaseException:
    """Return where the trouble began: "connection refused", not three layers of retries."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return error


def _without_passwords(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)
