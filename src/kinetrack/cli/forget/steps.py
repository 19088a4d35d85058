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
from kinetrack.versioning.commits import git, list_stashes
from kinetrack.versioning.versions import Version


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
    versions = traces.search.versions
    is_here = traces.present or any(one.kind == "workspace" for one in versions)
    if is_here:
        yield _step_of_workspace(dataset)
    names = {name: None for one in versions if one.kind == "tip" for name in one.names}
    if told := list(_tell_of_tips(dataset.root, names)):
        yield Step("do the same on each branch that goes on, or give it up; give up the tags", told)
    yield from _steps_of_stashes(dataset.root, versions, is_here=is_here)
    experiments = [one for one in traces.search.versions if one.kind == "experiment"]
    if experiments:
        listed = " ".join(shlex.quote(one.origin.experiment) for one in experiments)
        yield Step("give up DVC's experiments that have them", [f"dvc exp remove {listed}"])


def _step_of_workspace(dataset: Dataset) -> Step:
    message = shlex.quote(f"Forget clips of {dataset.name}")
    file = shlex.quote(f"{dataset.path}.dvc")  # Git may not know it yet
    has_git = git(dataset.root, "rev-parse", "--git-dir")
    return Step(
        "make frames, tensors and model without them, and commit",
        [
            "dvc repro",
            *([f"git add -u && git add {file} && git commit -m {message}"] if has_git else []),
            *(["dvc push"] if remotes.list_remotes(dataset.root) else []),
        ],
    )


def _tell_of_tips(root: Path, names: Iterable[str]) -> Iterator[str]:
    """What may be done with each branch and tag: what goes on is for people to decide."""
    known = set(git(root, "for-each-ref", "--format=%(refname)"))
    here = git(root, "branch", "--show-current")
    for name in names:
        quoted = shlex.quote(name)
        if f"refs/heads/{name}" in known and name not in here:
            again = f"git switch {quoted} && dvc checkout, then as above"
            yield f"# {name}: {again}; or git branch -D {quoted}"
        if f"refs/tags/{name}" in known:
            far = f"git push REMOTE --delete {quoted}"
            yield f"# {name}: git tag -d {quoted}; where it was pushed, {far}"
        if f"refs/remotes/{name}" in known:
            remote, branch = map(shlex.quote, name.split("/", 1))
            if f"refs/heads/{branch}" in known:
                yield f"# {name}: git push {remote} {branch}, once that is done"
            else:
                again = "the same there, and git fetch"
                yield f"# {name}: {again}; or git push {remote} --delete {branch}"


def _steps_of_stashes(root: Path, versions: Iterable[Version], *, is_here: bool) -> Iterator[Step]:
    held = {one.origin.commit for one in versions if one.kind == "stash"}
    stashes = [one for one in list_stashes(root) if not held.isdisjoint(one.commits)]
    by_git = [one.number for one in stashes if one.ref == "refs/stash"]
    if by_git:
        # The last first: so the numbers of the others stay what they are.
        drops = [f"git stash drop {number}" for number in sorted(by_git, reverse=True)]
        yield Step("give up what git stash has set aside with them", drops)
    queued = [one.commits[0] for one in stashes if "celery" in one.ref]
    if queued:
        title = "take the experiments that would use them out of DVC's queue"
        yield Step(title, [shlex.join(["dvc", "queue", "remove", *queued])])
    if any(one.ref == "refs/exps/stash" for one in stashes):
        title = "give up what an interrupted experiment of DVC's has left"
        yield Step(title, ["git update-ref -d refs/exps/stash"])
    if "" in held and not is_here:
        yield Step("take back what git add has set aside; the files stay", ["git reset -q"])


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
