import json
import os
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kinetrack.errors import InputError
from kinetrack.learning.processes import (
    Team,
    alone,
    is_in_team,
    joined_team,
    processes_here,
    wanted_processes,
)

CPU = torch.device("cpu")
SIZE = 3
# What each of three processes does; the last one ends without a word.
TOGETHER = """
import json, os, torch
from torch import nn
from kinetrack.errors import InputError
from kinetrack.learning.processes import TeamLostError, joined_team

torch.set_num_threads(1)
told = {}
with joined_team(torch.device("cpu")) as team:
    told["place"] = [team.rank, team.size, team.is_first]
    told["share"] = list(team.share("abcd"))
    told["sums"] = team.add_up([1.0, 10.0 * team.rank, 0.1])

    conv = nn.Conv3d(2, 2, 2).to(memory_format=torch.channels_last_3d)
    conv.weight.grad = torch.empty_like(conv.weight)
    conv.weight.grad.copy_(torch.arange(32.0).view(2, 2, 2, 2, 2) * (team.rank + 1))
    conv.bias.grad = torch.ones(2) if team.is_first else None
    team.add_up_gradients([conv.weight, conv.bias])
    told["gradients"] = [weights.grad.flatten().tolist() for weights in conv.parameters()]

    norm = nn.BatchNorm1d(1)
    norm.running_mean.fill_(3.0 * team.rank)
    norm.num_batches_tracked.fill_(7)
    team.average_buffers(norm)
    told["buffers"] = [norm.running_mean.item(), norm.num_batches_tracked.item()]

    told["largest"] = team.largest(team.rank)
    team.require_same([2**62, 5])
    try:
        team.require_same([2**62, 5 + (team.rank == 1)])
    except InputError as error:
        told["refused"] = str(error)
    if team.rank == 2:
        os._exit(0)
    try:
        team.add_up([1.0])
    except TeamLostError as error:
        told["lost"] = str(error)
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    """What the first two of three processes found."""
    with socket.socket() as port:
        port.bind(("localhost", 0))
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port.getsockname()[1])}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER],
            env={
                **os.environ,
                **address,
                "RANK": str(rank),
                "WORLD_SIZE": str(SIZE),
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(SIZE)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * SIZE
    return [json.loads(output) for output in outputs[:2]]


def test_each_process_has_its_place(told: list[dict[str, Any]]) -> None:
    assert [one["place"] for one in told] == [[0, SIZE, True], [1, SIZE, False]]


def test_shares_are_consecutive(told: list[dict[str, Any]]) -> None:
    assert [one["share"] for one in told] == [["a"], ["b"]]


def test_figures_are_summed(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert one["sums"] == pytest.approx([3.0, 30.0, 0.3], rel=1e-12)


def test_gradients_are_summed_in_place_whatever_their_memory_order(
    told: list[dict[str, Any]],
) -> None:
    for one in told:
        weight, _ = one["gradients"]
        assert weight == [6.0 * number for number in range(32)]


def test_process_without_a_gradient_adds_nothing(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert one["gradients"][1] == [1.0, 1.0]


def test_statistics_are_averaged_and_counts_left_alone(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert one["buffers"] == [3.0, 7]


def test_largest_number_is_that_of_all(told: list[dict[str, Any]]) -> None:
    assert [one["largest"] for one in told] == [SIZE - 1] * 2


def test_processes_that_start_from_other_states_are_refused(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert "the processes do not start from the same state" in one["refused"]


def test_lost_process_is_told(told: list[dict[str, Any]]) -> None:
    for one in told:
        assert "KINETRACK_PROCESSES: another process of the training has ended" in one["lost"]
        assert "-> run it again: it goes on after the last whole epoch" in one["lost"]


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_make_up_the_whole_and_are_even(items: list[int], size: int) -> None:
    shares = [Team(rank=rank, size=size, device=CPU).share(items) for rank in range(size)]
    assert [item for share in shares for item in share] == items
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_one_alone_shares_with_nobody() -> None:
    team, model = alone(CPU), nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert (team.rank, team.size, team.is_first) == (0, 1, True)
    assert team.share([1, 2]) == [1, 2]
    assert team.add_up([0.1, 2]) == [0.1, 2]
    team.add_up_gradients(list(model.parameters()))
    assert all(weights.grad is None for weights in model.parameters())
    team.average_buffers(model)
    assert team.largest(3) == 3
    team.require_same([3])


@pytest.mark.parametrize(("text", "number"), [(None, 1), ("", 1), ("1", 1), ("16", 16)])
def test_wanted_processes(text: str | None, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if text is None:
        monkeypatch.delenv("KINETRACK_PROCESSES", raising=False)
    else:
        monkeypatch.setenv("KINETRACK_PROCESSES", text)
    assert wanted_processes() == number


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "two", "²", " 2"])
def test_no_number_of_processes_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETRACK_PROCESSES", text)
    with pytest.raises(InputError, match=r"KINETRACK_PROCESSES: is no number of .*expected >= 1"):
        wanted_processes()


@pytest.mark.parametrize(
    ("variables", "in_team", "here"),
    [
        ({}, False, 1),
        ({"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, False, 1),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, True, 2),
        ({"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, True, 1),
        # Left over in a shell.
        ({"LOCAL_WORLD_SIZE": "8"}, False, 1),
    ],
)
def test_team_is_known_by_the_variables_of_torchrun(
    variables: dict[str, str], in_team: bool, here: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert is_in_team() == in_team
    assert processes_here() == here


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    with joined_team(CPU) as team:
        assert team.size == 1
    assert not torch.distributed.is_initialized()
