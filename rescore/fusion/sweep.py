"""Error counts on a grid of weights: what `rescore.fusion.tuning` finds by line search, seen from all around, with its uncertainty.

A sweep is for looking; weights are chosen by `rescore.fusion.tuning.tune`, which needs no grid. Every count is the one that `rescore.fusion.fuse` and
`rescore.wer.evaluate` would give: totals are added up in the same order and ties go to the earlier hypothesis.
Reading order: `Sweep` (the result), `sweep` (lists in), `_Table` (the counting). Shapes: U utterances, H hypotheses, n values of the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FormatError, FusionError
from rescore.fusion.descent import SearchSettings, minimize_errors
from rescore.fusion.table import WORD_BONUS, ScoreTable, recogniser_scores, signature
from rescore.fusion.totals import totals, winners
from rescore.fusion.tuning import tune
from rescore.fusion.weights import Fusion, check_signatures
from rescore.text import normalizer as named_normalizer
from rescore.types import NBest
from rescore.wer.counts import Unit, list_errors, reference, reference_length

__all__ = ["Fold", "Sweep", "sweep"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Base: TypeAlias = Sequence[str] | Mapping[str, float] | Fusion

_LARGEST = 10_000_000  # settings: three arrays of them are kept
_PADDED = 1 << 12  # hypotheses of one bucket of lists
_HELD_AT_ONCE = 1 << 17  # totals: 1 MB, which stays in the processor's cache


@dataclass(frozen=True)
class Fold:
    """One fold of the cross-validation: the grid point chosen on all other folds, and the errors it makes on this one."""

    weights: Mapping[str, float]
    errors: int
    reference_words: int


@dataclass(frozen=True)
class Sweep:
    """Error counts of the 1-bests at every setting of a grid. Rates are fractions.

    `axes` maps a score name, or "word_bonus", to its values; `errors` is int64 with one dimension for each, in that order. `held` has the
    weights that stay as they are. `optimum` is the best point that line search finds between the ends of the axes, on and off the grid, with
    `optimum_errors`. `above_low` and `above_high`, shaped like `errors`, are the 95 % paired bootstrap interval of wer - optimum wer, None
    without resamples; the optimum is chosen on these same lists, so read it as "told apart from the optimum", not as a test.
    `folds` say how much of the lowest error rate is the choosing: see `held_out_wer`.
    """

    axes: Mapping[str, FloatArray]
    held: Mapping[str, float]
    errors: IntArray
    utterances: int
    reference_words: int
    optimum: Mapping[str, float]
    optimum_errors: int
    above_low: FloatArray | None = None
    above_high: FloatArray | None = None
    folds: tuple[Fold, ...] = ()
    unit: Unit = "word"
    normalizer: str = "none"
    signatures: Mapping[str, str] = field(default_factory=dict)

    @property
    def wer(self) -> FloatArray:
        """Errors per reference word (or character) at every setting."""
        return self.errors / self.reference_words

    @property
    def optimum_wer(self) -> float:
        """The error rate of the line search's optimum."""
        return self.optimum_errors / self.reference_words

    @property
    def best(self) -> tuple[int, ...]:
        """The index of the setting with the fewest errors; of equal ones the middle one."""
        return _middle(self.errors)

    @property
    def held_out_wer(self) -> float | None:
        """The error rate when each fold's setting is chosen on the others: what choosing from this grid gives on new lists. None without folds."""
        return (
            sum(fold.errors for fold in self.folds) / self.reference_words if self.folds else None
        )

    def weights(self, index: tuple[int, ...]) -> dict[str, float]:
        """The swept weights at an index of the grid."""
        return {
            name: float(values[i])
            for (name, values), i in zip(self.axes.items(), index, strict=True)
        }

    def fusion(self, index: tuple[int, ...]) -> Fusion:
        """The weights at an index of the grid, for `rescore.fusion.fuse`: its 1-bests make `errors[index]` errors."""
        every = {**self.held, **self.weights(index)}
        word_bonus = every.pop(WORD_BONUS)
        return Fusion(every, word_bonus, self.signatures)


def sweep(
    lists: Iterable[NBest],
    scales: Mapping[str, ArrayLike],
    *,
    base: Base | None = None,
    word_bonus: ArrayLike | None = None,
    cross_validate: int = 0,
    resamples: int = 1000,
    seed: int = 0,
    unit: Unit = "word",
    normalizer: str = "none",
) -> Sweep:
    """Count the errors of the 1-bests at every combination of scales; one value holds a scale, several make an axis.

    `base` are the other scores: names alone are tuned by line search together with the swept ones and then held, names with scales or a
    `Fusion` are held as they are; by default the recogniser's own scores (`rescore.fusion.recogniser_scores`), tuned. `word_bonus` is held at one
    value or swept over several; by default it is the base's (0 for names with scales). Of `resamples` (0: none) come the intervals,
    in 4 x resamples x U bytes; of `cross_validate` folds (0: none) the held-out error rate.
    Raises ScoreError for a score that is missing or not finite, FormatError for a missing reference or references without words, FusionError
    if nothing is swept or nothing is held, a scale is not finite, the grid has more than 10 million settings, or lists were scored differently.
    """
    lists = list(lists)
    if not lists:
        raise FormatError("there are no lists: the input is empty")
    given = {
        name: np.unique(np.atleast_1d(np.asarray(values, dtype=np.float64)))
        for name, values in scales.items()
    }
    if word_bonus is not None:
        given[WORD_BONUS] = np.unique(np.atleast_1d(np.asarray(word_bonus, dtype=np.float64)))
    axes = {name: values for name, values in given.items() if len(values) > 1}
    fixed = {name: float(values[0]) for name, values in given.items() if len(values) == 1}
    _check_axes(given, axes)
    own = {
        **_base(
            lists, base, [name for name in given if name != WORD_BONUS], seed, unit, normalizer
        ),
        **fixed,
    }
    held = {name: weight for name, weight in own.items() if name not in axes and name != WORD_BONUS}
    if not held:
        raise FusionError(
            "every score is swept; hold one of them at one value, for only the ratios of scales matter"
        )
    if WORD_BONUS not in axes:
        held[WORD_BONUS] = own[WORD_BONUS]
    made = _signatures(lists, [name for name in (*held, *axes) if name != WORD_BONUS])
    table = _Table.of(lists, axes, held, unit, normalizer)
    return replace(
        table.swept(resamples, cross_validate, seed), normalizer=normalizer, signatures=made
    )


def _check_axes(given: Mapping[str, FloatArray], axes: Mapping[str, FloatArray]) -> None:
    for name, values in given.items():
        if not len(values) or not np.isfinite(values).all():
            raise FusionError(
                f'the values of "{name}" are {values.tolist()}, expected finite numbers'
            )
    settings = math.prod(len(values) for values in axes.values())
    if not axes:
        raise FusionError("nothing is swept; give at least one scale two or more values")
    if settings > _LARGEST:
        raise FusionError(
            f"the grid has {settings} settings, expected at most {_LARGEST}; take longer steps or fewer scales"
        )


def _base(
    lists: Sequence[NBest],
    base: Base | None,
    swept: Sequence[str],
    seed: int,
    unit: Unit,
    normalizer: str,
) -> dict[str, float]:
    """The weights of the other scores, word bonus included."""
    if isinstance(base, Fusion):
        for nbest in lists:
            check_signatures(nbest, base)
        return {**base.scales, WORD_BONUS: base.word_bonus}
    if isinstance(base, Mapping):
        return {WORD_BONUS: 0.0, **base}
    names = list(recogniser_scores(lists) if base is None else base)
    tuned = tune(
        lists,
        [*names, *(name for name in swept if name not in names)],
        seed=seed,
        unit=unit,
        normalizer=normalizer,
    )
    return {**{name: tuned.scales[name] for name in names}, WORD_BONUS: tuned.word_bonus}


def _signatures(lists: Sequence[NBest], names: Sequence[str]) -> dict[str, str]:
    """What made each score. Raises FusionError for a score made in two ways."""
    made = {name: signature(lists[0], name) for name in names}
    for nbest in lists:
        for name in names:
            if signature(nbest, name) != made[name]:
                raise FusionError(
                    f'{nbest.place()}: score "{name}" was made by "{signature(nbest, name) or "unknown"}", earlier ones by "{made[name]}"'
                )
    return {name: signed for name, signed in made.items() if signed is not None}


@dataclass(frozen=True)
class _Bucket:
    """Lists of about the same length, (u,) of them padded to l hypotheses: `held` is -inf where there is none, so that it is never the best."""

    utterances: IntArray
    held: FloatArray  # (u, l)
    axes: FloatArray  # (axes, u, l)
    tail: FloatArray  # (u, l), what is added after all axes: the word bonus where it is held
    errors: IntArray  # (u, l)

    def count(self, partial: FloatArray, values: FloatArray) -> IntArray:
        """Errors of the 1-bests, (n, u), at `values` (n,) of the last axis, all others being in `partial` (u, l)."""
        total = values[:, None, None] * self.axes[-1]
        np.add(partial, total, out=total)
        if self.tail.any():
            total += self.tail
        found: IntArray = self.errors.ravel()[
            total.argmax(axis=-1) + np.arange(len(partial)) * partial.shape[1]
        ]
        return found


@dataclass(frozen=True)
class _Table:
    """The lists of a sweep as arrays."""

    axes: Mapping[str, FloatArray]
    held: Mapping[str, float]
    table: ScoreTable
    errors: IntArray
    words: IntArray  # of the references, (U,)
    unit: Unit

    @classmethod
    def of(
        cls,
        lists: Sequence[NBest],
        axes: Mapping[str, FloatArray],
        held: Mapping[str, float],
        unit: Unit,
        normalizer: str,
    ) -> _Table:
        normalize = named_normalizer(normalizer)
        words = np.array(
            [reference_length(normalize(reference(nbest)), unit) for nbest in lists], dtype=np.int64
        )
        if not words.any():
            raise FormatError("the references hold no words: an error rate is not defined")
        errors = np.concatenate([list_errors(nbest, unit, normalize) for nbest in lists])
        return cls(
            axes,
            held,
            ScoreTable.of(lists, [name for name in (*held, *axes) if name != WORD_BONUS]),
            errors,
            words,
            unit,
        )

    def totals(self, weights: Mapping[str, float]) -> FloatArray:
        """The totals of all hypotheses at the held weights and these, as `fuse` adds them up."""
        every = {**self.held, **weights}
        return totals(
            self.table, {name: every[name] for name in self.table.names}, every[WORD_BONUS]
        )

    def at(self, weights: Mapping[str, float]) -> IntArray:
        """Errors of every utterance, (U,)."""
        return self.errors[winners(self.totals(weights), self.table.offsets)]

    def optimum(self, seed: int) -> dict[str, float]:
        """The best point between the ends of the axes, by line search: everything held is one score of scale 1."""
        zero = dict.fromkeys(self.axes, 0.0)
        own = [self.table.names.index(name) for name in self.axes if name != WORD_BONUS]
        features = np.column_stack([self.totals(zero), self.table.features[:, own]])
        table = ScoreTable(
            self.table.offsets,
            features,
            ("(held)", *(self.table.names[k] for k in own)),
            self.table.words,
        )
        bounds = {
            name: (float(values.min()), float(values.max())) for name, values in self.axes.items()
        }
        found = minimize_errors(
            table, self.errors, SearchSettings(WORD_BONUS in self.axes, bounds, seed=seed)
        )
        return {
            name: found.word_bonus if name == WORD_BONUS else found.scales[name]
            for name in self.axes
        }

    def buckets(self) -> list[_Bucket]:
        """The lists, sorted by length and padded."""
        sizes = np.diff(self.table.offsets)
        order, buckets = np.argsort(sizes, kind="stable"), []
        while len(order):
            longest = np.maximum.accumulate(sizes[order])
            count = max(
                1,
                int(np.searchsorted(longest * np.arange(1, len(order) + 1), _PADDED, side="right")),
            )
            buckets.append(self._bucket(order[:count]))
            order = order[count:]
        return buckets

    def _bucket(self, utterances: IntArray) -> _Bucket:
        sizes, starts = np.diff(self.table.offsets)[utterances], self.table.offsets[utterances]
        inside = np.arange(sizes.max()) < sizes[:, None]
        rows = np.where(inside, starts[:, None] + np.arange(sizes.max()), 0)
        scores = dict(zip(self.table.names, self.table.features.T, strict=True))
        first, *others = (name for name in self.held if name != WORD_BONUS)
        held = self.held[first] * scores[first]
        for name in others:
            held = held + self.held[name] * scores[name]
        words = self.table.words.astype(np.float64)
        columns = np.stack([words if name == WORD_BONUS else scores[name] for name in self.axes])
        tail = self.held.get(WORD_BONUS, 0.0) * words
        return _Bucket(
            utterances,
            np.where(inside, held[rows], -np.inf),
            columns[:, rows],
            tail[rows],
            self.errors[rows],
        )

    def swept(self, resamples: int, folds: int, seed: int) -> Sweep:
        """Count at every setting: outer axes one setting after the other, the last axis at once."""
        self._check_range()
        optimum, dealt = self.optimum(seed), self._dealt(folds, seed)
        here = self.at(optimum)
        band = _Band.drawn(self.words, here, resamples, seed) if resamples else None
        buckets, (*outer, last) = self.buckets(), self.axes.values()
        counts, low, high, by_fold = [], [], [], []
        step = max(1, _HELD_AT_ONCE // max(bucket.held.size for bucket in buckets))
        for index in np.ndindex(*map(len, outer)):
            partials = [
                self._partial(bucket, [values[i] for values, i in zip(outer, index, strict=True)])
                for bucket in buckets
            ]
            for values in (last[at : at + step] for at in range(0, len(last), step)):
                rows = np.empty((len(values), len(self.words)), dtype=np.int64)  # (n, U)
                for bucket, partial in zip(buckets, partials, strict=True):
                    rows[:, bucket.utterances] = bucket.count(partial, values)
                counts.append(rows.sum(axis=1))
                by_fold.append(rows @ dealt)
                if band is not None:
                    below, above = band.interval(rows)
                    low.append(below)
                    high.append(above)
        shape = tuple(map(len, self.axes.values()))
        result = Sweep(
            self.axes,
            self.held,
            np.concatenate(counts).reshape(shape),
            len(self.words),
            int(self.words.sum()),
            optimum,
            int(here.sum()),
            unit=self.unit,
        )
        if band is not None:
            result = replace(
                result,
                above_low=np.concatenate(low).reshape(shape),
                above_high=np.concatenate(high).reshape(shape),
            )
        return replace(
            result, folds=self._folds(result, np.concatenate(by_fold).reshape(*shape, -1), dealt)
        )

    def _check_range(self) -> None:
        """Raise FusionError if a total could overflow somewhere on the grid."""
        largest = {
            **self.held,
            **{name: np.abs(values).max() for name, values in self.axes.items()},
        }
        columns = {
            **dict(zip(self.table.names, self.table.features.T, strict=True)),
            WORD_BONUS: self.table.words,
        }
        if not math.isfinite(
            math.fsum(
                abs(float(largest[name])) * float(np.abs(columns[name]).max()) for name in largest
            )
        ):
            raise FusionError("a total is too large for a float; the scores or scales are unusable")

    def _partial(self, bucket: _Bucket, values: Sequence[float]) -> FloatArray:
        partial = bucket.held
        for k, value in enumerate(values):
            partial = partial + value * bucket.axes[k]
        return partial

    def _dealt(self, folds: int, seed: int) -> IntArray:
        """Which fold every utterance belongs to, (U, folds) zeros and ones, dealt as `rescore.fusion.tuning.cross_validation` does."""
        utterances = len(self.words)
        if folds and not 2 <= folds <= utterances:
            raise FusionError(
                f"got {folds} folds for {utterances} utterances, expected 2 to {utterances}"
            )
        dealt = np.random.default_rng(seed).permutation(utterances) % max(1, folds)
        belongs: IntArray = (dealt[:, None] == np.arange(folds)).astype(np.int64)
        return belongs

    def _folds(self, result: Sweep, by_fold: IntArray, dealt: IntArray) -> tuple[Fold, ...]:
        """For each fold the setting with the fewest errors on the others, and its errors on the fold."""
        found = []
        for k in range(dealt.shape[1]):
            index = _middle(result.errors - by_fold[..., k])
            found.append(
                Fold(result.weights(index), int(by_fold[index][k]), int(self.words @ dealt[:, k]))
            )
        return tuple(found)


@dataclass(frozen=True)
class _Band:
    """Bootstrap resamples of the utterances: how often each is drawn, (B, U), and the reference words drawn, (B, 1); float32 holds both exactly."""

    times: NDArray[np.float32]
    words: FloatArray
    reference: IntArray  # errors of the optimum, (U,)

    @classmethod
    def drawn(cls, words: IntArray, here: IntArray, resamples: int, seed: int) -> _Band:
        utterances = len(words)
        times = np.random.default_rng(seed).multinomial(
            utterances, np.full(utterances, 1 / utterances), size=resamples
        )
        drawn = times @ words
        return cls(
            times[drawn > 0].astype(np.float32), drawn[drawn > 0, None].astype(np.float64), here
        )

    def interval(self, rows: IntArray) -> tuple[FloatArray, FloatArray]:
        """The 95 % interval of (errors - errors of the optimum) / words for each row of errors (n, U)."""
        sums = self.times @ (rows - self.reference).T.astype(np.float32)  # (B, n)
        low, high = np.quantile(sums / self.words, [0.025, 0.975], axis=0)
        return low, high


def _middle(errors: IntArray) -> tuple[int, ...]:
    """The index of the fewest errors; of equal ones the one nearest to their mean."""
    equal = np.argwhere(errors == errors.min())
    nearest = ((equal - equal.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return tuple(map(int, equal[nearest]))
