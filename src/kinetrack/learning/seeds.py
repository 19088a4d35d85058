"""Seeds that are derived from one: equal on every machine, whatever was drawn before.

What is drawn for an epoch, or for a clip in an epoch, depends on nothing else. So a training that
is resumed, one with other loader processes and one of several processes draw the same.
"""

from typing import Literal

import numpy as np
import torch

Purpose = Literal["order", "clip", "network", "shuffled"]
_PURPOSES: dict[Purpose, int] = {"order": 1, "clip": 2, "network": 3, "shuffled": 4}


def derive_seed(purpose: Purpose, *numbers: int) -> int:
    """Mix numbers from 0 on into a seed in [0, 2^63) (NumPy's SeedSequence)."""
    sequence = np.random.SeedSequence([_PURPOSES[purpose], *numbers])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def derive_generator(purpose: Purpose, *numbers: int) -> torch.Generator:
    """Make a generator with such a seed, on the CPU."""
    return torch.Generator().manual_seed(derive_seed(purpose, *numbers))
