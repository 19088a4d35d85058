"""The device that computes: a fact of the machine, never a param."""

import os

import torch

from kinetrack.errors import InputError

DEVICE_VARIABLE = "KINETRACK_DEVICE"


def choose_device() -> torch.device:
    """The device named by `KINETRACK_DEVICE`, else CUDA where there is one, else the CPU.

    Raises:
        InputError: the variable names a device that torch does not have here.
    """
    name = os.environ.get(DEVICE_VARIABLE) or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors, but holds no values
    except (RuntimeError, AssertionError, ImportError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(
            DEVICE_VARIABLE, "names no device of this machine", found=f"{name} ({problem})"
        ) from None
    return device


def make_repeatable(*, seed: int, threads: int) -> None:
    """Seed torch and fix what changes the bits of a result: threads, and kernels on CUDA."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
