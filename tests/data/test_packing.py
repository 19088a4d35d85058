from pathlib import Path

import pytest
import torch
from torchvision import transforms

from kinetrack.data.frames import extract_frames, read_frames
from kinetrack.data.packing import pack_clip
from kinetrack.errors import InputError

from factories import write_video


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
    packed = pack_clip(archive, range(6), resize_px=resize_px, size_px=size_px)
    assert torch.equal(packed, expected)


def test_clip_is_bytes_with_the_channels_last_in_memory(tmp_path: Path) -> None:
    clip = pack_clip(write_archive(tmp_path), [0, 2, 4], resize_px=20, size_px=16)
    assert clip.dtype == torch.uint8
    assert clip.shape == (3, 3, 16, 16)
    assert clip.permute(1, 2, 3, 0).is_contiguous()


def test_repeated_index_repeats_the_frame(tmp_path: Path) -> None:
    archive = write_archive(tmp_path)
    once = pack_clip(archive, [0, 3, 5], resize_px=16, size_px=16)
    repeated = pack_clip(archive, [0, 0, 3, 5, 5, 5], resize_px=16, size_px=16)
    assert torch.equal(repeated, once[:, [0, 0, 1, 2, 2, 2]])


def test_frames_come_in_the_order_of_the_indices(tmp_path: Path) -> None:
    archive = write_archive(tmp_path)
    forwards = pack_clip(archive, [1, 2, 4], resize_px=16, size_px=16)
    backwards = pack_clip(archive, [4, 2, 1], resize_px=16, size_px=16)
    assert torch.equal(backwards, forwards.flip(1))


def test_archive_that_lacks_a_frame_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip: is no whole frame archive.*frame_0007"):
        pack_clip(write_archive(tmp_path), [0, 6], resize_px=16, size_px=16)
