"""Random lists and random damage for every registered format.

    python tests/fuzzing.py --cases 10000              # every format; a table of cases and failures
    python tests/fuzzing.py --cases 10000 --format trn --seed 7

A case is either a round trip (random lists, written as the format has them, must read back as what the format keeps of them, plain, gzipped, with CRLF
and with a byte order mark) or a damaged file: it gives lists that are whole, each id once and as many hypotheses as the lines say, or a RescoreError of
one line that begins with the file, within LIMIT_S seconds; nothing else. A new format needs its line in BUILDERS.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import random
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rescore.errors import RescoreError
from rescore.formats import Format, Skipped, format_of
from rescore.formats.base import ascii_words
from rescore.formats.files import byte_lines, text_lines
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
    "#",
    "-",
]
FREE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="|()"),
    min_size=1,
    max_size=5,
)
WORD = st.sampled_from(WORDS) | FREE.filter(lambda word: len(word.split()) == 1)
#: White space of other scripts and systems, at the ends too, and control characters: formats that say so keep every character.
WILD = st.sampled_from(
    ["a\u00a0b", "a\u3000b", "\u2028", "a\x85b", " a", "a  b ", "a\x0cb", "\u200b", "\x00"]
) | st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t\ufeff"), max_size=8)
TEXT = st.lists(WORD, max_size=5).map(" ".join) | WILD
IDS = st.lists(
    st.sampled_from(["u", "7", "-", "_", ".", "nan", "é", "日本", "عرب", "🎤"]),
    min_size=1,
    max_size=5,
).map("".join)
NUMBERS = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -1e-300, 1e300, -123456.789])
HYPS = st.builds(Hypothesis, TEXT, st.fixed_dictionaries({"am": NUMBERS, "lm": NUMBERS}))
LISTS = st.lists(
    st.builds(NBest, IDS, st.lists(HYPS, min_size=1, max_size=6).map(tuple), TEXT),
    max_size=4,
    unique_by=lambda nbest: nbest.id,
)


# ------------------------------------------------------------------------------------------------------------------------------- samples of the formats


@dataclass(frozen=True)
class Sample:
    """A valid file (or folder) of one format: what `read` is given, and what it has to yield, one value a list, as `view` sees them.

    `count` says by the lines alone how many hypotheses the files hold, once they are damaged too, where lines do say. Files of their own that options
    name (a manifest, a table) lie beside `path`, and are damaged like it.
    """

    path: Path
    expected: list[Any]
    view: Callable[[NBest], Any]
    options: dict[str, Any] = field(default_factory=dict)
    count: Callable[[Path], int] | None = None


Builder = Callable[[list[NBest], Path], Sample]


def whole(nbest: NBest) -> Any:
    return nbest.id, nbest.ref, [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps]


def best(nbest: NBest) -> Any:
    return nbest.id, nbest.hyps[0].text


def one_score(nbest: NBest) -> Any:
    return nbest.id, [(hyp.text, hyp.scores["am"]) for hyp in nbest.hyps]


def with_ref(nbest: NBest) -> Any:
    return *one_score(nbest), nbest.ref


def two_scores(nbest: NBest) -> Any:
    return nbest.id, [(hyp.text, hyp.scores["am"], hyp.scores["lm"]) for hyp in nbest.hyps]


def written(
    name: str,
    view: Callable[[NBest], Any],
    count: Callable[[Path], int] | None = None,
    **options: Any,
) -> Builder:
    """Builds with the format's own writer; it and the reader get the same options."""

    def build(lists: list[NBest], folder: Path) -> Sample:
        chosen: Format = lookup(FORMATS, name, "format")
        assert chosen.write(lists, folder / "sample", **options) == len(lists)
        return Sample(folder / "sample", [view(nbest) for nbest in lists], view, options, count)

    return build


def words_of(text: str) -> list[str]:
    """The words that any line of words can hold."""
    return re.sub(r"[|()]", " ", text).split()


def in_words(build: Builder, split: Callable[[str], list[str]] = words_of) -> Builder:
    """For formats that keep words, joined by single spaces, and not texts."""

    def spaced(text: str | None) -> str:
        return " ".join(split(text or ""))

    def built(lists: list[NBest], folder: Path) -> Sample:
        return build(
            [
                replace(
                    nbest,
                    ref=spaced(nbest.ref),
                    hyps=tuple(replace(hyp, text=spaced(hyp.text)) for hyp in nbest.hyps),
                )
                for nbest in lists
            ],
            folder,
        )

    return built


def not_empty(build: Builder) -> Builder:
    """For formats that are a directory: without a list there would be nothing in it. Its names begin with a letter, and so do the ids."""
    one = NBest("", (Hypothesis("a", {"am": -1.0, "lm": 0.0}),), "")
    return lambda lists, folder: build(
        [replace(nbest, id=f"u{nbest.id}") for nbest in lists or [one]], folder
    )


def full_lines(path: Path) -> int:
    return sum(bool(line.strip()) for _, line in text_lines(path))


def all_lines(path: Path) -> int:
    return sum(1 for _ in byte_lines(path))


def saved(folder: Path, text: str) -> Path:
    (folder / "sample").write_bytes(text.encode())
    return folder / "sample"


def hyporadise(lists: list[NBest], folder: Path) -> Sample:
    def view(nbest: NBest) -> Any:
        return (
            nbest.id,
            nbest.ref,
            [(hyp.text, hyp.scores["first_pass_per_token"]) for hyp in nbest.hyps],
        )

    def kept(nbest: NBest) -> Any:
        first: dict[str, float] = {}
        for hyp in nbest.hyps:
            first.setdefault(hyp.text, hyp.scores["am"])
        return nbest.id, nbest.ref, list(first.items())

    items = [
        {
            "id": nbest.id,
            "input": [hyp.text for hyp in nbest.hyps],
            "output": nbest.ref,
            "score": [hyp.scores["am"] for hyp in nbest.hyps],
        }
        for nbest in lists
    ]
    return Sample(
        saved(folder, json.dumps(items, ensure_ascii=False, indent=1)),
        [kept(nbest) for nbest in lists],
        view,
    )


def wav2letter(lists: list[NBest], folder: Path) -> Sample:
    """As std::to_string prints numbers, six decimals; lines of two utterances mixed, as by two threads; an infinite WER."""

    def expected(nbest: NBest) -> Any:
        return nbest.id, [
            (
                hyp.text,
                float(f"{hyp.scores['am']:.6f}"),
                float(f"{hyp.scores['lm']:.6f}") * math.log(10),
            )
            for hyp in nbest.hyps
        ]

    lines = [
        (
            i,
            (
                f"{nbest.id} | {-1.5:.6f} | {hyp.scores['am']:.6f} | {hyp.scores['lm']:.6f} | "
                f"{'inf' if i else '12.500000'} | {hyp.text}\n"
            ),
        )
        for nbest in lists
        for i, hyp in enumerate(nbest.hyps)
    ]
    mixed = [line for _, line in sorted(lines, key=lambda line: line[0])]
    return Sample(
        saved(folder, "".join(mixed)),
        [expected(nbest) for nbest in lists],
        two_scores,
        count=full_lines,
    )


def mapped_jsonl(lists: list[NBest], folder: Path) -> Sample:
    def view(nbest: NBest) -> Any:
        return (
            nbest.id,
            nbest.ref,
            [(hyp.text, hyp.scores["am"], hyp.scores["lm"]) for hyp in nbest.hyps],
            nbest.raw,
        )

    def expected(nbest: NBest) -> Any:
        hyps = [
            (hyp.text, -hyp.scores["am"], hyp.scores["lm"] * math.log(10) * 3) for hyp in nbest.hyps
        ]
        return nbest.id, nbest.ref, hyps, {"model": {"name": "x"}}

    records = [
        {
            "model": {
                "name": "x",
                "nbest": [
                    {
                        "words": hyp.text,
                        "cost": hyp.scores["am"],
                        "mean": hyp.scores["lm"],
                        "tokens": [5, 6],
                    }
                    for hyp in nbest.hyps
                ],
            },
            "utt": nbest.id,
            "target": nbest.ref,
        }
        for nbest in lists
    ]
    options = {
        "id": "utt",
        "ref": "target",
        "hyps": "model.nbest",
        "text": "words",
        "scores": "am:-cost,lm:log10:mean*tokens+1",
    }
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return Sample(saved(folder, text), [expected(nbest) for nbest in lists], view, options)


def lhotse(lists: list[NBest], folder: Path) -> Sample:
    """Supervisions or, for every other number of lists, cuts of several kinds, filled by the writer in another order than the lists'."""
    supervisions = [
        {
            "id": nbest.id,
            "recording_id": "r",
            "start": 0.5,
            "duration": 1.0,
            "channel": 0,
            "text": nbest.ref,
        }
        for nbest in lists
    ]
    cuts = [
        {"id": "none", "start": 0.0, "duration": 1.0, "supervisions": [], "type": "MonoCut"},
        *map(_cut_of, range(len(lists)), supervisions),
    ]
    manifest = folder / "manifest"
    manifest.write_bytes(
        "".join(
            json.dumps(line, ensure_ascii=False) + "\n"
            for line in (cuts if len(lists) % 2 else supervisions)
        ).encode()
    )
    chosen: Format = lookup(FORMATS, "lhotse", "format")
    assert chosen.write(
        lists[::-1], folder / "sample", manifest=manifest, what="nbest", ids="supervision"
    ) == len(lists)
    manifest.unlink()
    return Sample(
        folder / "sample", [whole(nbest) for nbest in lists], whole, {"ids": "supervision"}
    )


def _cut_of(number: int, supervision: dict[str, Any]) -> dict[str, Any]:
    cut = {
        "id": f"cut{number}",
        "start": 9.0,
        "duration": 2.0,
        "supervisions": [supervision],
        "type": "MonoCut",
    }
    padding = {
        "cut": {"id": "pad", "duration": 1.0, "type": "PaddingCut"},
        "type": "PaddingCut",
        "offset": 2.0,
    }
    return (
        {
            "id": f"mixed{number}",
            "tracks": [{"cut": cut, "type": "MonoCut"}, padding],
            "type": "MixedCut",
        }
        if number % 2
        else cut
    )


def ctm(lists: list[NBest], folder: Path) -> Sample:
    """Lines from the last word to the first: their times say the order. Utterances without words have no line."""
    lines = [";; comment\n"]
    for nbest in lists:
        lines += [
            f"{nbest.id} 1 {0.25 * i:.2f} 0.20 {word} 0.9\n"
            for i, word in reversed(list(enumerate(nbest.hyps[0].text.split())))
        ]
    return Sample(
        saved(folder, "".join(lines)), [best(nbest) for nbest in lists if nbest.hyps[0].text], best
    )


def espnet_lines(path: Path) -> int:
    return sum(full_lines(file) for file in path.glob("*best_recog/text"))


def nemo(lists: list[NBest], folder: Path) -> Sample:
    """Lists cut to one length, beside a manifest with ids of both kinds."""
    size = min((len(nbest.hyps) for nbest in lists), default=1)
    lists = [replace(nbest, id=f"u{nbest.id}", hyps=nbest.hyps[:size]) for nbest in lists]
    names = [
        {"id": nbest.id} if i % 2 else {"audio_filepath": f"wav/{nbest.id}.flac"}
        for i, nbest in enumerate(lists)
    ]
    manifest = [
        {**name, "text": nbest.ref, "duration": 1.5}
        for name, nbest in zip(names, lists, strict=True)
    ]
    (folder / "manifest").write_bytes(
        "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in manifest).encode()
    )
    sample = written("nemo", with_ref, all_lines, score="am")(lists, folder)
    return replace(
        sample, options={"beam_size": size, "manifest": folder / "manifest", "score": "am"}
    )


def kaldi(lists: list[NBest], folder: Path) -> Sample:
    """For every other number of lists with numbers and a table of words."""

    def count(path: Path) -> int:
        [archive] = [file for file in path.iterdir() if file.name.startswith("words")]
        return sum(bool(line.strip(b" \t\r\f\v")) for _, line in byte_lines(archive))

    sample = written("kaldi", two_scores, count)(lists, folder)
    if len(lists) % 2:
        return sample
    numbers = {
        word: i
        for i, word in enumerate(
            sorted(
                {word for nbest in lists for hyp in nbest.hyps for word in ascii_words(hyp.text)}
            )
        )
    }
    (folder / "words.txt").write_bytes(
        "".join(f"{word} {number}\n" for word, number in numbers.items()).encode()
    )
    lines = [
        (f"{nbest.id}-{i}", *(str(numbers[word]) for word in ascii_words(hyp.text)))
        for nbest in lists
        for i, hyp in enumerate(nbest.hyps, 1)
    ]
    (sample.path / "words").write_bytes("".join(" ".join(line) + "\n" for line in lines).encode())
    (sample.path / "words_text").unlink()
    return replace(sample, options={"symbols": str(folder / "words.txt")})


def srilm_words(text: str) -> list[str]:
    return [word for word in ascii_words(text) if word not in ("<s>", "</s>", "-pau-")]


def srilm(lists: list[NBest], folder: Path) -> Sample:
    """The three kinds of lists, one after the other; the first is what the writer writes."""

    def view(nbest: NBest) -> Any:
        return nbest.id, [
            (hyp.text, {name: score for name, score in hyp.scores.items() if name != "rank"})
            for hyp in nbest.hyps
        ]

    def count(path: Path) -> int:
        lines = [line for file in path.iterdir() for _, line in byte_lines(file)]
        return sum(
            bool(line.strip(b" \t\r\f\v")) and not re.match(rb"[ \t\r\f\v]*NBestList[12]", line)
            for line in lines
        )

    sample, bytelog, expected = written("srilm", view, count)(lists, folder), 1024 / 10000.5, []
    for i, nbest in enumerate(lists):
        kept, lines = [], [f"NBestList{i % 3}.0 of something"]
        for hyp in nbest.hyps:
            am, lm, words = hyp.scores["am"], hyp.scores["lm"], ascii_words(hyp.text)
            if i % 3 == 0:
                kept.append(
                    (
                        hyp.text,
                        {
                            name: hyp.scores[name] / math.log(10) * math.log(10)
                            for name in ("am", "lm")
                        },
                    )
                )
            elif i % 3 == 1:
                lines.append(f"({am!r}) {hyp.text}")
                kept.append((hyp.text, {"first_pass": bytelog * am}))
            else:
                words = [
                    word for word in words if not re.fullmatch(r"(?s).*-[0-9]", word)
                ]  # names of states
                details = [
                    (word, 0.5 * n, lm if n == 0 else 0.0, am if n == 0 else 0.0)
                    for n, word in enumerate(words)
                ]
                lines.append(
                    f"({am!r})"
                    + "".join(
                        f" {word} ( st: {at} et: {at + 0.25} g: {g!r} a: {a!r} )"
                        for word, at, g, a in details
                    )
                )
                sums = {"am": bytelog * am, "lm": bytelog * lm} if words else {"am": 0.0, "lm": 0.0}
                kept.append((" ".join(words), {"first_pass": bytelog * am, **sums}))
        if i % 3:
            (sample.path / nbest.id).write_bytes("".join(f"{line}\n" for line in lines).encode())
        expected.append((nbest.id, kept))
    return replace(sample, expected=sorted(expected, key=lambda one: one[0]))


#: Format -> what builds a valid file (or directory) of it from random lists: `sample` in an empty folder.
BUILDERS: dict[str, Builder] = {
    "jsonl": written("jsonl", whole),
    "hyporadise": hyporadise,
    "mlm-scoring": written("mlm-scoring", one_score, score="am"),
    "espnet": not_empty(written("espnet", one_score, espnet_lines, score="am")),
    "nemo": nemo,
    "nemo-beams": written("nemo-beams", with_ref, score="am"),
    "kaldi": in_words(not_empty(kaldi), ascii_words),
    "srilm": in_words(not_empty(srilm), srilm_words),
    "wav2letter": in_words(wav2letter),
    "lattice-rescore": in_words(written("lattice-rescore", two_scores, full_lines, scores="am,lm")),
    "returnn": written("returnn", one_score, score="am"),
    "mapped-jsonl": mapped_jsonl,
    "lhotse": lhotse,
    "icefall-recogs": in_words(written("icefall-recogs", lambda nbest: (*best(nbest), nbest.ref))),
    "ctm": in_words(ctm),
    "trn": in_words(written("trn", best, full_lines)),
}


def build(name: str, lists: list[NBest], folder: Path) -> Sample:
    """A sample of a registered format in a folder that is emptied first."""
    if name not in BUILDERS:
        raise LookupError(
            f"the format {name!r} is not fuzzed: add a builder of valid files for it to "
            "BUILDERS in tests/fuzzing.py"
        )
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    return BUILDERS[name](lists, folder)


# ------------------------------------------------------------------------------------------------------------------------------- damage

TOKENS = [
    *(
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b"(",
        b")",
        b",",
        b":",
        b"|",
        b"-",
        b" ",
        b"\t",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"\x00",
        b"\xff",
        b"\x85",
    ),
    *(
        b"nan",
        b"-inf",
        b"float('inf')",
        b"1e999",
        b"null",
        b"true",
        b"-0.0",
        b"1_0",
        b"0x1",
        b"9" * 400,
        b"9" * 5000,
        b"\xef\xbb\xbf",
        b"\xc2\x85",
    ),
    *(
        b"\\ud800",
        b"\\x00",
        b"\\U7fffffff",
        b"\\N{BULLET}",
        "\u2028".encode(),
        "é".encode("latin-1"),
        b"[" * 3000,
        b"(" * 3000,
        b'{"a":' * 3000,
        b"\x1f\x8b",
    ),
    *(
        b"[]",
        b"{}",
        b'""',
        b"''",
        b'"id"',
        b'"text"',
        b'"hyps": 1',
        b"ref=",
        b";;",
        b"-1",
        b"__import__('os').abort()",
        b"%s",
        b"\x1b[2J",
    ),
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
    return chance.choice(
        (packed[: chance.randrange(2, len(packed))], _flip(packed, chance), packed + b"x")
    )


def _recoded(data: bytes, chance: random.Random) -> bytes:
    return data.decode(errors="replace").encode(
        chance.choice(("latin-1", "utf-16", "shift_jis")), errors="replace"
    )


ACCIDENTS = [
    _delete,
    _insert,
    _insert,
    _insert,
    _flip,
    _flip,
    _repeat,
    _swap,
    _truncate,
    _truncated_gzip,
    _recoded,
]


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


def fault(name: str, sample: Sample, skipped: Skipped | None = None) -> str | None:
    """What is wrong with how a damaged sample is read; None if it gives whole lists or a RescoreError of one line that begins with the file."""
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
    """Whether a list that was read is one the native format can hold: it has hypotheses and finite scores, and reads back equal."""
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
    """Every file of a sample and beside it."""
    return sorted(found for found in path.parent.rglob("*") if found.is_file())


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


# ------------------------------------------------------------------------------------------------------------------------------- the long run


def campaign(name: str, cases: int, number: int) -> tuple[int, dict[str, str]]:
    """(cases tried, fault -> first file that had it) of one format."""
    tried, found = 0, {}

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
                found.setdefault(wrong[:60], f"{wrong}\n    {what}")

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        run()
    return tried, found


def main(arguments: list[str]) -> int:
    """Fuzz the formats and print a table. Returns 1 if anything was found."""
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
        tried, found = campaign(name, chosen.cases, chosen.seed)
        total += len(found)
        print(f"| {name} | {tried:,} | {len(found)} |", flush=True)
        for text in found.values():
            print(f"  {text}", file=sys.stderr, flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
