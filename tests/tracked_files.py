"""Files under DVC for tests that need no DVC: a `.dvc` file, the files, and their cache objects."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

CACHE = ".dvc/cache"


def md5_of(content: bytes) -> str:
    """What DVC calls a file of this content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def track_folder(root: Path, name: str, files: Mapping[str, bytes]) -> str:
    """Write a folder of files, its objects and `<name>.dvc`; return the MD5 of the folder."""
    for path, content in files.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_bytes(content)
        put_object(root, content)
    return track_listing(root, name, {path: md5_of(content) for path, content in files.items()})


def track_listing(root: Path, name: str, md5s: Mapping[str, str]) -> str:
    """Write the list of a folder's files into the cache, and `<name>.dvc`."""
    entries = [{"md5": md5, "relpath": path} for path, md5 in sorted(md5s.items())]
    listing = json.dumps(entries, sort_keys=True).encode()
    md5 = f"{md5_of(listing)}.dir"
    put_object(root, listing, md5=md5)
    entry = f"outs:\n- md5: {md5}\n  hash: md5\n  path: {Path(name).name}\n"
    (root / f"{name}.dvc").parent.mkdir(parents=True, exist_ok=True)
    (root / f"{name}.dvc").write_text(entry)
    return md5


def put_object(root: Path, content: bytes, *, md5: str = "") -> Path:
    """Write an object of the cache, read-only as DVC does."""
    path = object_file(root, md5 or md5_of(content))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    return path


def object_file(root: Path, md5: str) -> Path:
    """Where the cache of a project has an object."""
    return root / CACHE / "files/md5" / md5[:2] / md5[2:]


def overwrite(path: Path, content: bytes) -> None:
    """Write other bytes in place, whatever the mode says, and leave the mode as it was."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
