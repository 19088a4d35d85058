"""Memory of the training process, and what to do where it does not suffice."""

import ctypes
import sys

import torch

from kinetrack.errors import InputError

# From <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1
# Of torch's allocator on the CPU, of oneDNN, cuBLAS and cuDNN.
_NO_MEMORY = (
    "can't allocate memory",
    "could not create a memory object",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def reuse_heap() -> None:
    """Let malloc keep freed activations for the next step.

    glibc maps every large block anew and gives it back when it is freed, so that each step pays
    for zeroed pages again. Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def _give_back_heap() -> None:
    """Let others than malloc have what was kept: code that oneDNN makes, files that are mapped."""
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


class MicroBatch:
    """How many clips go through the network at once; halved when the memory does not suffice."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.halvings = 0

    def halve(self) -> None:
        """Go on with half as many, and say so.

        Raises:
            InputError: it is one clip already.
        """
        if self.size == 1:
            raise InputError(
                "params.yaml",
                "the memory does not suffice for a single clip",
                remedy="take a smaller model, pack.size_px or pack.num_frames",
            )
        self.size //= 2
        self.halvings += 1
        sys.stderr.write(f"out of memory: going on with micro-batches of {self.size} clips\n")
        _give_back_heap()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch says that a device, or the CPU, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        phrase in str(error) for phrase in _NO_MEMORY
    )
