"""The error count of a corpus along a line in the space of weights: an exact staircase, by the upper envelopes of all lists at once.

Along a direction the total of a hypothesis is a line, intercept + step * slope, so the 1-best of a list changes only at the corners of an upper
envelope, and the error count is known everywhere from its corners.
Source: Och 2003, "Minimum error rate training in statistical machine translation", ACL P03-1021, section 5; the envelopes are found as
quickhull finds hulls (Barber, Dobkin and Huhdanpaa 1996). Shapes: U utterances, H hypotheses of all of them, C corners.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.fusion.totals import winners

__all__ = ["Staircase", "staircase"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

_NARROW = 1e-9  # plateaus narrower than this, relative to their place, are rounding of corners that coincide
_FAR = 1e100  # corners farther out than this only come from slopes that differ by rounding


@dataclass(frozen=True)
class Staircase:
    """The error count as a function of the step: `counts[i]` on the open interval between `corners[i - 1]` and `corners[i]`.

    `corners` is float64 (C,), ascending, `counts` int64 (C + 1,); the ends are `low` and `high`. At a corner itself hypotheses tie.
    """

    low: float
    high: float
    corners: FloatArray
    counts: IntArray

    def plateau(self, step: float) -> tuple[float, float, int]:
        """Return the plateau around a step: its two ends and its error count."""
        edges = self._edges()
        i = int(np.searchsorted(self.corners, step))
        return float(edges[i]), float(edges[i + 1]), int(self.counts[i])

    def best(self, reach: float = 1.0) -> tuple[float, int]:
        """Return (step, errors): the middle of the plateau with the fewest errors, of equal ones the widest.

        A plateau without end counts as 2 * `reach` wide, so its middle is `reach` beyond the last corner (or the bound; or 0).
        """
        edges = self._edges()
        if edges[0] == -math.inf:
            edges[0] = edges[1] - 2 * reach if math.isfinite(edges[1]) else -reach
        if edges[-1] == math.inf:
            edges[-1] = edges[-2] + 2 * reach
        left, right = edges[:-1], edges[1:]
        widths = np.where(
            right - left > _NARROW * np.maximum(np.abs(left), np.abs(right)), right - left, 0.0
        )
        fewest = self.counts[widths > 0].min()
        best = np.argmax(np.where(self.counts == fewest, widths, 0.0))
        return float((left[best] + right[best]) / 2), int(fewest)

    def _edges(self) -> FloatArray:
        return np.concatenate([[self.low], self.corners, [self.high]])


class _Lines(NamedTuple):
    """Lines still in question: their numbers, intercepts and slopes, and the gap between two known lines that each lies in."""

    line: IntArray
    intercept: FloatArray
    slope: FloatArray
    gap: IntArray

    def take(self, rows: IntArray) -> _Lines:
        return _Lines(self.line[rows], self.intercept[rows], self.slope[rows], self.gap[rows])


def staircase(
    intercept: FloatArray,
    slope: FloatArray,
    errors: IntArray,
    offsets: IntArray,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Staircase:
    """Return sum_u errors[1-best of u at intercept + step * slope] as a function of the step, exactly, on low < step < high.

    `intercept`, `slope`, `errors` are (H,); `offsets` (U + 1,) cuts them into lists. Of equal hypotheses the earliest is the 1-best.

    Quickhull over all lists at once: between two lines of the upper envelope no line matters that is not above them where they cross; the
    highest one there is on the envelope too, and divides the rest. A gap with nothing above it is a corner. Finished lists drop out.
    Exact check: tests/fusion/test_tune.py::test_staircase_equals_every_interval_of_a_brute_force_sweep.
    """
    left, right = (
        _outermost(intercept, slope, offsets, low),
        _outermost(intercept, -slope, offsets, -high),
    )
    start, corners, changes = errors[left].sum(), [], []
    lines = _Lines(
        np.arange(len(slope)), intercept, slope, np.repeat(np.arange(len(left)), np.diff(offsets))
    )
    while True:
        cross, lines, height = _above(
            lines,
            _Lines(left, intercept[left], slope[left], left),
            _Lines(right, intercept[right], slope[right], right),
        )
        closed = np.ones(len(left), dtype=bool)
        closed[lines.gap] = False
        corners.append(cross[closed])
        changes.append(errors[right[closed]] - errors[left[closed]])
        if closed.all():
            break
        runs = np.append(
            np.flatnonzero(np.append(True, lines.gap[1:] != lines.gap[:-1])), len(height)
        )
        top = winners(height, runs)
        parent, vertex = lines.gap[top], lines.line[top]
        beyond = lines.slope > np.repeat(lines.slope[top], np.diff(runs))
        lines = lines._replace(gap=np.repeat(2 * np.arange(len(top)), np.diff(runs)) + beyond)
        left, right = (
            np.column_stack([left[parent], vertex]).ravel(),
            np.column_stack([vertex, right[parent]]).ravel(),
        )
    where, change = _summed(np.concatenate(corners), np.concatenate(changes))
    return Staircase(low, high, np.clip(where, low, high), np.cumsum(np.append(start, change)))


def _outermost(intercept: FloatArray, slope: FloatArray, offsets: IntArray, at: float) -> IntArray:
    """Return the 1-best of each utterance just right of `at`, (U,). Mirror the slopes and `at` for the one just left."""
    first, second = (-slope, intercept) if at == -math.inf else (intercept + at * slope, slope)
    tied = np.flatnonzero(
        first == np.repeat(np.maximum.reduceat(first, offsets[:-1]), np.diff(offsets))
    )
    return tied[winners(second[tied], np.searchsorted(tied, offsets))]


def _above(lines: _Lines, left: _Lines, right: _Lines) -> tuple[FloatArray, _Lines, FloatArray]:
    """Return where the two ends of each gap cross; the lines above that corner, sorted by gap; and their heights there."""
    with np.errstate(
        divide="ignore", invalid="ignore", over="ignore"
    ):  # equal ends: nothing lies between them, NaN compares false
        cross = (left.intercept - right.intercept) / (right.slope - left.slope)
        level = left.intercept + cross * left.slope
        height = lines.intercept + cross[lines.gap] * lines.slope
    rows = np.flatnonzero(height > level[lines.gap])
    gap, slope = lines.gap[rows], lines.slope[rows]
    rows = rows[
        (slope > left.slope[gap]) & (slope < right.slope[gap])
    ]  # not the ends themselves, nor their copies
    rows = rows[np.argsort(lines.gap[rows], kind="stable")]
    return cross, lines.take(rows), height[rows]


def _summed(corners: FloatArray, changes: IntArray) -> tuple[FloatArray, IntArray]:
    """Sort the corners, add up the changes at equal ones, and drop those that change nothing."""
    moving = np.flatnonzero(changes)
    corners, changes = np.clip(np.nan_to_num(corners[moving]), -_FAR, _FAR), changes[moving]
    if not len(moving):
        return corners, changes
    order = np.argsort(corners)
    begins = np.flatnonzero(np.append(True, np.diff(corners[order]) > 0))
    changes = np.add.reduceat(changes[order], begins)
    return corners[order][begins][changes != 0], changes[changes != 0]
