"""What a store gives and takes in parts: pages of a search, requests of a limited size."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")

# MLflow refuses a request with more.
MOST_PARAMS_A_CALL = 100
MOST_METRICS_A_CALL = 1000
_PAGE = 500


def all_runs(
    client: "MlflowClient", wanted: str = "", *, deleted_too: bool = False
) -> Iterator["Run"]:
    """Yield the runs of all experiments that fit a filter of MLflow's."""
    from mlflow.entities import ViewType

    view = ViewType.ALL if deleted_too else ViewType.ACTIVE_ONLY
    ids = [one.experiment_id for one in all_pages(client.search_experiments, view)]
    if ids:
        yield from all_pages(client.search_runs, ids, wanted, run_view_type=view)


def all_pages(
    search: Callable[..., Any], *args: Any, page: int = _PAGE, **options: Any
) -> Iterator[Any]:
    """Yield everything that a search of MLflow's client finds; `page` is asked for at once."""
    token = None
    while True:
        found = search(*args, **options, max_results=page, page_token=token)
        yield from found
        token = found.token
        if not token:
            return


def chunks(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts."""
    yield from (items[first : first + most] for first in range(0, len(items), most))
