import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision import transforms

from kinetrack.data import packing
from kinetrack.data.frame_archives import frame_name, read_frames
from kinetrack.data.frames import extract_frames
from kinetrack.data.packing import pack_clip
from kinetrack.data.sampling import middle_crop
from kinetrack.data.tensors import save_tensor
from kinetrack.errors import InputError, WriteError

from factories import GEOMETRY, write_video


def write_archive(folder: Path, *, width: int = 64, height: int = 48) -> Path:
    video = write_video(folder / "a.avi", num_frames=6, width=width, height=height)
    extract_frames(video, folder / "a.zip", gaps="keep", jpeg_quality=95, jpeg_subsampling="4:2:0")
    return folder / "a.zip"


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (32, 32), (20, 90)])
@pytest.mark.parametrize(("resize_px", "size_px"), [(32, 32), (40, 32), (24, 9)])
def test_pixels_are_those_of_the_lecture(
    tmp_path: Path, width: int, height: int, resize_px: int, size_px: int
) -> None:
    archive = write_archive(tmp_path, width=width, height=height)
    lecture = transforms.Compose(
        [
            transforms.Resize(resize_px),
            transforms.CenterCrop(size_px),
            transforms.PILToTensor(),
        ]
    )
    expected = torch.stack([lecture(image) for image in read_frames(archive, range(6))], dim=1)
    packed = pack_clip(archive, range(6), crop="center", resize_px=resize_px, size_px=size_px)
    assert torch.equal(packed, expected)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(1, 130),
    height=st.integers(1, 130),
    resize_px=st.integers(1, 90),
    cut_px=st.integers(0, 89),
)
def test_pixels_of_any_size_are_those_of_torchvision(
    tmp_path: Path, width: int, height: int, resize_px: int, cut_px: int
) -> None:
    size_px = max(1, resize_px - cut_px)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    archive = write_pictures(tmp_path / "a.zip", [noise])
    geometry = transforms.Compose([transforms.Resize(resize_px), transforms.CenterCrop(size_px)])
    [image] = read_frames(archive, [0])
    packed = pack_clip(archive, [0], crop="center", resize_px=resize_px, size_px=size_px)
    assert np.array_equal(packed[:, 0].permute(1, 2, 0), np.asarray(geometry(image)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    width=st.integers(1, 130),
    height=st.integers(1, 130),
    size_px=st.integers(1, 40),
    spare_px=st.integers(0, 20),
    more_px=st.integers(0, 20),
)
def test_the_middle_of_a_clip_with_spare_pixels_is_the_clip_without(
    tmp_path: Path, *, width: int, height: int, size_px: int, spare_px: int, more_px: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    archive = write_pictures(tmp_path / "a.zip", [noise])
    resize_px = size_px + spare_px + more_px
    packed, without = (
        pack_clip(archive, [0], crop="center", resize_px=resize_px, size_px=size_px, spare_px=spare)
        for spare in (spare_px, 0)
    )
    size = {"resize_px": resize_px, "size_px": size_px, "spare_px": spare_px}
    middle = middle_crop(GEOMETRY.model_copy(update=size))
    assert packed.shape == (3, 1, size_px + spare_px, size_px + spare_px)
    columns = slice(middle, middle + size_px)
    assert torch.equal(packed[..., columns, columns], without)


def write_pictures(archive: Path, pictures: list[NDArray[np.uint8]]) -> Path:
    """Write RGB pictures (H, W, 3), of any sizes, as the frames of an archive."""
    with zipfile.ZipFile(archive, "w") as zipped:
        for number, picture in enumerate(pictures, start=1):
            with zipped.open(frame_name(number), "w") as file:
                Image.fromarray(picture).save(file, "JPEG", quality=95)
    return archive


def test_squashed_frame_shows_all_of_it(tmp_path: Path) -> None:
    picture = np.zeros((30, 90, 3), dtype=np.uint8)
    picture[:, :30], picture[:, 60:] = (250, 0, 0), (0, 0, 250)
    archive = write_pictures(tmp_path / "a.zip", [picture])
    squashed = pack_clip(archive, [0], crop="squash", resize_px=5, size_px=12)
    assert squashed.shape == (3, 1, 12, 12)
    assert squashed[0, 0, 6, 1] > 200
    assert squashed[2, 0, 6, 10] > 200
    cut = pack_clip(archive, [0], crop="center", resize_px=12, size_px=12)
    assert cut.max() < 60


def test_squashed_pixels_are_those_of_torchvision(tmp_path: Path) -> None:
    archive = write_archive(tmp_path)
    lecture = transforms.Compose([transforms.Resize((20, 20)), transforms.PILToTensor()])
    expected = torch.stack([lecture(image) for image in read_frames(archive, range(6))], dim=1)
    packed = pack_clip(archive, range(6), crop="squash", resize_px=7, size_px=20)
    assert torch.equal(packed, expected)


def test_squashed_frame_fills_the_spare_pixels_too(tmp_path: Path) -> None:
    archive = write_archive(tmp_path)
    spare, larger = (
        pack_clip(archive, [0, 3], crop="squash", resize_px=7, size_px=size_px, spare_px=spare_px)
        for size_px, spare_px in ((20, 5), (25, 0))
    )
    assert torch.equal(spare, larger)


def test_frames_may_change_their_size(tmp_path: Path) -> None:
    pictures = [np.full((height, 40, 3), 90, dtype=np.uint8) for height in (20, 40, 80)]
    archive = write_pictures(tmp_path / "a.zip", pictures)
    packed = pack_clip(archive, range(3), crop="center", resize_px=16, size_px=12)
    assert packed.shape == (3, 3, 12, 12)


def test_clip_is_bytes_with_the_channels_last_in_memory(tmp_path: Path) -> None:
    clip = pack_clip(write_archive(tmp_path), [0, 2, 4], crop="center", resize_px=20, size_px=16)
    assert clip.dtype == torch.uint8
    assert clip.shape == (3, 3, 16, 16)
    assert clip.permute(1, 2, 3, 0).is_contiguous()


def test_repeated_index_repeats_the_frame(tmp_path: Path) -> None:
    archive = write_archive(tmp_path)
    once = pack_clip(archive, [0, 3, 5], crop="center", resize_px=16, size_px=16)
    repeated = pack_clip(archive, [0, 0, 3, 5, 5, 5], crop="center", resize_px=16, size_px=16)
    assert torch.equal(repeated, once[:, [0, 0, 1, 2, 2, 2]])


def test_frames_come_in_the_order_of_the_indices(tmp_path: Path) -> None:
    archive = write_archive(tmp_path)
    forwards = pack_clip(archive, [1, 2, 4], crop="center", resize_px=16, size_px=16)
    backwards = pack_clip(archive, [4, 2, 1], crop="center", resize_px=16, size_px=16)
    assert torch.equal(backwards, forwards.flip(1))


def test_archive_that_lacks_a_frame_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip: is no whole frame archive.*frame_0007"):
        pack_clip(write_archive(tmp_path), [0, 6], crop="center", resize_px=16, size_px=16)


@pytest.fixture
def in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clip counts as a large one."""
    monkeypatch.setattr(packing, "_MOST_IN_MEMORY", 0)


@pytest.mark.usefixtures("in_a_file")
def test_large_clip_lies_in_a_file_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, scratch = write_archive(tmp_path), tmp_path / "scratch"
    scratch.mkdir()
    large = pack_clip(
        archive, [0, 0, 5, 2], crop="center", resize_px=16, size_px=16, scratch=scratch
    )
    assert is_mapped(scratch)
    assert list(scratch.iterdir()) == []
    monkeypatch.undo()
    in_memory = pack_clip(archive, [0, 0, 5, 2], crop="center", resize_px=16, size_px=16)
    assert torch.equal(large, in_memory)
    assert large.stride() == in_memory.stride()
    del large
    assert not is_mapped(scratch)


def is_mapped(folder: Path) -> bool:
    """Whether this process has a file of the folder in its memory."""
    return str(folder) in Path("/proc/self/maps").read_text()


@pytest.mark.usefixtures("in_a_file")
def test_large_clip_gives_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path)
    large = pack_clip(archive, range(6), crop="center", resize_px=16, size_px=16, scratch=tmp_path)
    monkeypatch.undo()
    small = pack_clip(archive, range(6), crop="center", resize_px=16, size_px=16)
    assert save_tensor(tmp_path / "large.pt", large) == save_tensor(tmp_path / "small.pt", small)


@pytest.mark.usefixtures("in_a_file")
def test_full_disk_is_named_before_a_frame_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(WriteError, match=r"no room .* No space left .* expected 1536 bytes"):
        pack_clip(
            tmp_path / "a.zip", [0, 1], crop="center", resize_px=16, size_px=16, scratch=tmp_path
        )


# Prints by how many bytes the memory grew that the kernel cannot write to a disk of files.
MEASURED = """
import re, threading
from pathlib import Path
from kinetrack.data.packing import pack_clip
from kinetrack.data.tensors import save_tensor
from kinetrack.data.tensors import save_tensor

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

done, before, most = threading.Event(), anonymous(), 0

def watch():
    global most
    while not done.wait(0.002):
        most = max(most, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
size = dict(crop="squash", resize_px=1, size_px=600)
clip = pack_clip(Path("{archive}"), range(200), **size, scratch=Path("{folder}"))
save_tensor(Path("{folder}/a.pt"), clip)
done.set()
watcher.join()
print(most - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tmp_path: Path) -> None:
    """216 MB of pixels."""
    pictures = [np.full((48, 64, 3), value, dtype=np.uint8) for value in range(200)]
    archive = write_pictures(tmp_path / "a.zip", pictures)
    program = MEASURED.format(archive=archive, folder=tmp_path)
    # In a process of its own, whose memory nobody else has used.
    grown = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert int(grown.stdout) < 60 * 2**20
    assert (tmp_path / "a.pt").stat().st_size > 200 * 10**6


def test_frame_that_would_be_huge_is_refused_before_memory_is_spent(tmp_path: Path) -> None:
    """Of a line of 8000 px, two million by 256."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped, zipped.open(frame_name(1), "w") as out:
        Image.new("RGB", (8000, 1)).save(out, "JPEG")
    found = r"8000 x 1 px, resized 2048000 x 256 px, expected at most 40000000 px"
    with pytest.raises(InputError, match=rf"a\.zip: .* found {found} -> .*pack\.crop: squash"):
        pack_clip(tmp_path / "a.zip", [0], crop="center", resize_px=256, size_px=224)
    squashed = pack_clip(tmp_path / "a.zip", [0], crop="squash", resize_px=256, size_px=224)
    assert squashed.shape == (3, 1, 224, 224)
