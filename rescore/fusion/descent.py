"""Find the weights that make the fewest errors: exact line search along many directions, no grid.

Sweep the error count along a direction (`rescore.fusion.line_search`) and take the middle of the
best plateau; go on along axes and random directions, from several points, until nothing improves.
Source: Och 2003, ACL P03-1021.

Reading order: `SearchSettings` and `Optimum`, `minimize_errors`, `_Problem` (the search).
Shapes: U utterances, H hypotheses of all of them together, K weights (the named scales, then the
word bonus).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FusionError
from rescore.fusion.line_search import Staircase, staircase
from rescore.fusion.table import WORD_BONUS, ScoreTable
from rescore.fusion.totals import totals, winners
from rescore.fusion.weights import Span

__all__ = ["Optimum", "SearchKeywords", "SearchSettings", "minimize_errors"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

_SAMPLES = 8  # random points counted for each one that the search starts from
_PAIRS = 1 << 21  # pairs of hypotheses compared at once


@dataclass(frozen=True)
class SearchSettings:
    """How to search. `bounds` maps a score name or "word_bonus" to (lowest, highest) weight.

    By default scales are 0 or more, the word bonus and scales of names that contain "prior" are
    free, and the first scale is fixed at 1. The search starts from the best single scale and from
    `restarts` random points. Each round tries all axes and `random_directions` others; the better
    half of the points that a round improves goes on.
    """

    word_bonus: bool = True
    bounds: Mapping[str, tuple[float, float]] | None = None
    restarts: int = 4
    random_directions: int = 4
    seed: int = 0


class SearchKeywords(TypedDict, total=False):
    """`SearchSettings` as keywords, so that type checkers see a misspelt one."""

    word_bonus: bool
    bounds: Mapping[str, tuple[float, float]] | None
    restarts: int
    random_directions: int
    seed: int


@dataclass(frozen=True)
class Optimum:
    """Tuned weights: scales by name (the first is 1) and the word bonus.

    `errors` are theirs, `errors_before` those of the first score alone. `plateaus` gives for each
    free weight the open interval around it, the others fixed, on which `errors` stays the same;
    None is an open end.
    """

    scales: Mapping[str, float]
    word_bonus: float
    errors: int
    errors_before: int
    plateaus: Mapping[str, Span]


def minimize_errors(
    table: ScoreTable, errors: ArrayLike, settings: SearchSettings | None = None
) -> Optimum:
    """Find the scales and the word bonus whose best hypotheses make the fewest errors.

    `errors` is (H,) integers. The result is never worse than the first score alone, nor than the
    best scale of any single score added to it. It depends on `settings.seed`, not on the order of
    the utterances. Raises FusionError if errors or bounds do not fit, or the scores are too large
    to be told apart.
    Exact checks: tests/fusion/test_descent.py::test_one_scale_is_solved_exactly and
    test_two_scales_find_the_best_cell_of_the_plane.
    """
    settings = settings or SearchSettings()
    problem = _problem(table, np.asarray(errors), settings)
    search = _pruned(_pruned(problem, 16), 128)
    random = np.random.default_rng(settings.seed)
    first_alone = np.zeros(len(problem.unit))
    first_alone[0] = 1.0
    first = search.point(np.clip(first_alone, problem.low, problem.high))
    singles = [first, *(search.move(first, search.axis(k)) for k in search.free)]
    best_single = min(singles, key=lambda point: point.errors)
    starts = [best_single, *search.scattered(first.weights, random, settings.restarts)]
    ends = search.descend(starts, random, settings.random_directions)
    fewest = min(point.errors for point in ends)
    centred = [search.centred(point) for point in ends if point.errors == fewest]
    best = max(centred, key=search.margin)
    return _optimum(table, problem, best, first, search.spans(best))


@dataclass(frozen=True)
class _Point:
    """Weights (K,), the totals (H,) that they give, and the errors of the best hypotheses."""

    weights: FloatArray
    totals: FloatArray
    errors: int


@dataclass(frozen=True)
class _Problem:
    """What the search needs of the lists, and for each weight its name, bounds and unit.

    `columns` is (K, H), `errors` (H,), `low`, `high` and `unit` (K,). A step of one unit of a
    weight changes totals about as much, within a list, as the first score does: so the search is
    the same for scores of any magnitude. The unit of a fixed weight is 0.
    """

    names: tuple[str, ...]
    columns: FloatArray
    offsets: IntArray
    errors: IntArray
    low: FloatArray
    high: FloatArray
    unit: FloatArray

    @property
    def free(self) -> list[int]:
        """The numbers of the weights that are searched."""
        return [int(k) for k in np.flatnonzero(self.unit)]

    def axis(self, k: int) -> FloatArray:
        """The direction along weight k, one unit long."""
        direction = np.zeros(len(self.unit))
        direction[k] = self.unit[k]
        return direction

    def combine(self, weights: FloatArray) -> FloatArray:
        """The weighted sum of the columns, (H,), added up in the order of `totals`."""
        first, *others = np.flatnonzero(weights)
        total: FloatArray = weights[first] * self.columns[first]
        for k in others:
            total += weights[k] * self.columns[k]
        return total

    def point(self, weights: FloatArray) -> _Point:
        """Count the errors of the best hypotheses."""
        total = self.combine(weights)
        return _Point(weights, total, int(self.errors[winners(total, self.offsets)].sum()))

    def clipped(self, weights: FloatArray) -> _Point:
        """The point of these weights, moved inside the bounds."""
        return self.point(np.clip(weights, self.low, self.high))

    def reachable(self, weights: FloatArray, direction: FloatArray) -> tuple[float, float]:
        """The lowest and the highest step that keeps every weight inside its bounds."""
        moving = direction != 0
        to_low = (self.low - weights)[moving] / direction[moving]
        to_high = (self.high - weights)[moving] / direction[moving]
        nearer, farther = np.minimum(to_low, to_high), np.maximum(to_low, to_high)
        return float(nearer.max()), float(farther.min())

    def staircase(self, point: _Point, direction: FloatArray) -> Staircase:
        """The error count along a direction, inside the bounds."""
        low, high = self.reachable(point.weights, direction)
        return staircase(
            point.totals, self.combine(direction), self.errors, self.offsets, low=low, high=high
        )

    def move(self, point: _Point, direction: FloatArray) -> _Point:
        """The best point along a direction, or the same one if there is no better.

        The errors that the staircase promises are counted again: where rounding decides between
        equal totals, the two counts may differ.
        """
        low, high = self.reachable(point.weights, direction)
        if not low < high:
            return point
        step, promised = self.staircase(point, direction).best()
        if promised >= point.errors:
            return point
        moved = self.clipped(point.weights + step * direction)
        return moved if moved.errors == promised else point

    def inward(self, weights: FloatArray, direction: FloatArray) -> FloatArray:
        """Turn the parts of a direction that would leave the bounds at once."""
        turned = np.where(weights <= self.low, np.abs(direction), direction)
        return np.where(weights >= self.high, -np.abs(direction), turned)

    def one_round(
        self, point: _Point, random: np.random.Generator, random_directions: int
    ) -> _Point:
        """Search along each axis and some random directions; move as soon as a point is better."""
        if len(self.free) < 2:  # every direction is the axis
            random_directions = 0
        drawn = self.unit * random.standard_normal((random_directions, len(self.unit)))
        for direction in (*(self.axis(k) for k in self.free), *drawn):
            point = self.move(point, self.inward(point.weights, direction))
        return point

    def descend(
        self, points: list[_Point], random: np.random.Generator, random_directions: int
    ) -> list[_Point]:
        """Search round by round until no point improves; return the points where that happened.

        After each round only the better half of the points that improved goes on.
        """
        ends: list[_Point] = []
        while points:
            improved: list[_Point] = []
            for before in points:
                after = self.one_round(before, random, random_directions)
                if after.errors < before.errors:
                    improved.append(after)
                else:
                    ends.append(after)
            improved.sort(key=lambda point: point.errors)
            points = improved[: math.ceil(len(improved) / 2)]
        return ends

    def scattered(self, start: FloatArray, random: np.random.Generator, count: int) -> list[_Point]:
        """The best `count` of many random points.

        Weights are lognormal where their bounds give them a sign, symmetric around 0 elsewhere.
        """
        points = []
        for _ in range(_SAMPLES * count):
            size = self.unit * np.exp(random.normal(0, 1.5, len(start)))
            sign = random.choice([-1.0, 1.0], len(start))
            sign = np.where(self.high <= 0, -1.0, sign)
            sign = np.where(self.low >= 0, 1.0, sign)
            points.append(self.clipped(np.where(self.unit > 0, size * sign, start)))
        return sorted(points, key=lambda point: point.errors)[:count]

    def plateau(self, point: _Point, axis: FloatArray) -> tuple[float, float]:
        """How far one can step down and up an axis without a change in errors.

        It is (0, 0) where ties decide at the point itself.
        """
        low, high, errors = self.staircase(point, axis).plateau(0.0)
        return (low, high) if errors == point.errors else (0.0, 0.0)

    def centred(self, point: _Point) -> _Point:
        """Move each weight to the middle of its plateau as long as the errors stay the same."""
        for k in self.free:
            axis = self.axis(k)
            low, high = self.plateau(point, axis)
            if math.isfinite(high - low):
                middle = self.clipped(point.weights + (low + high) / 2 * axis)
                point = middle if middle.errors == point.errors else point
        return point

    def margin(self, point: _Point) -> float:
        """The width of the narrowest plateau of a point, in units.

        It decides between points with equal errors.
        """
        widths = []
        for k in self.free:
            low, high = self.plateau(point, self.axis(k))
            widths.append(high - low)
        return min(widths, default=math.inf)

    def spans(self, point: _Point) -> dict[str, Span]:
        """The plateau of each free weight around a point, as weights; None is an open end."""
        spans = {}
        for k in self.free:
            low, high = self.plateau(point, self.axis(k))
            weight, unit = point.weights[k], self.unit[k]
            spans[self.names[k]] = (_finite(weight + low * unit), _finite(weight + high * unit))
        return spans


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _optimum(
    table: ScoreTable, problem: _Problem, best: _Point, first: _Point, spans: dict[str, Span]
) -> Optimum:
    """Name the weights, and count once more over all hypotheses with the totals of `fuse`."""
    weights = dict(zip(problem.names, best.weights.tolist(), strict=True))
    word_bonus = weights.pop(WORD_BONUS, 0.0)
    chosen = winners(totals(table, weights, word_bonus), table.offsets)
    errors = int(problem.errors[chosen].sum())
    if errors != best.errors:
        raise FusionError(
            f"the search promised {best.errors} errors and a recount finds {errors}:"
            " the scores are too large to be told apart"
        )
    return Optimum(weights, word_bonus, errors, first.errors, spans)


def _problem(table: ScoreTable, errors: NDArray[np.generic], settings: SearchSettings) -> _Problem:
    if errors.shape != table.words.shape or not np.issubdtype(errors.dtype, np.integer):
        raise FusionError(
            f"the errors are {errors.dtype} of shape {errors.shape},"
            f" expected integers of shape {table.words.shape}"
        )
    names, rows = table.names, [*table.features.T]
    if settings.word_bonus:
        names, rows = (*names, WORD_BONUS), [*rows, table.words]
    columns = np.stack(rows).astype(np.float64)
    low, high = _bounds(names, settings.bounds or {})
    unit = np.where(low < high, _units(columns, table.offsets), 0.0)
    return _Problem(names, columns, table.offsets, errors.astype(np.int64), low, high, unit)


def _bounds(
    names: tuple[str, ...], bounds: Mapping[str, tuple[float, float]]
) -> tuple[FloatArray, FloatArray]:
    """The lowest and the highest value of every weight, each (K,); the first weight is 1."""
    searched = names[1:]
    for name, (low, high) in bounds.items():
        if name not in searched:
            raise FusionError(
                f'bounds are given for "{name}", expected one of the weights that are searched:'
                f" {', '.join(searched) or 'none'}"
            )
        if not low <= high or low == math.inf or high == -math.inf:
            raise FusionError(
                f'the bounds of "{name}" are {low} and {high},'
                " expected the lowest and the highest weight"
            )
    lows, highs = [1.0], [1.0]
    for name in searched:
        may_be_negative = name == WORD_BONUS or "prior" in name
        low, high = bounds.get(name, (-math.inf if may_be_negative else 0.0, math.inf))
        lows.append(low)
        highs.append(high)
    return np.array(lows, dtype=np.float64), np.array(highs, dtype=np.float64)


def _units(columns: FloatArray, offsets: IntArray) -> FloatArray:
    """The unit of each weight, (K,): the mean range of the first column within a list over its own.

    0 for a column that is constant in every list. fsum, so that the order of the lists does not
    matter.
    """
    highest = np.maximum.reduceat(columns, offsets[:-1], axis=1)
    lowest = np.minimum.reduceat(columns, offsets[:-1], axis=1)
    ranges = np.array([math.fsum(row) for row in highest - lowest])
    units = np.zeros(len(ranges))
    varies = ranges > 0
    units[varies] = (ranges[0] or 1.0) / ranges[varies]
    return units


def _pruned(problem: _Problem, size: int) -> _Problem:
    """Leave out hypotheses that can never be the best of their list.

    Such a hypothesis has another in its list that is at least as good in everything, and better
    or earlier. Pairs are compared within pieces of `size` neighbours at most, so the cost is linear
    in the length of a list.
    """
    begins = []
    for begin, end in zip(problem.offsets[:-1], problem.offsets[1:], strict=True):
        begins.append(np.arange(begin, end, size))
    piece_begins = np.concatenate(begins)
    lengths = np.diff(np.append(piece_begins, len(problem.errors)))
    kept = np.ones(len(problem.errors), dtype=bool)
    for length in np.unique(lengths):
        alike = piece_begins[lengths == length]
        blocks = math.ceil(len(alike) * length * length / _PAIRS)
        for block in np.array_split(alike, blocks):
            rows = block[:, None] + np.arange(length)
            kept[rows] = ~_is_dominated(problem, rows)
    return replace(
        problem,
        columns=problem.columns.compress(kept, axis=1),
        errors=problem.errors[kept],
        offsets=np.append(0, np.cumsum(kept))[problem.offsets],
    )


def _is_dominated(problem: _Problem, rows: IntArray) -> BoolArray:
    """Which of `rows`, (pieces, size), lose to another of their piece at any weights.

    The weight of the first column is positive, the others have the signs that the bounds allow.
    """
    columns = problem.columns.take(rows, axis=1)
    own, other = columns[..., :, None], columns[..., None, :]  # (K, pieces, size, size)
    is_earlier = np.tri(rows.shape[1], k=-1, dtype=bool)
    loses = (other[0] > own[0]) | is_earlier
    for k in range(len(own)):
        if problem.low[k] < 0:
            loses &= other[k] <= own[k]
        if problem.high[k] > 0:
            loses &= other[k] >= own[k]
    dominated: BoolArray = loses.any(axis=-1)
    return dominated
