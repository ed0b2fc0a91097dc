"""Count errors at every setting of a grid of weights.

Totals are added up in the order of `rescore.fusion.totals`, so every count is that of `fuse` and
`evaluate`. Lists of about the same length are padded and counted together; outer axes go setting
by setting, the last axis many values at once.

Reading order: `Grid` (the problem), `Grid.count` (the loop), `Bucket`, `Band`.
Shapes: U utterances, H hypotheses of all of them together, n values of the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FusionError
from rescore.fusion.descent import SearchSettings, minimize_errors
from rescore.fusion.dev_set import DevSet
from rescore.fusion.table import WORD_BONUS, ScoreTable
from rescore.fusion.totals import totals, winners

__all__ = ["Band", "Grid", "GridCounts", "score_names"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

_PADDED = 1 << 12  # hypotheses of one bucket of lists
_TOTALS = 1 << 17  # totals held at once: 1 MB, which stays in the processor's cache


def score_names(weights: Iterable[str]) -> list[str]:
    """The names among these that are scores: all but the word bonus."""
    return [name for name in weights if name != WORD_BONUS]


@dataclass(frozen=True)
class GridCounts:
    """What was counted at every setting.

    `errors` is int64 with a dimension for each axis. `fold_errors` has one more, for the folds.
    `above_low` and `above_high` are shaped like `errors`, None where no band was given.
    """

    errors: IntArray
    fold_errors: IntArray
    above_low: FloatArray | None
    above_high: FloatArray | None


@dataclass(frozen=True)
class Grid:
    """The weights of a sweep and the lists as arrays.

    `axes` maps a score name, or "word_bonus", to its values; `held` has the weights that stay.
    `table` has a column for each score of both, `errors` is (H,).
    """

    axes: Mapping[str, FloatArray]
    held: Mapping[str, float]
    table: ScoreTable
    errors: IntArray

    @classmethod
    def of(cls, dev: DevSet, axes: Mapping[str, FloatArray], held: Mapping[str, float]) -> Grid:
        """Take the scores of the grid from the lists.

        Raises ScoreError for a score that is missing or not finite, FusionError if a total could
        overflow.
        """
        grid = cls(axes, held, dev.table(score_names([*held, *axes])), dev.errors)
        grid._refuse_overflow()
        return grid

    def _refuse_overflow(self) -> None:
        columns = self._columns()
        bound = 0.0
        for name, weight in self.held.items():
            bound += abs(weight) * float(np.abs(columns[name]).max())
        for name, values in self.axes.items():
            bound += float(np.abs(values).max()) * float(np.abs(columns[name]).max())
        if not math.isfinite(bound):
            raise FusionError("a total is too large for a float; the scores or scales are unusable")

    def _columns(self) -> dict[str, FloatArray]:
        """The column of every score, (H,), and the word counts as that of the word bonus."""
        scores = dict(zip(self.table.names, self.table.features.T, strict=True))
        return {**scores, WORD_BONUS: self.table.words.astype(np.float64)}

    def totals(self, weights: Mapping[str, float]) -> FloatArray:
        """The totals of all hypotheses, (H,), at the held weights and these."""
        merged = {**self.held, **weights}
        scales = {name: merged[name] for name in self.table.names}
        return totals(self.table, scales, merged[WORD_BONUS])

    def errors_at(self, weights: Mapping[str, float]) -> IntArray:
        """The errors of every utterance, (U,), at the held weights and these."""
        return self.errors[winners(self.totals(weights), self.table.offsets)]

    def optimum(self, seed: int) -> dict[str, float]:
        """The best point between the ends of the axes, on and off the grid, by line search.

        Everything held is one score of scale 1.
        """
        swept = score_names(self.axes)
        held_total = self.totals(dict.fromkeys(self.axes, 0.0))
        swept_columns = [self.table.names.index(name) for name in swept]
        table = ScoreTable(
            self.table.offsets,
            np.column_stack([held_total, self.table.features[:, swept_columns]]),
            ("(held)", *swept),
            self.table.words,
        )
        bounds = {}
        for name, values in self.axes.items():
            bounds[name] = (float(values.min()), float(values.max()))
        settings = SearchSettings(WORD_BONUS in self.axes, bounds, seed=seed)
        optimum = minimize_errors(table, self.errors, settings)
        weights = {**optimum.scales, WORD_BONUS: optimum.word_bonus}
        return {name: weights[name] for name in self.axes}

    def count(self, membership: IntArray, band: Band | None) -> GridCounts:
        """Count the errors at every setting.

        `membership` is (U, folds): 1 where an utterance belongs to a fold, 0 elsewhere.
        """
        buckets = self.buckets()
        *outer_axes, last_axis = self.axes.values()
        step = max(1, _TOTALS // max(bucket.held.size for bucket in buckets))
        errors, fold_errors, above_low, above_high = [], [], [], []
        for setting in product(*outer_axes):
            partials = [bucket.partial(setting) for bucket in buckets]
            for begin in range(0, len(last_axis), step):
                values = last_axis[begin : begin + step]
                counts = np.empty((len(values), len(membership)), dtype=np.int64)  # (n, U)
                for bucket, partial in zip(buckets, partials, strict=True):
                    counts[:, bucket.utterances] = bucket.count(partial, values)
                errors.append(counts.sum(axis=1))
                fold_errors.append(counts @ membership)
                if band is not None:
                    low, high = band.interval(counts)
                    above_low.append(low)
                    above_high.append(high)
        shape = tuple(len(values) for values in self.axes.values())
        return GridCounts(
            np.concatenate(errors).reshape(shape),
            np.concatenate(fold_errors).reshape(*shape, membership.shape[1]),
            np.concatenate(above_low).reshape(shape) if above_low else None,
            np.concatenate(above_high).reshape(shape) if above_high else None,
        )

    def buckets(self) -> list[Bucket]:
        """The lists, sorted by length; a bucket is at most `_PADDED` hypotheses, or one list."""
        sizes = np.diff(self.table.offsets)
        order = np.argsort(sizes, kind="stable")
        buckets = []
        while len(order):
            # A bucket of the first k + 1 lists is padded to (k + 1) * longest[k] hypotheses.
            longest = np.maximum.accumulate(sizes[order])
            padded = longest * np.arange(1, len(order) + 1)
            count = max(1, int(np.searchsorted(padded, _PADDED, side="right")))
            buckets.append(self._bucket(order[:count]))
            order = order[count:]
        return buckets

    def _bucket(self, utterances: IntArray) -> Bucket:
        sizes = np.diff(self.table.offsets)[utterances]
        starts = self.table.offsets[utterances]
        places = np.arange(sizes.max())
        is_hypothesis = places < sizes[:, None]
        rows = np.where(is_hypothesis, starts[:, None] + places, 0)
        columns = self._columns()
        first, *others = score_names(self.held)
        held = self.held[first] * columns[first]
        for name in others:
            held = held + self.held[name] * columns[name]
        word_bonus = self.held.get(WORD_BONUS, 0.0) * columns[WORD_BONUS]
        return Bucket(
            utterances,
            held=np.where(is_hypothesis, held[rows], -np.inf),
            axes=np.stack([columns[name] for name in self.axes])[:, rows],
            word_bonus=word_bonus[rows],
            errors=self.errors[rows],
        )


@dataclass(frozen=True)
class Bucket:
    """u lists of about the same length, padded to l hypotheses.

    `held` (u, l) is the sum of the held scores, -inf for padding, so that it is never the best.
    `axes` is (axes, u, l), `word_bonus` (u, l) what a held word bonus adds, `errors` (u, l).
    """

    utterances: IntArray
    held: FloatArray
    axes: FloatArray
    word_bonus: FloatArray
    errors: IntArray

    def partial(self, values: Sequence[float]) -> FloatArray:
        """The totals without the last axis and the word bonus, at these values of the others."""
        total = self.held
        for value, column in zip(values, self.axes[:-1], strict=True):
            total = total + value * column
        return total

    def count(self, partial: FloatArray, values: FloatArray) -> IntArray:
        """The errors of the best hypotheses, (n, u), at `values` (n,) of the last axis."""
        total = values[:, None, None] * self.axes[-1]  # (n, u, l)
        np.add(partial, total, out=total)
        if self.word_bonus.any():
            total += self.word_bonus
        lists, longest = partial.shape
        best = total.argmax(axis=-1) + np.arange(lists) * longest
        errors: IntArray = self.errors.ravel()[best]
        return errors


@dataclass(frozen=True)
class Band:
    """Bootstrap resamples of the utterances, and the errors of the optimum.

    `times` (B, U) says how often each utterance is drawn, `words` (B, 1) how many reference words
    are drawn, `optimum_errors` (U,). float32 holds the counts exactly.
    """

    times: NDArray[np.float32]
    words: FloatArray
    optimum_errors: IntArray

    @classmethod
    def drawn(
        cls, reference_lengths: IntArray, optimum_errors: IntArray, resamples: int, seed: int
    ) -> Band:
        """Draw the resamples; those without a reference word are left out."""
        utterances = len(reference_lengths)
        times = np.random.default_rng(seed).multinomial(
            utterances, np.full(utterances, 1 / utterances), size=resamples
        )
        words = times @ reference_lengths
        has_words = words > 0
        return cls(
            times[has_words].astype(np.float32),
            words[has_words, None].astype(np.float64),
            optimum_errors,
        )

    def interval(self, errors: IntArray) -> tuple[FloatArray, FloatArray]:
        """The 95 % interval of (errors - errors of the optimum) / words, for each row of (n, U)."""
        sums = self.times @ (errors - self.optimum_errors).T.astype(np.float32)  # (B, n)
        low, high = np.quantile(sums / self.words, [0.025, 0.975], axis=0)
        return low, high
