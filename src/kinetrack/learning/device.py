"""The device that computes: a fact of the machine, never a param."""

import os

import torch

from kinetrack.errors import InputError

DEVICE_VARIABLE = "KINETRACK_DEVICE"
LOADERS_VARIABLE = "KINETRACK_LOADERS"
RESIDENT_VARIABLE = "KINETRACK_RESIDENT"
_MOST_LOADERS = 8


def choose_device() -> torch.device:
    """The device named by `KINETRACK_DEVICE`, else CUDA where there is one, else the CPU.

    Of several processes on one machine, each gets a CUDA device of its own.

    Raises:
        InputError: the variable names a device that torch does not have here.
    """
    name = os.environ.get(DEVICE_VARIABLE) or ("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and (local_rank := os.environ.get("LOCAL_RANK")):
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" makes tensors, but holds no values
    except (RuntimeError, AssertionError, ImportError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(
            DEVICE_VARIABLE,
            "names no device of this machine",
            found=f"{name} ({problem})",
            remedy="unset it, or device in .kinetrack/machine.yaml, to take what is there",
        ) from None
    return device


def count_loaders(device: torch.device) -> int:
    """How many processes read clips ahead: `KINETRACK_LOADERS`, else some for CUDA, none for a CPU.

    On a CPU they would take the cores from the network, and reading is 1 % of its time.

    Raises:
        InputError: the variable is no number from 0 on.
    """
    text = os.environ.get(LOADERS_VARIABLE)
    if not text:
        return min(_MOST_LOADERS, (os.cpu_count() or 1) - 1) if device.type == "cuda" else 0
    if not text.isdecimal():
        raise InputError(LOADERS_VARIABLE, "is no number of processes", found=text, expected=">= 0")
    return int(text)


def keeps_clips_on_device() -> bool:
    """Whether `KINETRACK_RESIDENT=1` asks to hold all clips in the memory of the device."""
    return os.environ.get(RESIDENT_VARIABLE) == "1"


def make_repeatable(*, seed: int, threads: int) -> None:
    """Seed torch and fix what changes the bits of a result: threads, and kernels on CUDA.

    For what has no repeatable form on CUDA (some poolings of the torchvision networks) torch warns
    and takes the other one.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if torch.cuda.is_available():
        # Before the first matrix product: cuBLAS reads it once.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)
        # Else "fp32" convolutions would be made with the ten bits of TF32.
        torch.backends.cudnn.allow_tf32 = False
