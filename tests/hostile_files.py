"""Files that mean harm, other than videos, each at most 1 MB and the same on every run.

Each is written in the place of a good one of a project.
"""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from PIL import Image

from kinetrack.data.frame_archives import frame_name

_FILL = 10**6  # bytes
_LEAST = 4 * 2**30


def deep_list(path: Path) -> None:
    """A million brackets."""
    path.write_bytes(b"[" * _FILL)


def deep_object(path: Path) -> None:
    """Objects in objects."""
    path.write_bytes(b'{"a":' * (_FILL // 5))


def long_number(path: Path) -> None:
    """A number of a million digits; to read it takes the square of that."""
    path.write_bytes(b'{"rule": ' + b"9" * _FILL + b"}")


def many_keys(path: Path) -> None:
    """Ninety thousand keys that nobody knows."""
    path.write_bytes(json.dumps(dict.fromkeys(map(str, range(75_000)), 0)).encode())


def no_text(path: Path) -> None:
    """Zero bytes."""
    path.write_bytes(bytes(_FILL))


def many_columns(path: Path) -> None:
    """A header of half a million columns."""
    path.write_bytes(b"a," * (_FILL // 2) + b"\n")


def many_rows(path: Path) -> None:
    """Half a million rows of nothing behind the header."""
    header = path.read_text().splitlines()[0]
    path.write_text(header + "\n" + ",\n" * 450_000)


def long_field(path: Path) -> None:
    """A cell of a megabyte."""
    lines = path.read_text().splitlines()
    path.write_text(f"{lines[0]}\n{lines[1]},{'x' * _FILL}\n")


def open_quote(path: Path) -> None:
    """A quote that is never closed."""
    header = path.read_text().splitlines()[0]
    path.write_text(f'{header}\n"' + "a\n" * (_FILL // 2))


def long_clip(path: Path) -> None:
    """A clip of a million million frames."""
    _change_column(path, "num_frames", str(10**12))


def clip_that_leads_out(path: Path) -> None:
    """A clip whose name is a way to somewhere else."""
    _change_column(path, "clip", "../../../../outside")


def class_that_leads_out(path: Path) -> None:
    """A class whose name is a way to somewhere else."""
    _change_column(path, "label", "/outside")


def _change_column(path: Path, column: str, value: str) -> None:
    header, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    cells[header.split(",").index(column)] = value
    path.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")


def _jpeg(width: int, height: int, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _forged(jpeg: bytes, width: int, height: int) -> bytes:
    """With another size in its header."""
    start = jpeg.index(b"\xff\xc2" if b"\xff\xc2" in jpeg else b"\xff\xc0") + 5
    return jpeg[:start] + struct.pack(">2H", height, width) + jpeg[start + 4 :]


def _archive(picture: bytes, *, method: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as zipped:
            for number in range(1, 11):
                zipped.writestr(frame_name(number), picture)

    return write


def packed_frames(path: Path) -> None:
    """JPEG headers that Pillow keeps, a thousand times as large as the file."""
    jpeg = _jpeg(64, 48)
    segments = (b"\xff\xe1\xff\xff" + bytes(65533)) * 200
    _archive(jpeg[:2] + segments + jpeg[2:], method=zipfile.ZIP_DEFLATED)(path)


def many_members(path: Path) -> None:
    """Eight thousand members."""
    with zipfile.ZipFile(path, "w") as zipped:
        for number in range(1, 8500):
            zipped.writestr(frame_name(number), b"")


def no_archive(path: Path) -> None:
    """What says that it is a zip."""
    path.write_bytes(b"PK\3\4" + bytes(_FILL - 40) + b"PK\5\6" + b"\xff" * 16 + b"\0\0")


FRAME_ARCHIVES: dict[str, Callable[[Path], None]] = {
    "packed_frames": packed_frames,
    "many_members": many_members,
    "no_archive": no_archive,
    "huge_picture": _archive(_forged(_jpeg(64, 48), 13_000, 13_000)),
    "largest_picture": _archive(_forged(_jpeg(64, 48), 65_535, 65_535)),
    "progressive_picture": _archive(_forged(_jpeg(64, 48, progressive=True), 6300, 6300)),
    "four_channels": _archive(_forged(_jpeg(64, 48, "CMYK"), 6300, 6300)),
    "no_picture": _archive(b"\x89PNG\r\n\x1a\n" + bytes(60_000)),
}


class _Calls:
    """Unpickled, it is what a function makes of its arguments."""

    def __init__(self, *call: object) -> None:
        self._call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self._call[0], tuple(self._call[1:])


def _zipped_pickle(pickled: bytes, method: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as zipped:
            for name, content in (("data.pkl", pickled), ("version", b"3"), ("data/0", b"x")):
                zipped.writestr(f"archive/{name}", content)

    return write


def packed_pickle(path: Path) -> None:
    """A pickle a thousand times as large as the file, which torch holds twice."""
    pickled = b"\x80\x02" + b"N0" * 20_000_000 + b"N."
    _zipped_pickle(pickled, zipfile.ZIP_DEFLATED)(path)


def forged_shape(path: Path) -> None:
    """A tensor that says it is a thousand million long."""
    buffer, whole = io.BytesIO(), io.BytesIO()
    torch.save(torch.zeros(7), buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(whole, "w") as target:
        for member in source.infolist():
            content = source.read(member)
            for old, new in ((b"K\x07t", b"J\0\0\0\x40t"), (b"K\x07\x85", b"J\0\0\0\x40\x85")):
                content = content.replace(old, new)
            target.writestr(member.filename, content)
    path.write_bytes(whole.getvalue())


def code(mark: Path, *, writer: str) -> Callable[[Path], None]:
    """What would make a folder where it is loaded as a pickle."""

    def write(path: Path) -> None:
        attack = _Calls(os.mkdir, str(mark))
        if writer == "torch":
            torch.save(attack, path)
        elif writer == "old torch":
            torch.save(attack, path, _use_new_zipfile_serialization=False)
        else:
            path.write_bytes(pickle.dumps({"a": attack}, protocol=4))

    return write


TENSORS: dict[str, Callable[[Path], None]] = {
    "asks_for_memory": _zipped_pickle(pickle.dumps(_Calls(bytearray, _LEAST), protocol=2)),
    "packed_pickle": packed_pickle,
    "forged_shape": forged_shape,
    "no_text": no_text,
}


def _safetensors(header: bytes, *, length: int | None = None) -> Callable[[Path], None]:
    start = struct.pack("<Q", len(header) if length is None else length)
    return lambda path: path.write_bytes(start + header) and None


def many_tensors(path: Path) -> None:
    """Ten thousand empty tensors."""
    tensors = {f"{number}": torch.zeros(0) for number in range(12_000)}
    path.write_bytes(safetensors.torch.save(tensors))


def _tensor(shape: object, offsets: list[int]) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()


WEIGHTS: dict[str, Callable[[Path], None]] = {
    "header_longer_than_the_file": _safetensors(b"{}", length=2**63),
    "header_of_the_largest_length": _safetensors(b"{}", length=2**64 - 1),
    "deep_header": _safetensors(b"[" * _FILL),
    "shape_of_a_tebibyte": _safetensors(_tensor([2**20, 2**20], [0, 2**42])),
    "shape_that_overflows": _safetensors(_tensor([2**33, 2**33], [0, 0])),
    "offsets_outside": _safetensors(_tensor([4], [2**40, 2**40 + 16])),
    "many_tensors": many_tensors,
}


def many_labels(path: Path) -> None:
    """A network of two hundred thousand classes."""
    _change_card(path, labels=["a"] * 200_000)


def huge_clips(path: Path) -> None:
    """Clips of a hundred million frames."""
    _change_card(path, num_frames=10**8)


def many_huge_labels(path: Path) -> None:
    """Labels that are half a megabyte long each."""
    _change_card(path, labels=["a" * 500_000, "b" * 500_000])


def _change_card(path: Path, *, labels: list[str] | None = None, **clip: int) -> None:
    card = json.loads(path.read_text())
    card["clip"] |= clip
    card["labels"] = labels or card["labels"]
    path.write_text(json.dumps(card))


CARDS: dict[str, Callable[[Path], None]] = {
    "many_labels": many_labels,
    "huge_clips": huge_clips,
    "deep_list": deep_list,
    "long_number": long_number,
    "many_keys": many_keys,
}
INDEXES: dict[str, Callable[[Path], None]] = {
    "many_columns": many_columns,
    "many_rows": many_rows,
    "long_field": long_field,
    "open_quote": open_quote,
    "long_clip": long_clip,
    "clip_that_leads_out": clip_that_leads_out,
    "class_that_leads_out": class_that_leads_out,
    "no_text": no_text,
}
SPLITS: dict[str, Callable[[Path], None]] = {
    "deep_list": deep_list,
    "deep_object": deep_object,
    "long_number": long_number,
    "many_keys": many_keys,
}
