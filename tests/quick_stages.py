"""Stages that are run hundreds of times in one process of tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import kinetrack.data.frames
from kinetrack.parallel import WORKERS_VARIABLE
from kinetrack.versioning.recipes import Recipe


@contextmanager
def quick_stages() -> Iterator[None]:
    """Decode in this process, ask no DVC, flush nothing: here processes end, not machines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORKERS_VARIABLE, "1")
        patch.delenv("DVC_ROOT", raising=False)
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(Recipe, "find_cached", lambda *_: None)
        patch.setattr(
            kinetrack.data.frames,
            "decode_isolated",
            lambda function, *args, stall_s: function(*args),
        )
        yield
