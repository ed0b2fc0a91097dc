"""Descent."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FusionError
from rescore.fusion.line_search import Staircase, staircase
from rescore.fusion.table import WORD_BONUS, ScoreTable
from rescore.fusion.totals import totals, winners
from rescore.fusion.weights import Span

__all__ = ["Optimum", "SearchSettings", "minimize_errors"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

_SAMPLES = 8  # random points counted for each one the search starts from
_PAIRS = 1 << 21  # pairs held at once


@dataclass(frozen=True)
class SearchSettings:
    """How to search. `bounds` maps a score name or "word_bonus" to (lowest, highest) scale.

    By default scores have scales from 0 up, the word bonus and names that contain "prior" are free, and the first name is fixed at 1. The search
    starts from the best single scale and from `restarts` random points; each round tries all axes and `random_directions` others, and the better
    half of the points that it improves goes on.
    """

    word_bonus: bool = True
    bounds: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    restarts: int = 4
    random_directions: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Optimum:
    """Tuned weights: scales by name (the first is 1) and the word bonus; their errors, those of the first score alone, and the plateaus.

    `plateaus` gives for each free weight the open interval around it, the others fixed, in which `errors` stays the same; None is an open end.
    """

    scales: Mapping[str, float]
    word_bonus: float
    errors: int
    errors_before: int
    plateaus: Mapping[str, Span]


@dataclass(frozen=True)
class _Point:
    """Weights (K,), the totals (H,) they give, and the errors of the 1-bests."""

    weights: FloatArray
    totals: FloatArray
    errors: int


@dataclass(frozen=True)
class _Problem:
    """What the search needs: columns (K, H), list offsets, error counts (H,), and for each weight its name, its bounds and its unit (0: fixed).

    A unit of a weight changes totals about as much, within a list, as the first score does: the search is the same for scores of any magnitude.
    """

    names: tuple[str, ...]
    columns: FloatArray
    offsets: IntArray
    errors: IntArray
    low: FloatArray
    high: FloatArray
    unit: FloatArray

    def combine(self, weights: FloatArray) -> FloatArray:
        """The weighted sum of the columns, (H,), added up in the order of `rescore.fusion.totals`."""
        used = np.flatnonzero(weights)
        total: FloatArray = weights[used[0]] * self.columns[used[0]]
        for k in used[1:]:
            total += weights[k] * self.columns[k]
        return total

    def at(self, weights: FloatArray) -> _Point:
        """Count the errors of the 1-bests."""
        total = self.combine(weights)
        return _Point(weights, total, int(self.errors[winners(total, self.offsets)].sum()))

    def axes(self) -> Iterator[FloatArray]:
        """One direction along each free weight."""
        for k in np.flatnonzero(self.unit):
            yield np.where(np.arange(len(self.unit)) == k, self.unit, 0.0)

    def reachable(self, weights: FloatArray, direction: FloatArray) -> tuple[float, float]:
        """The steps that keep every weight inside its bounds."""
        moving = direction != 0
        ends = np.stack(
            [(bound - weights)[moving] / direction[moving] for bound in (self.low, self.high)]
        )
        return float(ends.min(axis=0).max()), float(ends.max(axis=0).min())

    def sweep(self, point: _Point, direction: FloatArray) -> Staircase:
        """The staircase along a direction, inside the bounds."""
        low, high = self.reachable(point.weights, direction)
        return staircase(
            point.totals, self.combine(direction), self.errors, self.offsets, low=low, high=high
        )

    def move(self, point: _Point, direction: FloatArray) -> _Point:
        """The best point along a direction, or the same one if there is no better.

        What the sweep promises is counted again: where rounding decides between equal totals the two may differ, and nothing is taken on trust.
        """
        low, high = self.reachable(point.weights, direction)
        if not low < high:
            return point
        step, promised = self.sweep(point, direction).best()
        if promised >= point.errors:
            return point
        found = self.at(np.clip(point.weights + step * direction, self.low, self.high))
        return found if found.errors == promised else point

    def inward(self, weights: FloatArray, direction: FloatArray) -> FloatArray:
        """Turn the parts of a direction that would leave the bounds at once."""
        turned = np.where(weights <= self.low, np.abs(direction), direction)
        return np.where(weights >= self.high, -np.abs(direction), turned)

    def one_round(
        self, point: _Point, random: np.random.Generator, random_directions: int
    ) -> _Point:
        """Search along each axis and some random directions, moving as soon as there is something better."""
        several = random_directions if np.count_nonzero(self.unit) > 1 else 0
        for direction in (
            *self.axes(),
            *(self.unit * random.standard_normal((several, len(self.unit)))),
        ):
            point = self.move(point, self.inward(point.weights, direction))
        return point

    def descend(
        self, points: list[_Point], random: np.random.Generator, random_directions: int
    ) -> list[_Point]:
        """Search from all points, round by round, until none improves; after each round go on with the better half of those that still do."""
        found: list[_Point] = []
        while points:
            moved = [self.one_round(point, random, random_directions) for point in points]
            better = [
                after
                for before, after in zip(points, moved, strict=True)
                if after.errors < before.errors
            ]
            found += [
                after
                for before, after in zip(points, moved, strict=True)
                if after.errors == before.errors
            ]
            points = sorted(better, key=lambda point: point.errors)[: math.ceil(len(better) / 2)]
        return found

    def scattered(self, start: FloatArray, random: np.random.Generator, count: int) -> list[_Point]:
        """The best `count` of many random points: lognormal where a weight has a sign, normal where it has none."""
        points = []
        for _ in range(_SAMPLES * count):
            size = self.unit * np.exp(random.normal(0, 1.5, len(start)))
            sign = np.where(
                self.low >= 0,
                1.0,
                np.where(self.high <= 0, -1.0, random.choice([-1.0, 1.0], len(start))),
            )
            points.append(
                self.at(np.clip(np.where(self.unit > 0, size * sign, start), self.low, self.high))
            )
        return sorted(points, key=lambda point: point.errors)[:count]

    def plateau(self, point: _Point, axis: FloatArray) -> tuple[float, float]:
        """How far one can step down and up an axis without a change in errors; (0, 0) where ties decide at the point itself."""
        low, high, errors = self.sweep(point, axis).plateau(0.0)
        return (low, high) if errors == point.errors else (0.0, 0.0)

    def centred(self, point: _Point) -> _Point:
        """Move each weight to the middle of its plateau, the errors staying as they are."""
        for axis in self.axes():
            low, high = self.plateau(point, axis)
            if math.isfinite(high - low):
                middle = self.at(
                    np.clip(point.weights + (low + high) / 2 * axis, self.low, self.high)
                )
                point = middle if middle.errors == point.errors else point
        return point

    def margin(self, point: _Point) -> float:
        """The width of the narrowest plateau of a point, in units: what tells two points of equal errors apart."""
        return min(
            (high - low for low, high in (self.plateau(point, axis) for axis in self.axes())),
            default=math.inf,
        )

    def spans(self, point: _Point) -> list[Span]:
        """The plateau of each free weight around a point, as weights; None is an open end."""
        steps = [
            (axis[axis != 0][0], weight, self.plateau(point, axis))
            for axis, weight in zip(self.axes(), point.weights[self.unit > 0], strict=True)
        ]
        return [
            (_finite(weight + low * unit), _finite(weight + high * unit))
            for unit, weight, (low, high) in steps
        ]


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def minimize_errors(
    table: ScoreTable, errors: ArrayLike, settings: SearchSettings | None = None
) -> Optimum:
    """Find scales and word bonus whose 1-bests make the fewest errors; `errors` is (H,) integers, one for each hypothesis.

    Never worse than the first score alone, nor than the best scale of any single score added to it. Deterministic by `settings.seed`, and the
    order of the utterances does not matter. Raises FusionError if errors or bounds do not fit, or the scores are too large to be told apart.
    Exact checks: tests/fusion/test_tune.py, against every interval of small problems.
    """
    settings = settings or SearchSettings()
    problem = _problem(table, np.asarray(errors), settings)
    search = _pruned(_pruned(problem, 16), 128)
    random = np.random.default_rng(settings.seed)
    first = search.at(np.clip(np.eye(1, len(problem.unit))[0], problem.low, problem.high))
    single = min(
        [first, *(search.move(first, axis) for axis in search.axes())],
        key=lambda point: point.errors,
    )
    starts = [single, *search.scattered(first.weights, random, settings.restarts)]
    found = search.descend(starts, random, settings.random_directions)
    fewest = min(point.errors for point in found)
    best = max(
        (search.centred(point) for point in found if point.errors == fewest), key=search.margin
    )
    return _optimum(table, problem, best, first, search.spans(best))


def _optimum(
    table: ScoreTable, problem: _Problem, best: _Point, first: _Point, spans: list[Span]
) -> Optimum:
    """Name the weights, and count once more over all hypotheses, by the function that `fuse` uses."""
    weights = dict(zip(problem.names, map(float, best.weights), strict=True))
    word_bonus = weights.pop(WORD_BONUS, 0.0)
    counted = int(problem.errors[winners(totals(table, weights, word_bonus), table.offsets)].sum())
    if counted != best.errors:
        raise FusionError(
            f"the search promised {best.errors} errors and a recount finds {counted}: the scores are too large to be told apart"
        )
    free = [name for name, unit in zip(problem.names, problem.unit, strict=True) if unit]
    return Optimum(weights, word_bonus, counted, first.errors, dict(zip(free, spans, strict=True)))


def _problem(table: ScoreTable, errors: NDArray[np.generic], settings: SearchSettings) -> _Problem:
    if errors.shape != table.words.shape or not np.issubdtype(errors.dtype, np.integer):
        raise FusionError(
            f"the errors are {errors.dtype} of shape {errors.shape}, expected integers of shape {table.words.shape}"
        )
    names = (*table.names, WORD_BONUS) if settings.word_bonus else table.names
    columns = np.ascontiguousarray(
        np.column_stack([table.features, table.words]).T[: len(names)], dtype=np.float64
    )
    low, high = np.array(_bounds(names, settings.bounds)).T
    unit = np.where(low < high, _units(columns, table.offsets), 0.0)
    return _Problem(names, columns, table.offsets, errors.astype(np.int64), low, high, unit)


def _bounds(
    names: tuple[str, ...], given: Mapping[str, tuple[float, float]]
) -> list[tuple[float, float]]:
    """The lowest and the highest value of every weight; the first is 1."""
    for name, (low, high) in given.items():
        if name not in names[1:]:
            raise FusionError(
                f'bounds are given for "{name}", expected one of the weights that are searched: {", ".join(names[1:]) or "none"}'
            )
        if not low <= high or low == math.inf or high == -math.inf:
            raise FusionError(
                f'the bounds of "{name}" are {low} and {high}, expected the lowest and the highest weight'
            )
    usual = {
        name: (-math.inf if name == WORD_BONUS or "prior" in name else 0.0, math.inf)
        for name in names[1:]
    }
    return [(1.0, 1.0), *{**usual, **given}.values()]


def _units(columns: FloatArray, offsets: IntArray) -> FloatArray:
    """Compare the mean range of each column within a list with the first one's; fsum, so that the order of the lists is nothing. Constant: 0."""
    ranges = np.maximum.reduceat(columns, offsets[:-1], axis=1) - np.minimum.reduceat(
        columns, offsets[:-1], axis=1
    )
    mean = np.array([math.fsum(row) for row in ranges])
    units: FloatArray = np.divide(mean[0] or 1.0, mean, out=np.zeros(len(mean)), where=mean > 0)
    return units


def _pruned(problem: _Problem, size: int) -> _Problem:
    """Leave out hypotheses that can never be the 1-best: another of the list is at least as good in everything, and better or earlier.

    Pairs are compared in pieces of `size` neighbours at most, so the cost is linear in the length of a list.
    """
    kept = np.ones(len(problem.errors), dtype=bool)
    begins = np.array(
        [
            row
            for begin, end in pairwise(problem.offsets.tolist())
            for row in range(begin, end, size)
        ]
    )
    lengths = np.diff(np.append(begins, len(kept)))
    for length in np.unique(lengths):
        alike = begins[lengths == length]
        for some in np.array_split(alike, math.ceil(len(alike) * length * length / _PAIRS)):
            rows = some[:, None] + np.arange(length)
            kept[rows] = ~_beaten(problem, rows)
    offsets = np.append(0, np.cumsum(kept))[problem.offsets]
    return replace(
        problem,
        columns=problem.columns.compress(kept, axis=1),
        errors=problem.errors[kept],
        offsets=offsets,
    )


def _beaten(problem: _Problem, rows: IntArray) -> BoolArray:
    """Which of `rows`, (lists, size), lose to another of their list at any weights; the first weight is positive."""
    columns = problem.columns.take(rows, axis=1)
    mine, theirs = columns[..., :, None], columns[..., None, :]
    lost = (theirs[0] > mine[0]) | np.tri(rows.shape[1], k=-1, dtype=bool)
    for k in range(len(mine)):
        if problem.low[k] < 0:
            lost &= theirs[k] <= mine[k]
        if problem.high[k] > 0:
            lost &= theirs[k] >= mine[k]
    found: BoolArray = lost.any(axis=-1)
    return found
