"""The one in-memory form of a lattice: arcs as arrays, states in topological order, one start, one end.

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


@dataclass(frozen=True)
class Lattice:
    """An acyclic graph of words.

    States 0..S-1 are in topological order; 0 is the start, S - 1 the only end; every arc lies on a path from one to the other. Arcs are sorted by
    (source, target), equal ones in the order they were given. An utterance without a path has no states and no arcs.

    `source`, `target` (A,) int64. `word` (A,) int64: index into `symbols`, 0 = the arc has no word; `symbols[0]` is "". `label` (A,) int64: the
    recogniser's own input symbol (a token, a transition id; 0 = none). `am`, `lm` (A,) float64: nats, higher is better, finite; `lm` is the
    recogniser's n-gram or graph score, 0 where it has none. `scores`: further named nats of the same shape. `times` (S,) float64 seconds, or None.
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
        """How many arcs there are."""
        return len(self.source)

    @property
    def states(self) -> int:
        """How many states there are; 0 for an utterance without a path."""
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
        """Validate arcs in any order, between states of any non-negative numbers, and bring them into the form above.

        `ends` (E,) are the final states; several become one through arcs without word or score. `times` is indexed by the state numbers given.
        Raises FormatError naming the lattice for a cycle, a score that is not finite, or a word that `symbols` does not have.
        """
        columns = _Columns(
            np.asarray(source, np.int64),
            np.asarray(target, np.int64),
            np.asarray(word, np.int64),
            _labels(label, len(source)),
        )
        floats = {
            "am": np.asarray(am, np.float64),
            "lm": np.asarray(lm, np.float64),
            **{k: np.asarray(v, np.float64) for k, v in (scores or {}).items()},
        }
        place = f"{where}: utterance {id}" if where else f"utterance {id}"
        _check(columns, floats, len(symbols), place)
        if len(ends) > 1:
            columns, floats, times, ends = _one_end(columns, floats, times, ends)
        order, kept = _topological(
            columns.source, columns.target, start, int(ends[0]) if len(ends) else -1, place
        )
        columns, floats = (
            columns.take(kept),
            {name: values[kept] for name, values in floats.items()},
        )
        new = np.full(max([start, *order], default=0) + 1, -1)
        new[order] = np.arange(len(order))
        columns = columns._replace(source=new[columns.source], target=new[columns.target])
        by = np.lexsort((columns.target, columns.source))
        columns, floats = columns.take(by), {name: values[by] for name, values in floats.items()}
        am, lm = floats.pop("am"), floats.pop("lm")
        own_times = None if times is None else np.asarray(times, np.float64)[order]
        return cls(id, *columns[:3], columns.label, am, lm, symbols, floats, own_times, where)


class _Columns(NamedTuple):
    """The integers of arcs."""

    source: np.ndarray
    target: np.ndarray
    word: np.ndarray
    label: np.ndarray

    def take(self, rows: np.ndarray) -> _Columns:
        return _Columns(*(column[rows] for column in self))


def _labels(label: np.ndarray | None, arcs: int) -> np.ndarray:
    return np.zeros(arcs, np.int64) if label is None else np.asarray(label, np.int64)


def _check(columns: _Columns, floats: Mapping[str, np.ndarray], symbols: int, place: str) -> None:
    sizes = {len(array) for array in (*columns, *floats.values())}
    if len(sizes) > 1:
        raise FormatError(
            f"{place}: the columns of its arcs have {', '.join(map(str, sorted(sizes)))} rows, expected equal numbers"
        )
    if len(columns.word) and not 0 <= columns.word.min() <= columns.word.max() < symbols:
        wrong = columns.word[(columns.word < 0) | (columns.word >= symbols)][0]
        raise FormatError(
            f"{place}: label {wrong} is not in the word table, which has 0..{symbols - 1}; pass the table that belongs to this lattice"
        )
    for name, values in floats.items():
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            between = f"from state {columns.source[row]} to state {columns.target[row]}"
            raise FormatError(
                f'{place}: score "{name}" of the arc {between} is {values[row]}, expected a finite number'
            )


def _one_end(
    columns: _Columns, floats: Mapping[str, np.ndarray], times: np.ndarray | None, ends: np.ndarray
) -> tuple[_Columns, dict[str, np.ndarray], np.ndarray | None, np.ndarray]:
    """Arcs without word or score from every final state to a new one."""
    count = len(ends)
    last = int(max(columns.source.max(initial=0), columns.target.max(initial=0), np.max(ends))) + 1
    nothing = np.zeros(count, np.int64)
    more = _Columns(np.asarray(ends, np.int64), np.full(count, last), nothing, nothing)
    joined = _Columns(*(np.concatenate(pair) for pair in zip(columns, more, strict=True)))
    padded = {name: np.concatenate([values, np.zeros(count)]) for name, values in floats.items()}
    if times is not None:
        grown = np.zeros(last + 1)
        grown[: len(times)] = times
        grown[last] = np.asarray(times)[ends].max()
        times = grown
    return joined, padded, times, np.array([last])


def _topological(
    source: np.ndarray, target: np.ndarray, start: int, end: int, place: str
) -> tuple[np.ndarray, np.ndarray]:
    """The states that lie on a path from `start` to `end`, in topological order with `end` last, and the rows of the arcs between them.

    Among states that are ready, the smallest number comes first: states that are in topological order keep it. Raises FormatError for a cycle.
    """
    forward, backward = _reached(source, target, start), _reached(target, source, end)
    size = len(forward)
    live = np.zeros(size, bool)
    live[: len(backward)] = forward[: len(backward)] & backward[:size]
    if end < 0 or end >= size or not live[end] or start == end:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    kept = np.flatnonzero(
        live[np.minimum(source, size - 1)]
        & live[np.minimum(target, size - 1)]
        & (source < size)
        & (target < size)
    )
    waiting = np.bincount(target[kept], minlength=size)
    by_source = kept[np.argsort(source[kept], kind="stable")]
    begins = np.searchsorted(source[by_source], np.arange(size + 1)).tolist()
    targets, counts = target[by_source].tolist(), waiting.tolist()
    ready, order = [start][counts[start] :], []  # an arc back to the start is a cycle
    while ready:
        state = heappop(ready)
        order.append(state)
        for to in targets[begins[state] : begins[state + 1]]:
            counts[to] -= 1
            if not counts[to]:
                heappush(ready, to)
    if len(order) < int(live.sum()):
        state = next(state for state in np.flatnonzero(live).tolist() if counts[state])
        raise FormatError(
            f"{place}: has a cycle through state {state}; a lattice must be acyclic (remove epsilon cycles, as fstrmepsilon does)"
        )
    return np.array(order, np.int64), kept


def _reached(source: np.ndarray, target: np.ndarray, start: int) -> np.ndarray:
    """Which states a path from `start` reaches, (largest state + 1,) bool."""
    size = int(max(source.max(initial=-1), target.max(initial=-1), start)) + 1
    seen = np.zeros(size, bool)
    if start < 0:
        return seen
    by_source = np.argsort(source, kind="stable")
    begins = np.searchsorted(source[by_source], np.arange(size + 1)).tolist()
    targets = target[by_source].tolist()
    seen[start] = True
    stack = [start]
    while stack:
        state = stack.pop()
        for to in targets[begins[state] : begins[state + 1]]:
            if not seen[to]:
                seen[to] = True
                stack.append(to)
    return seen
