"""Files that torch.load would read, and that mean harm."""

import collections
import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from kinetrack.data.torch_files import load_torch_bytes, map_torch_file

STATE = nn.Sequential(nn.Conv3d(3, 4, 2), nn.BatchNorm3d(4)).state_dict()


def saved(value: object, *, is_zip: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=is_zip)
    return buffer.getvalue()


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_state_dict_comes_back(is_zip: bool, dtype: torch.dtype) -> None:
    state = {name: values.to(dtype) for name, values in STATE.items()}
    found = load_torch_bytes(saved(collections.OrderedDict(state), is_zip=is_zip))
    assert isinstance(found, dict)
    assert all(torch.equal(found[name], values) for name, values in state.items())


def test_tensor_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(saved(torch.arange(7)))
    found = map_torch_file(tmp_path / "a.pt")
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == list(range(7))


class Calls:
    """Unpickled, it is what a function makes of its arguments."""

    def __init__(self, *call: object) -> None:
        self._function, *self._arguments = call

    def __reduce__(self) -> tuple[object, ...]:
        return self._function, tuple(self._arguments)


def zip_of(pickled: bytes, *, method: int = zipfile.ZIP_STORED, before: bytes = b"") -> bytes:
    """What torch.save writes, around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as zipped:
        for name, content in (("data.pkl", pickled), ("byteorder", b"little"), ("version", b"3")):
            zipped.writestr(f"archive/{name}", content)
    return before + buffer.getvalue()


def refuse(content: bytes, tmp_path: Path, *, match: str) -> None:
    """By both functions."""
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ValueError, match=match):
        load_torch_bytes(content)
    with pytest.raises(ValueError, match=match):
        map_torch_file(tmp_path / "a.pt")


@pytest.mark.parametrize("is_zip", [True, False])
def test_memory_that_the_pickle_asks_for_is_not_given(tmp_path: Path, is_zip: bool) -> None:
    """torch itself would fill it, from 500 bytes."""
    refuse(saved(Calls(bytearray, 2**40), is_zip=is_zip), tmp_path, match="asks for .*bytearray")


def test_guard_is_needed() -> None:
    found = torch.load(io.BytesIO(saved(Calls(bytearray, 2**20))), weights_only=True)
    assert found == bytearray(2**20)


def test_packed_member_is_not_unpacked(tmp_path: Path) -> None:
    content = zip_of(b"\x80\x02" + b"N0" * 10**7 + b"N.", method=zipfile.ZIP_DEFLATED)
    assert len(content) < 2**20
    refuse(content, tmp_path, match="has a packed member 'archive/data.pkl'")


def test_pickle_that_is_looked_for_elsewhere_is_refused(tmp_path: Path) -> None:
    before = zip_of(pickle.dumps(Calls(bytearray, 2**40), protocol=2))
    refuse(zip_of(b"\x80\x02N.", before=before), tmp_path, match="before its first member")


@pytest.mark.parametrize("protocol", range(6))
def test_code_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    attack = pickle.dumps(Calls(os.mkdir, str(tmp_path / "executed")), protocol=protocol)
    refuse(zip_of(attack), tmp_path, match="asks for|not torch's")
    (tmp_path / "a.pt").write_bytes(attack)
    for load in (map_torch_file, lambda path: load_torch_bytes(path.read_bytes())):
        with pytest.raises(Exception):  # noqa: B017, PT011  # of one pickle alone, whatever comes
            load(tmp_path / "a.pt")
    assert not (tmp_path / "executed").exists()
