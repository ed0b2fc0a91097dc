"""The smallest list of paths such that every arc of a lattice lies on one of them.

A minimum flow with at least 1 on every arc; its size is that of the largest set of arcs of which no
two lie on one path (Dilworth 1950). The search starts from a feasible flow along the best arcs, and
reduces it along paths on which some arcs carry more than they need: Dinic's algorithm on the
residual graph, as in Ciurea and Ciupala 2004, "Sequential and parallel algorithms for minimum
flows". It finds one of the minimum flows, not the one with the best paths, and cuts it into paths
greedily, so that the best path of the lattice comes first.
Exact check: tests/lattice/test_lattice_cover.py, by the largest antichain and a linear program.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from rescore.lattice.lattice import Lattice
from rescore.lattice.paths import Path, make_path
from rescore.lattice.posteriors import FloatArray, backward, forward

__all__ = ["path_cover"]


def path_cover(lattice: Lattice, totals: FloatArray) -> list[Path]:
    """Return the fewest paths that cover every arc, best first; the best of the lattice is one.

    Two of them may have the same words (time variants); `rescore.lattice.merge` makes lattices
    without these. `totals` (A,) orders and prefers. Cost: near O(A * sqrt(S)) in practice,
    O(A * S^2) at worst.
    """
    if not lattice.arcs:
        return []
    rest = backward(lattice, totals, best=True)
    flow = _feasible(lattice, totals, rest)
    _Reduction(lattice, flow).run()
    paths = [
        make_path(lattice, totals, arcs)
        for arcs in _cut(lattice, flow, (totals + rest[lattice.target]).tolist())
    ]
    return sorted(paths, key=lambda path: -path.total)


def _feasible(lattice: Lattice, totals: FloatArray, rest: FloatArray) -> list[int]:
    """A flow of at least 1 on every arc.

    A state gets the flow that it lacks over its best entering arc, and passes the flow that it has
    in excess over its best leaving arc.
    """
    best_before = forward(lattice, totals, best=True)[lattice.source] + totals
    best_after = totals + rest[lattice.target]
    into, out = np.full(lattice.states, -1), np.full(lattice.states, -1)
    by_before = np.argsort(best_before, kind="stable")
    by_after = np.argsort(best_after, kind="stable")
    into[lattice.target[by_before]] = by_before  # the last one written is the best
    out[lattice.source[by_after]] = by_after
    flow = [1] * lattice.arcs
    balance = (
        np.bincount(lattice.target, minlength=lattice.states)
        - np.bincount(lattice.source, minlength=lattice.states)
    ).tolist()
    source, target, into_arc, out_arc = (
        lattice.source.tolist(),
        lattice.target.tolist(),
        into.tolist(),
        out.tolist(),
    )
    for state in range(lattice.states - 2, 0, -1):
        if balance[state] < 0:
            arc = into_arc[state]
            flow[arc] -= balance[state]
            balance[source[arc]] += balance[state]
            balance[state] = 0
    for state in range(1, lattice.states - 1):
        if balance[state] > 0:
            arc = out_arc[state]
            flow[arc] += balance[state]
            balance[target[arc]] += balance[state]
    return flow


class _Reduction:
    """Reduces the flow from start to end until no arc can do with less.

    A step along an arc lowers its flow, down to 1; a step against it raises it. Steps are numbered
    2 * arc (along) and 2 * arc + 1 (against).
    """

    def __init__(self, lattice: Lattice, flow: list[int]) -> None:
        self.flow, self.end = flow, lattice.states - 1
        self.steps: list[list[int]] = [[] for _ in range(lattice.states)]
        self.heads: list[int] = []
        for arc, (source, target) in enumerate(
            zip(lattice.source.tolist(), lattice.target.tolist(), strict=True)
        ):
            self.steps[source].append(2 * arc)
            self.steps[target].append(2 * arc + 1)
            self.heads += [target, source]

    def run(self) -> None:
        """Dinic's algorithm: shortest reducing paths, all those of one length at a time."""
        while (levels := self._levels()) is not None:
            nexts = [0] * len(self.steps)
            while path := self._path(levels, nexts):
                lowered = [step >> 1 for step in path if not step & 1]
                most = min(self.flow[arc] for arc in lowered) - 1
                for step in path:
                    self.flow[step >> 1] += most if step & 1 else -most

    def _is_open(self, step: int) -> bool:
        return bool(step & 1) or self.flow[step >> 1] > 1

    def _levels(self) -> list[int] | None:
        """The number of steps from the start to each state; None if the end is out of reach."""
        levels = [-1] * len(self.steps)
        levels[0] = 0
        waiting = deque([0])
        while waiting:
            state = waiting.popleft()
            for step in self.steps[state]:
                head = self.heads[step]
                if levels[head] < 0 and self._is_open(step):
                    levels[head] = levels[state] + 1
                    waiting.append(head)
        return levels if levels[self.end] > 0 else None

    def _path(self, levels: list[int], nexts: list[int]) -> list[int]:
        """A path of open steps to the end, each one level further; empty if there is none.

        `nexts`: for each state, its first step that has not led to a dead end yet.
        """
        path: list[int] = []
        state = 0
        while state != self.end:
            if nexts[state] == len(self.steps[state]):
                if not path:
                    return []
                step = path.pop()
                state = self.heads[step ^ 1]
                nexts[state] += 1
                continue
            step = self.steps[state][nexts[state]]
            if levels[self.heads[step]] == levels[state] + 1 and self._is_open(step):
                path.append(step)
                state = self.heads[step]
            else:
                nexts[state] += 1
        return path


def _cut(lattice: Lattice, flow: list[int], onward: list[float]) -> list[list[int]]:
    """The flow as paths: each follows the arc with flow left and the best way to the end."""
    begins = np.searchsorted(lattice.source, np.arange(lattice.states + 1)).tolist()
    choices = [
        sorted(range(begins[s], begins[s + 1]), key=lambda arc: -onward[arc])
        for s in range(lattice.states)
    ]
    target, left = lattice.target.tolist(), list(flow)
    paths: list[list[int]] = []
    for _ in range(sum(flow[arc] for arc in choices[0])):
        state, path = 0, []
        while state != lattice.states - 1:
            arc = next(arc for arc in choices[state] if left[arc])
            left[arc] -= 1
            path.append(arc)
            state = target[arc]
        paths.append(path)
    return paths
