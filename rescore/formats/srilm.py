"""SRILM's N-best lists: a directory with one file an utterance (its name is the id), or one file.

Source: SRILM's manual page nbest-format(5); lm/src/NBest.cc, `NBestHyp::parse` and
`NBestHyp::write`; lm/src/Prob.h. There are three kinds of lines:

- `ascore lscore nwords w1 w2 ...`, base-10 logs: scores `am`, `lm`; `nwords`, which counts no
  pauses, is kept as a field of the hypothesis.
- After the header `NBestList1.0` (or without one, where a line begins with a parenthesis)
  `(score) w1 w2 ...`, a total in bytelogs: `first_pass`.
- After `NBestList2.0` `(score) w1 ( st: 0.0 et: 0.3 g: -12 a: -345 ) w2 ...`: `first_pass`, and the
  sums of g and a as `lm` and `am`. Phones, whose times lie within those of the word before, and
  states, whose names end in a hyphen and a digit, are skipped, as SRILM does.

A bytelog is 1024 / 10000.5 nats; all logs become natural. Higher is better, scores are sums over
words. `<s>` first, `</s>` last and `-pau-` anywhere are not words: they are taken out of the text,
and the field `words` then keeps the words as they stood. `rank` is minus the position.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator

from rescore.errors import FormatError
from rescore.formats.base import (
    Format,
    Option,
    Skipped,
    ascii_words,
    convert_each,
    optional,
    parse_number,
)
from rescore.formats.directories import atomic_directory
from rescore.formats.files import (
    PathLike,
    byte_lines,
    name_of,
    names_in,
    not_utf8,
)
from rescore.formats.record import score_of
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["SRILM", "read", "write"]

_LN_10 = math.log(10)
_BYTELOG = 1024 / 10000.5
_START, _END, _PAUSE = "<s>", "</s>", "-pau-"
_TOTAL = re.compile(r"\(([^()]*)\)")
_COUNT = re.compile(r"[0-9]{1,9}")
_STATE = re.compile(r".*-[0-9]", re.DOTALL)
_FIELDS = ("(", "st:", "et:", "g:", "a:", ")")
_PER_WORD = 11


def read(path: PathLike, *, suffix: str = "", skipped: Skipped | None = None) -> Iterator[NBest]:
    """Yield the lists of a directory in the order of the file names, or of one file.

    The id is the file's name without `.gz` and without `suffix`. Names that begin with a dot are
    skipped. Raises FormatError naming the file and the line; with `skipped`, counts broken files
    there and goes on.
    """
    files = (
        [os.path.join(path, name) for name in names_in(path) if name[0] != "."]
        if os.path.isdir(path)
        else [os.fspath(path)]
    )
    numbered = ((i, (_id(file, suffix), file)) for i, file in enumerate(files))
    return convert_each(
        numbered, lambda item, where: _convert(*item, where), lambda i: name_of(files[i]), skipped
    )


def write(lists: Iterable[NBest], path: PathLike, *, am: str = "am", lm: str | None = "lm") -> int:
    """Write a new directory of files `ascore lscore nwords w1 w2 ...`, named by the ids.

    `am` and `lm` name the scores; without `lm` its column is 0, as SRILM writes lists that no
    language model has seen. `nwords` is the field of that name, else the number of words.
    References and other scores are not written; words are joined by single spaces. Returns the
    number of lists. Raises FormatError if the directory exists or cannot be written, for an id
    that is not a file name or is repeated, and for a text with `<s>`, `</s>` or `-pau-`; ScoreError
    if a hypothesis lacks a score.
    """
    count = 0
    with atomic_directory(path) as output:
        for nbest in each_once(lists, "written"):
            if re.search(r"[/\0]|^\.|\.gz$", nbest.id):
                raise FormatError(
                    f'{nbest.place()}: the id must be a file name: without "/", '
                    'no dot first, no ".gz" last; rename the utterance'
                )
            output.add(
                nbest.id, "".join(_line(nbest, i, am, lm) for i in range(len(nbest.hyps))).encode()
            )
            count += 1
    return count


def _line(nbest: NBest, index: int, am: str, lm: str | None) -> str:
    hyp = nbest.hyps[index]
    words = ascii_words(hyp.text)
    if {_START, _END, _PAUSE} & set(words):
        raise FormatError(
            f"{nbest.place(index)}: {_START}, {_END} and {_PAUSE} are not words to SRILM; "
            "take them out"
        )
    language = 0.0 if lm is None else score_of(nbest, index, lm) / _LN_10
    read = hyp.raw.get("nwords")
    number = read if type(read) is int and read >= 0 else len(words)
    return (
        " ".join([repr(score_of(nbest, index, am) / _LN_10), repr(language), str(number), *words])
        + "\n"
    )


def _id(file: str, suffix: str) -> str:
    return os.path.basename(name_of(file)).removesuffix(".gz").removesuffix(suffix)


def _convert(utterance: str, file: str, where: str) -> NBest:
    if not utterance.strip():
        raise FormatError(
            f"{where}: the file's name leaves nothing for the id; choose another suffix"
        )
    parse = None
    hyps: list[Hypothesis] = []
    for number, line in byte_lines(file):
        at = f"{where}:{number}: utterance {utterance}"
        try:
            fields = ascii_words(line.decode())
        except UnicodeDecodeError as error:
            raise FormatError(f"{at}: {not_utf8(error)}") from error
        if not fields:
            continue
        if parse is None and fields[0].startswith(("NBestList1.0", "NBestList2.0")):
            parse = _decipher if fields[0].startswith("NBestList1.0") else _backtrace
            continue
        parse = parse or _plain_or_decipher
        hyps.append(parse(fields, -len(hyps), at))
    if not hyps:
        raise FormatError(
            f"{where}: utterance {utterance}: the file holds no hypothesis, expected at least one"
        )
    return NBest(utterance, tuple(hyps), where=where)


def _plain_or_decipher(fields: list[str], rank: int, at: str) -> Hypothesis:
    return (_decipher if fields[0].startswith("(") else _plain)(fields, rank, at)


def _plain(fields: list[str], rank: int, at: str) -> Hypothesis:
    if len(fields) < 3:
        raise FormatError(
            f"{at}: the line has {len(fields)} fields, expected the acoustic score, "
            "the language model's, the number of words, and the words"
        )
    am = _LN_10 * parse_number(fields[0], at, "the acoustic score")
    lm = _LN_10 * parse_number(fields[1], at, "the language model's score")
    if not _COUNT.fullmatch(fields[2]):
        raise FormatError(
            f'{at}: the number of words is "{short(fields[2])}", expected a whole number'
        )
    return _hypothesis(
        fields[3:], {"am": am, "lm": lm, "rank": float(rank)}, at, nwords=int(fields[2])
    )


def _decipher(fields: list[str], rank: int, at: str) -> Hypothesis:
    return _hypothesis(fields[1:], {"first_pass": _total(fields[0], at), "rank": float(rank)}, at)


def _backtrace(fields: list[str], rank: int, at: str) -> Hypothesis:
    total, tokens = _total(fields[0], at), fields[1:]
    if len(tokens) % _PER_WORD:
        raise FormatError(
            f"{at}: after the score come {len(tokens)} fields, "
            "expected 11 for each word: w ( st: 0.0 et: 0.3 g: -12 a: -345 )"
        )
    words: list[str] = []
    am, lm, last = 0.0, 0.0, -1.0
    for first in range(0, len(tokens), _PER_WORD):
        word, *rest = tokens[first : first + _PER_WORD]
        labels = (rest[0], *rest[1::2])
        if labels != _FIELDS:
            raise FormatError(
                f'{at}: after the word "{short(word)}" comes {short(" ".join(rest))}, '
                "expected ( st: 0.0 et: 0.3 g: -12 a: -345 )"
            )
        start, end, grammar, acoustic = (
            parse_number(text, at, f'a number of the word "{short(word)}"') for text in rest[2:9:2]
        )
        if start > last and not _STATE.fullmatch(word):
            words.append(word)
            am, lm, last = am + acoustic, lm + grammar, end
    return _hypothesis(
        words,
        {"am": _BYTELOG * am, "lm": _BYTELOG * lm, "first_pass": total, "rank": float(rank)},
        at,
    )


def _total(text: str, at: str) -> float:
    match = _TOTAL.fullmatch(text)
    if match is None:
        raise FormatError(
            f'{at}: the line begins with "{short(text)}", expected a score in parentheses, (-1234)'
        )
    return _BYTELOG * parse_number(match[1], at, "the score")


def _hypothesis(words: list[str], scores: dict[str, float], at: str, **raw: object) -> Hypothesis:
    for name, value in scores.items():
        if not math.isfinite(value):
            raise FormatError(f"{at}: the score {name} is too large for a float as a natural log")
    spoken = list(words)
    if spoken and spoken[0] == _START:
        del spoken[0]
    if spoken and spoken[-1] == _END:
        del spoken[-1]
    spoken = [word for word in spoken if word != _PAUSE]
    if len(spoken) < len(words):
        raw["words"] = " ".join(words)
    return Hypothesis(" ".join(spoken), scores, raw)


def _is_decipher(head: str) -> bool:
    return re.match(r"NBestList[12]\.0\s", head) is not None


SRILM = Format(
    "srilm",
    read,
    write,
    _is_decipher,
    help=(
        "SRILM's N-best lists (nbest-format(5)): a directory with one file an utterance, "
        "or one file"
    ),
    proof="a file that begins with `NBestList1.0` or `NBestList2.0`",
    read_options={
        "suffix": Option("ending of the file names, beside .gz, that is not part of the id")
    },
    write_options={
        "am": Option("the score that is written as ascore; default am", expected="a name"),
        "lm": Option(
            "the score that is written as lscore; default lm; none writes 0", optional, "a name"
        ),
    },
)
