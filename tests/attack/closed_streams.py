"""Every command with standard streams that are closed, full, or pipes without a reader.

    python tests/attack/closed_streams.py

Prints a table of all commands and returns 1 if there are faults. The everyday suite tries the
quick ones.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).parents[1]))

from forked import Done, Forks, Stream
from small_commands import CASES, Case, contents, make_audio, make_inputs, timeless

from rescore.cli.reporting import INTERNAL

__all__ = ["KINDS", "one_line", "stream_faults", "to_standard_output"]

#: What may be wrong with a stream.
KINDS: tuple[Stream, ...] = tuple(kind for kind in get_args(Stream) if kind != "file")


def to_standard_output(case: Case) -> tuple[str, ...]:
    """The command line without its output option, where it can go without."""
    if case.output is None or case.is_required:
        return case.argv
    place = case.argv.index(case.output)
    if case.argv[place - 1] == "--json":
        return case.on("-")
    return case.argv[: place - 1] + case.argv[place + 1 :]


def stream_faults(case: Case, forks: Forks, folder: Path) -> Iterator[str]:
    """What is wrong with how a command takes streams that are not as they should be."""
    whole = forks.run(case.argv, folder / "whole")
    expected = contents(folder / "whole")
    for kind in KINDS:
        tried = folder / f"stderr-{kind}"
        done = forks.run(case.argv, tried, stderr=kind)
        printed, expected_print = (timeless("stdout", d.out.encode()) for d in (done, whole))
        is_equal = printed == expected_print and contents(tried) == expected
        if whole.status or done.status or not is_equal:
            yield f"standard error {kind}: {whole} {done}"
    for kind in KINDS:
        done = forks.run(to_standard_output(case), folder / f"stdout-{kind}", stdout=kind)
        writes_none = case.is_required and not whole.out
        if done.status if writes_none else _output_fault(done, kind):
            yield f"standard output {kind}: {done}"


def _output_fault(done: Done, kind: Stream) -> bool:
    """Whether a command did anything but end with status 1 and one line about what it lost."""
    last = (done.err.splitlines() or [""])[-1]
    says_so = last.startswith("standard output: cannot be written: ")
    return done.status != 1 or not one_line(done) or says_so != (kind != "pipe")


def one_line(done: Done) -> bool:
    """Whether a command that failed said why without a traceback or a fault of ours."""
    return "Traceback" not in done.err and INTERNAL not in done.err


def main() -> int:
    """Try all commands and print a table."""
    total = 0
    print("| command | streams | faults |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make_inputs(root / "in")
        make_audio(root / "in")
        with Forks(root / "in") as forks:
            for name, case in CASES.items():
                folder = root / name.replace(" ", "_")
                folder.mkdir()
                faults = list(stream_faults(case, forks, folder))
                total += len(faults)
                print(f"| {name} | {2 * len(KINDS)} | {len(faults)} |", flush=True)
                for fault in faults:
                    print(f"  {fault}"[:1000], file=sys.stderr, flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
