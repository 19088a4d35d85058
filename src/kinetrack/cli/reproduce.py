"""`kinetrack reproduce RUN`: train again from what a run says it was made of, and compare."""

import hashlib
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kinetrack.cli.repetition import Outcome, Verdict, judge, print_figures, read_figures
from kinetrack.errors import InputError, printable
from kinetrack.files import atomic_file, copy_file
from kinetrack.params import DATASET_PATTERN, PARAMS_FILE, load_yaml
from kinetrack.tracking.records import RunRecord, find_record, read_artifact, refuse_run, set_tags
from kinetrack.versioning.checkout import bring_folder, clone_at, rebuild_tensors, run_stage
from kinetrack.versioning.lock import folder_md5
from kinetrack.versioning.workspace import apply_changes

_CHANGES = "changes.diff"
_LOCK = "dvc.lock"
_SEE_ABOVE = "see the lines above"
# Where a model of MLflow's is put that a training starts from: the clone has another store.
_START = ".kinetrack/init_from"
_IN_MLFLOW = ("run:", "runs:/", "models:/")


def reproduce(run: str, *, root: Path, into: Path | None = None, keep: bool = False) -> bool:
    """Repeat the training of an MLflow run in a clone, compare, and tag the run with the result.

    The clone lies beside the project unless `into` names a folder, and is removed when the result
    is equal, unless it is to be kept. The project itself stays as it is.

    Returns:
        Whether the repetition is equal or, on another machine kind, within tolerance.

    Raises:
        InputError: no such run, one that lacks what it takes, data that cannot be had or are
            others, a training that fails.
    """
    record = find_record(run)
    _require_repeatable(record)
    target = into or root.parent / f"{root.name}-reproduce-{record.run_id[:8]}"
    print(printable(f"reproduce: run {record.name} ({record.run_id}) in {target}"), flush=True)
    checkout = _make_checkout(record, root=root, target=target)
    with _told_where(target):
        _bring_data(record, checkout)
        outcome = _repeat(record, checkout)
    print(printable(f"reproduce: {outcome.line}"))
    _tag(record, outcome.verdict)
    if outcome.verdict == "equal" and not keep:
        shutil.rmtree(target)
    else:
        print(printable(f"reproduce: the repetition lies in {target}"))
    return outcome.verdict != "different"


def _require_repeatable(record: RunRecord) -> None:
    """Check that a run says what it takes to repeat it."""
    tags = record.tags
    if tags.get("kind") == "group":
        raise refuse_run(record, "is a group of runs", remedy="name one of them")
    if record.status != "FINISHED" or "model_sha256" not in tags:
        raise refuse_run(
            record, "has no result to compare with", record.status, "a finished training"
        )
    if tags.get("git.commit", "unknown") == "unknown":
        raise refuse_run(record, "does not say which commit made it")
    if "data.tensors_md5" not in tags:
        raise refuse_run(
            record, "does not say which data it was trained on: it was started by hand"
        )


def _make_checkout(record: RunRecord, *, root: Path, target: Path) -> Path:
    """Clone the project, and make of it what the run began with; nothing is left of a failure."""
    changes = _read_changes(record)
    checkout = clone_at(record.tags["git.commit"], root=root, target=target)
    try:
        apply_changes(checkout, changes)
        _put_files(record, checkout)
        _bring_start(checkout, root)
    except BaseException:
        shutil.rmtree(target)
        raise
    return checkout


def _read_changes(record: RunRecord) -> bytes:
    """The uncommitted changes of a run; a warning where it had some that nothing kept."""
    patch, expected = read_artifact(record, _CHANGES), record.tags.get("git.diff_sha256")
    # Empty where a training went on without the changes that it began with.
    found = hashlib.sha256(patch).hexdigest() if patch else None
    if found != expected:
        problem = f"its {_CHANGES} is not the recorded one"
        raise refuse_run(record, problem, f"sha256 {found}", f"sha256 {expected}")
    if not patch and record.tags.get("git.dirty") == "true":
        line = "the run had uncommitted changes that nothing kept; the code of its commit is used"
        sys.stderr.write(f"reproduce: {line}\n")
    return patch or b""


def _put_files(record: RunRecord, checkout: Path) -> None:
    """Put the params and the lock of a run into the checkout; the commit's where it has none."""
    for name in (PARAMS_FILE.name, _LOCK):
        content = read_artifact(record, name)
        if content is not None:
            with atomic_file(checkout / name) as file:
                file.write(content)
        elif name == PARAMS_FILE.name:
            _check_params(record, checkout / name)


def _check_params(record: RunRecord, path: Path) -> None:
    from kinetrack.tracking.runs import flatten

    values = flatten(_read_params(path))
    for key, value in sorted(record.params.items()):
        if values.get(key) != value:
            problem = f"kept no {path.name}, and that of its commit has another {key}"
            raise refuse_run(record, problem, values.get(key), value)


def _read_params(path: Path) -> dict[str, Any]:
    """Read params of another commit, whose code may know other sections than ours."""
    values = load_yaml(path)
    if not isinstance(values, dict) or not re.fullmatch(
        DATASET_PATTERN, str(values.get("dataset"))
    ):
        raise InputError(path, "names no data set")
    return values


def _bring_start(checkout: Path, root: Path) -> None:
    """Have the model or the file that the training starts from, where it is not in Git."""
    from kinetrack.tracking.fetching import fetch_model

    path = checkout / PARAMS_FILE
    params = _read_params(path)
    weights = _value(params, "model", "weights")
    model = _value(params, "train", "init_from")
    if model.startswith(_IN_MLFLOW):
        fetch_model(model, checkout / _START)
        content = path.read_bytes().replace(model.encode(), _START.encode())
        with atomic_file(path) as file:
            file.write(content)
    for place in (place for place in (weights, model) if place):
        if (root / place).exists() and not (checkout / place).exists():
            _copy_inside(root / place, checkout / place, checkout)


def _value(params: dict[str, Any], section: str, key: str) -> str:
    """Text in params of another commit; "" where they have none there."""
    values = params.get(section)
    value = values.get(key) if isinstance(values, dict) else None
    return value if isinstance(value, str) else ""


def _copy_inside(source: Path, target: Path, checkout: Path) -> None:
    """Copy a file or a folder; no link, by which a stage might write into the project."""
    if target.resolve().is_relative_to(checkout.resolve()):
        files = [source] if source.is_file() else source.rglob("*")
        for file in (file for file in files if file.is_file()):
            copy_file(file, target / file.relative_to(source))


def _bring_data(record: RunRecord, checkout: Path) -> None:
    """Have exactly the tensors that the run was trained on.

    Raises:
        InputError: they cannot be had, or are others.
    """
    dataset = _read_params(checkout / PARAMS_FILE)["dataset"]
    path, md5 = f"data/tensors/{dataset}", record.tags["data.tensors_md5"]
    if bring_folder(path, md5, checkout=checkout):
        return
    print(f"reproduce: {path} cannot be had, and is packed again", flush=True)
    if not rebuild_tensors(dataset, checkout=checkout):
        raise refuse_run(record, f"its data {path} cannot be made again", remedy=_SEE_ABOVE)
    found = folder_md5(checkout / path)
    if found != md5:
        raise refuse_run(record, f"was trained on other data: {path} differs", found, md5)


def _repeat(record: RunRecord, checkout: Path) -> Outcome:
    """Train, evaluate where the run has test figures, and compare."""
    variables = _ask_for_machine(record) | {"KINETRACK_REPRODUCES": record.run_id}
    has_test = any(name.startswith("test/") for name in record.metrics)
    for stage in ("train", "evaluate") if has_test else ("train",):
        if run_stage(stage, checkout=checkout, variables=variables) != 0:
            raise refuse_run(record, f"its stage {stage} fails here", remedy=_SEE_ABOVE)
    card = json.loads((checkout / "data/model/model.json").read_text(encoding="utf-8"))
    figures = read_figures(record, checkout)
    print_figures(figures)
    here = _describe_machine(variables)
    return judge(record, figures, weights_sha256=card["weights_sha256"], here=here)


def _ask_for_machine(record: RunRecord) -> dict[str, str]:
    """Variables that ask for the run's device and processes, as far as this machine has them."""
    import torch

    from kinetrack.learning.device import DEVICE_VARIABLE
    from kinetrack.learning.processes import PROCESSES_VARIABLE

    device, processes = record.tags.get("device", ""), record.tags.get("processes", "")
    num_gpus = torch.cuda.device_count()
    variables = {}
    if device == "cpu" or (device == "cuda" and num_gpus):
        variables[DEVICE_VARIABLE] = device
    if processes.isdecimal() and (device != "cuda" or int(processes) <= num_gpus):
        variables[PROCESSES_VARIABLE] = processes
    return variables


def _describe_machine(variables: Mapping[str, str]) -> dict[str, str]:
    """Facts of this machine, and of how the repetition was made on it."""
    import torch

    from kinetrack.learning.device import DEVICE_VARIABLE, choose_device
    from kinetrack.learning.processes import PROCESSES_VARIABLE, wanted_processes
    from kinetrack.tracking.host import host_facts

    return host_facts() | {
        "host.capability": torch.backends.cpu.get_cpu_capability(),
        "device": variables.get(DEVICE_VARIABLE) or choose_device().type,
        "processes": variables.get(PROCESSES_VARIABLE) or str(wanted_processes()),
    }


def _tag(record: RunRecord, verdict: Verdict) -> None:
    today = datetime.now(UTC).date().isoformat()
    try:
        set_tags(record.run_id, {"reproduced": verdict, "reproduced.date": today})
    except InputError as error:  # the result stands
        sys.stderr.write(f"reproduce: the run could not be tagged: {error}\n")


@contextmanager
def _told_where(target: Path) -> Iterator[None]:
    """Say what is left of a repetition that does not come to its end."""
    try:
        yield
    except BaseException:
        remove = f"rm -rf {shlex.quote(str(target))}"
        left = f"what was made so far lies in {target}; to remove it: {remove}"
        sys.stderr.write(printable(f"reproduce: {left}") + "\n")
        raise
