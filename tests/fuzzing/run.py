"""Fuzz the parsers, guided by what parts of the code an input reaches: `make fuzz`.

`python -m tests.fuzzing.run` fuzzes every target, `... names params` these two. What reaches
something new is kept in `build/fuzzing/<target>/` for the next run; with `--keep` the smallest set
of files that reaches as much goes into `tests/fuzzing/corpus/`, which the fast tests replay. An
input that breaks a promise ends its target, and lies in `build/fuzzing/` as `<target>-crash-...`.
"""

import argparse
import hashlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).with_name("corpus")
FOUND = ROOT / "build/fuzzing"
# A parser's input is small; what is longer is mostly slower.
MOST_BYTES = 4096
MOST_BYTES_OF = {"params": 2048, "containers": 16_384, "frames": 8192}
# The process of a target is ended above this, and an input that takes so long is a finding.
MOST_MEMORY_MB, MOST_SECONDS = 3000, 60
INSTRUMENTED = ["kinetrack", "yaml", "csv", "json", "zipfile", "tarfile", "rarfile"]
_INSIDE = "--inside"


class Outcome(NamedTuple):
    """What came of fuzzing one target; `edges` and `features` as libFuzzer counts them."""

    target: str
    seconds: float
    runs: int
    edges: int
    features: int
    files: int
    crashes: list[Path]
    log: str

    def describe(self) -> str:
        """One line."""
        found = f"FOUND {', '.join(map(str, self.crashes))}" if self.crashes else "nothing found"
        return (
            f"{self.target}: {self.seconds:.0f} s, {self.runs} runs, {self.edges} edges,"
            f" {self.features} features, {self.files} files in the corpus; {found}"
        )

    def explain(self) -> str:
        """The end of what was printed, without the bytes of the input."""
        lines = [line for line in self.log.splitlines() if "0x" not in line and line[:1] != "#"]
        return "".join(f"  {line[:300]}\n" for line in lines[-40:])


def fuzz(target: str, found: Path, *limits: str) -> Outcome:
    """Fuzz one target in a process of its own; new inputs go to `found/<target>`."""
    corpus = found / target
    corpus.mkdir(parents=True, exist_ok=True)
    arguments = [*limits, str(corpus), str(CORPUS / target)]
    began = time.monotonic()
    log = call_fuzzer(target, f"-artifact_prefix={found}/{target}-", *arguments)
    numbers = [0, 0, 0]
    for line in log.splitlines():
        if match := re.match(r"#(\d+)\s.*\bcov: (\d+) ft: (\d+)", line):
            numbers = [int(number) for number in match.groups()]
    crashes = sorted(path for path in found.glob(f"{target}-*") if path.is_file())
    seconds = time.monotonic() - began
    files = sum(1 for _ in corpus.iterdir()) + sum(1 for _ in (CORPUS / target).iterdir())
    return Outcome(target, seconds, *numbers, files, crashes, log)


def keep_smallest(target: str, found: Path) -> None:
    """Put into the kept corpus what reaches as much as all of it and all that was found."""
    kept = CORPUS / target
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        # By branches alone: with how often each is taken, twice as many files are kept.
        how = ("-set_cover_merge=1", "-use_counters=0")
        call_fuzzer(target, *how, folder, str(kept), str(found / target))
        names = {path.read_bytes(): path.name for path in kept.iterdir()}
        smallest = sorted(path.read_bytes() for path in Path(folder).iterdir())
    for content in smallest:
        name = names.get(content) or hashlib.sha256(content).hexdigest()[:12]
        (kept / name).write_bytes(content)
    for content, name in names.items():
        # What a person named after its fault stays, whatever it reaches.
        if content not in smallest and re.fullmatch(r"[0-9a-f]{12}", name):
            (kept / name).unlink()


def call_fuzzer(target: str, *arguments: str) -> str:
    """Run libFuzzer on one target; what it printed."""
    command = [sys.executable, "-m", "tests.fuzzing.run", _INSIDE, target]
    limits = [
        f"-max_len={MOST_BYTES_OF.get(target, MOST_BYTES)}",
        f"-timeout={MOST_SECONDS}",
        f"-rss_limit_mb={MOST_MEMORY_MB}",
        f"-dict={Path(__file__).with_name('words.txt')}",
    ]
    # One thread: inputs are small, and threads that wait for others wait busily.
    paths = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    environ = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *limits, *arguments],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout.decode("utf-8", "replace")


def run_inside(target: str, arguments: Sequence[str]) -> None:
    """In the process of one target: instrument its parser, and give the process to libFuzzer."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzzing.targets import TARGETS

        parse = TARGETS[target]()
    # To merge, libFuzzer starts itself by its first argument, through a shell.
    again = shlex.join([sys.executable, "-m", "tests.fuzzing.run", _INSIDE, target])
    atheris.Setup([again, *arguments], parse)
    atheris.Fuzz()


def main() -> None:
    """Fuzz the targets that are named, one after the other."""
    from tests.fuzzing.targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"default: all of {', '.join(TARGETS)}")
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target")
    parser.add_argument("--runs", type=int, help="for each target, instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="put what was found into the corpus")
    options = parser.parse_args()
    limit = f"-max_total_time={round(options.minutes * 60)}"
    if options.runs:
        limit = f"-runs={options.runs}"
    outcomes = []
    for target in options.targets or TARGETS:
        outcome = fuzz(target, FOUND, limit, f"-seed={options.seed}")
        outcomes.append(outcome)
        sys.stdout.write(f"{outcome.describe()}\n")
        sys.stdout.flush()
        if outcome.crashes or not outcome.runs:
            sys.stdout.write(outcome.explain())
        elif options.keep:
            keep_smallest(target, FOUND)
    sys.exit(any(outcome.crashes for outcome in outcomes))


if __name__ == "__main__":
    if sys.argv[1:2] == [_INSIDE]:
        run_inside(sys.argv[2], sys.argv[3:])
    else:
        main()
