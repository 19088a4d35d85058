"""What `kinetrack report` does: write the page and the model card, and add both to the run."""

import json
from pathlib import Path

from kinetrack.cli.data import PAGES_FOLDER, open_browser
from kinetrack.cli.report.of_run import tell_run
from kinetrack.cli.report.present import tell_present
from kinetrack.errors import InputError, printable
from kinetrack.files import make_folder
from kinetrack.tracking.records import RunRecord, add_files
from kinetrack.using.model_card import write_model_card
from kinetrack.using.pages.report import write_report_page

# Beside the other artifacts of a run.
_ARTIFACTS = "report"


def print_report(
    root: Path, *, run: str | None = None, open_page: bool, as_json: bool = False
) -> None:
    """Write the page and the model card of a model, add both to its run, say where they are.

    Args:
        run: whose model, as `find_record` takes it; None: the model in `data/model`.

    Raises:
        InputError: of the model here: nothing was trained and evaluated yet, or the reports are
            not of it. Of a run: as `tell_run`.
    """
    told = tell_run(run, root) if run else tell_present(root)
    of_run = f"-{told.run.run_id[:8]}" if run and told.run else ""
    page, card = (PAGES_FOLDER / f"{x}" for x in (f"report{of_run}.html", f"model_card{of_run}.md"))
    make_folder(root / PAGES_FOLDER)
    write_report_page(root / page, told.report, model=told.model, side=told.test_side)
    write_model_card(root / card, told.report)
    trouble = _add_to_run(told.run, [root / page, root / card])
    if as_json:
        run_id = told.run.run_id if told.run else None
        files = {"page": str(page), "model_card": str(card)}
        print(json.dumps({**files, "run_id": run_id, "is_added": not trouble}, indent=2))
    else:
        print(f"page {page}, model card {card}")
        print(printable(trouble or _tell_added(told.run)))
    if open_page:
        open_browser(root / page)


def _add_to_run(run: RunRecord | None, paths: list[Path]) -> str:
    """Add the files to the run; why not, or empty when they were."""
    if run is None:
        return "no run in MLflow has them: kinetrack track makes it, then again kinetrack report"
    try:
        add_files(run.run_id, paths, folder=_ARTIFACTS)
    except InputError as error:
        return f"not added to run {run.run_id[:8]}: {error}"
    return ""


def _tell_added(run: RunRecord | None) -> str:
    assert run
    return f"artifacts of run {run.name} ({run.run_id[:8]}), in {_ARTIFACTS}/"
