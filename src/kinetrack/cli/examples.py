"""Examples of every command, for its help."""

import typer

_EXAMPLES = """
kinetrack preset lecture
kinetrack preset lecture --dry-run           # which lines would differ

kinetrack import ~/kitchen --name kitchen    # a folder or an archive
kinetrack import list.csv --name matches     # a manifest: path, label, start_s, end_s
kinetrack import ucf101 --local UCF101.rar

kinetrack use kitchen

kinetrack check
kinetrack check --json

kinetrack doctor
kinetrack doctor --json

kinetrack sample

kinetrack frames
kinetrack frames show Pour/anna_1            # a page of one clip

kinetrack split

kinetrack tensors --dry-run                  # which stages would run

kinetrack train
kinetrack train --dry-run                    # which stages would run

kinetrack evaluate

kinetrack data
kinetrack data --open                        # with the page of pictures
kinetrack data --diff HEAD~1                 # what changed since then

kinetrack verify
kinetrack verify --remote team               # what a DVC remote has
kinetrack verify --json

kinetrack disk
kinetrack disk --json

kinetrack gc                                 # only tells
kinetrack gc --yes                           # removes
kinetrack gc --derived --old-videos          # what could go besides

kinetrack forget Pour/anna_1                 # only tells
kinetrack forget Pour/anna_1 --yes           # out of the present version

kinetrack track
kinetrack track --all                        # meant for another store, too

kinetrack runs
kinetrack runs --all --json
kinetrack runs --experiment kitchen

kinetrack summary
kinetrack summary --json

kinetrack report --open                      # of the model in data/model
kinetrack report 97015dbc --json             # of any run that was evaluated

kinetrack compare 97015dbc 1f3c09aa --open
kinetrack compare models:/kitchen@champion 97015dbc
kinetrack compare before.csv after.csv --json

kinetrack reproduce 97015dbc
kinetrack reproduce 97015dbc --into ../again --keep

kinetrack ui
kinetrack ui --port 8080

kinetrack store upgrade
kinetrack store import ~/old/mlruns

kinetrack promote --alias champion           # the model in data/model
kinetrack promote 97015dbc --alias champion --dry-run

kinetrack models
kinetrack models --json

kinetrack pull-model kitchen@champion
kinetrack pull-model 97015dbc --into model

kinetrack predict clip.mp4 holiday/
kinetrack predict 'a/**' --json --model kitchen/model
kinetrack predict match.mp4 --window 2 --draw drawn

kinetrack export actions.onnx
kinetrack export actions.pt2 --model models:/kitchen@champion

kinetrack demo
kinetrack demo --model 97015dbc --port 8080
"""


def list_examples() -> list[str]:
    """Every example as a person types it, in the order of the commands."""
    return [line.split("  #")[0].rstrip() for line in _EXAMPLES.splitlines() if line]


def add_examples(app: typer.Typer) -> None:
    """Put the examples of each command under its help; those of subcommands under each of both."""
    for command in app.registered_commands:
        command.epilog = _epilog(_name_of(command))
    for group in app.registered_groups:
        name = str(group.name)
        group.epilog = _epilog(name)
        for command in group.typer_instance.registered_commands if group.typer_instance else ():
            command.epilog = _epilog(f"{name} {_name_of(command)}")


def _name_of(command: "typer.models.CommandInfo") -> str:
    return command.name or getattr(command.callback, "__name__", "").replace("_", "-")


def _epilog(command: str) -> str:
    start = f"kinetrack {command}"
    lines = [x for x in _EXAMPLES.splitlines() if x == start or x.startswith(f"{start} ")]
    return "\n  ".join(["Examples:", *lines])
