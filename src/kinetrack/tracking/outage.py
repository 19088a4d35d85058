"""What a person is told when MLflow cannot be reached: one line, and the work goes on."""

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from kinetrack.errors import InputError
from kinetrack.tracking.settings import named_tracking_uri, quiet
from kinetrack.tracking.store import open_store, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_LONGEST_REASON = 200


class Outage:
    """Tells once that MLflow does not answer, and once that it does again."""

    def __init__(self) -> None:
        self._is_on = False

    def begin(self, error: Exception) -> None:
        """Say why, unless that was said."""
        if not self._is_on:
            report(error)
        self._is_on = True

    def end(self) -> None:
        """Say that it is over, if it was on."""
        if self._is_on:
            sys.stderr.write(f"MLflow at {address()} answers again: nothing is lost\n")
        self._is_on = False


def ask_store(question: Callable[["MlflowClient"], T], *, about: str) -> T:
    """Return what a question to the store gives; whatever the store raises is told in one line.

    Raises:
        InputError: the store cannot be used, or does not answer.
    """
    try:
        with quiet():
            return question(open_store())
    except InputError:
        raise
    except Exception as error:  # of a store, of its files, of the network
        problem = f"cannot be had from MLflow at {address()}"
        raise InputError(about, problem, found=reason(error)) from error


def report(error: Exception) -> None:
    """Print one warning line to stderr; passwords in addresses are left out."""
    trouble = (
        f"MLflow cannot be used: {without_passwords(str(error))}"
        if isinstance(error, InputError)
        else f"MLflow at {address()} does not take it: {reason(error)}"
    )
    sys.stderr.write(f"{trouble}; `kinetrack track` sends it later\n")


def address() -> str:
    """Return the address of the tracking store, without a password."""
    return without_passwords(tracking_uri())


def place() -> str:
    """Return what names the tracking store wherever the project lies: a server, or `mlruns`."""
    return address() if named_tracking_uri() else "mlruns"


def reason(error: Exception) -> str:
    """Return in one line why MLflow failed, without passwords."""
    cause = _first_cause(error)
    text = " ".join(str(cause).split())[:_LONGEST_REASON] or type(cause).__name__
    return without_passwords(text)


def _first_cause(error: BaseException) -> BaseException:
    """Return where the trouble began: "connection refused", not three layers of retries."""
    while earlier := error.__cause__ or error.__context__:
        error = earlier
    return error


def without_passwords(text: str) -> str:
    """Return a text with the passwords in its addresses left out."""
    # A password may have an @ or a / in it: what comes before the last @ of a word goes.
    shown = re.sub(r"//[^\s'\"]*@", "//***@", text)
    return re.sub(r"(?i)(password|token)=[^&\s'\"]*", r"\1=***", shown)
