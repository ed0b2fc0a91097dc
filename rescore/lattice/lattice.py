"""The one in-memory form of a lattice: arcs as arrays, states in topological order, one end.

Every reader ends in `Lattice.from_arcs`, so every algorithm may rely on what it guarantees.

Letters in shapes: A arcs, S states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from rescore.errors import FormatError

__all__ = ["Lattice"]

#: The largest score of an arc. float64 keeps 16 digits, so on a path with a larger one no other
#: score would count. HTK's log of zero is -1e10; -1e38 is float32's lowest number.
_LARGEST = 1e15


@dataclass(frozen=True)
class Lattice:
    """An acyclic graph of words.

    States 0..S-1 are in topological order; 0 is the start, S - 1 the only end; every arc lies on a
    path from one to the other. Arcs are sorted by (source, target); equal ones keep the order in
    which they came. An utterance without a path has no states and no arcs.

    `source`, `target` (A,) int64. `word` (A,) int64: index into `symbols`, 0 = no word;
    `symbols[0]` is "". `label` (A,) int64: the recogniser's own input symbol (a token, a transition
    id; 0 = none). `am`, `lm` (A,) float64: nats, higher is better, finite; `lm` is the recogniser's
    n-gram or graph score, 0 where it has none. `scores`: further named nats of the same shape.
    `times` (S,) float64 seconds, or None.
    """

    id: str
    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    label: np.ndarray
    am: np.ndarray
    lm: np.ndarray
    symbols: Sequence[str]
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    times: np.ndarray | None = None
    where: str = ""

    @property
    def arcs(self) -> int:
        """The number of arcs."""
        return len(self.source)

    @property
    def states(self) -> int:
        """The number of states; 0 for an utterance without a path."""
        return int(self.target.max()) + 1 if len(self.target) else 0

    def place(self) -> str:
        """Name this lattice in an error message."""
        return f"{self.where}: utterance {self.id}" if self.where else f"utterance {self.id}"

    @classmethod
    def from_arcs(
        cls,
        id: str,
        source: np.ndarray,
        target: np.ndarray,
        word: np.ndarray,
        am: np.ndarray,
        lm: np.ndarray,
        symbols: Sequence[str],
        *,
        start: int,
        ends: np.ndarray,
        label: np.ndarray | None = None,
        scores: Mapping[str, np.ndarray] | None = None,
        times: np.ndarray | None = None,
        where: str = "",
    ) -> Lattice:
        """Validate arcs in any order, between states of any non-negative numbers.

        `ends` (E,) are the final states; several, or an end that is the start, become one new state
        through arcs without word or score. `times` is indexed by the given state numbers. Raises
        FormatError naming the lattice for a cycle, a score that is not finite or beyond 1e15, or a
        word that `symbols` does not have.
        """
        place = f"{where}: utterance {id}" if where else f"utterance {id}"
        label = np.zeros(len(source), np.int64) if label is None else label
        columns = _Columns(*(np.asarray(part, np.int64) for part in (source, target, word, label)))
        floats = {"am": am, "lm": lm, **(scores or {})}
        floats = {name: np.asarray(values, np.float64) for name, values in floats.items()}
        _check(columns, floats, len(symbols), place)
        if len(ends) > 1 or start in ends:
            columns, floats, times, ends = _with_one_end(columns, floats, times, ends)
        end = int(ends[0]) if len(ends) else -1
        order, kept = _topological(columns.source, columns.target, start, end, place)
        columns = columns.take(kept)
        floats = {name: values[kept] for name, values in floats.items()}
        new_number = np.full(max([start, *order], default=0) + 1, -1)
        new_number[order] = np.arange(len(order))
        columns = columns._replace(
            source=new_number[columns.source], target=new_number[columns.target]
        )
        by_states = np.lexsort((columns.target, columns.source))
        columns = columns.take(by_states)
        floats = {name: values[by_states] for name, values in floats.items()}
        am, lm = floats.pop("am"), floats.pop("lm")
        kept_times = None if times is None else np.asarray(times, np.float64)[order]
        return cls(
            id,
            columns.source,
            columns.target,
            columns.word,
            columns.label,
            am,
            lm,
            symbols,
            floats,
            kept_times,
            where,
        )


class _Columns(NamedTuple):
    """The integers of arcs."""

    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    label: np.ndarray

    def take(self, rows: np.ndarray) -> _Columns:
        return _Columns(*(column[rows] for column in self))


def _check(columns: _Columns, floats: Mapping[str, np.ndarray], symbols: int, place: str) -> None:
    sizes = {len(array) for array in (*columns, *floats.values())}
    if len(sizes) > 1:
        raise FormatError(
            f"{place}: the columns of its arcs have {', '.join(map(str, sorted(sizes)))} rows, "
            "expected equal numbers"
        )
    is_unknown = (columns.word < 0) | (columns.word >= symbols)
    if is_unknown.any():
        raise FormatError(
            f"{place}: label {columns.word[is_unknown][0]} is not in the word table, which has "
            f"0..{symbols - 1}; pass the table that belongs to this lattice"
        )
    for name, values in floats.items():
        for row in np.flatnonzero(~(np.abs(values) <= _LARGEST))[:1].tolist():
            raise FormatError(
                f'{place}: score "{name}" of the arc from state {columns.source[row]} to state '
                f"{columns.target[row]} is {values[row]}, expected a finite number of at most "
                f"{_LARGEST:g}: a larger one swallows the others of its path"
            )


def _with_one_end(
    columns: _Columns, floats: Mapping[str, np.ndarray], times: np.ndarray | None, ends: np.ndarray
) -> tuple[_Columns, dict[str, np.ndarray], np.ndarray | None, np.ndarray]:
    """Add arcs without word or score from every final state to a new one, the end."""
    count = len(ends)
    ends = np.asarray(ends, np.int64)
    last = int(max(columns.source.max(initial=0), columns.target.max(initial=0), ends.max())) + 1
    zeros = np.zeros(count, np.int64)
    added = _Columns(ends, np.full(count, last), zeros, zeros)
    joined = _Columns(*(np.concatenate(pair) for pair in zip(columns, added, strict=True)))
    padded = {name: np.concatenate([values, np.zeros(count)]) for name, values in floats.items()}
    if times is not None:
        with_end = np.zeros(last + 1)
        with_end[: len(times)] = times
        with_end[last] = np.asarray(times)[ends].max()
        times = with_end
    return joined, padded, times, np.array([last])


def _topological(
    source: np.ndarray, target: np.ndarray, start: int, end: int, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """The states on paths from `start` to `end` in topological order, and the rows of their arcs.

    Among states that are ready, the smallest number comes first: states that are in topological
    order keep it, and `end` is last. Raises FormatError for a cycle.
    """
    is_live = _live_states(source, target, start, end)
    if not is_live.any():
        return np.empty(0, np.int64), np.empty(0, np.int64)
    size = len(is_live)
    kept = np.flatnonzero(is_live[source] & is_live[target])
    begins, targets = _arcs_by_source(source[kept], target[kept], size)
    entering = np.bincount(target[kept], minlength=size).tolist()  # arcs not yet followed
    ready = [start] if entering[start] == 0 else []  # an arc back to the start is a cycle
    order = []
    while ready:
        state = heappop(ready)
        order.append(state)
        for successor in targets[begins[state] : begins[state + 1]]:
            entering[successor] -= 1
            if entering[successor] == 0:
                heappush(ready, successor)
    if len(order) < int(is_live.sum()):
        state = next(state for state in np.flatnonzero(is_live).tolist() if entering[state])
        raise FormatError(
            f"{place}: has a cycle through state {state}; a lattice must be acyclic "
            "(remove epsilon cycles, as fstrmepsilon does)"
        )
    return np.array(order, np.int64), kept


def _live_states(source: np.ndarray, target: np.ndarray, start: int, end: int) -> np.ndarray:
    """Which states lie on a path from `start` to `end`, bool; none where there is no path."""
    from_start, to_end = _reached(source, target, start), _reached(target, source, end)
    is_live = np.zeros(len(from_start), bool)
    shorter = min(len(from_start), len(to_end))
    is_live[:shorter] = from_start[:shorter] & to_end[:shorter]
    has_path = 0 <= end < len(is_live) and is_live[end]
    return is_live if has_path else np.zeros(len(from_start), bool)


def _reached(source: np.ndarray, target: np.ndarray, start: int) -> np.ndarray:
    """Which states a path from `start` reaches, (largest state + 1,) bool."""
    size = int(max(source.max(initial=-1), target.max(initial=-1), start)) + 1
    is_reached = np.zeros(size, bool)
    if start < 0:
        return is_reached
    begins, targets = _arcs_by_source(source, target, size)
    is_reached[start] = True
    stack = [start]
    while stack:
        state = stack.pop()
        for successor in targets[begins[state] : begins[state + 1]]:
            if not is_reached[successor]:
                is_reached[successor] = True
                stack.append(successor)
    return is_reached


def _arcs_by_source(
    source: np.ndarray, target: np.ndarray, states: int
) -> tuple[list[int], list[int]]:
    """The targets of all arcs sorted by source, and where those of each source begin."""
    by_source = np.argsort(source, kind="stable")
    begins = np.searchsorted(source[by_source], np.arange(states + 1))
    return begins.tolist(), target[by_source].tolist()
