"""DVC's remotes, the second places of the data: which there are, and whether they answer.

DVC's own code opens them, with the settings and credentials that it would take itself. Nothing
here changes a remote.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from kinetrack.errors import InputError
from kinetrack.versioning.remote_objects import RemoteObjects, explain, open_objects

__all__ = [
    "Remote",
    "RemoteObjects",
    "check_remote",
    "find_remote",
    "list_remotes",
    "list_unsent",
    "open_remote",
    "secrets_in_git",
]

# In .dvc/config, in .dvc/config.local, in the user's own file, in the machine's.
Where = Literal["project", "local", "user", "system"]

_LEVELS: dict[str, Where] = {
    "repo": "project",
    "local": "local",
    "global": "user",
    "system": "system",
}
_CONFIG = ".dvc/config"
_CONFIG_LOCAL = ".dvc/config.local"
_SECRETS = (
    "access_key_id",
    "account_key",
    "client_secret",
    "connection_string",
    "custom_auth_header",
    "gdrive_client_secret",
    "oss_key_id",
    "oss_key_secret",
    "passphrase",
    "password",
    "sas_token",
    "secret_access_key",
    "session_token",
    "sse_customer_key",
    "token",
)
_ASKING = ("ask_password", "ask_passphrase")
_OPENED_WITHIN_S = 60
_LONGEST = 200
_CHILD = "from kinetrack.versioning.remote_objects import answer; answer()"


class Remote(NamedTuple):
    """A remote, as DVC's configuration files have it; `url` is without a password."""

    name: str
    url: str
    is_default: bool
    where: tuple[Where, ...] = ()
    """Which files have settings of it."""
    asks_password: bool = False
    """Whether DVC asks a person each time, so that nothing can try it alone."""


def list_remotes(root: Path) -> list[Remote]:
    """List the remotes that DVC knows here, sorted by name.

    Raises:
        InputError: the project is not under DVC, or a configuration file cannot be read.
    """
    config = _read_config(root)
    default = config["core"].get("remote")
    levels = {where: config.read(level)["remote"] for level, where in _LEVELS.items()}
    return [
        Remote(
            name,
            _without_password(options["url"]),
            is_default=name == default,
            where=tuple(where for where, remotes in levels.items() if name in remotes),
            asks_password=any(options.get(option) for option in _ASKING),
        )
        for name, options in sorted(config["remote"].items())
    ]


def find_remote(root: Path, name: str | None) -> Remote:
    """Return a remote by its name, or for None the default one.

    Raises:
        InputError: there is none of this name, or none at all.
    """
    remotes = list_remotes(root)
    for remote in remotes:
        if remote.is_default if name is None else remote.name == name.lower():
            return remote
    if not remotes:
        raise InputError(_CONFIG, "names no remote", remedy="dvc remote add -d team ADDRESS")
    names = ", ".join(remote.name for remote in remotes)
    if name is None:
        remedy = f"dvc remote default {shlex.quote(remotes[0].name)}"
        raise InputError(_CONFIG, "names no default remote", found=names, remedy=remedy)
    raise InputError(name, "is no remote of this project", expected=names, remedy="dvc remote list")


def secrets_in_git(root: Path) -> list[str]:
    """Name the options with a secret that Git shows to all, or will with the next commit.

    As `dvc remote modify` and `dvc config` take them, `remote.team.password`; never their values.
    """
    # The second one Git ignores, unless somebody has forced it in.
    is_forced = _git(root, "ls-files", "--", _CONFIG_LOCAL) != ""
    names = [_CONFIG, _CONFIG_LOCAL] if is_forced else [_CONFIG]
    texts = [_git(root, "show", f"HEAD:./{name}") for name in names]
    files = [root / name for name in names if (root / name).is_file()]
    texts += [file.read_text("utf-8", "replace") for file in files]
    return sorted({option for text in texts for option in _find_secrets(text)})


def check_remote(root: Path, name: str, *, timeout_s: float) -> str | None:
    """Try to reach a remote, in a process of its own that is ended after `timeout_s`.

    None when it answers, else what is wrong, without passwords. A remote that asks a person for a
    password is not tried.

    Raises:
        InputError: there is no such remote.
    """
    remote = find_remote(root, name)
    if remote.asks_password:
        return "DVC asks a person for its password each time, so it was not tried"
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(root), remote.name],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Without a terminal nobody is asked for the passphrase of a key.
        start_new_session=True,
    )
    try:
        answer, error = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return f"does not answer within {timeout_s:g} s"
    finally:
        _end(child)
    if child.returncode != 0:
        lines = error.strip().splitlines() or [f"exit code {child.returncode}"]
        return _mask(lines[-1][:_LONGEST], root, remote)
    trouble: str | None = json.loads(answer.splitlines()[-1])
    return trouble and _mask(trouble, root, remote)


def open_remote(root: Path, name: str | None) -> RemoteObjects:
    """Open a remote, for None the default one, to see what it holds.

    Raises:
        InputError: there is no such remote, or it cannot be reached.
    """
    remote = find_remote(root, name)
    if not remote.asks_password:
        trouble = check_remote(root, remote.name, timeout_s=_OPENED_WITHIN_S)
        if trouble:
            raise _unreachable(remote, trouble)
    try:
        objects, _ = open_objects(root, remote.name)
    except Exception as error:  # each kind of remote has its own
        raise _unreachable(remote, _mask(explain(error), root, remote)) from None
    return RemoteObjects(remote.name, remote.url, objects)


def list_unsent(root: Path, name: str) -> dict[str, str]:
    """Return why `dvc push -r NAME` leaves an output out, by its path; of those that it does.

    Raises:
        InputError: DVC cannot read the project's files.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    unsent: dict[str, str] = {}
    try:
        with closing(Repo(str(root))) as repo:
            for out in repo.index.outs:
                if why := _why_unsent(out, name):
                    unsent[os.path.relpath(out.fs_path, root)] = why
    except DvcException as error:
        remedy = "dvc status tells more"
        raise InputError(root, "DVC cannot read", found=explain(error), remedy=remedy) from None
    return unsent


def _why_unsent(out: Any, name: str) -> str:
    """Why DVC does not push one of its outputs; empty when it does."""
    if out.stage.is_repo_import:
        return "comes from another project, and DVC pushes no copy"
    if not out.can_push:
        return "is not to be pushed (push: false)"
    if out.remote and out.remote != name:
        return f"has a remote of its own, {out.remote}"
    return ""


def _read_config(root: Path) -> Any:
    from dvc.config import Config, ConfigError

    if not (root / ".dvc").is_dir():
        raise InputError(root, "is not under DVC", remedy="dvc init")
    try:
        return Config(dvc_dir=str(root / ".dvc"))
    except (ConfigError, OSError) as error:
        remedy = f"mend it, or git checkout {_CONFIG}"
        raise InputError(
            root / _CONFIG, "cannot be read", found=explain(error), remedy=remedy
        ) from None


def _unreachable(remote: Remote, trouble: str) -> InputError:
    problem = f"the remote {remote.name} cannot be reached"
    remedy = "look at the net and your credentials, and at the address: dvc remote list"
    return InputError(remote.url, problem, found=trouble, remedy=remedy)


def _mask(text: str, root: Path, remote: Remote) -> str:
    """Take the secrets out of what a client says."""
    options = _read_config(root)["remote"][remote.name]
    secrets = [options.get(option) for option in _SECRETS]
    for secret in filter(None, [*secrets, urlsplit(str(options["url"])).password]):
        text = text.replace(str(secret), "***")
    return text


def _without_password(url: str) -> str:
    """Leave out of an address what is not for others: a password, a query."""
    if "://" not in url:
        return str(url)
    parts = urlsplit(url)
    person, at, host = parts.netloc.rpartition("@")
    user = person.partition(":")[0]
    return urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path, "", ""))


def _git(root: Path, *arguments: str) -> str:
    """What Git says; nothing where it fails, as without a commit."""
    result = subprocess.run(
        ["git", *arguments],
        cwd=root,
        capture_output=True,
        check=False,
        encoding="utf-8",
        errors="replace",
    )
    return result.stdout if result.returncode == 0 else ""


def _find_secrets(text: str) -> Iterator[str]:
    """Options of a configuration file that are a secret, or hold one."""
    from configobj import ConfigObj, ConfigObjError

    try:
        content = ConfigObj(text.splitlines(), interpolation=False)
    except ConfigObjError as error:  # as in the middle of a merge: what could be read
        content = error.config
    for section in content.sections:
        name = section.replace('"', "").replace(" ", ".")
        for option, value in content[section].items():
            is_secret = option.lower() in _SECRETS
            holds_secret = option.lower() == "url" and urlsplit(str(value)).password
            if value and (is_secret or holds_secret):
                yield f"{name}.{option}".lower()


def _environment() -> dict[str, str]:
    # The same code as this, however it was found.
    ours = str(Path(__file__).resolve().parents[2])
    paths = [ours, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _end(child: "subprocess.Popen[str]") -> None:
    """End a process and what it has started, whatever they are at."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()
