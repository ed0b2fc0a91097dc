"""What readers of lattices share: compact growing arcs, any state numbers, final weights."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from rescore.errors import FormatError
from rescore.formats.base import Format, Option
from rescore.formats.strict_json import short
from rescore.lattice.lattice import Lattice

__all__ = [
    "SYMBOL_OPTIONS",
    "ArcColumns",
    "Arcs",
    "LatticeFormat",
    "build",
    "list_of_names",
    "state_number",
]

_STATE = re.compile(r"[0-9]{1,18}")


#: One outside format of lattices; `rescore.registry.LATTICE_FORMATS` names them all.
LatticeFormat: TypeAlias = Format[Lattice]


def list_of_names(text: str) -> tuple[str, ...]:
    """Return the names that commas separate in a text."""
    return tuple(filter(None, text.split(",")))


#: What readers of numbered or named labels take from the command line.
SYMBOL_OPTIONS: Mapping[str, Option] = {
    "words": Option(
        "the table that names the words, words.txt; none: the numbers are the words", is_file=True
    ),
    "bpe": Option("the sentencepiece model whose pieces the labels are, bpe.model", is_file=True),
    "nonwords": Option(
        "symbols that are no words, such as <unk>,[noise]; default none but epsilon",
        list_of_names,
        "names between commas",
    ),
}


class Arcs:
    """The arcs of a lattice that is being read: 40 bytes an arc, and 8 for every further score."""

    def __init__(self, *names: str) -> None:
        """`names` are the scores beside am and lm."""
        self.source, self.target, self.word = array("q"), array("q"), array("q")
        self.scores = {name: array("d") for name in ("am", "lm", *names)}
        self.finals: dict[int, tuple[float, ...]] = {}

    def add(self, source: int, target: int, word: int, *scores: float) -> None:
        """Add one arc; `scores` are in the order of the names, am and lm first."""
        self.source.append(source)
        self.target.append(target)
        self.word.append(word)
        for column, value in zip(self.scores.values(), scores, strict=True):
            column.append(value)

    def extend(
        self, source: np.ndarray, target: np.ndarray, word: np.ndarray, *scores: np.ndarray
    ) -> None:
        """Add arcs, (A,) each."""
        for integers, values in zip(
            (self.source, self.target, self.word), (source, target, word), strict=True
        ):
            integers.frombytes(np.ascontiguousarray(values, np.int64).tobytes())
        for column, values in zip(self.scores.values(), scores, strict=True):
            column.frombytes(np.ascontiguousarray(values, np.float64).tobytes())

    def join_finals(self, start: int) -> int:
        """Make one end of all final states and return it; -1 if there is none.

        A single final state without scores that is not the start is the end. Otherwise every final
        state gets an arc without a word, with its scores, to a new state.
        """
        if not self.finals:
            return -1
        have_scores = any(any(scores) for scores in self.finals.values())
        if len(self.finals) == 1 and start not in self.finals and not have_scores:
            return next(iter(self.finals))
        largest = max(start, max(self.source, default=0), max(self.target, default=0), *self.finals)
        for state, scores in self.finals.items():
            self.add(state, largest + 1, 0, *scores)
        return largest + 1

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return source, target and word, (A,) int64."""
        source, target, word = (
            np.array(column, np.int64) for column in (self.source, self.target, self.word)
        )
        return source, target, word

    def score(self, name: str) -> np.ndarray:
        """Return one score, (A,) float64."""
        return np.array(self.scores[name], np.float64)


@dataclass(frozen=True)
class ArcColumns:
    """The arcs of a lattice between states of any numbers: (A,) arrays, as in `Lattice`."""

    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    am: np.ndarray
    lm: np.ndarray
    label: np.ndarray | None = None
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)


def build(
    id: str,
    arcs: ArcColumns,
    symbols: Sequence[str],
    *,
    start: int,
    end: int,
    times: Callable[[int], float] | None = None,
    where: str = "",
) -> Lattice:
    """Call `Lattice.from_arcs` for states of any numbers.

    Memory follows the number of arcs, never a state's number. `end` is the final state, -1 if there
    is none. `times(state)` is in seconds. Raises FormatError as `from_arcs` does.
    """
    ends = np.array([end] if end >= 0 else [], np.int64)
    states, renumbered = np.unique(
        np.concatenate([arcs.source, arcs.target, ends, [start]]), return_inverse=True
    )
    count = len(arcs.source)
    return Lattice.from_arcs(
        id,
        renumbered[:count],
        renumbered[count : 2 * count],
        arcs.word,
        arcs.am,
        arcs.lm,
        symbols,
        start=int(renumbered[-1]),
        ends=renumbered[2 * count : -1],
        label=arcs.label,
        scores=arcs.scores,
        times=None if times is None else np.array([times(state) for state in states.tolist()]),
        where=where,
    )


def state_number(text: str, at: str) -> int:
    """Return a state's number. Raises FormatError naming `at` for anything but 0, 1, 2, ..."""
    if not _STATE.fullmatch(text):
        raise FormatError(f'{at}: a state is "{short(text)}", expected a whole number from 0')
    return int(text)
