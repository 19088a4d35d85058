"""Video files that mean harm, each at most 1 MB and the same on every run.

They lie in their headers, are far larger inside than outside, or are something else by the name of
a video, such as a playlist that would have FFmpeg open other files.
"""

import io
import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

from factories import draw_frames, write_audio, write_pictures, write_video

MOST_BYTES = 2**20


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box of an MP4."""
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + kind + content


def full_box(kind: bytes, *contents: bytes) -> bytes:
    """A box with version and flags, all zero."""
    return box(kind, bytes(4), *contents)


_MATRIX = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_START = box(b"ftyp", b"qt  ", bytes(4), b"qt  ")


def mp4_of_samples(
    content: bytes,
    *,
    sample_bytes: int,
    num_samples: int,
    chunks: Sequence[int] = (0,),
    codec: bytes = b"raw ",
    side_px: int = 16,
    num_tracks: int = 1,
) -> bytes:
    """A MOV whose tables say of its bytes what one likes.

    Each chunk starts at its offset in `content` and has `num_samples` of `sample_bytes` each.
    """
    at = [len(_START) + 8 + offset for offset in chunks]
    total = num_samples * len(chunks)
    entry = struct.pack(
        ">6xH16x2H2I4xH32x2h", 1, side_px & 0xFFFF, side_px & 0xFFFF, 72 << 16, 72 << 16, 1, 24, -1
    )
    table = box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), box(codec, entry)),
        full_box(b"stts", struct.pack(">3I", 1, total, 1)),
        full_box(b"stsc", struct.pack(">4I", 1, 1, num_samples, 1)),
        full_box(b"stsz", struct.pack(">2I", sample_bytes, total)),
        full_box(b"stco", struct.pack(f">I{len(at)}I", len(at), *at)),
    )
    tracks = [_track(table, total=total, side_px=side_px)] * num_tracks
    return _START + box(b"mdat", content) + box(b"moov", _movie(total), *tracks)


def _track(table: bytes, *, total: int, side_px: int) -> bytes:
    length = total & 0xFFFFFFFF
    header = struct.pack(">5I16x", 0, 0, 1, 0, length)
    sizes = struct.pack(">2I", (side_px & 0xFFFF) << 16, (side_px & 0xFFFF) << 16)
    media = box(
        b"mdia",
        full_box(b"mdhd", struct.pack(">4I4x", 0, 0, 25, length)),
        full_box(b"hdlr", b"mhlrvide", bytes(12), b"\0"),
        box(
            b"minf",
            full_box(b"vmhd", bytes(8)),
            box(b"dinf", full_box(b"dref", struct.pack(">I", 1), box(b"url ", b"\0\0\0\1"))),
            table,
        ),
    )
    return box(b"trak", box(b"tkhd", b"\0\0\0\7", header, _MATRIX, sizes), media)


def _movie(total: int) -> bytes:
    times = struct.pack(">4I", 0, 0, 25, total & 0xFFFFFFFF)
    return full_box(b"mvhd", times, bytes(76), struct.pack(">I", 2))


def _encode_flat(path: Path, *, side_px: int, num_frames: int, references: int = 1) -> None:
    """Black frames, of which all but the first say in 25 bytes that nothing has changed."""
    options = {
        "preset": "ultrafast",
        "x264-params": f"sync-lookahead=0:rc-lookahead=0:threads=1:keyint=infinite:ref={references}"
        ":scenecut=0:bframes=0",
    }
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = side_px, side_px, "yuv420p"
        frame = av.VideoFrame(side_px, side_px, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for tick in range(num_frames):
            frame.pts, frame.time_base = tick, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _replace(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def huge_frames(path: Path) -> None:
    """8192 x 8192 in 200 kB."""
    _encode_flat(path, side_px=8192, num_frames=1)


def grows_huge(path: Path) -> None:
    """Small pictures, then one of 7000 x 7000."""
    images = [*draw_frames(2, width=64, height=48), np.zeros((7000, 7000, 3), dtype=np.uint8)]
    write_pictures(path, images, times_ms=[0, 40, 80])


def many_references(path: Path) -> None:
    """As large as is allowed, and the decoder has to keep sixteen of them."""
    _encode_flat(path, side_px=6304, num_frames=18, references=16)


def nothing_changes(path: Path) -> None:
    """Hours of work and gigabytes of JPEG in a few bytes a frame."""
    _encode_flat(path, side_px=1024, num_frames=3000)


def lies_about_size(path: Path) -> None:
    """30,000 x 30,000 by its header."""
    write_video(path, num_frames=10)
    _replace(path, struct.pack("<2I", 64, 48), struct.pack("<2I", 30_000, 30_000))


def lies_about_size_raw(path: Path) -> None:
    """Raw pictures of 60,000 x 60,000, of which there are a hundred bytes."""
    path.write_bytes(mp4_of_samples(bytes(100), sample_bytes=100, num_samples=1, side_px=60_000))


def lies_about_count(path: Path) -> None:
    """Four thousand million frames by its header."""
    write_video(path, num_frames=10)
    content = path.read_bytes()
    at = content.index(b"avih") + 8 + 16
    length = content.index(b"strh") + 8 + 32
    most = b"\xff\xff\xff\xff"
    content = content[:at] + most + content[at + 4 :]
    path.write_bytes(content[:length] + most + content[length + 4 :])


def lies_about_samples(path: Path) -> None:
    """A table that says 170 million samples in three numbers."""
    path.write_bytes(mp4_of_samples(b"\1" * 1000, sample_bytes=1, num_samples=170_000_000))


def lies_about_chunks(path: Path) -> None:
    """40 million samples that lie on each other."""
    content = mp4_of_samples(bytes(10), sample_bytes=1, num_samples=10_000, chunks=[0] * 4000)
    path.write_bytes(content)


def frames_overlap(path: Path) -> None:
    """600,000 good frames, of which six hundred are there."""
    frames = bytes(16 * 16 * 3) * 600
    path.write_bytes(mp4_of_samples(frames, sample_bytes=768, num_samples=600, chunks=[0] * 1000))


def frames_of_three_bytes(path: Path) -> None:
    """330,000 of them, each of one pixel."""
    content = mp4_of_samples(bytes(990_000), sample_bytes=3, num_samples=330_000, side_px=1)
    path.write_bytes(content)


def frames_of_25_bytes(path: Path) -> None:
    """As many as are allowed."""
    content = mp4_of_samples(bytes(1_040_000), sample_bytes=25, num_samples=41_600, side_px=2)
    path.write_bytes(content)


def lies_about_duration(path: Path) -> None:
    """Three hundred million years."""
    write_video(path, num_frames=10)
    content = path.read_bytes()
    at = content.index(b"\x44\x89\x88") + 3
    content = content[:at] + struct.pack(">d", 1e19) + content[at + 8 :]
    at = content.index(b"00:00:00.")
    path.write_bytes(content[:at] + b"99:59:59." + content[at + 9 :])


def lies_about_rate(path: Path) -> None:
    """Two thousand million frames a second."""
    write_video(path, num_frames=10)
    at = path.read_bytes().index(b"strh") + 8 + 20
    content = path.read_bytes()
    path.write_bytes(content[:at] + struct.pack("<2I", 1, 2**31 - 1) + content[at + 8 :])


def jumps_by_years(path: Path) -> None:
    """Time stamps that leave a gap of three hundred million frames."""
    images = list(draw_frames(4, width=64, height=48))
    write_pictures(path, images, times_ms=[0, 40, 80, 12_000_000_000])


def many_tracks(path: Path) -> None:
    """1500 tracks, each to be looked into."""
    content = mp4_of_samples(bytes(768), sample_bytes=768, num_samples=1, num_tracks=1500)
    path.write_bytes(content)


def nested_boxes(path: Path) -> None:
    """A hundred thousand boxes, each in the one before."""
    sizes = b"".join(struct.pack(">I", 8 * (100_000 - at)) + b"moov" for at in range(100_000))
    path.write_bytes(_START + sizes)


def packed_header(path: Path) -> None:
    """A header that is packed, and unpacks to 400 MB."""
    size, packer = 400_000_000, zlib.compressobj()
    packed = b"".join(packer.compress(bytes(10**6)) for _ in range(size // 10**6)) + packer.flush()
    movie = box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", size), packed))
    path.write_bytes(_START + box(b"moov", movie))


def long_tables(path: Path) -> None:
    """Tables that say that they have 250 million rows, and end after none."""
    content = mp4_of_samples(bytes(768), sample_bytes=0, num_samples=250_000_000)
    path.write_bytes(content)


def packed_pictures(path: Path) -> None:
    """PNG pictures as large as is allowed, in a thousandth of their size."""
    buffer = io.BytesIO()
    Image.new("RGB", (6300, 6300)).save(buffer, "PNG", compress_level=9)
    number = MOST_BYTES * 9 // 10 // buffer.tell()
    samples = buffer.getvalue() * number
    path.write_bytes(
        mp4_of_samples(
            samples, sample_bytes=buffer.tell(), num_samples=number, codec=b"png ", side_px=6300
        )
    )


def noise_behind_a_start(start: bytes) -> Callable[[Path], None]:
    """What looks like a container, and then is noise."""

    def write(path: Path) -> None:
        noise = np.random.default_rng(len(start)).bytes(MOST_BYTES - len(start))
        path.write_bytes(start + noise)

    return write


def text(content: str) -> Callable[[Path], None]:
    """A text by the name of a video."""
    return lambda path: path.write_text(content) and None


def picture(name: str) -> Callable[[Path], None]:
    """A picture by the name of a video."""
    return lambda path: Image.new("RGB", (64, 48)).save(path, name)


def playlists(target: str) -> dict[str, Callable[[Path], None]]:
    """Texts that would have FFmpeg open another file or address."""
    hls = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
        f"<Period><AdaptationSet><Representation><BaseURL>{target}</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>"
    )
    sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    texts = {
        "ffconcat": f"ffconcat version 1.0\nfile '{target}'\n",
        "hls": hls,
        "hls key": hls.replace("#EXTINF", f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF'),
        "dash": dash,
        "sdp": sdp,
        "smooth": f"<SmoothStreamingMedia><x y='{target}'/></SmoothStreamingMedia>",
        "imf": f"<AssetMap><ChunkList><Chunk><Path>{target}</Path></Chunk></ChunkList></AssetMap>",
    }
    suffixes = ("avi", "mp4", "ts")
    return {
        f"{kind}.{suffix}": text(content) for kind, content in texts.items() for suffix in suffixes
    }


# What has to be done about each: "refused" by a line, or "read" as what there really is of it.
REFUSED: dict[str, Callable[[Path], None]] = {
    "huge_frames.mp4": huge_frames,
    "lies_about_size_raw.mov": lies_about_size_raw,
    "lies_about_samples.mov": lies_about_samples,
    "lies_about_chunks.mov": lies_about_chunks,
    "frames_overlap.mov": frames_overlap,
    "frames_of_three_bytes.mov": frames_of_three_bytes,
    "nested_boxes.mov": nested_boxes,
    "packed_header.mov": packed_header,
    "long_tables.mov": long_tables,
    "noise.avi": noise_behind_a_start(b"RIFF\xff\xff\xff\x7fAVI LIST"),
    "noise.mp4": noise_behind_a_start(_START),
    "noise.mkv": noise_behind_a_start(b"\x1a\x45\xdf\xa3\x8b\x42\x82\x88matroska"),
    "noise.mpg": noise_behind_a_start(b"\x00\x00\x01\xba"),
    "gif.avi": picture("GIF"),
    "png.mp4": picture("PNG"),
    "sound.mkv": write_audio,
    "empty.avi": Path.touch,
}
READ: dict[str, Callable[[Path], None]] = {
    "lies_about_count.avi": lies_about_count,
    "lies_about_duration.mkv": lies_about_duration,
    "lies_about_rate.avi": lies_about_rate,
    "jumps_by_years.mkv": jumps_by_years,
}
EITHER: dict[str, Callable[[Path], None]] = {
    "lies_about_size.avi": lies_about_size,
    "many_tracks.mov": many_tracks,
    "noise.ts": noise_behind_a_start((b"\x47" + bytes(187)) * 5),
}
# These take seconds to write.
SLOW_REFUSED: dict[str, Callable[[Path], None]] = {
    "many_references.mp4": many_references,
    "nothing_changes.mp4": nothing_changes,
}
SLOW_READ: dict[str, Callable[[Path], None]] = {
    "grows_huge.avi": grows_huge,
    "frames_of_25_bytes.mov": frames_of_25_bytes,
    "packed_pictures.mov": packed_pictures,
}
