"""OpenFst: the text of fstprint, alone or in Kaldi's archives, and binary files of one FST.

Source: OpenFst, fst/script/print-impl.h and compile-impl.h (the text), fst/fst.cc
`FstHeader::Read`, fst/vector-fst.h `VectorFstImpl::Read` and fst/symbol-table.cc (the binary).
Checked against kaldifst in tests/lattice/test_lattice_openfst.py.

    utterance          in an archive only: an id alone on its line; an empty line ends the FST
    0 1 17 hello 0.5   from, to, input label, output label, cost (0 by default); with acceptor=true
                       one label
    1 0.25             a final state and its cost

The first state is the start. Labels are numbers or words; the word of an arc is its output label
(`side="input"`: its input label), and the other one, if a number, is the arc's `label`. An FST has
one cost (tropical or log semiring, lower is better): `weights="am"` reads its negative as `am`,
`weights="lm"` as `lm`; the other score is 0. Read a sum of both as `am`. A final cost of Infinity
is no final state.

Binary: type `vector`, arcs `standard` or `log`; `fstconvert --fst_type=vector` converts other
types. Symbol tables inside are ignored. The parser is our own: kaldifst allocates what a header
claims, wherever the file ends.
"""

from __future__ import annotations

import math
import re
import struct
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, ascii_words, one_of, parse_number
from rescore.formats.files import PathLike, head, name_of, read_bytes, stem_of, text_lines
from rescore.formats.strict_json import short
from rescore.ids import each_once
from rescore.lattice.formats.base import (
    SYMBOL_OPTIONS,
    ArcColumns,
    Arcs,
    build,
    state_number,
)
from rescore.lattice.lattice import Lattice
from rescore.lattice.symbols import Symbols, Vocabulary, chosen_symbols, name_words, number_words

__all__ = ["OPENFST", "read"]

_MAGIC = b"\xd6\xfd\xb2\x7e"
_SYMBOLS_MAGIC = 2125658996
_EPSILON = "<eps>"
_INFINITY = re.compile(r"\+?inf(?:inity)?", re.IGNORECASE)
_ARC = np.dtype([("input", "<i4"), ("output", "<i4"), ("cost", "<f4"), ("target", "<i4")])


def read(
    path: PathLike,
    *,
    words: PathLike | None = None,
    bpe: PathLike | None = None,
    nonwords: Iterable[str] = (),
    weights: str = "am",
    side: str = "output",
    acceptor: bool = False,
    id: str | None = None,
) -> Iterator[Lattice]:
    """Yield the lattices of an archive one by one, or that of a file with a single FST.

    The id of a single FST is `id`, by default the file's name. `words` or `bpe` name the labels;
    `words="none"`: the numbers are the words, 0 is none. `<eps>`, label 0, and `nonwords` are no
    words. Raises FormatError naming the file and, in text, the line.
    """
    dropped = (_EPSILON, *nonwords, *(["0"] if words == "none" else []))
    reader = _Reader(
        chosen_symbols(words, bpe, dropped), words == "none", dropped, weights, side, acceptor
    )
    name = stem_of(path) if id is None else id
    if head(path, 4) == _MAGIC:
        return iter([reader.binary(read_bytes(path), name, name_of(path))])
    return each_once(reader.archive(text_lines(path), name, name_of(path)), "read")


class _Reader:
    """How labels and costs are read."""

    def __init__(
        self,
        symbols: Symbols | None,
        may_be_numbers: bool,
        nonwords: tuple[str, ...],
        weights: str,
        side: str,
        acceptor: bool,
    ) -> None:
        self._symbols, self._may_be_numbers, self._nonwords = symbols, may_be_numbers, nonwords
        self._is_lm, self._side, self._acceptor = weights == "lm", side, acceptor

    def archive(self, lines: Iterator[tuple[int, str]], name: str, file: str) -> Iterator[Lattice]:
        """The lattices of a text.

        A first line of one field is an id: a single FST that begins so would have no arcs.
        """
        rows = ((number, ascii_words(line)) for number, line in lines)
        is_first = True
        for number, fields in rows:
            if not fields:
                continue
            where = f"{file}:{number}"
            if len(fields) == 1:
                yield self._text(rows, fields[0], where, is_archive=True)
            elif is_first:
                yield self._text(chain([(number, fields)], rows), name, where, is_archive=False)
            else:
                raise FormatError(
                    f"{where}: the line has {len(fields)} fields, expected the id of an utterance "
                    "alone; an empty line ends an FST"
                )
            is_first = False

    def _text(
        self, lines: Iterator[tuple[int, list[str]]], id: str, where: str, *, is_archive: bool
    ) -> Lattice:
        """The lattice of the next lines; in an archive an empty line ends it."""
        arcs, start = Arcs("label"), -1
        labels, vocabulary = Vocabulary([_EPSILON]), Vocabulary(self._nonwords)
        file = where.rpartition(":")[0]
        for number, fields in lines:
            if not fields and is_archive:
                break
            if fields:
                at = f"{file}:{number}: utterance {id}"
                start = state_number(fields[0], at) if start < 0 else start
                self._line(fields, arcs, labels, vocabulary, at)
        else:
            if is_archive:
                raise FormatError(
                    f"{where}: utterance {id}: the file ends before the empty line that ends an "
                    "FST; it is cut off, get it again"
                )
        place = f"{where}: utterance {id}"
        if len(arcs.source) and not arcs.finals:
            raise FormatError(
                f"{place}: it has arcs and no final state; the file is cut off or damaged, "
                "write it again"
            )
        end = arcs.join_finals(start)
        word, symbols = name_words(
            vocabulary, arcs.columns()[2], self._symbols, self._may_be_numbers, place
        )
        is_number = re.compile("[0-9]{1,18}").fullmatch
        numbers = np.array([int(text) if is_number(text) else 0 for text in labels.symbols])
        label = numbers[arcs.score("label").astype(np.int64)]
        return _lattice(arcs, id, word, symbols, label, (max(start, 0), end), where)

    def _line(
        self, fields: list[str], arcs: Arcs, labels: Vocabulary, vocabulary: Vocabulary, at: str
    ) -> None:
        count = 3 if self._acceptor else 4
        if len(fields) > count + 1 or 2 < len(fields) < count:
            hint = ""
            if not self._acceptor and len(fields) <= 3:
                hint = "; if its arcs have one label, give acceptor=true"
            raise FormatError(
                f"{at}: the line has {len(fields)} fields, expected an arc with {count} or "
                f"{count + 1}, or a final state with 1 or 2{hint}"
            )
        source = state_number(fields[0], at)
        if len(fields) > 2:
            which = 2 if self._acceptor or self._side == "input" else 3
            am, lm = self._scores(fields[count] if len(fields) > count else "0", at)
            arcs.add(
                source,
                state_number(fields[1], at),
                vocabulary.index(fields[which]),
                am,
                lm,
                labels.index(fields[2 if which == 3 else count - 1]),
            )
            return
        if source in arcs.finals:
            raise FormatError(f"{at}: the final state {source} is there twice; keep one of them")
        if len(fields) == 1 or not _INFINITY.fullmatch(fields[1]):
            arcs.finals[source] = (*self._scores(fields[1] if len(fields) == 2 else "0", at), 0.0)

    def _scores(self, text: str, at: str) -> tuple[float, float]:
        if "," in text:
            raise FormatError(
                f"{at}: the weight has several parts; this is a Kaldi lattice, write it with "
                "`lattice-copy ark:IN ark,t:-`, compact"
            )
        value = 0.0 - parse_number(text, at, "the cost")
        return (0.0, value) if self._is_lm else (value, 0.0)

    def binary(self, data: bytes, id: str, where: str) -> Lattice:
        """The lattice of a binary file."""
        start, finals, source, rows = _Binary(data, where).fst()
        place = f"{where}: utterance {id}"
        side, other_side = ("input", "output") if self._side == "input" else ("output", "input")
        score, zeros = 0.0 - rows["cost"].astype(np.float64), np.zeros(len(rows))
        am, lm = (zeros, score) if self._is_lm else (score, zeros)
        labels = rows[side].astype(np.int64)
        word, symbols = number_words(labels, self._symbols, self._may_be_numbers, place)
        arcs = Arcs("label")
        arcs.extend(source, rows["target"], word, am, lm, rows[other_side])
        for state, cost in finals.items():
            arcs.finals[state] = (0.0, -cost, 0.0) if self._is_lm else (-cost, 0.0, 0.0)
        end = arcs.join_finals(start)
        label = arcs.score("label").astype(np.int64)
        word = arcs.columns()[2]
        return _lattice(arcs, id, word, symbols, label, (max(start, 0), end), where)


def _lattice(
    arcs: Arcs,
    id: str,
    word: np.ndarray,
    symbols: Sequence[str],
    label: np.ndarray,
    states: tuple[int, int],
    where: str,
) -> Lattice:
    """The lattice of arcs between `states`, its start and its end."""
    source, target, _ = arcs.columns()
    columns = ArcColumns(source, target, word, arcs.score("am"), arcs.score("lm"), label)
    start, end = states
    return build(id, columns, symbols, start=start, end=end, where=where)


class _Binary:
    """A cursor in a binary file; nothing is allocated beyond what the file holds."""

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._where, self._at = data, where, 4

    def fst(self) -> tuple[int, dict[int, float], np.ndarray, np.ndarray]:
        """(start, final costs, source (A,) int64, arcs (A,) of _ARC)."""
        kind, arc = self._string(), self._string()
        _, flags, _, start, states, _ = self._numbers("<iiQqqq")
        if kind != "vector" or arc not in ("standard", "log"):
            raise self._refused(
                f'is of type "{short(kind)}" with "{short(arc)}" arcs, expected vector with '
                "standard or log arcs; `fstconvert` makes them"
            )
        for bit in (1, 2):
            if flags & bit:
                self._skip_symbols()
        finals, counts, begins = self._states(states)
        parts = [
            self._data[begin : begin + 16 * count]
            for begin, count in zip(begins, counts, strict=True)
        ]
        arcs = np.frombuffer(b"".join(parts), _ARC)
        is_outside = (arcs["target"] < 0) | (arcs["target"] >= len(counts))
        if is_outside.any() or not -1 <= start < len(counts):
            raise self._refused(
                "has an arc to, or a start in, a state that it does not have; write it again"
            )
        return start, finals, np.repeat(np.arange(len(counts)), counts), arcs

    def _states(self, states: int) -> tuple[dict[int, float], array[int], array[int]]:
        """Final costs, and for each state the number of its arcs and where they begin."""
        finals: dict[int, float] = {}
        counts, begins = array("q"), array("q")
        while len(counts) < states or (states < 0 and self._at < len(self._data)):
            cost, count = self._numbers("<fq")
            if not 0 <= count <= (len(self._data) - self._at) // 16:
                raise self._refused("ends within a state, or is damaged; write it again")
            if cost != math.inf:
                finals[len(counts)] = cost
            counts.append(count)
            begins.append(self._at)
            self._at += 16 * count
        for state, cost in finals.items():
            if not math.isfinite(cost):
                raise self._refused(
                    f"has the final state {state} with the cost {cost}, expected a finite number"
                )
        return finals, counts, begins

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        size = struct.calcsize(layout)
        if len(self._data) - self._at < size:
            raise self._refused("is cut off; write it again")
        self._at += size
        return struct.unpack_from(layout, self._data, self._at - size)

    def _string(self) -> str:
        (size,) = self._numbers("<i")
        if not 0 <= size <= len(self._data):
            size = len(self._data)  # more than is left: refused as cut off
        (text,) = self._numbers(f"<{size}s")
        return bytes(text).decode(errors="replace")

    def _skip_symbols(self) -> None:
        (magic,) = self._numbers("<i")
        self._string()
        _, size = self._numbers("<qq")
        if magic != _SYMBOLS_MAGIC:
            raise self._refused("should hold a symbol table where there is none; write it again")
        for _ in range(size):
            self._string()
            self._numbers("<q")

    def _refused(self, what: str) -> FormatError:
        return FormatError(f"{self._where}: this binary FST {what}")


def _is_binary(start: bytes) -> bool:
    return start.startswith(_MAGIC)


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


OPENFST = Format(
    "openfst",
    read,
    proven_by_bytes=_is_binary,
    help="OpenFst's text (fstprint), also as Kaldi's text archives, and binary vector FSTs",
    proof="the magic number of a binary FST; text proves nothing",
    read_options={
        **SYMBOL_OPTIONS,
        "weights": Option(
            "what a cost is: am (default; a sum of both too) or lm", one_of("am", "lm"), "am or lm"
        ),
        "side": Option(
            "the labels that are words: output (default) or input",
            one_of("output", "input"),
            "output or input",
        ),
        "acceptor": Option("true: arcs of the text have one label", _truth, "true or false"),
        "id": Option("the id of a single FST; default the file's name", expected="an id"),
    },
)
