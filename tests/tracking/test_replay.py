"""Runs of trainings whose results were committed elsewhere."""

from contextlib import nullcontext

import pytest

from kinetrack.tracking.journal import Training
from kinetrack.tracking.replay import make_missing_runs
from kinetrack.tracking.store import experiment_id, open_store

TAGS = {"train_key": "k", "model_md5": "1" * 32 + ".dir", "data.tensors_md5": "2" * 32 + ".dir"}


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("status", "tags", "made"),
    [
        ("FINISHED", {}, 0),
        ("RUNNING", {}, 0),
        ("KILLED", {}, 1),
        ("FAILED", {}, 1),
        ("KILLED", TAGS, 0),  # when its model was whole
    ],
)
def test_a_training_that_was_given_up_here_is_no_run_of_the_committed_result(
    status: str, tags: dict[str, str], made: int
) -> None:
    client = open_store()
    place = experiment_id(client, "mine")
    begun = client.create_run(place, tags={"train_key": "k"} | tags).info.run_id
    if status != "RUNNING":
        client.set_terminated(begun, status)
    committed = Training(
        id="k", experiment="mine", name="x", begun_ms=1, params={}, tags=TAGS, status="FINISHED"
    )
    for expected in (made, 0):  # a second time, nothing is left to do
        assert make_missing_runs(client, [committed], lambda _: nullcontext(None)) == expected
