"""The standing attack on everything that is read: `make attack`.

    python tests/attack/campaign.py --minutes 30
    python tests/attack/campaign.py --cases 10000 --seed 7 --target journal

Every case replaces or damages one file of a target (targets.py, mutations.py) and opens it in a
worker under a limit on memory and time (worker.py). A case is a fault if it ends in anything but
a result that the files can mean or a RescoreError of one line that names the file. Faults are
printed with the arguments that repeat them. Returns 1 if there are any.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

for folder in (Path(__file__).parent.parent, Path(__file__).parent):
    sys.path.insert(0, str(folder))

from mutations import HOSTILE  # noqa: E402
from targets import TARGETS  # noqa: E402
from worker import SECONDS  # noqa: E402

__all__ = ["Case", "attack", "hostile_cases", "mixed", "mutations"]

#: Seconds after which a worker that does not answer is killed. It stops itself after `SECONDS` of
#: processor time, unless it waits or is inside a library; and the machine may be busy.
PATIENCE = 12 * SECONDS

#: How the names of slow targets begin.
SLOW = ("checkpoint", "Hugging", "state of a training", "corpus of")

#: Files of a target that hostile files replace, one after the other.
_FILES = 6


class Case(NamedTuple):
    """One attempt: a hostile file of that name, or random damage of that number."""

    target: str
    hostile: str | None
    number: int


def hostile_cases(targets: Iterable[str] = TARGETS) -> list[Case]:
    """Every hostile file in place of every file of every target."""
    return [Case(target, name, i) for target in targets for name in HOSTILE for i in range(_FILES)]


def mutations(seed: int, targets: Iterable[str] = TARGETS) -> Iterator[Case]:
    """Random damage without an end, target after target; a slow target gets a turn in four."""
    chance, names = random.Random(seed), list(targets)
    for turn in range(sys.maxsize):
        for name in names:
            if turn % 4 == 0 or not name.startswith(SLOW):
                yield Case(name, None, chance.randrange(2**48))


def mixed(hostile: list[Case], damage: Iterable[Case], seed: int) -> Iterator[Case]:
    """One hostile file, three cases of damage, and so on; then what is left of either."""
    random.Random(seed).shuffle(hostile)
    rest = iter(damage)
    for case in hostile:
        yield case
        yield from itertools.islice(rest, 3)
    yield from rest


class _Worker:
    """The process that tries cases; started again after one that it did not survive."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def answer(self, case: Case) -> str | bool | None:
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("worker.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        process.stdin.write(json.dumps(case).encode() + b"\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        line = process.stdout.readline() if ready else b""
        if line:
            return json.loads(line)
        self.close()
        return f"the process died with status {process.returncode}" if ready else "hangs"

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


def attack(cases: Iterable[Case], until: float) -> tuple[Counter[str], dict[Case, str]]:
    """(cases tried by target, faults) until the cases end or `time.monotonic()` is `until`."""
    worker, tried, faults = _Worker(), Counter[str](), {}
    try:
        for case in cases:
            if time.monotonic() > until:
                break
            wrong = worker.answer(case)
            if wrong is False:
                continue
            tried[case.target] += 1
            if wrong is not None:
                faults[case] = wrong
    finally:
        worker.close()
    return tried, faults


def main(arguments: list[str]) -> int:
    """Attack, and print a table of cases and faults. Returns 1 if there are faults."""
    parser = argparse.ArgumentParser(description="Attack every reader with hostile files.")
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after this time")
    parser.add_argument("--cases", type=int, help="random cases, besides the hostile files")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other damage")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="only this one")
    parser.add_argument("--random-only", action="store_true", help="no hostile files")
    parser.add_argument("--repeat", type=int, metavar="NUMBER", help="one case, by its number")
    parser.add_argument("--hostile", choices=sorted(HOSTILE), help="with --repeat: the file")
    chosen = parser.parse_args(arguments)
    targets = chosen.target or list(TARGETS)
    hostile = [] if chosen.random_only else hostile_cases(targets)
    damage = itertools.islice(mutations(chosen.seed, targets), chosen.cases)
    cases = mixed(hostile, damage, chosen.seed)
    if chosen.repeat is not None:
        cases = iter([Case(target, chosen.hostile, chosen.repeat) for target in targets])
    tried, faults = attack(cases, time.monotonic() + 60 * chosen.minutes)
    by_target = Counter(case.target for case in faults)
    print("| target | cases | faults |\n|---|---|---|")
    for target, count in tried.items():
        print(f"| {target} | {count:,} | {by_target[target]:,} |")
    print(f"| together | {tried.total():,} | {len(faults):,} |", flush=True)
    for case, wrong in faults.items():
        hostile = f" --hostile {case.hostile!r}" if case.hostile else ""
        print(f"--target {case.target!r}{hostile} --repeat {case.number}: {wrong}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
