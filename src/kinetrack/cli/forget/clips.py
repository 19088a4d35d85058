"""Clips that are to be forgotten: found in all versions of a data set, taken out of the present."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kinetrack.data.clips import is_video_name, walk_videos
from kinetrack.data.index import SIDES
from kinetrack.data.manifest import (
    MANIFEST_NAME,
    ManifestRow,
    check_relative,
    read_manifest,
    write_manifest,
)
from kinetrack.errors import InputError
from kinetrack.files import write_alone, write_text
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.commands import add_data
from kinetrack.versioning.listings import read_listing

_LIST = re.compile(rf"({'|'.join(SIDES)})list\d+\.txt")
_MOST_NAMED = 5


class Videos(NamedTuple):
    """A version of a data set's videos: clips (`<Class>/<clip>`) by the path of their video.

    A manifest makes clips of the parts of a video, so one may have many.
    """

    clips: dict[str, tuple[str, ...]]

    def all_clips(self) -> set[str]:
        """Every clip."""
        return {clip for clips in self.clips.values() for clip in clips}

    def only_of(self, forgotten: Collection[str]) -> set[str]:
        """Paths of the videos that show nothing but forgotten clips."""
        wanted = set(forgotten)
        return {path for path, clips in self.clips.items() if clips and wanted.issuperset(clips)}

    def partly_of(self, forgotten: Collection[str]) -> dict[str, tuple[str, ...]]:
        """The other clips, by the path of the video of which a forgotten one is a part."""
        wanted = set(forgotten)
        others = {
            path: tuple(clip for clip in clips if clip not in wanted)
            for path, clips in self.clips.items()
            if not wanted.isdisjoint(clips)
        }
        return {path: clips for path, clips in others.items() if clips}


class Dataset:
    """The videos of a data set, in the workspace and in all versions."""

    def __init__(self, name: str, *, root: Path, cache: Path) -> None:
        self.name, self.root, self._cache = name, root, cache
        self.path = f"data/videos/{name}"
        self.folder = root / self.path
        self._frames, self._tensors = f"data/frames/{name}", f"data/tensors/{name}"
        self.made = (self._frames, self._tensors)
        self._known: dict[str, Videos] = {}

    def read_present(self) -> Videos:
        """Read what lies here; nothing where the folder is not here."""
        if not self.folder.is_dir():
            return Videos({})
        if (self.folder / MANIFEST_NAME).is_file():
            return _of_manifest(read_manifest(self.folder / MANIFEST_NAME))
        found = (path.relative_to(self.folder).as_posix() for path in walk_videos(self.folder))
        return _of_folders(found)

    def read_version(self, md5: str) -> Videos:
        """Read what the folder with this MD5 had; nothing where the cache has not its lists."""
        if md5 not in self._known:
            self._known[md5] = self._read_version(read_listing(self._cache, md5) or {})
        return self._known[md5]

    def _read_version(self, files: Mapping[str, str]) -> Videos:
        if MANIFEST_NAME not in files:
            return _of_folders(files)
        manifest = object_path(self._cache, files[MANIFEST_NAME])
        return _of_manifest(read_manifest(manifest)) if manifest.is_file() else Videos({})

    def read_all(self, md5s: Iterable[str]) -> list[Videos]:
        """Read the workspace, then each different content; nothing of one that is ""."""
        versions = (self.read_version(md5) if md5 else Videos({}) for md5 in dict.fromkeys(md5s))
        return [self.read_present(), *versions]

    def chooser(
        self, forgotten: Collection[str]
    ) -> Callable[[str, str, Mapping[str, str]], set[str]]:
        """Return what tells which files of a version's folder are of forgotten clips alone."""
        made = {
            self._frames: {f"{clip}.zip" for clip in forgotten},
            self._tensors: {f"{side}/{clip}.pt" for side in SIDES for clip in forgotten},
        }

        def choose(path: str, md5: str, files: Mapping[str, str]) -> set[str]:
            if path == self.path:
                return self.read_version(md5).only_of(forgotten) & files.keys()
            return made.get(path, set()) & files.keys()

        return choose


def find_clips(names: Sequence[str], videos: Iterable[Videos]) -> list[str]:
    """Find clips by `<Class>/<clip>` or, where only one class has it, by the bare name.

    Raises:
        InputError: none, or more than one; the nearest names or the candidates are listed.
    """
    known = {clip for one in videos for clip in one.all_clips()}
    return list(dict.fromkeys(_find_clip(name, known) for name in names))


def _find_clip(name: str, known: Collection[str]) -> str:
    found = sorted(clip for clip in known if name in (clip, clip.partition("/")[2]))
    if len(found) == 1:
        return found[0]
    if found:
        expected = " or ".join(found[:_MOST_NAMED])
        raise InputError(name, f"is a clip of {len(found)} classes", expected=expected)
    names = {clip if "/" in name else clip.partition("/")[2]: clip for clip in known}
    near = [names[match] for match in get_close_matches(name, names, n=3)]
    raise InputError(
        name,
        "is no clip of this data set, in no version that is here",
        expected=" or ".join(near) or None,
        remedy="dvc fetch --all-commits brings the lists of older versions",
    )


def _of_folders(paths: Iterable[str]) -> Videos:
    found = map(_clip_of_path, paths)
    return Videos({path: clips for path, clips in found if clips})


@cache
def _clip_of_path(path: str) -> tuple[str, tuple[str, ...]]:
    """A path and the clip there; the same objects each time: a hundred versions have them."""
    label, _, name = path.partition("/")
    is_video = name and "/" not in name and is_video_name(Path(name))
    return path, ((f"{label}/{Path(name).stem}",) if is_video else ())


def _of_manifest(rows: Iterable[ManifestRow]) -> Videos:
    clips: dict[str, tuple[str, ...]] = {}
    for row in rows:
        clips[row.path] = (*clips.get(row.path, ()), f"{row.label}/{row.clip_name}")
    return Videos(clips)


def remove_clips(dataset: Dataset, forgotten: Collection[str], earlier: Iterable[Videos]) -> bool:
    """Take clips out of the present version: their videos, and what lists name them.

    The folder is recorded by DVC then. After a kill, the next call completes it.

    Args:
        earlier: all versions: a video goes that one of them has for a forgotten clip alone.

    Returns:
        Whether there was something to do.

    Raises:
        InputError: the videos are not here, or nothing would be left of the data set.
    """
    if not dataset.folder.is_dir():
        remedy = f"dvc pull {dataset.path}.dvc"
        raise InputError(dataset.path, "is not here", remedy=remedy)
    paths = {path for videos in earlier for path in videos.only_of(forgotten)}
    with write_alone(dataset.folder):
        left = _forget_rows(dataset, forgotten)
        paths -= left
        _trim_lists(dataset.folder, forgotten)
        for path in sorted(paths):
            _remove_video(dataset.folder, path)
        if not _is_recorded_without(dataset, forgotten):
            add_data(Path(dataset.path), root=dataset.root)
            return True
    return False


def _forget_rows(dataset: Dataset, forgotten: Collection[str]) -> set[str]:
    """Take the rows out of the manifest, if there is one; return the videos of other clips."""
    present = dataset.read_present()
    left = {path for path, clips in present.clips.items() if not set(forgotten).issuperset(clips)}
    if present.clips and not left:
        raise InputError(
            dataset.path,
            "would hold no clip any more",
            remedy=f"to give up the whole data set: dvc remove {dataset.path}.dvc",
        )
    manifest = dataset.folder / MANIFEST_NAME
    if manifest.is_file():
        rows = read_manifest(manifest)
        kept = [row for row in rows if f"{row.label}/{row.clip_name}" not in forgotten]
        if len(kept) < len(rows):
            write_manifest(manifest, kept)
    return left


def _trim_lists(folder: Path, forgotten: Collection[str]) -> None:
    """Take lines out of the list files that the authors of a collection publish with it."""
    for path in sorted(folder.rglob("*list*.txt")):
        if _LIST.fullmatch(path.name) and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _clip_of_line(line) not in forgotten]
            if len(kept) < len(lines):
                write_text(path, "".join(f"{line}\n" for line in kept))


def _clip_of_line(line: str) -> str:
    # A name may hold spaces: only a number at the end is the class index.
    place = PurePosixPath(re.sub(r"\s+\d+$", "", line.strip()))
    return f"{place.parent}/{place.stem}"


def _remove_video(folder: Path, path: str) -> None:
    """Remove a video and the folders that hold nothing then; a link, not what it leads to."""
    try:
        check_relative(path)
    except ValueError:  # out of a list of somebody else's
        return
    place = folder / path
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        return
    place.unlink(missing_ok=True)
    while place.parent != folder and place.parent.is_dir() and not any(place.parent.iterdir()):
        place = place.parent
        place.rmdir()


def _is_recorded_without(dataset: Dataset, forgotten: Collection[str]) -> bool:
    """Whether what DVC has recorded of the folder names none of these clips."""
    from kinetrack.versioning.versions import read_version

    md5 = read_version(dataset.root).outputs.get(dataset.path, "")
    return dataset.read_version(md5).all_clips().isdisjoint(forgotten)
