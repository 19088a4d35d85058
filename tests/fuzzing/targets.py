"""What is fuzzed: each target gives any bytes to one parser of what comes from elsewhere.

A target returns, or raises nothing but its parser's documented error, which is one bounded line.
Anything else is a finding, and so is a name that leaves its folder or a file written elsewhere.
Everything is imported inside the functions that make a target: the fuzzer instruments imports.
"""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

Target = Callable[[bytes], None]
LONGEST_LINE = 10_000


@contextmanager
def refusals() -> Iterator[None]:
    """Let a documented refusal pass, if it is one bounded line."""
    from kinetrack.errors import InputError

    try:
        yield
    except InputError as error:
        line = str(error)
        assert line.isprintable(), line
        assert len(line) < LONGEST_LINE, len(line)


@contextmanager
def file_of(content: bytes, name: str) -> Iterator[Path]:
    """A file of these bytes, alone in a folder that is removed; in memory where that can be."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        path = Path(folder, name)
        path.write_bytes(content)
        yield path


def assert_below(path: str, *, parts: int | None = None) -> None:
    """Check that a path that was let in stays below any root, and is of so many plain names."""
    names = PurePosixPath(path).parts
    assert names, path
    assert not path.startswith("/"), path
    assert ".." not in names, path
    assert "\0" not in path, path
    assert parts is None or len(names) == parts, path
    assert all(len(os.fsencode(name)) <= 255 for name in names), path


def names() -> Target:
    """Names of clips, classes and files, as a file system or a table gives them."""
    from pydantic import TypeAdapter

    from kinetrack.data.clips import is_video_name
    from kinetrack.data.manifest import ManifestRow, check_relative
    from kinetrack.data.names import check_name, find_alike
    from kinetrack.errors import printable
    from kinetrack.splitting.splits import ClipId

    clip_id = TypeAdapter(ClipId)

    def target(data: bytes) -> None:
        name, _, other = os.fsdecode(data).partition("\n")
        assert printable(name).isprintable()
        find_alike([name, other])
        with contextlib.suppress(ValueError):
            assert_below(f"{check_name(name)}.zip", parts=1)
            is_video_name(Path(name))
        with contextlib.suppress(ValueError):
            assert_below(check_relative(name))
        with contextlib.suppress(ValueError):
            assert_below(f"{clip_id.validate_python(name)}.zip", parts=2)
        with contextlib.suppress(ValueError):
            row = ManifestRow(path=name, label="a", start_s=1.5, end_s=len(other) + 2)
            assert_below(f"{row.clip_name}.zip", parts=1)

    return target


def params() -> Target:
    """`params.yaml`, and the file of this machine's options."""
    from kinetrack.cli.check import read_params
    from kinetrack.machine import read_machine_options

    def target(data: bytes) -> None:
        with file_of(data, "params.yaml") as path:
            with refusals():
                read_params(path)
            with refusals():
                read_machine_options(path)

    return target


def split() -> Target:
    """`split.json`."""
    from kinetrack.data.index import SIDES
    from kinetrack.splitting.splits import read_split

    def target(data: bytes) -> None:
        with file_of(data, "split.json") as path, refusals():
            found = read_split(path)
            for side in SIDES:
                for clip in found.side(side):
                    assert_below(f"{clip}.zip", parts=2)

    return target


def index() -> Target:
    """The tables of stages: what was dropped, packed, extracted; the first byte says which."""
    from kinetrack.data.index import (
        DroppedRow,
        FramesRow,
        Row,
        TensorsRow,
        read_index,
        tensor_path,
        write_index,
    )

    kinds: list[type[Row]] = [DroppedRow, TensorsRow, FramesRow]

    def target(data: bytes) -> None:
        kind = kinds[data[0] % len(kinds)] if data else DroppedRow
        with file_of(data[1:], "index.csv") as path, refusals():
            rows: list[Any] = read_index(path, kind, remedy="")
            for row in rows:
                assert_below(f"{row.label}/{row.clip}.zip", parts=2)
                if isinstance(row, TensorsRow):
                    packed = tensor_path(Path("root"), row.side, row.label, row.clip)
                    assert_below(packed.as_posix(), parts=4)
            write_index(path, kind, rows)
            assert read_index(path, kind, remedy="") == rows or "nan" in path.read_text()

    return target


def manifest() -> Target:
    """Manifests, CSV and JSON; the first byte says which."""
    from kinetrack.data.manifest import read_manifest, write_manifest

    def target(data: bytes) -> None:
        name = "list.json" if data[:1] == b"J" else "list.csv"
        with file_of(data[1:], name) as path, refusals():
            rows = read_manifest(path)
            for row in rows:
                assert_below(row.path)
                assert_below(f"{row.label}/{row.clip_name}.zip", parts=2)
            again = path.with_name("manifest.csv")
            write_manifest(again, rows)
            assert read_manifest(again) == rows

    return target


def official() -> Target:
    """The lists that a collection's authors publish; a NUL byte ends each of up to four."""
    from kinetrack.collecting.official import read_official

    lists = ("testlist01.txt", "trainlist02.txt", "testlist02.txt")

    def target(data: bytes) -> None:
        first, *others = data.split(b"\0")
        with file_of(first, "trainlist01.txt") as path:
            for name, content in zip(lists, others, strict=False):
                path.with_name(name).write_bytes(content)
            with refusals():
                sides = read_official(path.parent)
                for clip, words in sides.words.items():
                    assert_below(f"{clip}.zip", parts=2)
                    assert len(words.split()) == sides.folds

    return target


def archives() -> Target:
    """Archives to import: zip, tar, packed tars, rar; the first byte says which."""
    from kinetrack.collecting.archive_formats import ARCHIVE_SUFFIXES
    from kinetrack.collecting.archives import extract_archive

    def target(data: bytes) -> None:
        suffix = ARCHIVE_SUFFIXES[data[0] % len(ARCHIVE_SUFFIXES)] if data else ".zip"
        with file_of(data[1:], f"any{suffix}") as archive:
            folder = archive.with_name("unpacked")
            folder.mkdir()
            written: list[Path] = []
            with refusals():
                written = extract_archive(archive, folder)
            files = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
            assert sorted(files) == sorted(written)
            assert all(path.is_file() and not path.is_symlink() for path in files)
            assert set(archive.parent.iterdir()) == {archive, folder}

    return target


def frames() -> Target:
    """Frame archives: a zip of pictures."""
    from kinetrack.data.frame_archives import read_frames

    def target(data: bytes) -> None:
        with file_of(data, "clip.zip") as path, refusals():
            for image in read_frames(path, [0, 1]):
                assert image.mode == "RGB"

    return target


def tensors() -> Target:
    """Packed clips: what `torch.save` writes."""
    from kinetrack.data.tensors import load_clip

    def target(data: bytes) -> None:
        with file_of(data, "clip.pt") as path, refusals():
            assert load_clip(path, num_frames=2, size_px=2).sum() >= 0

    return target


def model() -> Target:
    """A model's folder: a JSON text, a NUL byte, weights with the checksum that it names."""
    from kinetrack.learning.checkpoint import CARD_NAME, WEIGHTS_NAME, load_model, read_card

    def target(data: bytes) -> None:
        text, _, weights = data.partition(b"\0")
        # Else no change of a byte would come further than the checksum.
        text = text.replace(b"SHA256", hashlib.sha256(weights).hexdigest().encode())
        with file_of(text, CARD_NAME) as path:
            path.with_name(WEIGHTS_NAME).write_bytes(weights)
            with refusals():
                read_card(path.parent)
                load_model(path.parent)

    return target


def checkpoint() -> Target:
    """A checkpoint: as it is, or, behind a J, the JSON of its state around sound tensors."""
    import safetensors.torch
    import torch

    from kinetrack.learning import resume
    from kinetrack.learning.fitting import Progress
    from kinetrack.learning.memory import MicroBatch
    from kinetrack.learning.optimising import make_optimiser, make_scheduler

    def begin() -> Progress:
        network = torch.nn.Linear(2, 2)
        optimiser = make_optimiser("adam", network, learning_rate=0.1)
        scheduler = make_scheduler(optimiser, "cosine", epochs=3, steps_per_epoch=2)
        return Progress(network, optimiser, scheduler, MicroBatch(8))

    begin()  # the first optimiser makes torch import much: that is no input's fault

    def target(data: bytes) -> None:
        content, told = data, []
        progress = begin()
        if data[:1] == b"J":
            sound, _ = resume._gather(progress)
            state = data[1:].replace(b"SHA256", resume._checksum(sound).encode())
            content = safetensors.torch.save(sound, {"state": state.decode("utf-8", "replace")})
        with file_of(content, "epoch_000001.safetensors") as path:
            resume.load_checkpoint(path.parent, progress, on_unusable=told.append)
        for error in told:
            with refusals():
                raise error

    return target


def containers() -> Target:
    """A file that is said to be a video: its header and its first frame, in this process."""
    import av

    from kinetrack.data.containers import VideoError
    from kinetrack.data.probing import probe_here

    av.logging.set_level(None)

    def target(data: bytes) -> None:
        suffixes = (".avi", ".mp4", ".mkv", ".mpg", ".ts")
        suffix = suffixes[data[0] % len(suffixes)] if data else ".avi"
        with file_of(data[1:], f"any{suffix}") as path:
            with contextlib.suppress(VideoError):
                probe = probe_here(path)
                assert probe.width > 0 < probe.height
            assert list(path.parent.iterdir()) == [path]

    return target


def listing() -> Target:
    """DVC's list of a folder's files, out of a cache that others may have written."""
    from kinetrack.versioning.cache import folder_listing, object_path
    from kinetrack.versioning.listings import read_listing

    def target(data: bytes) -> None:
        md5 = f"{hashlib.md5(data, usedforsecurity=False).hexdigest()}.dir"
        with file_of(b"", "any") as path:
            place = object_path(path.parent, md5)
            place.parent.mkdir(parents=True)
            place.write_bytes(data)
            for name in folder_listing(path.parent, md5) or {}:
                assert_below(name.encode("utf-8", "replace").decode())
            with refusals():
                read_listing(path.parent, md5)

    return target


def pipeline() -> Target:
    """`dvc.yaml`, `dvc.lock` and a `.dvc` file, all of these bytes."""
    from kinetrack.versioning.lock import data_md5, locked_inputs, locked_stage
    from kinetrack.versioning.tracked import list_tracked

    def target(data: bytes) -> None:
        with file_of(data, "dvc.yaml") as path:
            for name in ("dvc.lock", "some.dvc"):
                shutil.copyfile(path, path.with_name(name))
            root = path.parent
            for read in (locked_stage, locked_inputs, data_md5):
                with refusals():
                    read("train", root=root)
            with refusals():
                list_tracked(root)

    return target


TARGETS: dict[str, Callable[[], Target]] = {
    make.__name__: make
    for make in (
        names,
        params,
        split,
        index,
        manifest,
        official,
        archives,
        frames,
        tensors,
        model,
        checkpoint,
        containers,
        listing,
        pipeline,
    )
}
