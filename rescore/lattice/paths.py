"""Lists of paths from a lattice: exact N-best, sampling, the best path of given words.

Every function takes the (A,) float64 totals of the arcs (`rescore.lattice.posteriors.arc_totals`)
and returns paths with different word sequences, each the best of the paths with its words. Arcs
without a word count in the scores, not in the words.

How N-best works: a best-first search over word prefixes. A prefix is the set of states that its
paths reach, each with its best path (the lattice is determinised during the search). Its rank is
the total of the best path that begins with it, which a backward pass gives exactly. So every prefix
that is expanded begins one of the returned paths, and the search holds at most about two prefixes
for each path that it looks for. Of equal ranks the longest prefix comes first: breadth first, ties
at every place of a lattice would cost `count` prefixes of every length. Time: O(count * words *
arcs that leave one prefix), and without ties O((count + words) * arcs that leave one).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush, nsmallest
from typing import Any, TypeAlias

import numpy as np

from rescore.errors import FormatError
from rescore.lattice.lattice import Lattice
from rescore.lattice.posteriors import FloatArray, backward, slack
from rescore.lattice.symbols import text_of
from rescore.types import Hypothesis, NBest

__all__ = [
    "Chain",
    "Path",
    "Prefixes",
    "Reached",
    "as_nbest",
    "make_path",
    "n_best",
    "paths_of",
    "sample",
]

#: The arcs of a path, last first: (arc, the arcs before it).
Chain: TypeAlias = tuple[int, Any]
#: The states that a word prefix reaches: its best total to there, and that path.
Reached: TypeAlias = dict[int, tuple[float, Chain | None]]

#: Prefixes held beyond two for each path, so that the queue is not pruned at every step.
_SPARE = 64


@dataclass(frozen=True)
class Path:
    """A path from start to end, with its sums in nats.

    `arcs` are rows of the lattice; `words` are indices into `symbols`, none of them 0.
    """

    arcs: tuple[int, ...]
    words: tuple[int, ...]
    am: float
    lm: float
    total: float


def make_path(lattice: Lattice, totals: FloatArray, arcs: Sequence[int]) -> Path:
    """Return the path of these arcs."""
    rows = np.array(arcs, np.int64)
    words = lattice.word[rows]
    return Path(
        tuple(arcs),
        tuple(words[words > 0].tolist()),
        float(lattice.am[rows].sum()),
        float(lattice.lm[rows].sum()),
        float(totals[rows].sum()),
    )


def n_best(lattice: Lattice, totals: FloatArray, count: int) -> list[Path]:
    """Return the `count` best different word sequences, best first; all if there are fewer.

    Exact but for rounding: totals closer than float64's rounding of a sum may change places.
    Raises FormatError for a count below 1.
    Exact check: tests/lattice/test_lattice_paths.py::test_n_best_equals_enumeration.
    """
    _check_count(lattice, count)
    if not lattice.arcs:
        return []
    rest = backward(lattice, totals, best=True).tolist()
    prefixes = Prefixes(lattice, totals, rest)
    margin, bound, ticket = slack(lattice, totals), -math.inf, 0
    paths: list[Path] = []
    # (minus the rank, minus the words, a ticket that orders equal ones, states, arcs): a prefix
    # with its states, or a whole path with its arcs. Ranks that rounding may have parted are equal.
    step = margin or 1.0
    waiting: list[tuple[float, float, int, Reached | None, Chain | None]] = [
        (-math.inf, 0.0, 0, {0: (0.0, None)}, None)
    ]
    while waiting and len(paths) < count:
        _, length, _, reached, chain = heappop(waiting)
        if reached is None:
            paths.append(make_path(lattice, totals, _arcs_of(chain)))
            continue
        closed = prefixes.closed(reached, bound - margin)
        if prefixes.end in closed:
            ticket += 1
            total, chain = closed[prefixes.end]
            heappush(waiting, (-math.floor(total / step) * step, -math.inf, ticket, None, chain))
        for longer in prefixes.extended(closed, bound - margin).values():
            ticket += 1
            rank = max(value + rest[state] for state, (value, _) in longer.items())
            level = math.floor(rank / step) * step
            heappush(waiting, (-level, length - 1, ticket, longer, None))
        missing = count - len(paths)
        if len(waiting) > 2 * missing + _SPARE:
            # Every prefix in the queue leads to a word sequence of its own: the best are enough.
            waiting = nsmallest(missing, waiting)
            bound = -waiting[-1][0]
            heapify(waiting)
    return sorted(paths, key=lambda path: -path.total)


def paths_of(
    lattice: Lattice, totals: FloatArray, sequences: Iterable[Sequence[int]]
) -> list[Path | None]:
    """Return the best path of each word sequence, in order; None where the lattice lacks it.

    Common prefixes are followed once.
    """
    ordered = [tuple(words) for words in sequences]
    if not lattice.arcs:
        return [None] * len(ordered)
    prefixes = Prefixes(lattice, totals)
    best: dict[tuple[int, ...], Path | None] = {}
    reached = [prefixes.closed({0: (0.0, None)})]  # by each prefix of the sequence before
    before: tuple[int, ...] = ()
    for words in sorted(set(ordered)):
        common = _common_length(words, before)
        del reached[common + 1 :]
        for word in words[common:]:
            reached.append(prefixes.closed(prefixes.followed(reached[-1], word)))
        end = reached[-1].get(prefixes.end)
        best[words] = None if end is None else make_path(lattice, totals, _arcs_of(end[1]))
        before = words
    return [best[words] for words in ordered]


def sample(
    lattice: Lattice, totals: FloatArray, count: int, *, scale: float = 1.0, seed: int = 0
) -> list[Path]:
    """Draw `count` paths from P(path) ~ exp(scale * total); return their sequences, best first.

    Each word sequence comes with its best path of the lattice, as after icefall's
    `Nbest.intersect`, not with the path that was drawn. The best sequence of the lattice may be
    missing. Equals icefall's `Nbest.from_lattice`, whose `nbest_scale` is `scale`, but for the
    draws: k2.random_paths takes evenly spread numbers, the same in every call; here numpy's
    generator makes them from `seed`.
    Raises FormatError for a count below 1 or a scale that is not positive.
    """
    _check_count(lattice, count)
    if not (scale > 0 and math.isfinite(scale)):
        raise FormatError(
            f"{lattice.place()}: cannot sample with scale {scale}, expected a positive number"
        )
    if not lattice.arcs:
        return []
    sequences = set()
    for arcs in _draw(lattice, scale * totals, count, np.random.default_rng(seed)):
        words = lattice.word[arcs]
        sequences.add(tuple(words[words > 0].tolist()))
    paths = paths_of(lattice, totals, sorted(sequences))
    return sorted((path for path in paths if path is not None), key=lambda path: -path.total)


def as_nbest(
    lattice: Lattice,
    paths: Sequence[Path],
    text: Callable[[Sequence[int]], str] | None = None,
    *,
    ref: str | None = None,
    lm: str = "lm",
) -> NBest:
    """Return paths as a list with the scores `am` and `lm` (or another name for it).

    Of paths with equal texts the first stays. `text` makes the text of words (default: `text_of`).
    A lattice without a path becomes one empty hypothesis, whose scores are sums over no arcs.
    """
    text = text or partial(text_of, lattice.symbols)
    hyps: dict[str, Hypothesis] = {}  # by text
    for path in paths or [Path((), (), 0.0, 0.0, 0.0)]:
        spelled = text(path.words)
        hyps.setdefault(spelled, Hypothesis(spelled, {"am": path.am, lm: path.lm}))
    return NBest(lattice.id, tuple(hyps.values()), ref, where=lattice.where)


class Prefixes:
    """The word prefixes of a lattice, as sets of states.

    `rest` (S,) is the best total from each state to the end; with it, hopeless states are left out.
    """

    def __init__(
        self, lattice: Lattice, totals: FloatArray, rest: Sequence[float] | None = None
    ) -> None:
        self._rest = rest if rest is not None else [0.0] * lattice.states
        self.end = lattice.states - 1
        self._begins = np.searchsorted(lattice.source, np.arange(lattice.states + 1)).tolist()
        self._targets, self._words, self._totals = (
            lattice.target.tolist(),
            lattice.word.tolist(),
            totals.tolist(),
        )
        silent = np.bincount(lattice.source[lattice.word == 0], minlength=lattice.states) > 0
        self._silent = silent.tolist()

    def closed(self, reached: Reached, bound: float = -math.inf) -> Reached:
        """The states of `reached`, and those that arcs without words reach from them.

        States are in topological order, so the smallest one that waits is final. States from which
        no path attains `bound` are not followed further.
        """
        waiting = [state for state in reached if self._silent[state]]
        if not waiting:
            return reached
        closed = dict(reached)
        heapify(waiting)
        while waiting:
            state = heappop(waiting)
            value, chain = closed[state]
            for arc in range(self._begins[state], self._begins[state + 1]):
                to, total = self._targets[arc], value + self._totals[arc]
                if self._words[arc] or total + self._rest[to] < bound:
                    continue
                if to not in closed:
                    if self._silent[to]:
                        heappush(waiting, to)
                elif closed[to][0] >= total:
                    continue
                closed[to] = (total, (arc, chain))
        return closed

    def extended(self, closed: Reached, bound: float = -math.inf) -> dict[int, Reached]:
        """The prefixes one word longer, without states from which no path attains `bound`."""
        longer: dict[int, Reached] = {}
        for state, (value, chain) in closed.items():
            if value + self._rest[state] < bound:
                continue
            for arc in range(self._begins[state], self._begins[state + 1]):
                word, to, total = self._words[arc], self._targets[arc], value + self._totals[arc]
                if not word or total + self._rest[to] < bound:
                    continue
                states = longer.setdefault(word, {})
                if to not in states or states[to][0] < total:
                    states[to] = (total, (arc, chain))
        return longer

    def followed(self, closed: Reached, word: int) -> Reached:
        """The prefix longer by this word."""
        states: Reached = {}
        for state, (value, chain) in closed.items():
            for arc in range(self._begins[state], self._begins[state + 1]):
                to, total = self._targets[arc], value + self._totals[arc]
                if self._words[arc] == word and (to not in states or states[to][0] < total):
                    states[to] = (total, (arc, chain))
        return states


def _common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the longest common prefix."""
    shorter = min(len(a), len(b))
    return next((i for i in range(shorter) if a[i] != b[i]), shorter)


def _arcs_of(chain: Chain | None) -> list[int]:
    """The arcs of a chain, first to last."""
    arcs: list[int] = []
    while chain is not None:
        arc, chain = chain
        arcs.append(arc)
    return arcs[::-1]


def _draw(
    lattice: Lattice, totals: FloatArray, count: int, random: np.random.Generator
) -> list[list[int]]:
    """The arcs of `count` random paths, all extended by one arc in each step.

    `ladder` is source + P(this arc or an earlier one | source): a number drawn from
    [source, source + 1) falls into the chosen arc.
    """
    rest = backward(lattice, totals)
    chances = np.exp(totals + rest[lattice.target] - rest[lattice.source])
    sums = np.cumsum(chances)
    begins = np.searchsorted(lattice.source, np.arange(lattice.states + 1))
    before = np.concatenate([[0.0], sums])[begins[lattice.source]]
    last = begins[lattice.source + 1] - 1
    within = np.where(
        np.arange(lattice.arcs) == last,
        1.0,
        np.minimum((sums - before) / (sums[last] - before), 1.0),
    )
    ladder = lattice.source + within
    states, paths = np.zeros(count, np.int64), [list[int]() for _ in range(count)]
    going = np.arange(count)
    while len(going):
        chosen = np.searchsorted(ladder, states[going] + random.random(len(going)), side="right")
        # A large state number rounds the draw, so it may fall beside the arcs of its state.
        chosen = np.clip(chosen, begins[states[going]], begins[states[going] + 1] - 1)
        for path, arc in zip(going.tolist(), chosen.tolist(), strict=True):
            paths[path].append(arc)
        states[going] = lattice.target[chosen]
        going = going[states[going] < lattice.states - 1]
    return paths


def _check_count(lattice: Lattice, count: int) -> None:
    if count < 1:
        raise FormatError(f"{lattice.place()}: got {count} paths to find, expected at least 1")
