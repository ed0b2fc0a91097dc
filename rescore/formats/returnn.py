"""RETURNN and i6_core: a Python literal `{tag: [(score, text), ...]}`, or `{tag: text}`.

The second kind holds decisions. Files are often gzipped.
Source: rwth-i6/returnn, `Engine.search` (output_file_format "py") and `TextDictDataset`. The score
is the beam's: natural log, summed, higher is better. The literal is scanned as exactly this grammar
and never evaluated: nothing nests, no size makes anything run, and a repeated tag is noticed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from rescore.errors import FormatError
from rescore.formats.base import (
    Format,
    Option,
    Skipped,
    convert_each,
    one_of,
    parse_number,
    read_score_option,
    write_score_option,
)
from rescore.formats.files import PathLike, at_line, atomic_writer, name_of, not_utf8, read_bytes
from rescore.formats.literals import STRING, string_value
from rescore.formats.record import id_of, score_of
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["RETURNN", "read", "write"]

#: The tag's literal and its hypotheses as (score, text) literals; a decision has no score: None.
_Entry: TypeAlias = "tuple[str, list[tuple[str | None, str]]]"

_S = r"[ \t\r\n]*"
_SPACE = re.compile(_S)
_NUMBER = r"[^\s,'\"()\[\]]+(?:\([^()\n]*\))?"
_TAG = re.compile(rf"{_S}({STRING}){_S}:{_S}")
_PAIR = re.compile(rf"{_S}\({_S}({_NUMBER}){_S},{_S}({STRING}){_S},?{_S}\){_S}")
_TEXT = re.compile(STRING)
_FLOAT = re.compile(r"(?:(?:np\.|numpy\.)?float[0-9]*)\('?([^']*)'?\)")
_PROOF = re.compile(rf"{_S}\{{{_S}{STRING}{_S}:{_S}\[{_S}\({_S}{_NUMBER}{_S},{_S}{STRING}{_S}\)")
_UNITS: dict[str, Callable[[str], str]] = {
    "words": lambda text: text,
    "bpe": lambda text: re.sub(r"@@(?: |$)", "", text),
    "spm": lambda text: "".join(text.split()).replace("▁", " ").strip(),
}


def read(
    path: PathLike,
    *,
    skipped: Skipped | None = None,
    score: str = "first_pass",
    units: str = "words",
) -> Iterator[NBest]:
    """Yield the lists of a search output, which is held in memory as text.

    `score` names the score in the file; `rank` is minus the position, from 0. `units` says what the
    texts hold: "words" (kept as they are), "bpe" (`hel@@ lo`) or "spm" (`▁hel lo`), which are
    joined to words. Raises FormatError naming the line for anything but the literal, and for scores
    that are not finite; with `skipped`, counts bad lists there.
    """
    if units not in _UNITS:
        raise FormatError(
            f'{name_of(path)}: units is "{units}", expected one of {", ".join(_UNITS)}'
        )
    return convert_each(
        _entries(path),
        lambda entry, where: _convert(entry, score, _UNITS[units], where),
        at_line(path),
        skipped,
    )


def write(lists: Iterable[NBest], path: PathLike, *, score: str = "first_pass") -> int:
    """Write every list with the score of this name, in RETURNN's own layout.

    Returns the number of lists. The format has no place for anything else. Raises FormatError if
    the file cannot be written or an id comes twice, ScoreError if a hypothesis lacks the score.
    """
    count = 0
    with atomic_writer(path) as output:
        output.write(b"{\n")
        for nbest in each_once(lists, "written"):
            pairs = "".join(
                f"({score_of(nbest, i, score)!r}, {hyp.text!r}),\n"
                for i, hyp in enumerate(nbest.hyps)
            )
            output.write(f"{nbest.id!r}: [\n{pairs}],\n".encode())
            count += 1
        output.write(b"}\n")
    return count


def _entries(path: PathLike) -> Iterator[tuple[int, _Entry]]:
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{name_of(path)}: {not_utf8(error)}") from error
    scan = _Scanner(text, name_of(path))
    scan.past("{")
    while not scan.at("}"):
        tag = scan.match(_TAG, "a tag, a string, and a colon")
        yield scan.line(tag.start(1)), (tag[1], list(_values(scan)))
        if not scan.at("}"):
            scan.past(",")
    scan.past("}")
    scan.end()


def _values(scan: _Scanner) -> Iterator[tuple[str | None, str]]:
    if not scan.at("["):
        yield None, scan.match(_TEXT, "a list of (score, text) or a text")[0]
        return
    scan.past("[")
    while not scan.at("]"):
        pair = scan.match(_PAIR, "(score, text)")
        yield pair[1], pair[2]
        if not scan.at("]"):
            scan.past(",")
    scan.past("]")


class _Scanner:
    """Goes through a text by patterns."""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name, self._position = text, name, 0
        self._line, self._counted = 1, 0

    def match(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        match = pattern.match(self._text, self._position)
        if match is None:
            raise self._error(expected)
        self._position = match.end()
        return match

    def at(self, character: str) -> bool:
        self._skip()
        return self._text.startswith(character, self._position)

    def past(self, character: str) -> None:
        if not self.at(character):
            raise self._error(f'"{character}"')
        self._position += 1

    def end(self) -> None:
        self._skip()
        if self._position < len(self._text):
            raise self._error("nothing more")

    def line(self, position: int) -> int:
        """The number of the line at a position that is never before the last one asked for."""
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line

    def _skip(self) -> None:
        space = _SPACE.match(self._text, self._position)
        self._position = space.end() if space else self._position

    def _error(self, expected: str) -> FormatError:
        self._skip()
        where = f"{self._name}:{self.line(self._position)}"
        if self._position == len(self._text):
            return FormatError(
                f"{where}: the file ends too early, expected {expected}; was it cut off?"
            )
        rest = self._text[self._position : self._position + 40].splitlines()[0]
        return FormatError(
            f"{where}: broken literal at {rest}, expected {expected} of {{tag: [(score, "
            f"text), ...]}}"
        )


def _convert(entry: _Entry, score: str, join: Callable[[str], str], where: str) -> NBest:
    utterance = id_of({"id": string_value(entry[0], where)}, where)
    at = f"{where}: utterance {utterance}"
    if not entry[1]:
        raise FormatError(f"{at}: the list is empty, expected at least one hypothesis")
    hyps = tuple(
        _hypothesis(value, text, i, score, join, f"{at}, hypothesis {i + 1}")
        for i, (value, text) in enumerate(entry[1])
    )
    return NBest(utterance, hyps, where=where)


def _hypothesis(
    value: str | None, text: str, i: int, score: str, join: Callable[[str], str], at: str
) -> Hypothesis:
    scores = (
        {"rank": float(-i)} if value is None else {score: _number(value, at), "rank": float(-i)}
    )
    return Hypothesis(join(string_value(text, at)), scores)


def _number(token: str, at: str) -> float:
    """The number in `-1.5` or, as newer versions print it, `np.float32(-1.5)`."""
    call = _FLOAT.fullmatch(token)  # float('-inf') matches, and its -inf is refused
    return parse_number(call[1] if call else token, at, "the score")


def _is_returnn(head: str) -> bool:
    return _PROOF.match(head) is not None


RETURNN = Format(
    "returnn",
    read,
    write,
    _is_returnn,
    help="RETURNN's search output: a Python literal {tag: [(score, text), ...]}",
    proof="a Python dictionary whose first value is a list of `(score, text)`",
    read_options={
        **read_score_option("the name that the score gets"),
        "units": Option(
            "what texts hold: words (default), bpe or spm, which are joined to words",
            one_of(*_UNITS),
            "words, bpe or spm",
        ),
    },
    write_options=write_score_option("the score that is written"),
)
