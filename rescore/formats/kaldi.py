"""Kaldi's N-best lists: the text archives of `nbest-to-linear` in a directory.

Ids are `utterance-1`, `utterance-2`, ... A single archive of words is read, too.

Source: kaldi-asr/kaldi, src/latbin/lattice-to-nbest.cc (the ids), src/latbin/nbest-to-linear.cc and
src/util/kaldi-holder-inl.h (the lines), and egs/wsj/s5/steps/rnnlmrescore.sh (the names of files):
`words` holds numbers, `words_text` words, `acwt` acoustic costs, `lmwt` graph costs (language model
and transitions), `lmwt.nolm`, `lmwt.lmonly`, `lmwt.rnn`, ... parts of these. All costs are natural
logs, unscaled, lower is better. Each becomes a score, negated: `am`, `lm`, `lm_nolm`, `lm_lmonly`,
`lm_rnn`. `rank` is minus the number in the id, from 0.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Set
from itertools import groupby, pairwise
from typing import NamedTuple

from rescore.errors import FormatError
from rescore.formats.base import (
    Format,
    Option,
    Skipped,
    ascii_words,
    convert_each,
    line_id,
    one_of,
    optional,
    parse_number,
)
from rescore.formats.directories import atomic_directory
from rescore.formats.files import (
    PathLike,
    at_line,
    byte_lines,
    name_of,
    names_in,
    not_utf8,
)
from rescore.formats.record import score_of
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["KALDI", "read", "write"]

_LINE = re.compile(r"([^ \t]+)(?:[ \t]+(.*))?", re.DOTALL)
_NBEST_ID = re.compile(r"(.+)-([1-9][0-9]{0,8})")
_COSTS = re.compile(r"acwt|lmwt(?:\.(.+))?")
_NUMBER = re.compile(r"[0-9]+")
_WORDS = ("words_text", "words")


class _Row(NamedTuple):
    """One line of the archive of words, with the same line of every archive of costs."""

    utterance: str
    rank: int
    number: int
    words: str
    costs: dict[str, str]


def read(
    path: PathLike,
    *,
    ids: str = "nbest",
    symbols: str | None = None,
    words: str | None = None,
    skipped: Skipped | None = None,
) -> Iterator[NBest]:
    """Yield the lists of a directory of text archives, or of one archive of words.

    One list is in memory at a time. `ids`: `nbest`, or `plain` if every utterance has one
    hypothesis under its own id. `words` names the archive of words in the directory (`words_text`
    if it exists, else `words`). `symbols` is the table (`words.txt`) that turns numbers into
    words; without one, lists whose words are all numbers are refused, unless the archive is
    `words_text` or `symbols` is "none".
    Words are joined by single spaces. Lines have to stand in the same order in every archive.
    Raises FormatError naming the archive and the line; with `skipped`, counts lists with a bad
    cost or number there and goes on.
    """
    archive, costs = _archives(path, words)
    table = None if symbols in (None, "none") else _symbols(str(symbols))
    may_be_numbers = symbols == "none" or os.path.basename(archive) == _WORDS[0]
    grouped = groupby(_rows(archive, costs, ids == "plain"), key=lambda row: row.utterance)
    lists = ((rows[0].number, rows) for rows in (list(group) for _, group in grouped))
    return convert_each(
        lists,
        lambda rows, where: _convert(rows, table, may_be_numbers, where),
        at_line(archive),
        skipped,
    )


def write(
    lists: Iterable[NBest], path: PathLike, *, am: str | None = "am", lm: str | None = "lm"
) -> int:
    """Write a new directory of `words_text`, `acwt` and `lmwt`; return the number of lists.

    `am` and `lm` name the scores; None leaves the file out. References, other scores and ranks are
    not written; words are joined by single spaces. Raises FormatError if the directory exists or
    cannot be written, for white space in an id and for a repeated id; ScoreError if a hypothesis
    lacks a score.
    """
    archives = {
        archive: score for archive, score in (("acwt", am), ("lmwt", lm)) if score is not None
    }
    count = 0
    with atomic_directory(path) as output:
        for nbest in each_once(lists, "written"):
            utterance = line_id(nbest)
            for i, hyp in enumerate(nbest.hyps):
                line = " ".join([f"{utterance}-{i + 1}", *ascii_words(hyp.text)])
                output.add(_WORDS[0], f"{line}\n".encode())
                for archive, score in archives.items():
                    output.add(
                        archive, f"{utterance}-{i + 1} {-score_of(nbest, i, score)!r}\n".encode()
                    )
            count += 1
    return count


def _archives(path: PathLike, words: str | None) -> tuple[str, dict[str, str]]:
    """The archive of words, and score -> archive of its costs."""
    if not os.path.isdir(path):
        return os.fspath(path), {}
    names = names_in(path)
    candidates = _WORDS if words is None else (words,)
    archives = [name for name in candidates if name in names]
    if not archives:
        raise FormatError(
            f"{name_of(path)}: there is no {words or ' or '.join(_WORDS)} in this directory; "
            "-O words=NAME names the archive of words"
        )
    costs = {
        _score_name(name): os.path.join(path, name) for name in names if _COSTS.fullmatch(name)
    }
    return os.path.join(path, archives[0]), costs


def _score_name(archive: str) -> str:
    kind, _, part = archive.partition(".")
    if kind == "acwt":
        return "am"
    return f"lm_{part}" if part else "lm"


def _rows(archive: str, costs: dict[str, str], plain: bool) -> Iterator[_Row]:
    others = {score: _lines(path) for score, path in costs.items()}
    for at, number, key, words in _lines(archive):
        utterance, rank = (key, 1) if plain else _nbest_id(key, at)
        values = {score: _partner(lines, key, at, costs[score]) for score, lines in others.items()}
        yield _Row(utterance, rank, number, words, values)
    for lines in others.values():
        for at, _, key, _ in lines:
            raise FormatError(
                f"{at}: {short(key)} is not in {archive}; "
                "the archives need the same lines in the same order"
            )


def _lines(path: str) -> Iterator[tuple[str, int, str, str]]:
    """(place, line number, id, the rest) of every line of a text archive.

    Blank lines are skipped.
    """
    for number, line in byte_lines(path):
        at = f"{name_of(path)}:{number}"
        if b"\0B" in line:
            raise FormatError(
                f"{at}: this is a binary archive; write it as text, ark,t: instead of ark:"
            )
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{at}: {not_utf8(error)}") from error
        if text.strip(" \t\r\f\v"):
            match = _LINE.fullmatch(text)
            if match is None:
                raise FormatError(f"{at}: the line begins with a space, expected an id")
            yield at, number, match[1], match[2] or ""


def _partner(lines: Iterator[tuple[str, int, str, str]], key: str, at: str, path: str) -> str:
    place, _, other, value = next(lines, (path, 0, "the end of the file", ""))
    if other != key:
        raise FormatError(
            f"{place}: got {short(other)}, expected {short(key)} as at {at}; "
            "the archives need the same lines in the same order"
        )
    return value.strip(" \t\r\f\v")


def _nbest_id(key: str, at: str) -> tuple[str, int]:
    match = _NBEST_ID.fullmatch(key)
    if match is None:
        raise FormatError(
            f'{at}: the id "{short(key)}" does not end in -1, -2, ...; '
            "if every utterance has one hypothesis, give -O ids=plain"
        )
    return match[1], int(match[2])


def _convert(
    rows: list[_Row], table: dict[str, str] | None, may_be_numbers: bool, where: str
) -> NBest:
    at = f"{where}: utterance {rows[0].utterance}"
    rows = sorted(rows, key=lambda row: row.rank)
    for row, following in pairwise(rows):
        if row.rank == following.rank:
            raise FormatError(f"{at}: hypothesis {row.rank} is there twice; keep one of them")
    words = [ascii_words(row.words) for row in rows]
    if (
        table is None
        and not may_be_numbers
        and any(words)
        and all(_NUMBER.fullmatch(word) for line in words for word in line)
    ):
        raise FormatError(
            f"{at}: all words are numbers; "
            "give the table that names them, -O symbols=words.txt, "
            "or -O symbols=none if they are words"
        )
    return NBest(
        rows[0].utterance,
        tuple(_hypothesis(row, line, table, at) for row, line in zip(rows, words, strict=True)),
        where=where,
    )


def _hypothesis(row: _Row, words: list[str], table: dict[str, str] | None, at: str) -> Hypothesis:
    place = f"{at}, hypothesis {row.rank}"
    if table is not None:
        for word in words:
            if word not in table:
                raise FormatError(
                    f'{place}: the word "{short(word)}" is not a number in the table of symbols; '
                    "use the words.txt of this recogniser"
                )
        words = [table[word] for word in words]
    scores = {
        score: -parse_number(cost, place, f"the cost of {score}")
        for score, cost in row.costs.items()
    }
    return Hypothesis(" ".join(words), {**scores, "rank": float(1 - row.rank)})


def _symbols(path: str) -> dict[str, str]:
    """Number -> word of a table in OpenFst's text format, `word number` on a line."""
    table: dict[str, str] = {}
    for at, _, word, number in _lines(path):
        key = number.strip(" \t\r\f\v")
        if not _NUMBER.fullmatch(key):
            raise FormatError(f"{at}: expected a word, a space and its number")
        if key in table:
            raise FormatError(
                f"{at}: the number {short(key)} is there twice; this is not a table of symbols"
            )
        table[key] = word
    return table


def _is_kaldi(names: Set[str]) -> bool:
    return "acwt" in names and bool(names & set(_WORDS))


KALDI = Format(
    "kaldi",
    read,
    write,
    proven_by_names=_is_kaldi,
    help=(
        "the text archives of nbest-to-linear in a directory (words or words_text, acwt, lmwt), "
        "or one archive of words"
    ),
    proof="a directory with `acwt` and `words` or `words_text`",
    read_options={
        "ids": Option(
            "nbest (default): utterance-1, utterance-2, ...; plain: one hypothesis an utterance",
            one_of("nbest", "plain"),
            "nbest or plain",
        ),
        "symbols": Option(
            "the table that names the numbers, words.txt; none: the numbers are words", is_file=True
        ),
        "words": Option(
            "the archive of words; default: words_text, else words", expected="a file name"
        ),
    },
    write_options={
        "am": Option(
            "the score that is written as acoustic cost; default am; none leaves it out",
            optional,
            "a name",
        ),
        "lm": Option(
            "the score that is written as graph cost; default lm; none leaves it out",
            optional,
            "a name",
        ),
    },
)
