"""The error count of a corpus along a line in the space of weights, exactly.

Along a direction the total of a hypothesis is a line, intercept + step * slope. So the best
hypothesis of a list changes only at the corners of the upper envelope of its lines, and the error
count is a staircase with steps at these corners. The envelopes of all lists are found at once, as
quickhull finds convex hulls.

Source: Och 2003, "Minimum error rate training in statistical machine translation", ACL P03-1021,
section 5; Barber, Dobkin and Huhdanpaa 1996 (quickhull).
Shapes: U utterances, H hypotheses of all of them together, C corners.
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

# Plateaus narrower than this, relative to their place, come from rounding: their corners coincide.
_NARROW = 1e-9
_FAR = 1e100  # corners farther out than this come from slopes that differ only by rounding


@dataclass(frozen=True)
class Staircase:
    """The error count as a function of the step.

    `counts[i]` holds on the open interval between `corners[i - 1]` and `corners[i]`; the outermost
    ends are `low` and `high`. `corners` is float64 (C,), ascending, `counts` int64 (C + 1,). At a
    corner itself hypotheses tie.
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
        """Return (step, errors): the middle of the plateau with the fewest errors.

        Ties go to the widest. A plateau without end counts as 2 * `reach` wide: its middle is
        `reach` beyond the last corner or bound, or 0 if there is none.
        """
        edges = self._edges()
        if edges[0] == -math.inf:
            edges[0] = edges[1] - 2 * reach if math.isfinite(edges[1]) else -reach
        if edges[-1] == math.inf:
            edges[-1] = edges[-2] + 2 * reach
        left, right = edges[:-1], edges[1:]
        is_wide = right - left > _NARROW * np.maximum(np.abs(left), np.abs(right))
        widths = np.where(is_wide, right - left, 0.0)
        fewest = self.counts[widths > 0].min()
        best = np.argmax(np.where(self.counts == fewest, widths, 0.0))
        return float((left[best] + right[best]) / 2), int(fewest)

    def _edges(self) -> FloatArray:
        return np.concatenate([[self.low], self.corners, [self.high]])


class _Lines(NamedTuple):
    """Lines: their numbers (H,), intercepts and slopes, and the gap that each belongs to.

    A gap lies between two neighbouring lines of an envelope as far as it is known.
    """

    number: IntArray
    intercept: FloatArray
    slope: FloatArray
    gap: IntArray

    def take(self, rows: IntArray) -> _Lines:
        return _Lines(self.number[rows], self.intercept[rows], self.slope[rows], self.gap[rows])


def staircase(
    intercept: FloatArray,
    slope: FloatArray,
    errors: IntArray,
    offsets: IntArray,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Staircase:
    """Return the errors of the best hypotheses at intercept + step * slope, for low < step < high.

    `intercept`, `slope` and `errors` are (H,); `offsets` (U + 1,) cuts them into lists. Ties go to
    the earliest hypothesis.

    Between two lines of the envelope only lines matter that lie above the point where these two
    cross. The highest of them there is on the envelope too and divides the gap in two; a gap
    without such a line is a corner.
    Exact check:
    tests/fusion/test_line_search.py::test_staircase_equals_every_interval_of_a_brute_force_sweep.
    """
    left = _outermost(intercept, slope, offsets, low)
    right = _outermost(intercept, -slope, offsets, -high)
    errors_at_low = errors[left].sum()
    corners: list[FloatArray] = []
    changes: list[IntArray] = []
    gap = np.repeat(np.arange(len(left)), np.diff(offsets))  # at first a gap is a list
    lines = _Lines(np.arange(len(slope)), intercept, slope, gap)
    while True:
        left_ends = _Lines(left, intercept[left], slope[left], left)
        right_ends = _Lines(right, intercept[right], slope[right], right)
        cross, lines, height = _above(lines, left_ends, right_ends)
        is_corner = np.ones(len(left), dtype=bool)
        is_corner[lines.gap] = False
        corners.append(cross[is_corner])
        changes.append(errors[right[is_corner]] - errors[left[is_corner]])
        if is_corner.all():
            break
        left, right, lines = _divide(left, right, lines, height)
    places, steps = _summed(np.concatenate(corners), np.concatenate(changes))
    counts = np.cumsum(np.append(errors_at_low, steps))
    return Staircase(low, high, np.clip(places, low, high), counts)


def _outermost(intercept: FloatArray, slope: FloatArray, offsets: IntArray, at: float) -> IntArray:
    """Return the best hypothesis of each list just right of `at`, (U,).

    With mirrored slopes and `at` it is the one just left.
    """
    if at == -math.inf:
        first, second = -slope, intercept
    else:
        first, second = intercept + at * slope, slope
    highest = np.maximum.reduceat(first, offsets[:-1])
    tied = np.flatnonzero(first == np.repeat(highest, np.diff(offsets)))
    return tied[winners(second[tied], np.searchsorted(tied, offsets))]


def _above(lines: _Lines, left: _Lines, right: _Lines) -> tuple[FloatArray, _Lines, FloatArray]:
    """Find the lines that still matter in their gaps, `left` and `right` being the gaps' ends.

    Returns where the two ends of each gap cross; the lines above that point, sorted by gap; and
    their heights there.
    """
    # Equal ends give NaN, which compares false: nothing lies between them.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        cross = (left.intercept - right.intercept) / (right.slope - left.slope)
        level = left.intercept + cross * left.slope
        height = lines.intercept + cross[lines.gap] * lines.slope
    rows = np.flatnonzero(height > level[lines.gap])
    gap, slope = lines.gap[rows], lines.slope[rows]
    # Neither the ends themselves nor their copies.
    rows = rows[(slope > left.slope[gap]) & (slope < right.slope[gap])]
    rows = rows[np.argsort(lines.gap[rows], kind="stable")]
    return cross, lines.take(rows), height[rows]


def _divide(
    left: IntArray, right: IntArray, lines: _Lines, height: FloatArray
) -> tuple[IntArray, IntArray, _Lines]:
    """Put the highest line of each open gap on the envelope: two gaps in place of one.

    `lines` are sorted by gap. Returns the ends of the new gaps, and the lines with their new gaps.
    """
    begins = np.flatnonzero(np.append(True, lines.gap[1:] != lines.gap[:-1]))
    bounds = np.append(begins, len(height))
    sizes = np.diff(bounds)
    highest = winners(height, bounds)
    gap, vertex = lines.gap[highest], lines.number[highest]
    is_right_of_vertex = lines.slope > np.repeat(lines.slope[highest], sizes)
    new_gap = np.repeat(2 * np.arange(len(highest)), sizes) + is_right_of_vertex
    new_left = np.column_stack([left[gap], vertex]).ravel()
    new_right = np.column_stack([vertex, right[gap]]).ravel()
    return new_left, new_right, lines._replace(gap=new_gap)


def _summed(corners: FloatArray, changes: IntArray) -> tuple[FloatArray, IntArray]:
    """Sort the corners, add up the changes at equal ones, and drop those that change nothing."""
    moving = np.flatnonzero(changes)
    corners, changes = np.clip(np.nan_to_num(corners[moving]), -_FAR, _FAR), changes[moving]
    if not len(moving):
        return corners, changes
    order = np.argsort(corners)
    corners = corners[order]
    begins = np.flatnonzero(np.append(True, np.diff(corners) > 0))
    changes = np.add.reduceat(changes[order], begins)
    return corners[begins][changes != 0], changes[changes != 0]
