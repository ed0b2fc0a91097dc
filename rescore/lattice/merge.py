"""Merge time variants: the smallest lattice with the same word sequences and their best scores.

Three exact steps. Determinisation in the max semiring removes arcs without a word, and leaves one
path for every word sequence, its best; the scores am, lm, ... are carried along, as Kaldi's
lattice-determinize does. Pushing moves scores as far to the start as they can. Minimisation joins
states from which the same words with the same scores follow. `max` rather than the log-sum, so that
the N-best list of the merged lattice equals that of the lattice, scores included.

The result may be larger than the lattice, exponentially so at worst: scores that depend on earlier
times keep states apart. Prune first; `limit` bounds the arcs.
Exact check: tests/lattice/test_lattice_merge.py, all word sequences and their best scores.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from rescore.errors import FormatError
from rescore.lattice.lattice import Lattice
from rescore.lattice.paths import Chain, Prefixes, Reached
from rescore.lattice.posteriors import FloatArray, IntArray, slack

__all__ = ["merge"]

#: Identifies a set of states: each with the excess of its best path over the arcs, in grains.
_Key: TypeAlias = tuple[tuple[int, ...], ...]
#: (source, target, word); the scores are kept beside it.
_Arc: TypeAlias = tuple[int, int, int]

_END = 0  # of a machine being built
_TOTAL = "total"  # the column that decides between paths, while a lattice is built


def merge(lattice: Lattice, totals: FloatArray, *, limit: int = 200_000) -> Lattice:
    """Return the lattice with one path for each word sequence.

    `am`, `lm` and other scores are those of its best path by `totals` (A,). Input labels and times
    are dropped: a merged word has several. Arcs without a word remain only into the end, where one
    sequence is a prefix of another. Scores count as equal where float64's rounding over the longest
    path cannot tell them apart.
    Raises FormatError if more than `limit` arcs would be needed, or a score is called "total".
    """
    if _TOTAL in lattice.scores:
        raise FormatError(
            f'{lattice.place()}: a score is called "{_TOTAL}", the name of what arcs are compared '
            "by; rename it"
        )
    if not lattice.arcs:
        return lattice
    names = (_TOTAL, "am", "lm", *lattice.scores)
    columns = np.column_stack([totals, lattice.am, lattice.lm, *lattice.scores.values()])
    grains = np.array(
        [max(slack(lattice, column), float(np.finfo(np.float64).tiny)) for column in columns.T]
    )
    machine = _Determinizer(lattice, columns, grains, limit)
    machine.run()
    single = _built(lattice, names, machine.arcs, machine.sums)
    return _minimal(lattice, single, names, grains)


class _Determinizer:
    """Builds arcs between sets of states."""

    def __init__(
        self, lattice: Lattice, columns: FloatArray, grains: FloatArray, limit: int
    ) -> None:
        self.prefixes, self.columns, self.grains, self.limit = (
            Prefixes(lattice, columns[:, 0]),
            columns,
            grains,
            limit,
        )
        self.place, self.end = lattice.place(), lattice.states - 1
        self.arcs: list[_Arc] = []
        self.sums: list[FloatArray] = []
        self._numbers: dict[_Key, int] = {((self.end, *[0] * columns.shape[1]),): _END}
        self._waiting: list[tuple[int, dict[int, FloatArray]]] = []

    def run(self) -> None:
        """Follow words from the start until no set of states is new."""
        self._number({0: np.zeros(self.columns.shape[1])})
        while self._waiting:
            number, subset = self._waiting.pop()
            closed = self.prefixes.closed(
                {state: (float(excess[0]), (-1, excess)) for state, excess in subset.items()}
            )
            if self.end in closed:
                self._add(number, _END, 0, self._sum(closed[self.end][1]))
            for word, longer in self.prefixes.extended(closed).items():
                best, excess = self._normalized(longer)
                self._add(number, self._number(excess), word, best)

    def _add(self, source: int, target: int, word: int, scores: FloatArray) -> None:
        self.arcs.append((source, target, word))
        self.sums.append(scores)
        if len(self.arcs) > self.limit:
            raise FormatError(
                f"{self.place}: merging equal words needs more than {self.limit} arcs; "
                "prune first (by posterior or beam), or raise the limit"
            )

    def _sum(self, chain: Chain | None) -> FloatArray:
        """The scores of the arcs of a chain, and of its beginning."""
        arcs: list[int] = []
        total = np.zeros(self.columns.shape[1])
        while chain is not None:
            arc, before = chain
            if arc < 0:  # the beginning of the chain
                total, before = before, None
            else:
                arcs.append(arc)
            chain = before
        added: FloatArray = total + self.columns[arcs].sum(axis=0)
        return added

    def _normalized(self, reached: Reached) -> tuple[FloatArray, dict[int, FloatArray]]:
        """The scores of the best path into a set of states, and the excess of each state."""
        sums = {state: self._sum(chain) for state, (_, chain) in reached.items()}
        best = sums[max(sums, key=lambda state: (float(sums[state][0]), -state))]
        return best, {state: total - best for state, total in sums.items()}

    def _number(self, subset: dict[int, FloatArray]) -> int:
        key = tuple(
            (state, *np.rint(excess / self.grains).astype(np.int64).tolist())
            for state, excess in sorted(subset.items())
        )
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._waiting.append((self._numbers[key], subset))
        return self._numbers[key]


def _built(
    lattice: Lattice, names: tuple[str, ...], arcs: list[_Arc], sums: list[FloatArray]
) -> Lattice:
    """A lattice of these arcs, with the columns called `names`."""
    source, target, word = np.array(arcs, np.int64).T
    columns = dict(zip(names, np.array(sums).T, strict=True))
    am, lm = columns.pop("am"), columns.pop("lm")
    return Lattice.from_arcs(
        lattice.id,
        source,
        target,
        word,
        am,
        lm,
        lattice.symbols,
        start=_start(source, target),
        ends=np.array([_END]),
        scores=columns,
        where=lattice.where,
    )


def _start(source: IntArray, target: IntArray) -> int:
    return int(np.setdiff1d(source, target)[0])


def _minimal(
    lattice: Lattice, single: Lattice, names: tuple[str, ...], grains: FloatArray
) -> Lattice:
    """Push the scores towards the start, and join states with equal ways to the end."""
    columns = np.column_stack(
        [single.scores[_TOTAL], single.am, single.lm, *(single.scores[name] for name in names[3:])]
    )
    ahead = _best_ahead(single, columns)
    pushed = columns + ahead[single.target] - ahead[single.source]
    grained = np.rint(pushed / grains).astype(np.int64).tolist()
    pushed[single.source == 0] += ahead[0]
    begins = np.searchsorted(single.source, np.arange(single.states + 1)).tolist()
    target, word = single.target.tolist(), single.word.tolist()
    # A state with nothing but an arc without word or score into the end is the end.
    only_end = ((0, _END, *[0] * len(names)),)
    classes, kinds = [_END] * single.states, dict[object, int]({only_end: _END})
    arcs, sums = list[_Arc](), list[FloatArray]()
    for state in range(single.states - 2, -1, -1):
        leaving = range(begins[state], begins[state + 1])
        kind = tuple(sorted((word[arc], classes[target[arc]], *grained[arc]) for arc in leaving))
        if kind not in kinds or not state:  # the start stays apart: its arcs hold the pushed scores
            classes[state] = len(kinds)
            kinds[kind if state else "start"] = classes[state]
            arcs += [(classes[state], classes[target[arc]], word[arc]) for arc in leaving]
            sums += [pushed[arc] for arc in leaving]
        else:
            classes[state] = kinds[kind]
    merged = _built(lattice, names, arcs, sums)
    return replace(
        merged, scores={name: values for name, values in merged.scores.items() if name != _TOTAL}
    )


def _best_ahead(lattice: Lattice, columns: FloatArray) -> FloatArray:
    """The scores of the best path from each state to the end, (S, F)."""
    ahead = np.zeros((lattice.states, columns.shape[1]))
    begins = np.searchsorted(lattice.source, np.arange(lattice.states + 1)).tolist()
    for state in range(lattice.states - 2, -1, -1):
        first, stop = begins[state], begins[state + 1]
        best = first + int(np.argmax(columns[first:stop, 0] + ahead[lattice.target[first:stop], 0]))
        ahead[state] = columns[best] + ahead[lattice.target[best]]
    return ahead
