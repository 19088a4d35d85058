"""What a person sees of a sweep in the real `kinetrack ui`, by a real browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from kinetrack.tables import write_csv
from kinetrack.tracking import ui
from kinetrack.tracking.evaluations import Result, add_evaluation
from kinetrack.tracking.runs import training_run

from browser import open_browser
from project import environment

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

RATES = (0.0003, 0.001, 0.003, 0.01)
EPOCHS = 5
WIDE = {"width": 1900, "height": 1100}


class Sweep(NamedTuple):
    """An open page of MLflow, and the runs by their names."""

    address: str
    run_ids: dict[str, str]

    def page_of(self, name: str, tab: str) -> str:
        """Where a run has its tab."""
        return f"{self.address}/#/experiments/1/runs/{self.run_ids[name]}/{tab}"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("browser") / "project"
    folder.mkdir()
    (folder / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("MLFLOW_TRACKING_URI", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        run_ids = {f"lr {rate}": log_training(folder, rate, f"lr {rate}") for rate in RATES}
    command = [sys.executable, "-m", "kinetrack.cli.main", "ui", "--port", str(ui._any_free_port())]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            yield Sweep(read_address(process), run_ids)
        finally:
            process.terminate()


def log_training(folder: Path, rate: float, name: str) -> str:
    """Log a training and its evaluation as the stages do; return the id of its run."""
    tags = {"model_sha256": f"of {name}"}
    params = {"dataset": "sample", "train": {"learning_rate": rate, "epochs": EPOCHS}}
    with training_run(experiment="sample", name=name, params=params, tags=tags, key=name) as run:
        for epoch in range(1, EPOCHS + 1):
            run.log_epoch(epoch, metrics_of(rate, epoch))
    confusion = folder / "confusion.csv"
    labels = ("Jump", "Walk")
    rows = [
        {"actual": actual, "predicted": predicted, "num_clips": 9 if actual == predicted else 1}
        for actual in labels
        for predicted in labels
    ]
    write_csv(confusion, ["actual", "predicted", "num_clips"], rows)
    assert add_evaluation(Result(tags, {"accuracy": 0.9}, confusion)) == 1
    return run.run_id


def metrics_of(rate: float, epoch: int) -> dict[str, float]:
    accuracy = 1 - 1 / (1 + epoch * (1 + 100 * rate))
    return {
        f"{side}/{metric}": value
        for side in ("train", "val")
        for metric, value in (("accuracy", accuracy), ("loss", 1 - accuracy))
    }


def read_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    for line in process.stdout:
        if line.startswith("http://"):
            return line.split()[0]
    raise AssertionError("kinetrack ui ended before it served a page")


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: "Browser", sweep: Sweep) -> "Iterator[Page]":
    """A page of its own for each test, which asks no other machine for anything."""
    page, foreign = browser.new_page(viewport=WIDE), []
    own = (sweep.address, "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(own) else foreign.append(r.url))
    yield page
    page.close()
    assert foreign == []


def keep_screenshot(page: "Page", name: str) -> None:
    """Save what is seen for a person to look at, where KINETRACK_SCREENSHOTS names a folder."""
    if folder := os.environ.get("KINETRACK_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def open_runs(page: "Page", sweep: Sweep, *names: str) -> None:
    """Open the experiment and see these runs."""
    page.goto(f"{sweep.address}/#/experiments/1/runs?workflowType=machine_learning")
    for name in names:
        page.get_by_role("link", name=name, exact=True).wait_for()


def curves(page: "Page") -> dict[str, list[float]]:
    """Values by run of the lines in the one chart of a page."""
    page.locator(".js-plotly-plot .scatterlayer .trace path.js-line").first.wait_for()
    read = "charts => charts.map(chart => chart.data.map(line => [line.name, [...line.y]]))"
    [chart] = page.locator(".js-plotly-plot").evaluate_all(read)
    return dict(chart)


def test_the_runs_of_a_sweep_are_listed_by_their_names(page: "Page", sweep: Sweep) -> None:
    open_runs(page, sweep, *sweep.run_ids)
    page.get_by_text("4 matching runs").wait_for()
    keep_screenshot(page, "runs")


def test_two_chosen_runs_are_compared_in_one_chart(page: "Page", sweep: Sweep) -> None:
    rates = {"lr 0.001": 0.001, "lr 0.01": 0.01}
    open_runs(page, sweep, *rates)
    for name in rates:
        link = page.get_by_role("link", name=name, exact=True)
        row = page.get_by_role("row").filter(has=link)
        row.get_by_role("checkbox", name="toggle row selection").check()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Comparing 2 Runs from 1 Experiment").wait_for()
    keep_screenshot(page, "compared")
    page.get_by_role("link", name="val/accuracy").click()
    for name in rates:
        page.get_by_text(f"{name} (val/accuracy)", exact=True).wait_for()  # the legend
    keep_screenshot(page, "curves")
    assert curves(page) == {
        name: pytest.approx(values_of("val/accuracy", rate)) for name, rate in rates.items()
    }


def values_of(metric: str, rate: float) -> Sequence[float]:
    return [metrics_of(rate, epoch)[metric] for epoch in range(1, EPOCHS + 1)]


def test_metrics_are_grouped_by_side(page: "Page", sweep: Sweep) -> None:
    page.goto(sweep.page_of("lr 0.003", "model-metrics"))
    page.get_by_role("button", name="Add chart").nth(2).wait_for()  # one a group
    keep_screenshot(page, "metrics")
    groups = re.findall(r"^([\w ]+)\n\((\d)\)$", page.inner_text("body"), re.MULTILINE)
    assert dict(groups) == {"test": "1", "train": "2", "val": "2", "Model metrics": "0"}


def test_the_confusion_picture_of_a_run_is_shown(page: "Page", sweep: Sweep) -> None:
    page.goto(sweep.page_of("lr 0.003", "artifacts"))
    page.get_by_text("evaluation", exact=True).click()
    page.get_by_text("confusion.png", exact=True).click()
    picture = page.get_by_alt_text("evaluation/confusion.png")
    picture.wait_for()
    keep_screenshot(page, "confusion")
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
