"""`kinetrack store`: the database of the runs upgraded, and runs of another store brought in."""

from pathlib import Path

from kinetrack.errors import InputError
from kinetrack.files import write_alone
from kinetrack.tracking import outage
from kinetrack.tracking.importing import import_store
from kinetrack.tracking.importing_runs import Import
from kinetrack.tracking.settings import apply_default_settings, http_limits, quiet
from kinetrack.tracking.store import local_database
from kinetrack.tracking.upgrading import upgrade_database

_LOCK = Path(".kinetrack/store-import")
# A person waits here, and files are large: longer than in a training.
_ANSWER_S = 60
_MOST_NAMED = 10


def upgrade_store() -> str:
    """Bring the store's database to the installed MLflow; return what was done in one line.

    Raises:
        InputError: the store is no database on this machine, or it cannot be upgraded.
    """
    apply_default_settings()
    path = local_database()
    if path is None:
        remedy = "who runs it upgrades it: `mlflow db upgrade`"
        raise InputError(outage.address(), "is no database on this machine", remedy=remedy)
    with quiet():
        done = upgrade_database(path)
    if done is None:
        return f"store upgrade: {path.name} is up to date"
    return (
        f"store upgrade: {path.name} is of schema {done.now} now, it was {done.was};"
        f" runs: {done.num_runs}; backup: {done.backup}"
    )


def import_into_store(source: str, *, root: Path) -> bool:
    """Copy what another store has and this one has not; print what was done.

    Returns:
        Whether nothing was left out; a run whose files are not there is brought in without them.

    Raises:
        InputError: the source is no store, or one of both cannot be used.
    """
    with write_alone(root / _LOCK), http_limits(timeout_s=_ANSWER_S, retries=3):
        try:
            work = import_store(source, tell=print)
        except InputError:
            raise
        except Exception as error:  # whatever a store raises
            problem = "was not imported completely"
            remedy = "the same command goes on from there"
            shown, found = outage.without_passwords(source), outage.reason(error)
            raise InputError(shown, problem, found=found, remedy=remedy) from error
    for line in _describe(work):
        print(line)
    return not work.left_out


def _describe(work: Import) -> list[str]:
    lines = [f"store import: added: {_list_counts(work.added)}"]
    if work.known:
        lines.append(f"here already: {_list_counts(work.known)}")
    if work.without_files:
        lines += _name("no files were found of:", work.without_files)
    if work.left_out:
        lines += _name("left out:", work.left_out)
    return lines


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{what}: {number}" for what, number in counts.items()) or "nothing"


def _name(title: str, things: list[str]) -> list[str]:
    rest = len(things) - _MOST_NAMED
    return [
        title,
        *(f"  {thing}" for thing in things[:_MOST_NAMED]),
        *([f"  and {rest} more"] if rest > 0 else []),
    ]
