"""Videos that strangers send: limits, base64, paths that must not leave their folder."""

import base64
import os
from pathlib import Path

import numpy as np
import pytest

from kinetrack.errors import InputError
from kinetrack.using.intake import (
    Limits,
    find_allowed,
    prepare_within,
    read_limits,
    reason_of,
    stored,
)
from kinetrack.using.prediction import prepare

from factories import DECODING, GEOMETRY, model_card, write_audio

CARD = model_card()


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_limits_come_from_the_environment(tmp_path: Path) -> None:
    assert read_limits({"KINETRACK_SERVE_VIDEO_MB": ""}) == Limits()
    read = read_limits({"KINETRACK_SERVE_VIDEO_MB": "0.5", "KINETRACK_SERVE_ROOT": str(tmp_path)})
    assert read == Limits(video_mb=0.5, root=tmp_path.resolve())


@pytest.mark.parametrize("text", ["many", "0", "-1", "nan", "inf"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"KINETRACK_SERVE_VIDEOS: is no limit, found {text}"):
        read_limits({"KINETRACK_SERVE_VIDEOS": text})


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"KINETRACK_SERVE_ROOT: names no folder"):
        read_limits({"KINETRACK_SERVE_ROOT": str(tmp_path / "none")})


@pytest.mark.parametrize("form", ["bytes", "text", "lines"])
def test_what_was_sent_is_a_file_until_it_is_answered(
    video: Path, scratch: Path, form: str
) -> None:
    content = video.read_bytes()
    text = base64.encodebytes(content).decode()
    sent = {"bytes": content, "lines": text, "text": text.replace("\n", "")}[form]
    with stored(sent, Limits()) as path:
        assert path.read_bytes() == content
    assert list(scratch.iterdir()) == []


def as_sent(content: bytes, form: str) -> str | bytes:
    if form == "bytes":
        return content
    return (base64.b64encode if form == "text" else base64.encodebytes)(content).decode()


@pytest.mark.parametrize("form", ["bytes", "text", "text in lines"])
def test_size_is_limited_to_the_byte(form: str) -> None:
    limits = Limits(video_mb=0.001)
    fits, is_too_large = (as_sent(b"x" * size, form) for size in (1000, 1001))
    with stored(fits, limits) as path:
        assert path.stat().st_size == 1000
    refusal = r"is too large, found 1001 bytes, expected at most 0\.001 MB"
    with pytest.raises(InputError, match=refusal), stored(is_too_large, limits):
        pass


@pytest.mark.parametrize("text", ["%%%", "abc", "YWJj=YWJj", "häh?", "\0"])
def test_text_that_is_no_base64_is_told(text: str, scratch: Path) -> None:
    with pytest.raises(InputError, match="is no base64"), stored(text, Limits()):
        pass
    assert list(scratch.iterdir()) == []


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A server's folder of videos, and beside it what is nobody's business."""
    root = tmp_path / "root"
    (root / "deep").mkdir(parents=True)
    (root / "deep/a.avi").touch()
    (tmp_path / "root secret.avi").touch()
    (root / "out.avi").symlink_to(tmp_path / "root secret.avi")
    (root / "up").symlink_to(tmp_path)
    (root / "loop.avi").symlink_to("loop.avi")
    (root / "inside.avi").symlink_to("deep/a.avi")
    return root.resolve()


@pytest.mark.parametrize(
    "name", ["deep/a.avi", "inside.avi", "deep/../deep/a.avi", "{root}/deep/a.avi"]
)
def test_path_below_the_root_is_found(root: Path, name: str) -> None:
    found = find_allowed(name.format(root=root), Limits(root=root))
    assert found == root / "deep/a.avi"


@pytest.mark.parametrize(
    "name",
    [
        "../root secret.avi",
        "{root}/../root secret.avi",
        "{root} secret.avi",
        "/etc/passwd",
        "out.avi",
        "up/root secret.avi",
        "loop.avi",
        "a\0.avi",
        "../nothing there",
        "~/a.avi/../../../..",
    ],
)
def test_path_that_leads_out_is_refused_whether_it_exists_or_not(root: Path, name: str) -> None:
    with pytest.raises(InputError, match="does not lead into the folder of this server"):
        find_allowed(name.format(root=root), Limits(root=root))


def test_no_root_no_path(video: Path) -> None:
    with pytest.raises(InputError, match="no path is taken by this server"):
        find_allowed(str(video), Limits())


def test_what_the_network_sees_is_as_ever(video: Path) -> None:
    within = prepare_within(video, card=CARD, limits=Limits())
    plain = prepare(video, decoding=DECODING, geometry=GEOMETRY)
    np.testing.assert_array_equal(within.clips, plain.clips)
    assert within[1:] == plain[1:]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(video_mb=0.001), r"is too large, found .* bytes, expected at most 0\.001 MB"),
        (Limits(duration_s=0.3), r"is too long, found 0\.4 s, expected at most 0\.3 s"),
        (Limits(megapixels=0.03), "too much to decode, found 0 million pixels .* 0.03 million"),
    ],
)
def test_limits_hold(video: Path, limits: Limits, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        prepare_within(video, card=CARD, limits=limits)


def test_reason_does_not_name_the_file_that_it_was_here(tmp_path: Path, video: Path) -> None:
    (tmp_path / "device").symlink_to(os.devnull)
    cut_off = tmp_path / "cut off"
    cut_off.write_bytes(video.read_bytes()[:300])
    texts = []
    for path in (write_audio(tmp_path / "a.mka"), cut_off, tmp_path / "device", tmp_path / "none"):
        with pytest.raises(InputError) as caught:
            prepare_within(path, card=CARD, limits=Limits())
        texts.append(reason_of(caught.value))
    assert texts[0] == "has no video stream"
    assert "is no regular file" in texts[2]
    assert not any(str(tmp_path) in text for text in texts)
