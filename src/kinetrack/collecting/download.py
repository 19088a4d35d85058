"""One archive from a web address: whole and checked, or not there at all."""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from pooch import HTTPDownloader
from requests import Response
from requests.exceptions import HTTPError, RequestException
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from kinetrack.collecting.archive_formats import ARCHIVE_SUFFIXES, is_archive_name
from kinetrack.data.names import check_name
from kinetrack.errors import InputError
from kinetrack.files import atomic_file

_CHUNK_BYTES = 2**20
_REMEDY = "try again, or get it in another way and import the file"


class Download(NamedTuple):
    """A whole file; `sha256` is what was found, in hexadecimal digits."""

    path: Path
    sha256: str


class _Checksum(NamedTuple):
    algorithm: str
    digits: str


def download(url: str, folder: Path, *, checksum: str | None, timeout_s: float = 60.0) -> Download:
    """Download an archive into `folder`, under the name that the address ends in.

    `checksum` is `sha256:<hex>` or `md5:<hex>`. A file that has the name already is an earlier,
    finished download: it is taken, unless the checksum says otherwise. `timeout_s` is the longest
    silence of the server. On a terminal a bar shows progress; elsewhere nothing is printed.

    Raises:
        InputError: no http or https address of an archive, a server that fails, another checksum,
            or too little room; nothing is left then.
    """
    path = folder / _archive_name(url)
    wanted = None if checksum is None else _parse_checksum(checksum)
    if path.is_file():
        with path.open("rb") as file:
            if wanted is None or _digest(file, wanted.algorithm) == wanted.digits:
                return Download(path, _digest(file, "sha256"))
    with atomic_file(path) as file:
        _fetch(url, file, folder=folder, timeout_s=timeout_s)
        if wanted is not None:
            _check_content(url, file, wanted)
        return Download(path, _digest(file, "sha256"))


def _archive_name(url: str) -> str:
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(
                _shown(url), "is no address to download", expected="http:// or https://"
            )
        name = check_name(unquote(parts.path.rpartition("/")[2], errors="strict"))
    except ValueError as error:
        raise InputError(_shown(url), "names no file", found=error) from None
    if not is_archive_name(name):
        raise InputError(
            _shown(url),
            "is no address of an archive",
            expected=f"an end in {' '.join(ARCHIVE_SUFFIXES)}",
            remedy="get it in another way and import the file",
        )
    return name


def _shown(url: str) -> str:
    """The address without what may be secret: user, password and query."""
    return re.sub(r"^([^:/?#]+://)([^/?#]*@)?([^?#]*).*$", r"\1\3", url, flags=re.DOTALL)


def _parse_checksum(checksum: str) -> _Checksum:
    match = re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum.lower())
    if not match:
        raise InputError(
            "checksum",
            "is none",
            found=repr(checksum),
            expected="sha256: and 64 hexadecimal digits, or md5: and 32",
        )
    algorithm, _, digits = checksum.lower().partition(":")
    return _Checksum(algorithm, digits)


def _fetch(url: str, file: IO[bytes], *, folder: Path, timeout_s: float) -> None:
    # pooch leaves an answer open after an error.
    with _progress_bar(url) as bar, _in_one_line(url), ExitStack() as answers:
        check = partial(_check_answer, url=url, folder=folder, answers=answers)
        fetch = HTTPDownloader(
            progressbar=bar,
            chunk_size=_CHUNK_BYTES,
            timeout=timeout_s,
            headers={"Accept-Encoding": "identity"},
            hooks={"response": check},
        )
        fetch(url, file, None)


def _check_answer(
    response: Response, *, url: str, folder: Path, answers: ExitStack, **_: object
) -> None:
    """Judge the head of an answer, that of a redirection too, before its body is read."""
    answers.enter_context(response)
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        allowed = {"https", urlsplit(response.url).scheme}
        if urlsplit(target).scheme not in allowed:
            raise InputError(_shown(url), f"leads on to {_shown(target)}", remedy=_REMEDY)
    # Some servers declare the packing of the archive as one of the transfer, and requests would
    # unpack it: other bytes than the checksum's, and a bomb if they mean it.
    response.raw.headers.pop("content-encoding", None)
    free = shutil.disk_usage(folder).free
    size = response.headers.get("content-length", "0")
    if size.isdecimal() and int(size) > free:
        raise InputError(
            _shown(url),
            f"does not fit on the disk of {folder}",
            found=f"{free} bytes free",
            expected=f"{size} bytes",
            remedy="make room",
        )


@contextmanager
def _in_one_line(url: str) -> Iterator[None]:
    try:
        yield
    # ValueError: a header that is no number, an address that only shows as broken now.
    except (RequestException, ValueError) as error:
        raise InputError(
            _shown(url), "cannot be downloaded", found=_cause(error), remedy=_REMEDY
        ) from None


def _cause(error: BaseException) -> str:
    if isinstance(error, HTTPError) and error.response is not None:
        return f"status {error.response.status_code} {error.response.reason}"
    # The outer ones are long and repeat the address with its query.
    while error.__context__ is not None:
        error = error.__context__
    return str(error) or type(error).__name__


def _check_content(url: str, file: IO[bytes], wanted: _Checksum) -> None:
    found = _digest(file, wanted.algorithm)
    if found != wanted.digits:
        raise InputError(
            _shown(url),
            "gives a file with another checksum",
            found=f"{wanted.algorithm}:{found}",
            expected=f"{wanted.algorithm}:{wanted.digits}",
            remedy="try again; if it stays so, the file is not the one that the checksum is of",
        )


def _digest(file: IO[bytes], algorithm: str) -> str:
    found = hashlib.new(algorithm, usedforsecurity=False)
    file.seek(0)
    while chunk := file.read(_CHUNK_BYTES):
        found.update(chunk)
    return found.hexdigest()


class _Bar:
    """A progress bar as pooch drives it."""

    def __init__(self, progress: Progress, description: str) -> None:
        self.total = 0  # in bytes; pooch sets it, 0 if the server does not say
        self._progress = progress
        self._task = progress.add_task(description, total=None)

    def update(self, num_bytes: int) -> None:
        """Go on by so many bytes."""
        self._progress.update(self._task, total=self.total or None, advance=num_bytes)

    def reset(self) -> None:
        """Go back to nothing, as pooch does before it reports the whole."""
        self._progress.reset(self._task)

    def close(self) -> None:
        """Do nothing: the bar ends after an error too, which pooch does not tell."""


@contextmanager
def _progress_bar(url: str) -> Iterator[_Bar]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        yield _Bar(progress, f"Downloading {_archive_name(url)}")
