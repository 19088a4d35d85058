"""The lists that DVC keeps of a folder's files, read for their names and MD5s only.

Nothing is opened by a name out of them: `cache.folder_listing` is for that.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from kinetrack.errors import InputError
from kinetrack.files import file_md5
from kinetrack.versioning.cache import object_path
from kinetrack.versioning.tracked import is_md5


def read_listing(cache: Path, md5: str) -> dict[str, str] | None:
    """Return the MD5 of each file of a folder by its path; None when the cache has no such list.

    Raises:
        InputError: it is damaged: nobody knows what it named.
    """
    path = object_path(cache, md5)
    try:
        found = file_md5(path)
        entries = json.loads(path.read_bytes())
        files = {str(entry["relpath"]): entry["md5"] for entry in entries}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(path, "cannot be read", found=error.strerror) from None
    except (ValueError, RecursionError, TypeError, KeyError):
        raise _damaged(path) from None
    if f"{found}.dir" != md5 or not all(map(is_md5, files.values())):
        raise _damaged(path)
    return files


def list_listings(cache: Path) -> Iterator[str]:
    """MD5s of all lists in a cache, whether anything names them or not."""
    for path in sorted((cache / "files/md5").glob("[0-9a-f][0-9a-f]/*.dir")):
        md5 = path.parent.name + path.name
        if is_md5(md5):
            yield md5


def _damaged(path: Path) -> InputError:
    remedy = "kinetrack verify tells how to restore it; where no remote has it, remove it"
    return InputError(path, "is a damaged list of a folder's files", remedy=remedy)
