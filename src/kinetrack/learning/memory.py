"""Memory of the training process."""

import ctypes
import sys

# From <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_NEVER = 2**31 - 1


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
