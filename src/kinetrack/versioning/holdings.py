"""Whether DVC's cache still has the bytes of a file or folder; `kinetrack verify` reads them."""

import re
from pathlib import Path
from typing import Literal

from kinetrack.versioning.cache import folder_listing, object_path

Held = Literal["yes", "no", "part"]


def holds(cache: Path, md5: str) -> Held:
    """Tell whether the cache has the content of this MD5; of a folder, that of all its files.

    The files are looked for, not read. A folder whose list is missing or damaged is not held.

    Args:
        md5: 32 hexadecimal digits, for a folder with ".dir" behind; anything else is not held.
    """
    if re.fullmatch(r"[0-9a-f]{32}", md5):
        return "yes" if _is_there(cache, md5) else "no"
    files = folder_listing(cache, md5)
    if files is None:
        return "no"
    found = [_is_there(cache, file) for file in set(files.values())]
    if all(found):
        return "yes"
    return "part" if any(found) else "no"


def _is_there(cache: Path, md5: str) -> bool:
    return object_path(cache, md5).is_file()
