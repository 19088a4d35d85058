"""Stage `train`: train a network on the packed clips, and log every epoch to MLflow."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import typer

from kinetrack.errors import InputError
from kinetrack.learning.checkpoint import ModelCard
from kinetrack.learning.device import (
    choose_device,
    make_repeatable,
)
from kinetrack.learning.fitting import Epoch, Progress, fit
from kinetrack.learning.memory import reuse_heap
from kinetrack.learning.processes import (
    Team,
    is_in_team,
    joined_team,
    processes_here,
    wanted_processes,
)
from kinetrack.learning.resume import (
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
    weights_digest,
)
from kinetrack.learning.training import NotFiniteError
from kinetrack.params import load_params
from kinetrack.stages.door import run
from kinetrack.stages.train_params import Settings, TrainParams, load_settings
from kinetrack.stages.train_reports import complete, describe_epoch, write_model, write_reports
from kinetrack.stages.train_resume import open_resume
from kinetrack.stages.train_run import log_outcome, open_run
from kinetrack.stages.train_setup import (
    Clips,
    begin,
    make_batches,
    make_model,
    make_recipe,
    read_clips,
)
from kinetrack.stages.train_start import start_weights


class Paths(NamedTuple):
    """What a training reads, and where it writes; checkpoints go to `resume`."""

    tensors: Path
    model: Path
    reports: Path
    resume: Path


class Outcome(NamedTuple):
    """What a training made."""

    card: ModelCard
    history: list[Epoch]


def train_model(
    settings: Settings,
    paths: Paths,
    *,
    device: torch.device,
    team: Team,
    on_start: Callable[[Sequence[Epoch]], None],
    on_epoch: Callable[[Epoch], None],
) -> Outcome:
    """Train on packed clips; the first process writes the model folder and the reports at the end.

    Every epoch leaves a checkpoint; with one there, training goes on after it. `on_start` gets the
    epochs that were trained before.

    Raises:
        InputError: no usable tensors, an empty side that is asked for, clips too small for the
            network, first weights that do not fit, or a loss that is not finite. No model is
            written then.
    """
    params = settings.train
    clips = read_clips(paths.tensors, watch=params.watch)
    reuse_heap()
    make_repeatable(seed=params.seed, threads=max(1, params.threads // processes_here()))
    _check_team(params, team)
    model, card = make_model(settings, clips, device=device)
    train, watch = make_batches(settings, clips, device=device, team=team)
    progress = begin(model, params, steps_per_epoch=len(train))
    _bring_to_start(progress, settings, clips, resume=paths.resume, team=team)
    on_start(progress.history)

    def after_epoch(progress: Progress) -> None:
        if team.is_first:
            save_checkpoint(paths.resume, progress)
        on_epoch(progress.history[-1])

    with _telling_what_is_kept(paths.resume):
        fit(
            progress,
            train,
            watch=watch,
            recipe=make_recipe(settings, clips),
            epochs=params.epochs,
            seed=params.seed,
            keep=params.keep,
            patience=params.patience,
            device=device,
            team=team,
            on_epoch=after_epoch,
        )
    card = complete(card, progress, processes=team.size)
    if team.is_first:
        trained_on = [row.frames_sha256 for row in clips.sides["train"].rows]
        card = write_model(paths.model, model, card, trained_on=trained_on)
        write_reports(paths.reports, progress.history, card)
    return Outcome(card, progress.history)


def _check_team(params: TrainParams, team: Team) -> None:
    if params.batch_size < team.size:
        raise InputError(
            "params.yaml",
            "train.batch_size is smaller than the number of processes",
            found=params.batch_size,
            expected=f"at least {team.size}",
        )


def _bring_to_start(
    progress: Progress, settings: Settings, clips: Clips, *, resume: Path, team: Team
) -> None:
    """Have the weights to begin with: those of a checkpoint, or else the first ones."""
    if not load_checkpoint(resume, progress, on_unusable=_warn if team.is_first else _ignore):
        progress.started_from = start_weights(
            progress.model,
            settings.model.name,
            weights=settings.model.weights,
            weights_sha256=settings.model.weights_sha256,
            init_from=settings.train.init_from,
            labels=clips.labels,
        )
    # It also waits until all have read the checkpoint, before the first one writes another.
    team.require_same([len(progress.history), weights_digest(progress.model)])


@contextmanager
def _telling_what_is_kept(resume: Path) -> Iterator[None]:
    """Say where the last good weights are, when a loss is not finite."""
    try:
        yield
    except NotFiniteError as error:
        if checkpoints := list_checkpoints(resume):
            error.remedy += f"; the weights before that epoch are in {checkpoints[0]}"
        raise error from None


def _warn(error: InputError) -> None:
    sys.stderr.write(f"not used: {error}\n")


def _ignore(_error: InputError) -> None:
    """The first process of the team tells."""


def main(tensors: Path, model: Path, reports: Path) -> None:
    """Train on TENSORS and write the MODEL folder and the REPORTS."""
    processes = wanted_processes()
    if processes > 1 and not is_in_team():
        from kinetrack.learning.launching import launch  # half a second that one process saves

        arguments = [str(path) for path in (tensors, model, reports)]
        launch("kinetrack.stages.train", arguments, processes=processes)
        return
    device = choose_device()
    with joined_team(device) as team:
        train_and_track(load_settings(), tensors, model, reports, device=device, team=team)


def train_and_track(
    settings: Settings,
    tensors: Path,
    model: Path,
    reports: Path,
    *,
    device: torch.device,
    team: Team,
) -> None:
    """Train, with checkpoints that outlive a kill and an MLflow run that is continued."""
    values = load_params()
    arguments = {"tensors": tensors, "model": model, "reports": reports}
    with open_resume(values, arguments, device=device, team=team) as resume:
        with open_run(values, tensors=tensors, device=device, team=team, resume=resume) as tracked:

            def on_start(history: Sequence[Epoch]) -> None:
                if team.is_first:
                    typer.echo(resume.describe_start(len(history)))
                tracked.log_history([(epoch.number, epoch.metrics()) for epoch in history])

            def on_epoch(epoch: Epoch) -> None:
                if team.is_first:
                    typer.echo(describe_epoch(epoch))
                tracked.log_epoch(epoch.number, epoch.metrics())

            outcome = train_model(
                settings,
                Paths(tensors, model, reports, resume.folder),
                device=device,
                team=team,
                on_start=on_start,
                on_epoch=on_epoch,
            )
            if team.is_first:
                log_outcome(tracked, outcome.card, model_folder=model)
        # After the run has ended: killed before this, the next start finds it and ends it.
        if team.is_first:
            resume.finish()


if __name__ == "__main__":
    run("train")
