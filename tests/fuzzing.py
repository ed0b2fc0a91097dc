"""Random lists and random damage for every registered format.

    python tests/fuzzing.py --cases 10000              # every format; a table of cases and failures
    python tests/fuzzing.py --cases 10000 --format trn --seed 7

A case is either a round trip (random lists, written as the format has them, must read back as what the format keeps of them, plain, gzipped, with CRLF
and with a byte order mark) or a damaged file (it gives lists that are whole, or a RescoreError of one line, within a second; nothing else).
A new format needs its line in BUILDERS.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rescore.errors import RescoreError
from rescore.formats import Format, Skipped, format_of
from rescore.formats.jsonl import encode
from rescore.formats.record import from_dict
from rescore.formats.strict_json import decode
from rescore.registry import FORMATS, lookup
from rescore.types import Hypothesis, NBest

DAMAGES_AN_EXAMPLE = 9
LIMIT_S = 5.0


# ------------------------------------------------------------------------------------------------------------------------------- random lists

#: Texts that other tools read as something else: missing values, numbers, syntax, several bytes a letter, letters of several characters.
WORDS = [
    "a",
    "nan",
    "null",
    "NA",
    "None",
    "true",
    "-inf",
    "1e5",
    "007",
    "日本語",
    "عربي",
    "🎤",
    "👩\u200d👩\u200d👧",
    "e\u0301",
    "é",
    "'s",
    '"q"',
    "\\n",
    "[x]",
    "{y}",
    "@@",
]
FREE = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="|()"), min_size=1, max_size=5)
WORD = st.sampled_from(WORDS) | FREE.filter(lambda word: len(word.split()) == 1)
TEXT = st.lists(WORD, max_size=5).map(" ".join)
IDS = st.lists(st.sampled_from(["u", "7", "-", "_", ".", "nan", "é", "日本", "عرب", "🎤"]), min_size=1, max_size=5).map("".join)
NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -1e-300, 1e300, -123456.789])
HYPS = st.builds(Hypothesis, TEXT, st.fixed_dictionaries({"am": NUMBERS, "lm": NUMBERS}))
LISTS = st.lists(st.builds(NBest, IDS, st.lists(HYPS, min_size=1, max_size=6).map(tuple), TEXT), max_size=4, unique_by=lambda nbest: nbest.id)


# ------------------------------------------------------------------------------------------------------------------------------- samples of the formats


@dataclass(frozen=True)
class Sample:
    """A valid file (or folder) of one format: what `read` is given, and what it has to yield, one value a list, as `view` sees them."""

    path: Path
    expected: list[Any]
    view: Callable[[NBest], Any]
    options: dict[str, Any] = field(default_factory=dict)


Builder = Callable[[list[NBest], Path], Sample]


def whole(nbest: NBest) -> Any:
    return nbest.id, nbest.ref, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps]


def best(nbest: NBest) -> Any:
    return nbest.id, nbest.hyps[0].text


def one_score(nbest: NBest) -> Any:
    return nbest.id, [(hyp.text, hyp.scores["am"]) for hyp in nbest.hyps]


def two_scores(nbest: NBest) -> Any:
    return nbest.id, [(hyp.text, hyp.scores["am"], hyp.scores["lm"]) for hyp in nbest.hyps]


def written(name: str, view: Callable[[NBest], Any], reading: dict[str, Any] | None = None, **writing: Any) -> Builder:
    """Builds with the format's own writer."""

    def build(lists: list[NBest], folder: Path) -> Sample:
        chosen: Format = lookup(FORMATS, name, "format")
        chosen.write(lists, folder / "sample", **writing)
        return Sample(folder / "sample", [view(nbest) for nbest in lists], view, reading if reading is not None else writing)

    return build


def saved(folder: Path, text: str) -> Path:
    (folder / "sample").write_bytes(text.encode())
    return folder / "sample"


def hyporadise(lists: list[NBest], folder: Path) -> Sample:
    def view(nbest: NBest) -> Any:
        return nbest.id, nbest.ref, [(hyp.text, hyp.scores["first_pass_per_token"]) for hyp in nbest.hyps]

    def kept(nbest: NBest) -> Any:
        first: dict[str, float] = {}
        for hyp in nbest.hyps:
            first.setdefault(hyp.text, hyp.scores["am"])
        return nbest.id, nbest.ref, list(first.items())

    items = [
        {"id": nbest.id, "input": [hyp.text for hyp in nbest.hyps], "output": nbest.ref, "score": [hyp.scores["am"] for hyp in nbest.hyps]} for nbest in lists
    ]
    return Sample(saved(folder, json.dumps(items, ensure_ascii=False, indent=1)), [kept(nbest) for nbest in lists], view)


def wav2letter(lists: list[NBest], folder: Path) -> Sample:
    """As std::to_string prints numbers, six decimals; lines of two utterances mixed, as by two threads; an infinite WER."""

    def expected(nbest: NBest) -> Any:
        return nbest.id, [(hyp.text, float(f"{hyp.scores['am']:.6f}"), float(f"{hyp.scores['lm']:.6f}") * math.log(10)) for hyp in nbest.hyps]

    lines = [
        (i, f"{nbest.id} | {-1.5:.6f} | {hyp.scores['am']:.6f} | {hyp.scores['lm']:.6f} | {'inf' if i else '12.500000'} | {hyp.text}\n")
        for nbest in lists
        for i, hyp in enumerate(nbest.hyps)
    ]
    mixed = [line for _, line in sorted(lines, key=lambda line: line[0])]
    return Sample(saved(folder, "".join(mixed)), [expected(nbest) for nbest in lists], two_scores)


def mapped_jsonl(lists: list[NBest], folder: Path) -> Sample:
    def view(nbest: NBest) -> Any:
        return nbest.id, nbest.ref, [(hyp.text, hyp.scores["am"], hyp.scores["lm"]) for hyp in nbest.hyps], nbest.raw

    def expected(nbest: NBest) -> Any:
        hyps = [(hyp.text, -hyp.scores["am"], hyp.scores["lm"] * math.log(10) * 3) for hyp in nbest.hyps]
        return nbest.id, nbest.ref, hyps, {"model": {"name": "x"}}

    records = [
        {
            "model": {"name": "x", "nbest": [{"words": hyp.text, "cost": hyp.scores["am"], "mean": hyp.scores["lm"], "tokens": [5, 6]} for hyp in nbest.hyps]},
            "utt": nbest.id,
            "target": nbest.ref,
        }
        for nbest in lists
    ]
    options = {"id": "utt", "ref": "target", "hyps": "model.nbest", "text": "words", "scores": "am:-cost,lm:log10:mean*tokens+1"}
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return Sample(saved(folder, text), [expected(nbest) for nbest in lists], view, options)


def ctm(lists: list[NBest], folder: Path) -> Sample:
    """Lines from the last word to the first: their times say the order. Utterances without words have no line."""
    lines = [";; comment\n"]
    for nbest in lists:
        lines += [f"{nbest.id} 1 {0.25 * i:.2f} 0.20 {word} 0.9\n" for i, word in reversed(list(enumerate(nbest.hyps[0].text.split())))]
    return Sample(saved(folder, "".join(lines)), [best(nbest) for nbest in lists if nbest.hyps[0].text], best)


#: Format -> what builds a valid file of it from random lists, into an empty folder.
BUILDERS: dict[str, Builder] = {
    "jsonl": written("jsonl", whole),
    "hyporadise": hyporadise,
    "mlm-scoring": written("mlm-scoring", one_score, score="am"),
    "wav2letter": wav2letter,
    "lattice-rescore": written("lattice-rescore", two_scores, scores="am,lm"),
    "returnn": written("returnn", one_score, score="am"),
    "mapped-jsonl": mapped_jsonl,
    "icefall-recogs": written("icefall-recogs", lambda nbest: (*best(nbest), nbest.ref)),
    "ctm": ctm,
    "trn": written("trn", best),
}


def builder(name: str) -> Builder:
    """The builder of a registered format."""
    if name not in BUILDERS:
        raise LookupError(f"the format {name!r} is not fuzzed: add a builder of valid files for it to BUILDERS in tests/fuzzing.py")
    return BUILDERS[name]


# ------------------------------------------------------------------------------------------------------------------------------- damage

TOKENS = [
    *(b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b"(", b")", b",", b":", b"|", b"-", b" ", b"\t", b"\n", b"\r", b"\r\n", b"\n\n", b"\x00", b"\xff", b"\x85"),
    *(b"nan", b"-inf", b"float('inf')", b"1e999", b"null", b"true", b"-0.0", b"1_0", b"0x1", b"9" * 400, b"9" * 5000, b"\xef\xbb\xbf", b"\xc2\x85"),
    *(b"\\ud800", b"\\x00", b"\\U7fffffff", b"\\N{BULLET}", "\u2028".encode(), "é".encode("latin-1"), b"[" * 3000, b"(" * 3000, b'{"a":' * 3000, b"\x1f\x8b"),
    *(b"[]", b"{}", b'""', b"''", b'"id"', b'"text"', b'"hyps": 1', b"ref=", b";;", b"-1", b"__import__('os').abort()", b"%s", b"\x1b[2J"),
]


def damaged(data: bytes, chance: random.Random) -> bytes:
    """The bytes after one to three accidents."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        data = chance.choice(ACCIDENTS)(data, chance)
    return data


def _cut(data: bytes, chance: random.Random) -> tuple[int, int]:
    start = chance.randrange(len(data) + 1)
    return start, min(len(data), start + chance.choice((1, 1, 2, 5, 20, 200)))


def _delete(data: bytes, chance: random.Random) -> bytes:
    start, end = _cut(data, chance)
    return data[:start] + data[end:]


def _insert(data: bytes, chance: random.Random) -> bytes:
    start, end = _cut(data, chance)
    token = chance.choice(TOKENS)
    return data[:start] + token + data[chance.choice((start, end)) :]


def _flip(data: bytes, chance: random.Random) -> bytes:
    start, _ = _cut(data, chance)
    return data[:start] + bytes([chance.randrange(256)]) + data[start + 1 :]


def _repeat(data: bytes, chance: random.Random) -> bytes:
    start, end = _cut(data, chance)
    return data[:end] + data[start:end] + data[end:]


def _swap(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    i, j = chance.randrange(len(lines)), chance.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


def _truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _truncated_gzip(data: bytes, chance: random.Random) -> bytes:
    packed = gzip.compress(data, 1)
    return chance.choice((packed[: chance.randrange(2, len(packed))], _flip(packed, chance), packed + b"x"))


def _recoded(data: bytes, chance: random.Random) -> bytes:
    return data.decode(errors="replace").encode(chance.choice(("latin-1", "utf-16", "shift_jis")), errors="replace")


ACCIDENTS = [_delete, _insert, _insert, _insert, _flip, _flip, _repeat, _swap, _truncate, _truncated_gzip, _recoded]


# ------------------------------------------------------------------------------------------------------------------------------- cases


class Hung(BaseException):
    """A reader did not come back. Not an Exception, so that no reader can take it for a broken file."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Stop with Hung after so many seconds, where the system has interval timers."""

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


def fault(name: str, path: Path, options: dict[str, Any], skipped: Skipped | None = None) -> str | None:
    """What is wrong with how a file is read; None if it gives whole lists or a RescoreError of one line."""
    chosen: Format = lookup(FORMATS, name, "format")
    try:
        with limited(LIMIT_S):
            with suppress(RescoreError):
                format_of(path)
            for nbest in chosen.read(path, skipped=skipped, **options):
                incomplete = _incomplete(nbest)
                if incomplete:
                    return incomplete
    except RescoreError as error:
        message = str(error)
        return None if len(message.strip()) > 10 and not {"\n", "\r"} & set(message) else f"a message that is not one line: {message!r}"
    except (Exception, Hung) as error:  # noqa: BLE001 - anything else is what this looks for
        return f"{type(error).__name__}: {error}"[:300]
    return None


def _incomplete(nbest: NBest) -> str | None:
    """Whether a list that was read is one the native format can hold: it has hypotheses and finite scores, and reads back equal."""
    if not nbest.id.strip() or not nbest.hyps or not all(math.isfinite(score) for hyp in nbest.hyps for score in hyp.scores.values()):
        return f"a list that is not whole: {nbest!r}"[:300]
    try:
        again = from_dict(decode(encode(nbest), "again"), "again")
    except RescoreError as error:
        return f"a list that the native format refuses: {error}"[:300]
    return None if whole(again) == whole(nbest) else f"a list that the native format changes: {nbest!r}"[:300]


def round_trip_fault(name: str, sample: Sample) -> str | None:
    """What is wrong with how a valid sample is read, as it is and in the disguises that change nothing; None if nothing is."""
    chosen: Format = lookup(FORMATS, name, "format")
    plain = {path: path.read_bytes() for path in files_of(sample.path)}
    for disguise, changed in DISGUISES.items():
        for path, data in plain.items():
            path.write_bytes(changed(data))
        try:
            with limited(LIMIT_S):
                found = [sample.view(nbest) for nbest in chosen.read(sample.path, **sample.options)]
        except (Exception, Hung) as error:  # noqa: BLE001 - anything else is what this looks for
            return f"{disguise}: {type(error).__name__}: {error}"[:300]
        if found != sample.expected:
            return f"{disguise}: read {found!r}, expected {sample.expected!r}"[:1000]
    for path, data in plain.items():
        path.write_bytes(data)
    try:
        with limited(LIMIT_S):
            proven = format_of(sample.path) if sample.path.is_file() else chosen
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
    """Every file of a sample: of its folder, because readers of several files name one."""
    return sorted(found for found in path.parent.rglob("*") if found.is_file())


def faults(name: str, lists: list[NBest], number: int, folder: Path) -> Iterator[tuple[str, str | None]]:
    """(what was tried, what is wrong with it) of every case that these lists make."""
    for old in files_of(folder / "any"):
        old.unlink()
    sample = builder(name)(lists, folder)
    yield "a round trip", round_trip_fault(name, sample)
    chance = random.Random(number)
    for _ in range(DAMAGES_AN_EXAMPLE):
        path = chance.choice(files_of(sample.path))
        data = path.read_bytes()
        broken = damaged(data, chance)
        path.write_bytes(broken)
        yield f"{path.name}: {broken[:400]!r}", fault(name, sample.path, sample.options, chance.choice((None, Skipped())))
        path.write_bytes(data)


# ------------------------------------------------------------------------------------------------------------------------------- the long run


def campaign(name: str, cases: int, number: int) -> tuple[int, dict[str, str]]:
    """(cases tried, fault -> first file that had it) of one format."""
    tried, found = 0, {}

    @seed(number)
    @settings(
        max_examples=math.ceil(cases / (1 + DAMAGES_AN_EXAMPLE)), deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
    @given(LISTS, st.integers(0, 2**32))
    def run(lists: list[NBest], start: int) -> None:
        nonlocal tried
        for what, wrong in faults(name, lists, start, folder):
            tried += 1
            if wrong:
                found.setdefault(wrong[:60], f"{wrong}\n    {what}")

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run()
    return tried, found


def main(arguments: list[str]) -> int:
    """Fuzz the formats and print a table. Returns 1 if anything was found."""
    parser = argparse.ArgumentParser(description="Fuzz the readers and writers of every registered format.")
    parser.add_argument("--cases", type=int, default=10000, help="cases a format")
    parser.add_argument("--format", action="append", choices=sorted(FORMATS), help="this format only; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other cases")
    chosen = parser.parse_args(arguments)
    total = 0
    print("| format | fuzz cases tried | failures found |\n|---|---|---|")
    for name in chosen.format or sorted(FORMATS):
        tried, found = campaign(name, chosen.cases, chosen.seed)
        total += len(found)
        print(f"| {name} | {tried:,} | {len(found)} |", flush=True)
        for text in found.values():
            print(f"  {text}", file=sys.stderr, flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
