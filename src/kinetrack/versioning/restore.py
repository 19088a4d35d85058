"""Which commands bring back what is damaged, missing or extra among the files that DVC tracks.

What they have to go round, as DVC 3.67 does it: no command replaces an object of the cache that is
there, however damaged, so it is removed first. `dvc checkout` leaves a file alone whose time and
size it knows. And it removes the whole folder when the object of one file in it cannot be had,
files that nothing else holds included: so nothing is checked out whose object may be missing.
`dvc commit` records whatever lies here: so it is named only where all of that is right. `dvc repro`
does that too with the files that a stage reads: so no stage is named while some of them are lost.
"""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from kinetrack.versioning.findings import Finding, Step
from kinetrack.versioning.questions import git_has, has_default_remote, is_up_to_date
from kinetrack.versioning.tracked import Tracked
from kinetrack.versioning.verify import CheckedFile, CheckedOutput

# So many files are named one by one in commands; more of them are brought back as a folder.
_MANY = 20
AGAIN = "then kinetrack verify again"


def find_damage(outputs: Sequence[CheckedOutput], *, root: Path) -> dict[Tracked, list[Finding]]:
    """Name everything that is not as recorded, by output, with the commands that restore it."""
    by_owner: dict[str, list[CheckedOutput]] = defaultdict(list)
    for output in outputs:
        by_owner[output.tracked.owner].append(output)
    owners = {name: _Owner(name, owned, root) for name, owned in by_owner.items()}
    lost = min((name for name, owner in owners.items() if owner.has_lost_input), default="")
    for owner in owners.values():
        owner.waits_for = lost
    return {
        output.tracked: []
        if output.is_right
        else list(_findings(output, owners[output.tracked.owner]))
        for output in outputs
    }


class _Owner:
    """A stage or a `.dvc` file, and what can be done about its outputs."""

    def __init__(self, name: str, outputs: Sequence[CheckedOutput], root: Path) -> None:
        self.name, self.outputs, self.root = name, outputs, root
        self.is_stage = outputs[0].tracked.is_stage
        # What has to be right before any stage runs; "" when all of it is.
        self.waits_for = ""

    @cached_property
    def can_fetch(self) -> bool:
        """Whether a remote may have what the cache has not."""
        return any(one.tracked.remote for one in self.outputs) or has_default_remote(self.root)

    @cached_property
    def is_right_here(self) -> bool:
        """Whether the workspace is as recorded: committing it changes no record."""
        return all(
            output.is_known
            and not output.extra
            and output.hostile is None
            and all(file.here == "right" for file in output.files)
            for output in self.outputs
        )

    @cached_property
    def has_lost(self) -> bool:
        """Whether a file of it is right nowhere on this machine."""
        files = (file for output in self.outputs for file in output.files)
        return not all(output.is_known for output in self.outputs) or any(map(_is_lost, files))

    @property
    def has_lost_input(self) -> bool:
        """Whether a stage that runs now may take what is left for a new version of the data."""
        return self.has_lost and not self.is_stage and any(out.is_here for out in self.outputs)

    @cached_property
    def is_up_to_date(self) -> bool:
        """Whether it may be committed: of a stage with other inputs that would hide the change."""
        return not self.is_stage or is_up_to_date(self.name, root=self.root)

    def show(self, path: Path) -> str:
        """A path for a command, short where it lies in the project."""
        is_inside = path.is_relative_to(self.root)
        return shlex.quote(str(path.relative_to(self.root) if is_inside else path))

    @property
    def remake(self) -> Step:
        """Have the stage make again what it makes."""
        return Step("make", f"dvc repro -f -s {shlex.quote(self.name)}")

    @property
    def bring_up_to_date(self) -> Step:
        """Have the stage run as it would anyway, after the stages before it."""
        return Step("make", f"dvc repro {shlex.quote(self.name)}")


def _is_lost(file: CheckedFile) -> bool:
    return file.here != "right" and file.cached in ("wrong", "missing")


def _findings(output: CheckedOutput, owner: _Owner) -> Iterator[Finding]:
    path = output.tracked.path
    if output.hostile is not None:
        problem = f"lists {output.hostile!r}, which leads out of it; nothing of it was checked"
        yield Finding(path, problem, advice="do not check it out; ask who made it")
    elif not output.is_here and output.tracked.is_cached:
        yield _find_absent(output, owner)
    elif not output.is_known:
        yield _find_unknown(output, owner)
    else:
        if output.list_state in ("wrong", "missing"):
            problem = f"{_cached_problem(output.list_state)} (the list of its files)"
            yield _find_uncached(path, problem, output.list_path, output.list_state, owner)
        yield from _find_in_files(output, owner)
        yield from (_find_extra(extra, owner) for extra in output.extra)


def _find_in_files(output: CheckedOutput, owner: _Owner) -> Iterator[Finding]:
    wrong = [file for file in output.files if not file.is_right]
    is_many = len(wrong) > _MANY and not output.extra
    is_whole = all(file.cached == "right" for file in output.files)
    as_folder = is_many and is_whole and output.list_state == "right"
    for file in wrong:
        if file.cached == "none":
            yield _find_in_git(file, owner)
        elif _is_lost(file):
            yield _find_lost(file, output, owner)
        elif file.here == "right":
            problem = _cached_problem(file.cached)
            yield _find_uncached(file.path, problem, file.cached_path, file.cached, owner)
        else:
            yield _find_changed(file, owner, folder=output.tracked.path if as_folder else None)


def _find_changed(file: CheckedFile, owner: _Owner, *, folder: str | None) -> Finding:
    """The cache has it right."""
    place = shlex.quote(folder or file.path)
    steps = [Step("check out", f"dvc checkout {place}")]
    if file.here == "wrong" or folder:
        # A file that DVC believes to know is not checked out again.
        options = "-rf" if folder or (owner.root / file.path).is_dir() else "-f"
        steps.insert(0, Step("remove", f"rm {options} {place}"))
    is_edit = file.here == "wrong" and not owner.is_stage
    advice = f"or, if the change is meant: {_add(owner)}" if is_edit else ""
    return Finding(file.path, file.problem, tuple(steps), advice)


def _find_uncached(
    path: str, problem: str, cached_path: Path | None, state: str, owner: _Owner
) -> Finding:
    """The workspace has it right."""
    assert cached_path is not None
    problem = f"{problem}; here it is right"
    remove = [_remove(owner.show(cached_path))] if state == "wrong" else []
    if owner.is_right_here:
        if owner.is_up_to_date:
            return Finding(path, problem, (*remove, Step("commit", _commit(owner))))
        return _have_made(path, problem, (*remove, owner.bring_up_to_date), owner)
    if owner.can_fetch:
        return Finding(path, problem, (*remove, _fetch(owner, path)))
    if owner.is_stage and owner.has_lost:
        return _have_made(path, problem, (*remove, owner.remake), owner)
    return Finding(path, problem, advice=f"restore the others of {owner.name}, {AGAIN}")


def _find_lost(file: CheckedFile, output: CheckedOutput, owner: _Owner) -> Finding:
    """Neither copy is right."""
    assert file.cached_path is not None
    problem = f"{file.problem}, and {_cached_problem(file.cached)}"
    here, cached = shlex.quote(file.path), owner.show(file.cached_path)
    wrong_here = [here] if file.here == "wrong" else []
    wrong_cached = [cached] if file.cached == "wrong" else []
    if owner.can_fetch:
        remove = [_remove(cached)] if wrong_cached else []
        # Only when it has come: the copy here may be all that there is.
        again = " && ".join([f"test -f {cached}", *(f"rm -f {one}" for one in wrong_here)])
        check_out = Step("make", f"{again} && dvc checkout {here}{_otherwise(owner, owner.remake)}")
        return Finding(file.path, problem, (*remove, _fetch(owner, file.path), check_out))
    if owner.is_stage:
        remove = [_remove(*wrong_here, *wrong_cached)] if wrong_here or wrong_cached else []
        return _have_made(file.path, problem, (*remove, owner.remake), owner)
    return Finding(file.path, problem, advice=_no_good_copy(output))


def _find_in_git(file: CheckedFile, owner: _Owner) -> Finding:
    """A report: Git has it, not the cache."""
    if git_has(file.path, file.md5, root=owner.root):
        step = Step("check out", f"git checkout HEAD -- {shlex.quote(file.path)}")
        return Finding(file.path, file.problem, (step,))
    return _have_made(file.path, file.problem, (owner.remake,), owner)


def _find_absent(output: CheckedOutput, owner: _Owner) -> Finding:
    """Nothing of it is here."""
    path, place = output.tracked.path, shlex.quote(output.tracked.path)
    files = output.files
    is_listed = output.list_state in ("right", "none") and output.is_known
    if is_listed and all(file.cached == "right" for file in files):
        problem = "is not here; the cache has it"
        return Finding(path, problem, (Step("check out", f"dvc checkout {place}"),))
    wrong = [file.cached_path for file in files if file.cached == "wrong" and file.cached_path]
    if output.list_state == "wrong":
        wrong.append(output.list_path)
    missing = sum(file.cached == "missing" for file in files)
    problem = "is not here, nor in the cache"
    if wrong or (is_listed and missing < len(files)):
        problem = (
            f"is not here; of {len(files)} objects in the cache {missing} are missing, "
            f"{len(wrong)} damaged"
        )
    remove = [_remove(owner.show(one)) for one in wrong]
    if owner.can_fetch:
        pull = f"dvc pull {place}{_otherwise(owner, owner.bring_up_to_date)}"
        return Finding(path, problem, (*remove, Step("fetch", pull)))
    if owner.is_stage:
        return _have_made(path, problem, (*remove, owner.bring_up_to_date), owner)
    return Finding(path, problem, advice=_no_good_copy(output))


def _find_unknown(output: CheckedOutput, owner: _Owner) -> Finding:
    """What its files were, only the list in the cache knew."""
    path = output.tracked.path
    if not output.tracked.is_cached:
        return _have_made(path, "is not as recorded", (owner.remake,), owner)
    problem = (
        f"is not as recorded, and {_cached_problem(output.list_state)} (the list of its files)"
    )
    remove = [_remove(owner.show(output.list_path))] if output.list_state == "wrong" else []
    if owner.can_fetch:
        otherwise = f"; should the remote not have it: {owner.remake.command}"
        advice = AGAIN + (otherwise if owner.is_stage else "")
        return Finding(path, problem, (*remove, _fetch(owner, path)), advice)
    if owner.is_stage:
        return _have_made(path, problem, (*remove, owner.remake), owner)
    advice = f"nothing knows what was recorded; {_add(owner)} records what is here"
    return Finding(path, problem, advice=advice)


def _find_extra(path: str, owner: _Owner) -> Finding:
    remove = f"rm -f {shlex.quote(path)}"
    if owner.is_stage:
        return Finding(path, "is not recorded", (Step("remove", remove),))
    return Finding(path, "is not recorded", advice=f"{_add(owner)} to keep it, or {remove}")


def _cached_problem(state: str) -> str:
    return f"its object in the cache is {'damaged' if state == 'wrong' else 'missing'}"


def _remove(*shown: str) -> Step:
    return Step("remove", f"rm -f {' '.join(shown)}")


def _fetch(owner: _Owner, path: str) -> Step:
    place = next(
        output.tracked.path
        for output in owner.outputs
        if path == output.tracked.path or path.startswith(f"{output.tracked.path}/")
    )
    return Step("fetch", f"dvc fetch {shlex.quote(place)}")


def _have_made(path: str, problem: str, steps: tuple[Step, ...], owner: _Owner) -> Finding:
    """Steps that run a stage, unless something else has to come first."""
    if owner.waits_for:
        return Finding(path, problem, advice=f"restore {owner.waits_for} first, {AGAIN}")
    return Finding(path, problem, steps)


def _otherwise(owner: _Owner, make: Step) -> str:
    return f" || {make.command}" if owner.is_stage and not owner.waits_for else ""


def _commit(owner: _Owner) -> str:
    return f"dvc commit -f {shlex.quote(owner.name)}"


def _add(owner: _Owner) -> str:
    return " ".join(["dvc add", *(shlex.quote(output.tracked.path) for output in owner.outputs)])


def _no_good_copy(output: CheckedOutput) -> str:
    folder = shlex.quote(output.tracked.path)
    return f"no good copy is left here: bring it back from its source, or import {folder} again"
