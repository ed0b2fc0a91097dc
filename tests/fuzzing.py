"""Random lists and random damage for every registered format.

    python tests/fuzzing.py --cases 10000              # every format; a table of cases and failures
    python tests/fuzzing.py --cases 10000 --format trn --seed 7

A case is a round trip or a damaged file.

- Round trip: random lists, written as the format has them, read back as what the format keeps of
  them: plain, gzipped, with CRLF and with a byte order mark.
- Damaged file: reading gives whole lists, each id once and as many hypotheses as the lines say, or
  a RescoreError of one line that begins with the file, within LIMIT_S seconds; nothing else.

Lists come from `random_lists`, files from `format_samples`, damage from `damage`.
"""

from __future__ import annotations

import argparse
import gzip
import math
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from damage import damaged
from format_samples import Sample, build, whole
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from random_lists import LISTS

from rescore.errors import RescoreError
from rescore.formats import Format, Skipped, format_of
from rescore.formats.jsonl import encode
from rescore.formats.record import from_dict
from rescore.formats.strict_json import decode
from rescore.registry import FORMATS, lookup
from rescore.types import NBest

DAMAGES_AN_EXAMPLE = 9
LIMIT_S = 5.0


class Hung(BaseException):
    """A reader did not come back.

    Not an Exception, so that no reader can mistake it for a broken file.
    """


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise Hung after so many seconds, where the system has interval timers."""

    def stop(*_: object) -> None:
        raise Hung(f"no answer after {seconds} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault(name: str, sample: Sample, skipped: Skipped | None = None) -> str | None:
    """What is wrong with how a damaged sample is read; None if nothing is.

    Right is: whole lists, or a RescoreError of one line that begins with the file.
    """
    chosen: Format = lookup(FORMATS, name, "format")
    ids, hyps = set(), 0
    try:
        with limited(LIMIT_S):
            with suppress(RescoreError):
                format_of(sample.path)
            for nbest in chosen.read(sample.path, skipped=skipped, **sample.options):
                wrong = _incomplete(nbest) or (
                    f"an id that comes twice: {nbest.id!r}" if nbest.id in ids else None
                )
                if wrong:
                    return wrong
                ids.add(nbest.id)
                hyps += len(nbest.hyps)
    except RescoreError as error:
        return _unclear(str(error), sample)
    except (Exception, Hung) as error:  # noqa: BLE001 - anything else is what this looks for
        return f"{type(error).__name__}: {error}"[:300]
    if skipped is not None and skipped.count:
        return next(filter(None, (_unclear(message, sample) for message in skipped.messages)), None)
    expected = hyps if sample.count is None else sample.count(sample.path)
    return None if hyps == expected else f"{hyps} hypotheses of {expected} lines"


def _unclear(message: str, sample: Sample) -> str | None:
    """What is wrong with an error message."""
    if len(message.strip()) <= 10 or {"\n", "\r"} & set(message):
        return f"a message that is not one line: {message!r}"
    where = str(sample.path.parent)
    return (
        None
        if message.startswith(where)
        else f"a message that does not begin with the file: {message!r}"[:300]
    )


def _incomplete(nbest: NBest) -> str | None:
    """What makes a list impossible in the native format; None if nothing does.

    It needs hypotheses and finite scores, and reads back equal.
    """
    if (
        not nbest.id.strip()
        or not nbest.hyps
        or not all(math.isfinite(score) for hyp in nbest.hyps for score in hyp.scores.values())
    ):
        return f"a list that is not whole: {nbest!r}"[:300]
    try:
        again = from_dict(decode(encode(nbest), "again"), "again")
    except RescoreError as error:
        return f"a list that the native format refuses: {error}"[:300]
    return (
        None
        if whole(again) == whole(nbest)
        else f"a list that the native format changes: {nbest!r}"[:300]
    )


def round_trip_fault(name: str, sample: Sample) -> str | None:
    """What is wrong with how a valid sample is read, as it is and in disguises that change nothing.

    None if nothing is.
    """
    chosen: Format = lookup(FORMATS, name, "format")
    plain = {path: path.read_bytes() for path in files_of(sample.path)}
    for disguise, changed in DISGUISES.items():
        for path, data in plain.items():
            path.write_bytes(changed(data))
        try:
            with limited(LIMIT_S):
                lists = [sample.view(nbest) for nbest in chosen.read(sample.path, **sample.options)]
        except (Exception, Hung) as error:  # noqa: BLE001 - anything else is what this looks for
            return f"{disguise}: {type(error).__name__}: {error}"[:300]
        if lists != sample.expected:
            return f"{disguise}: read {lists!r}, expected {sample.expected!r}"[:1000]
    for path, data in plain.items():
        path.write_bytes(data)
    try:
        with limited(LIMIT_S):
            proven = format_of(sample.path)
    except RescoreError:
        return None  # nothing proves it: users name it
    except Hung as hung:
        return f"what proves formats hung: {hung}"
    return None if proven is chosen else f"its content proves {proven.name}"


DISGUISES: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "gzip": lambda data: gzip.compress(data, 1),
}


def files_of(path: Path) -> list[Path]:
    """Every file of a sample, and those beside it."""
    return sorted(file for file in path.parent.rglob("*") if file.is_file())


def faults(
    name: str, lists: list[NBest], number: int, folder: Path
) -> Iterator[tuple[str, str | None]]:
    """(what was tried, what is wrong with it) of every case that these lists make."""
    sample = build(name, lists, folder)
    yield "a round trip", round_trip_fault(name, sample)
    files, chance = files_of(sample.path), random.Random(number)
    for _ in range(DAMAGES_AN_EXAMPLE):
        path = chance.choice(files)
        data = path.read_bytes()
        if len(files) > 1 and chance.random() < 0.05:
            path.unlink()
            tried = "is gone"
        else:
            path.write_bytes(damaged(data, chance))
            tried = repr(path.read_bytes()[:400])
        yield (
            f"{path.relative_to(folder)}: {tried}",
            fault(name, sample, chance.choice((None, Skipped()))),
        )
        path.write_bytes(data)


def campaign(name: str, cases: int, number: int) -> tuple[int, dict[str, str]]:
    """(cases tried, fault -> first file that had it) of one format."""
    tried, failures = 0, {}

    @seed(number)
    @settings(
        max_examples=math.ceil(cases / (1 + DAMAGES_AN_EXAMPLE)),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(LISTS, st.integers(0, 2**32))
    def run(lists: list[NBest], start: int) -> None:
        nonlocal tried
        for what, wrong in faults(name, lists, start, folder):
            tried += 1
            if wrong:
                failures.setdefault(wrong[:60], f"{wrong}\n    {what}")

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run()
    return tried, failures


def main(arguments: list[str]) -> int:
    """Fuzz the formats and print a table. Returns 1 if there are failures."""
    parser = argparse.ArgumentParser(
        description="Fuzz the readers and writers of every registered format."
    )
    parser.add_argument("--cases", type=int, default=10000, help="cases a format")
    parser.add_argument(
        "--format",
        action="append",
        choices=sorted(FORMATS),
        help="this format only; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, other cases")
    chosen = parser.parse_args(arguments)
    total = 0
    print("| format | fuzz cases tried | failures found |\n|---|---|---|")
    for name in chosen.format or sorted(FORMATS):
        tried, failures = campaign(name, chosen.cases, chosen.seed)
        total += len(failures)
        print(f"| {name} | {tried:,} | {len(failures)} |", flush=True)
        for text in failures.values():
            print(f"  {text}", file=sys.stderr, flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
