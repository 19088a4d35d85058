"""Reading what `torch.save` wrote, from a file that may be anybody's.

`torch.load` with `weights_only=True` runs no code, but it still builds what the pickle inside asks
for: a file of 500 bytes gets it to fill gigabytes, and one that is packed unpacks to any size. So a
file is looked through first, and only what tensors need is let in.
"""

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import IO

import torch

_ZIP_START = b"PK\3\4"
# Five pickles, one behind the other, then the tensors' bytes.
_LEGACY_PICKLES = 5
_NEEDED = re.compile(
    r"torch \w+Storage|torch\._utils _rebuild_(tensor_v2|parameter)|collections OrderedDict"
)
# Other ways to name a function or class than the one that torch writes.
_OTHER_NAMES = {"STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"}


def map_torch_file(path: Path) -> object:
    """Load a file with its tensors mapped into memory, so that they are read where they are used.

    Raises:
        ValueError: it asks for something that is no tensor, or has packed members.
        Exception: it cannot be read; torch raises half a dozen kinds on a damaged file.
    """
    with path.open("rb") as file:
        _check(file)
    return torch.load(path, weights_only=True, mmap=True)


def load_torch_bytes(content: bytes) -> object:
    """Load the content of a file, onto the CPU.

    Raises:
        ValueError: it asks for something that is no tensor, or has packed members.
        Exception: it cannot be read; torch raises half a dozen kinds on a damaged file.
    """
    _check(io.BytesIO(content))
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _check(file: IO[bytes]) -> None:
    start = file.read(len(_ZIP_START))
    file.seek(0)
    if start == _ZIP_START:
        for pickled in _pickles_of_zip(file):
            _check_zipped(pickled)
    else:
        for _ in range(_LEGACY_PICKLES):
            _check_names(file)


def _pickles_of_zip(file: IO[bytes]) -> Iterator[bytes]:
    with zipfile.ZipFile(file) as zipped:
        members = zipped.infolist()
        # Bytes before the first member would have torch look for it elsewhere than here.
        if min((member.header_offset for member in members), default=0) != 0:
            raise ValueError("has something before its first member")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"has a packed member {member.filename[:40]!r}")
        for member in members:
            if member.filename.endswith(".pkl"):
                yield zipped.read(member)


@lru_cache(maxsize=16)  # clips of one shape have one pickle
def _check_zipped(pickled: bytes) -> None:
    _check_names(io.BytesIO(pickled))


def _check_names(pickled: IO[bytes]) -> None:
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name in _OTHER_NAMES:
            raise ValueError(f"has a pickle that is not torch's, with {operation.name}")
        if operation.name == "GLOBAL" and not _NEEDED.fullmatch(str(argument)):
            raise ValueError(f"asks for {str(argument).replace(' ', '.')[:80]}, which is no tensor")
