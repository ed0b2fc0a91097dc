"""Sums and maxima over all paths of a lattice: scores, arc posteriors, pruning, density.

Every function takes the (A,) float64 totals of the arcs, which `arc_totals` makes. The cost is
O(A), a few numpy calls for each depth of the lattice.

Letters in shapes: A arcs, S states. All scores are nats, higher is better.
Exact checks: tests/lattice/test_lattice_posteriors.py (all paths of small lattices),
tests/lattice/test_lattice_k2.py, tests/lattice/test_lattice_kaldifst.py.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FormatError
from rescore.lattice.lattice import Lattice

__all__ = [
    "Density",
    "arc_posteriors",
    "arc_totals",
    "backward",
    "best_through",
    "density",
    "forward",
    "prune",
    "slack",
    "take_arcs",
    "total_score",
]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]


def arc_totals(
    lattice: Lattice, am_scale: float = 1.0, lm_scale: float = 1.0, word_bonus: float = 0.0
) -> FloatArray:
    """Return am_scale * am + lm_scale * lm, plus word_bonus on arcs with a word, (A,).

    Raises FormatError for a factor or a total that is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        totals: FloatArray = (
            am_scale * lattice.am + lm_scale * lattice.lm + word_bonus * (lattice.word > 0)
        )
    factors_are_finite = all(map(math.isfinite, (am_scale, lm_scale, word_bonus)))
    if not factors_are_finite or not np.isfinite(totals).all():
        raise FormatError(
            f"{lattice.place()}: totals with scales {am_scale}, {lm_scale} and word bonus "
            f"{word_bonus} are not finite; give finite ones"
        )
    return totals


def forward(lattice: Lattice, totals: FloatArray, *, best: bool = False) -> FloatArray:
    """Return the log-sum (or `best`) of all paths from the start to each state, (S,)."""
    return _sweep(lattice.source, lattice.target, totals, lattice.states, best)


def backward(lattice: Lattice, totals: FloatArray, *, best: bool = False) -> FloatArray:
    """Return the log-sum (or `best`) of all paths from each state to the end, (S,)."""
    last = lattice.states - 1
    order = np.argsort(last - lattice.target, kind="stable")
    return _sweep(
        (last - lattice.target)[order],
        (last - lattice.source)[order],
        totals[order],
        lattice.states,
        best,
    )[::-1]


def total_score(lattice: Lattice, totals: FloatArray, *, best: bool = False) -> float:
    """Return the log-sum of all paths, or the total of the best; -inf if there is no path."""
    return float(forward(lattice, totals, best=best)[-1]) if lattice.arcs else -math.inf


def arc_posteriors(lattice: Lattice, totals: FloatArray) -> FloatArray:
    """Return log P(the path uses this arc), (A,), at most 0, where P(path) ~ exp(its total)."""
    if not lattice.arcs:
        return np.empty(0)
    before, after = forward(lattice, totals), backward(lattice, totals)
    posteriors: FloatArray = np.minimum(
        before[lattice.source] + totals + after[lattice.target] - before[-1], 0.0
    )  # rounding may give more
    return posteriors


def best_through(lattice: Lattice, totals: FloatArray) -> FloatArray:
    """Return the total of the best path through each arc, (A,)."""
    if not lattice.arcs:
        return np.empty(0)
    before, after = forward(lattice, totals, best=True), backward(lattice, totals, best=True)
    through: FloatArray = before[lattice.source] + totals + after[lattice.target]
    return through


def slack(lattice: Lattice, totals: FloatArray) -> float:
    """Return by how much two sums of one path, added in different orders, may differ.

    That is float64's epsilon for each arc of the longest path.
    """
    if not lattice.arcs:
        return 0.0
    largest = total_score(lattice, np.abs(totals), best=True)
    return float(2 * np.finfo(np.float64).eps * lattice.states * largest)


def prune(
    lattice: Lattice, totals: FloatArray, *, posterior: float = 0.0, beam: float = math.inf
) -> Lattice:
    """Keep the arcs with at least this `posterior` and a path at most `beam` nats below the best.

    The best path always stays. A beam keeps whole paths; a posterior may cut off an arc that it
    keeps, which is then removed too. Raises FormatError for a posterior outside [0, 1] or a
    negative beam.
    """
    if not 0 <= posterior <= 1 or not beam >= 0:
        raise FormatError(
            f"{lattice.place()}: cannot prune to posterior {posterior} and beam {beam}, expected "
            "a posterior in [0, 1] and a beam of at least 0"
        )
    if not lattice.arcs:
        return lattice
    through = best_through(lattice, totals)
    kept = through >= through.max() - beam - slack(lattice, totals)
    if posterior > 0:
        kept &= arc_posteriors(lattice, totals) >= math.log(posterior)
    kept[_best_arcs(lattice, totals)] = True
    return take_arcs(lattice, kept)


def take_arcs(lattice: Lattice, kept: NDArray[np.bool_]) -> Lattice:
    """Return the lattice of these arcs, (A,) bool, as far as they still lie on a path."""
    if kept.all():
        return lattice
    end = lattice.states - 1
    return Lattice.from_arcs(
        lattice.id,
        lattice.source[kept],
        lattice.target[kept],
        lattice.word[kept],
        lattice.am[kept],
        lattice.lm[kept],
        lattice.symbols,
        start=0,
        ends=np.array([end]),
        label=lattice.label[kept],
        scores={name: values[kept] for name, values in lattice.scores.items()},
        times=lattice.times,
        where=lattice.where,
    )


@dataclass(frozen=True)
class Density:
    """The size of a lattice. `seconds` and `arcs_per_second` are None if states have no times."""

    states: int
    arcs: int
    word_arcs: int
    best_path_words: int
    log10_paths: float
    seconds: float | None

    @property
    def arcs_per_word(self) -> float | None:
        """Arcs with a word for each word of the best path; None where that has none."""
        return self.word_arcs / self.best_path_words if self.best_path_words else None

    @property
    def arcs_per_second(self) -> float | None:
        """Arcs with a word for each second."""
        return self.word_arcs / self.seconds if self.seconds else None


def density(lattice: Lattice, totals: FloatArray) -> Density:
    """Measure a lattice. `log10_paths` counts paths of arcs, also of equal words; -inf if none."""
    if not lattice.arcs:
        return Density(0, 0, 0, 0, -math.inf, None)
    words = int((lattice.word[_best_arcs(lattice, totals)] > 0).sum())
    paths = total_score(lattice, np.zeros(lattice.arcs)) / math.log(10)
    seconds = None if lattice.times is None else float(lattice.times[-1] - lattice.times[0])
    return Density(
        lattice.states, lattice.arcs, int((lattice.word > 0).sum()), words, paths, seconds
    )


def _best_arcs(lattice: Lattice, totals: FloatArray) -> list[int]:
    """The arcs of the best path; ties go to the first arc of a state."""
    after = backward(lattice, totals, best=True)
    begins = np.searchsorted(lattice.source, np.arange(lattice.states + 1))
    through, state, arcs = totals + after[lattice.target], 0, []
    while state < lattice.states - 1:
        first, stop = int(begins[state]), int(begins[state + 1])
        arcs.append(first + int(np.argmax(through[first:stop])))
        state = int(lattice.target[arcs[-1]])
    return arcs


def _sweep(
    origin: IntArray, goal: IntArray, totals: FloatArray, states: int, best: bool
) -> FloatArray:
    """The log-sum or maximum over all paths from state 0, (S,).

    Arcs are sorted by `origin`, states are in topological order. All states of one depth (the arcs
    of the longest path from the start) are reached from smaller depths, so each depth is one step.
    """
    depths = _depths(origin, goal, states)
    order = np.lexsort((goal, depths[goal]))
    goals, origins, arc_values = goal[order], origin[order], totals[order]
    firsts = np.flatnonzero(np.diff(goals, prepend=-1))  # arcs into one state are neighbours
    reached = goals[firsts]
    steps = np.searchsorted(depths[reached], np.arange(1, int(depths.max(initial=0)) + 2)).tolist()
    bounds = np.append(firsts, len(goals))
    values = np.full(states, -np.inf)
    values[:1] = 0.0
    for first, stop in itertools.pairwise(steps):
        begin, end = bounds[first], bounds[stop]
        sums = values[origins[begin:end]] + arc_values[begin:end]
        groups = firsts[first:stop] - begin
        highest = np.maximum.reduceat(sums, groups)
        if not best and len(sums) > len(groups):
            sizes = np.diff(bounds[first : stop + 1])
            shares = np.exp(sums - np.repeat(highest, sizes))
            highest = highest + np.log(np.add.reduceat(shares, groups))
        values[reached[first:stop]] = highest
    return values


def _depths(origin: IntArray, goal: IntArray, states: int) -> IntArray:
    """The number of arcs of the longest path from state 0 to each state, (S,)."""
    depths = [0] * states
    for state, to in zip(origin.tolist(), goal.tolist(), strict=True):
        if depths[to] <= depths[state]:
            depths[to] = depths[state] + 1
    return np.array(depths, np.int64)
