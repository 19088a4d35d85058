import hashlib
import io
import pickle
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinetrack.data.index import SIDES, tensor_path
from kinetrack.data.tensors import load_clip, read_sides, save_tensor
from kinetrack.errors import InputError, WriteError

from factories import write_packed


def draw_clip(num_frames: int = 2, size_px: int = 4) -> Tensor:
    """A clip (3, T, H, W), stored as (T, H, W, 3)."""
    shape = (num_frames, size_px, size_px, 3)
    generator = torch.Generator().manual_seed(0)
    pixels_thwc = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return pixels_thwc.permute(3, 0, 1, 2)


def test_clip_comes_back_with_its_memory_order(tmp_path: Path) -> None:
    save_tensor(tmp_path / "a.pt", draw_clip())
    clip = load_clip(tmp_path / "a.pt", num_frames=2, size_px=4)
    assert torch.equal(clip, draw_clip())
    assert clip.permute(1, 2, 3, 0).is_contiguous()


def test_bytes_do_not_depend_on_the_name(tmp_path: Path) -> None:
    first = save_tensor(tmp_path / "a.pt", draw_clip())
    second = save_tensor(tmp_path / "deeper/a longer name.pt", draw_clip())
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "deeper/a longer name.pt").read_bytes()
    assert first == second


def test_md5_is_that_of_the_file(tmp_path: Path) -> None:
    md5 = save_tensor(tmp_path / "a.pt", draw_clip())
    assert md5 == hashlib.md5((tmp_path / "a.pt").read_bytes()).hexdigest()


def test_bytes_are_those_that_torch_saves(tmp_path: Path) -> None:
    """So a file of an earlier version, and its MD5 in dvc.lock, stays what it is."""
    buffer = io.BytesIO()
    torch.save(draw_clip(), buffer)
    save_tensor(tmp_path / "a.pt", draw_clip())
    assert (tmp_path / "a.pt").read_bytes() == buffer.getvalue()


@pytest.mark.parametrize("kept_bytes", [0, 300, 30_000, 98_000])
def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, kept_bytes: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kept_bytes, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"a\.pt: cannot be written, found File too large"):
            save_tensor(tmp_path / "a.pt", draw_clip(num_frames=8, size_px=64))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_other_trouble_is_not_taken_for_the_disks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("of torch itself")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="of torch itself"):
        save_tensor(tmp_path / "a.pt", draw_clip())
    assert list(tmp_path.iterdir()) == []


def test_file_holds_little_beside_the_pixels(tmp_path: Path) -> None:
    save_tensor(tmp_path / "a.pt", draw_clip(num_frames=8, size_px=32))
    assert (tmp_path / "a.pt").stat().st_size < 8 * 32 * 32 * 3 + 2000


class Attack:
    """Makes a file where the pickle that holds it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self._path,)


def test_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    attack = Attack(tmp_path / "executed")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(attack))
    torch.save(attack, tmp_path / "zip.pt")
    torch.save({"clip": draw_clip(), "more": attack}, tmp_path / "beside.pt")
    for name in ("pickle.pt", "zip.pt", "beside.pt"):
        with pytest.raises(InputError, match=rf"{name}: is no packed clip.* -> dvc repro"):
            load_clip(tmp_path / name, num_frames=2, size_px=4)
    assert not (tmp_path / "executed").exists()


def test_attack_would_work_where_pickles_are_loaded(tmp_path: Path) -> None:
    """What the test above guards against is real."""
    torch.save(Attack(tmp_path / "executed"), tmp_path / "zip.pt")
    torch.load(tmp_path / "zip.pt", weights_only=False)
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (draw_clip(num_frames=3), r"uint8 \(3, 3, 4, 4\)"),
        (draw_clip(num_frames=1), r"uint8 \(3, 1, 4, 4\)"),
        (draw_clip(size_px=5), r"uint8 \(3, 2, 5, 5\)"),
        (draw_clip().permute(1, 2, 3, 0), r"uint8 \(2, 4, 4, 3\)"),
        (draw_clip().float(), r"float32 \(3, 2, 4, 4\)"),
        ([draw_clip()], "list"),
        ({"clip": draw_clip()}, "dict"),
    ],
)
def test_other_content_is_named_with_what_was_expected(
    tmp_path: Path, stored: object, found: str
) -> None:
    torch.save(stored, tmp_path / "a.pt")
    expected = r"expected uint8 \(3, 2, 4, 4\)"
    with pytest.raises(InputError, match=f"is of another shape, found .*{found}.*{expected}"):
        load_clip(tmp_path / "a.pt", num_frames=2, size_px=4)


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_file_is_named_in_one_line(tmp_path: Path, kept: float) -> None:
    save_tensor(tmp_path / "a.pt", draw_clip())
    content = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match="is no packed clip") as caught:
        load_clip(tmp_path / "a.pt", num_frames=2, size_px=4)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.pt: is no packed clip, found .*No such file"):
        load_clip(tmp_path / "a.pt", num_frames=2, size_px=4)


def test_sides_are_read_in_the_order_of_the_index(tmp_path: Path) -> None:
    sides = read_sides(write_packed(tmp_path, labels=["B", "A"], clips_per_class=2))
    assert tuple(sides) == SIDES
    for name, side in sides.items():
        assert [row.side for row in side.rows] == [name] * 4
        assert [row.label for row in side.rows] == ["B", "B", "A", "A"]
        assert all(side.path(row).is_file() for row in side.rows)


def test_path_is_made_of_side_class_and_clip() -> None:
    path = tensor_path(Path("data"), "val", "Walk", "v_Walk_g01_c01")
    assert path == Path("data/val/Walk/v_Walk_g01_c01.pt")


def test_missing_index_is_named_with_the_stage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"index\.csv: cannot be read.* -> dvc repro tensors"):
        read_sides(tmp_path)
