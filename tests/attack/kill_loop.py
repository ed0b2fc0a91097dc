"""Kills every command and runs it again: it must end with the bytes of a run that nobody killed.

    python tests/attack/kill_loop.py --kills 500

A command is killed by SIGKILL, SIGTERM, SIGINT or SIGHUP at random moments, up to three times
before it may end; `--steps` kills it by SIGKILL before and after each of its calls that touch the
disk instead, and `--calls` at each system call that does, by strace. Prints a table and returns 1
if there are faults.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from forked import COUNTER, Done, Forks, Stop
from small_commands import AUDIO, CASES, Case, contents, make_audio, make_inputs, timeless

__all__ = ["SIGNALS", "Tally", "Victim"]

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_KILLS_A_RUN = 3

#: System calls that change what is on the disk, or open it.
_CALLS = (
    *("openat", "write", "pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "flock"),
    *("mkdir", "rename", "renameat", "renameat2", "unlink", "unlinkat", "rmdir", "link", "symlink"),
)


@dataclass
class Tally:
    """What happened to one command: kills that ended it, and faults."""

    kills: int = 0
    signals: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)


class Victim:
    """One command that is killed; it knows the bytes and the seconds of an undisturbed run."""

    def __init__(self, name: str, case: Case, forks: Forks, root: Path) -> None:
        self.tally = Tally()
        self._name, self._case, self._forks = name, case, forks
        self._folder = root / "killed"
        whole = root / "whole"
        done = forks.run(case.argv, whole)
        assert done.status == 0, f"{name}: {done}"
        self._out, self._expected = _printed(done), contents(whole)
        self.seconds = forks.run(case.argv, root / "timed").seconds
        self.steps = done.steps

    def kill_at_random(self, chance: random.Random) -> None:
        """Kill a fresh run up to three times, then let it end."""
        self._begin()
        for _ in range(chance.randint(1, _KILLS_A_RUN)):
            number = chance.choice(SIGNALS)
            stop = Stop(number, seconds=chance.uniform(0, 1.1 * self.seconds))
            done = self._forks.run(self._case.argv, self._folder, stop=stop)
            if done.status == 0:  # it was faster than the signal
                break
            self._count(done, number)
        self._end(f"{self.tally.kills} kills")

    def kill_at_step(self, step: int) -> None:
        """Kill a fresh run at one step, then let it end."""
        self._begin()
        done = self._forks.run(self._case.argv, self._folder, stop=Stop(step=step))
        if done.status == 0:
            return
        self._count(done, signal.SIGKILL)
        self._end(f"step {step}")

    def kill_at_calls(self) -> None:
        """Kill a fresh run at each of its system calls that touch the disk, then let it end."""
        log = self._folder.with_name("calls")
        trace = f"trace={','.join(_CALLS)}"
        self._begin()
        self._forks.run(self._case.argv, self._folder, strace=("-o", str(log), "-e", trace))
        for name, number in _changing_calls(log.read_text()):
            self._begin()
            inject = f"inject={name}:signal=SIGKILL:when={number}"
            strace = ("-o", os.devnull, "-e", f"trace={name}", "-e", inject)
            done = self._forks.run(self._case.argv, self._folder, strace=strace)
            if done.status:  # there may be fewer calls than before
                self._count(done, signal.SIGKILL)
                self._end(f"{name} {number}")

    def _begin(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _count(self, done: Done, number: int) -> None:
        self.tally.kills += 1
        self.tally.signals.add(number)
        # -1: before the command's own handler of SIGHUP or SIGTERM was in place
        if done.status not in (130, -number):
            self.tally.faults.append(f"{self._name}: signal {number} gave {done}")
        if "Traceback" in done.err or "Exception" in done.err:
            self.tally.faults.append(f"{self._name}: signal {number} gave a traceback: {done.err}")

    def _end(self, after: str) -> None:
        done = self._forks.run(self._case.argv, self._folder)
        if done.status:
            self.tally.faults.append(f"{self._name}, {after}: cannot be run again: {done}")
            return
        ended = contents(self._folder)
        wrong = [
            name
            for name in sorted(ended.keys() | self._expected.keys())
            if ended.get(name) != self._expected.get(name)
        ]
        if wrong or _printed(done) != self._out:
            self.tally.faults.append(f"{self._name}, {after}: other bytes in {wrong}")


def _changing_calls(log: str) -> list[tuple[str, int]]:
    """The calls that change something on the disk: name, and number among the thread's of it."""
    counts: Counter[tuple[str, str]] = Counter()
    calls = []
    for thread, name, arguments in re.findall(r"^(\d+) +(\w+)\((.*)", log, flags=re.MULTILINE):
        counts[thread, name] += 1
        is_read = name == "openat" and not re.search("O_(CREAT|WRONLY|RDWR)", arguments)
        if not is_read and not arguments.startswith(f"{COUNTER},"):
            calls.append((name, counts[thread, name]))
    return list(dict.fromkeys(calls))


def _printed(done: Done) -> bytes:
    return timeless("stdout", done.out.encode())


def _victims(names: list[str], forks: Forks, root: Path) -> Iterator[tuple[str, Victim]]:
    for name in names:
        folder = root / name.replace(" ", "_")
        folder.mkdir()
        yield name, Victim(name, CASES[name], forks, folder)


def main(arguments: list[str]) -> int:
    """Kill the commands and print a table."""
    parser = argparse.ArgumentParser(description="Kill every command and run it again.")
    parser.add_argument("--kills", type=int, default=500, help="kills of all commands together")
    parser.add_argument("--steps", action="store_true", help="kill at every step on disk instead")
    parser.add_argument("--calls", action="store_true", help="kill at every system call instead")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="this one only")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other moments")
    chosen = parser.parse_args(arguments)
    names, chance = chosen.case or list(CASES), random.Random(chosen.seed)
    faults, kills = 0, 0
    print("| command | signals | kills | faults |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_inputs(root / "in")
        if set(names) & AUDIO:
            make_audio(root / "in")
        with Forks(root / "in") as forks:
            for name, victim in _victims(names, forks, root):
                if chosen.calls:
                    victim.kill_at_calls()
                elif chosen.steps:
                    for step in range(1, victim.steps + 1):
                        victim.kill_at_step(step)
                else:
                    while victim.tally.kills < chosen.kills / len(names):
                        victim.kill_at_random(chance)
                tally = victim.tally
                signals = ", ".join(sorted(signal.Signals(n).name for n in tally.signals))
                print(f"| {name} | {signals} | {tally.kills} | {len(tally.faults)} |", flush=True)
                for fault in tally.faults[:10]:
                    print(f"  {fault}"[:1000], file=sys.stderr, flush=True)
                faults, kills = faults + len(tally.faults), kills + tally.kills
    print(f"| all | | {kills} | {faults} |")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
