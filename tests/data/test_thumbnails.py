import zipfile

import numpy as np
import pytest

from kinetrack.data.frame_archives import read_frames
from kinetrack.data.thumbnails import list_repeats, read_thumbnails
from kinetrack.errors import InputError

from frame_archives import write_archive


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(64, 48, (64, 48)), (1280, 720, (160, 90)), (480, 960, (60, 120)), (700, 10, (160, 2))],
)
def test_a_picture_fits_its_box_keeps_its_shape_and_never_grows(tmp_path, width, height, expected):
    archive = write_archive(tmp_path / "a.zip", num_frames=1, width=width, height=height)
    [picture] = read_thumbnails(archive, [0], size_px=(160, 120))
    assert (picture.size, picture.mode) == (expected, "RGB")


def test_a_picture_shows_the_frame_that_was_asked_for(tmp_path):
    archive = write_archive(tmp_path / "a.zip", num_frames=12, width=640, height=480)
    small = read_thumbnails(archive, [11, 0], size_px=(160, 120))
    for picture, frame in zip(small, read_frames(archive, [11, 0]), strict=True):
        difference = np.asarray(picture, dtype=int) - np.asarray(frame.resize((160, 120)))
        assert np.abs(difference).mean() < 2
    assert np.abs(np.asarray(small[0], dtype=int) - np.asarray(small[1])).max() > 50


def test_repeats_are_frames_with_the_bytes_of_the_one_before(tmp_path):
    archive = write_archive(tmp_path / "a.zip", num_frames=8, repeats=(3, 4, 7))
    assert list_repeats(archive, num_frames=8) == {3, 4, 7}


@pytest.mark.parametrize("damage", ["absent", "no zip", "short", "no jpeg"])
def test_a_damaged_archive_is_named(tmp_path, damage):
    archive = tmp_path / "a.zip"
    if damage == "no zip":
        archive.write_bytes(b"nothing of the kind")
    elif damage == "short":
        write_archive(archive, num_frames=3)
    elif damage == "no jpeg":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("frame_0010.jpg", b"GIF89a")
    with pytest.raises(InputError, match=r"a.zip: is no whole frame archive, .* -> dvc repro"):
        read_thumbnails(archive, [9], size_px=(160, 120))


def test_an_archive_with_too_few_frames_has_no_repeats_to_tell(tmp_path):
    archive = write_archive(tmp_path / "a.zip", num_frames=3)
    with pytest.raises(InputError, match="is no whole frame archive"):
        list_repeats(archive, num_frames=4)
