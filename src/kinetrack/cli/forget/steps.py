"""The commands that erase forgotten clips, in an order that does no harm."""

import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from kinetrack.cli.forget.clips import Dataset
from kinetrack.cli.forget.traces import Traces
from kinetrack.cli.gc import mlflow_address, mlflow_gc
from kinetrack.tracking.run_data import RunData
from kinetrack.versioning import remotes
from kinetrack.versioning.commits import git


class Step(NamedTuple):
    """Commands that erase something, and what they do."""

    title: str
    commands: list[str]


def plan_steps(dataset: Dataset, clips: Sequence[str], traces: Traces) -> Iterator[Step]:
    """What erases everything, in an order in which nothing that is still needed goes."""
    quoted = " ".join(map(shlex.quote, clips))
    if traces.present:
        # A clip may begin with a dash.
        again = f"kinetrack forget --dataset {shlex.quote(dataset.name)} --yes -- {quoted}"
        yield Step("take them out of the present version", [again])
    yield from _steps_of_versions(dataset, traces)
    if traces.runs:
        versions = traces.model_versions
        commands = mlflow_commands(traces.runs, versions, variable=mlflow_address(), gc=mlflow_gc())
        title = "erase the runs and models, once a new one is trained and promoted"
        yield Step(title, commands)
    if traces.weights:
        yield Step("erase the models from the cache", [_remove(traces.weights.values(), dataset)])
    if traces.objects:
        title = "erase their bytes from the cache; older versions lack them from then on"
        yield Step(title, [_remove(traces.objects.values(), dataset)])
    for remote in traces.remotes:
        if remote.commands:
            yield Step(f"erase bytes and models from the remote {remote.name}", remote.commands)
    yield from _steps_of_leftovers(dataset, traces)
    yield _step_of_names()


def _steps_of_versions(dataset: Dataset, traces: Traces) -> Iterator[Step]:
    if traces.present or any(one.kind == "workspace" for one in traces.search.versions):
        message = shlex.quote(f"Forget clips of {dataset.name}")
        yield Step(
            "make frames, tensors and model without them, and commit",
            [
                "dvc repro",
                f"git add -u && git commit -m {message}",
                *(["dvc push"] if remotes.list_remotes(dataset.root) else []),
            ],
        )
    held = [one for one in traces.search.versions if one.kind == "tip"]
    here = git(dataset.root, "branch", "--show-current")
    names = [name for one in held for name in one.names if name not in here]
    if names:
        shown = ", ".join(dict.fromkeys(names))
        yield Step(
            f"do the same on each branch that goes on; give up tags and branches: {shown}",
            ["# git switch BRANCH && dvc checkout, then as above; git branch -D, git tag -d"],
        )
    experiments = [one for one in traces.search.versions if one.kind == "experiment"]
    if experiments:
        listed = " ".join(shlex.quote(one.origin.experiment) for one in experiments)
        yield Step("give up DVC's experiments that have them", [f"dvc exp remove {listed}"])


def _steps_of_leftovers(dataset: Dataset, traces: Traces) -> Iterator[Step]:
    if traces.remembered:
        remove = _remove(traces.remembered, dataset)
        yield Step("have DVC not bring back what was made of them", [remove])
    if traces.local:
        remove = shlex.join(["rm", "-rf", *traces.local])
        yield Step("remove what this machine keeps beside DVC", [remove])
    if traces.checkouts:
        yield Step(
            "remove the checkouts of DVC's experiments, once none runs",
            [shlex.join(["rm", "-rf", *traces.checkouts])],
        )


def _step_of_names() -> Step:
    return Step(
        "their names still stand in lists of older versions (of folders, index.csv, split.json), in"
        " the cache and on remotes, and in reports/evaluate/predictions.csv in Git's history: where"
        " a name tells of a person, begin a new repository with the present version",
        [],
    )


def _remove(paths: Iterable[Path], dataset: Dataset) -> str:
    root = dataset.root
    shown = (path.relative_to(root) if path.is_relative_to(root) else path for path in paths)
    return f"rm -f {' '.join(shlex.quote(str(path)) for path in shown)}"


def mlflow_commands(
    runs: Sequence[RunData],
    model_versions: Sequence[tuple[str, int]],
    *,
    variable: str,
    gc: str,
) -> list[str]:
    """Return the commands that erase runs, their models and their registered versions.

    Args:
        variable: what sets MLflow's address for a command.
        gc: the command that erases what was deleted.
    """
    if not runs:
        return []
    models = sorted({model for run in runs for model in run.model_ids})
    # MLflow has no command for these two.
    calls = [
        *(f"c.delete_model_version({name!r}, {str(number)!r})" for name, number in model_versions),
        *(f"c.delete_logged_model({model!r})" for model in models),
    ]
    script = "; ".join(["from mlflow import MlflowClient", "c = MlflowClient()", *calls])
    ids = ",".join(run.run_id for run in runs)
    erase = f"{gc} --run-ids {ids}" + (f" --logged-model-ids {','.join(models)}" if models else "")
    return [
        *([f"{variable} python -c {shlex.quote(script)}"] if calls else []),
        *(
            f"{variable} mlflow runs delete --run-id {run.run_id}"
            for run in runs
            if not run.is_deleted
        ),
        erase,
    ]
