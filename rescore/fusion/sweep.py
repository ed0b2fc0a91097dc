"""Error counts on a grid of weights, with their uncertainty.

A sweep shows the surroundings of what `rescore.fusion.tune` finds by line search. It is for
looking: to choose weights use `tune`, which needs no grid. The counting is `rescore.fusion.grid`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FusionError
from rescore.fusion.dev_set import DevSet, dev_set
from rescore.fusion.grid import Band, Grid, GridCounts, score_names
from rescore.fusion.table import WORD_BONUS, recogniser_scores
from rescore.fusion.tuning import assign_folds, tune
from rescore.fusion.weights import Fusion, check_signatures
from rescore.types import NBest
from rescore.wer.counts import Unit

__all__ = ["Base", "Fold", "Sweep", "SweepKeywords", "SweepSettings", "sweep"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

#: The scores that are not swept: names, names with scales, or tuned weights.
Base: TypeAlias = Sequence[str] | Mapping[str, float] | Fusion

_LARGEST = 10_000_000  # settings: three arrays of them are kept


@dataclass(frozen=True)
class SweepSettings:
    """How sure a sweep is about its counts.

    `cross_validate` folds (0: none) give the held-out error rate, `resamples` of the bootstrap
    (0: none) the intervals, in 4 x resamples x utterances bytes. `seed` is that of resamples, folds
    and line search.
    """

    cross_validate: int = 0
    resamples: int = 1000
    seed: int = 0


class SweepKeywords(TypedDict, total=False):
    """`SweepSettings` as keywords, so that type checkers see a misspelt one."""

    cross_validate: int
    resamples: int
    seed: int


@dataclass(frozen=True)
class Fold:
    """One fold of the cross-validation.

    `weights` are the setting with the fewest errors on all other folds, `errors` those that it
    makes on this one.
    """

    weights: Mapping[str, float]
    errors: int
    reference_words: int


@dataclass(frozen=True)
class Sweep:
    """The errors of the best hypotheses at every setting of a grid. Rates are fractions.

    `axes` maps a score name, or "word_bonus", to its values; `errors` is int64 with a dimension for
    each, in that order. `held` has the weights that stay as they are. `optimum` is the best point
    that line search finds between the ends of the axes, on and off the grid, `optimum_errors` its
    errors. `above_low` and `above_high`, shaped like `errors`, are the 95 % paired bootstrap
    interval of wer - optimum wer, None without resamples. The optimum is chosen on these same
    lists, so read the interval as "told apart from the optimum", not as a test. `folds` say how
    much of the lowest error rate comes from choosing: see `held_out_wer`.
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
        """Errors per reference word (or other unit) at every setting."""
        return self.errors / self.reference_words

    @property
    def optimum_wer(self) -> float:
        """The error rate of the line search's optimum."""
        return self.optimum_errors / self.reference_words

    @property
    def best(self) -> tuple[int, ...]:
        """The index of the setting with the fewest errors; ties go to the middle one."""
        return _middle(self.errors)

    @property
    def held_out_wer(self) -> float | None:
        """The error rate when the setting of each fold is chosen on the others.

        It estimates what choosing from this grid gives on new lists. None without folds.
        """
        if not self.folds:
            return None
        return sum(fold.errors for fold in self.folds) / self.reference_words

    def weights(self, index: tuple[int, ...]) -> dict[str, float]:
        """The swept weights at an index of the grid."""
        return _weights(self.axes, index)

    def fusion(self, index: tuple[int, ...]) -> Fusion:
        """The weights at an index of the grid, for `fuse`: its winners make `errors[index]`."""
        scales = {**self.held, **self.weights(index)}
        word_bonus = scales.pop(WORD_BONUS)
        return Fusion(scales, word_bonus, self.signatures)


def sweep(
    lists: Iterable[NBest] | DevSet,
    scales: Mapping[str, ArrayLike],
    *,
    base: Base | None = None,
    word_bonus: ArrayLike | None = None,
    unit: Unit | None = None,
    normalizer: str | None = None,
    **settings: Any,
) -> Sweep:
    """Count the errors of the best hypotheses at every combination of scales.

    One value holds a scale, several make an axis. `base` are the other scores: names alone are
    tuned by line search together with the swept ones and then held; names with scales, or a
    `Fusion`, are held as they are. By default they are the recogniser's own scores
    (`rescore.fusion.recogniser_scores`), tuned. `word_bonus` is held at one value or swept over
    several; by default it is the base's (0 for names with scales). `unit` and `normalizer` are
    those of `tune`. `settings` are fields of `SweepSettings` as keywords: cross_validate,
    resamples, seed.

    Raises ScoreError for a score that is missing or not finite, FormatError for a missing reference
    or references without words, FusionError if nothing is swept or nothing is held, a scale is not
    finite, the grid has more than 10 million settings, or lists were scored differently.
    Exact check: tests/fusion/test_sweep.py::test_every_count_is_that_of_fuse_and_evaluate.
    """
    options = SweepSettings(**settings)
    requested = {name: _values(values) for name, values in scales.items()}
    if word_bonus is not None:
        requested[WORD_BONUS] = _values(word_bonus)
    axes = {name: values for name, values in requested.items() if len(values) > 1}
    _check_axes(requested, axes)
    dev = dev_set(lists, unit, normalizer)
    weights = _base_weights(dev, base, score_names(requested), options.seed)
    for name, values in requested.items():
        if name not in axes:
            weights[name] = float(values[0])
    held = {name: weights[name] for name in score_names(weights) if name not in axes}
    if not held:
        raise FusionError(
            "every score is swept; hold one of them at one value,"
            " for only the ratios of scales matter"
        )
    if WORD_BONUS not in axes:
        held[WORD_BONUS] = weights[WORD_BONUS]
    signatures = dev.signatures(score_names([*held, *axes]))
    return _swept(dev, Grid.of(dev, axes, held), signatures, options)


def _values(values: ArrayLike) -> FloatArray:
    """The values of one weight, ascending, each once."""
    return np.unique(np.atleast_1d(np.asarray(values, dtype=np.float64)))


def _check_axes(requested: Mapping[str, FloatArray], axes: Mapping[str, FloatArray]) -> None:
    for name, values in requested.items():
        if not len(values) or not np.isfinite(values).all():
            raise FusionError(
                f'the values of "{name}" are {values.tolist()}, expected finite numbers'
            )
    if not axes:
        raise FusionError("nothing is swept; give at least one scale two or more values")
    settings = math.prod(len(values) for values in axes.values())
    if settings > _LARGEST:
        raise FusionError(
            f"the grid has {settings} settings, expected at most {_LARGEST};"
            " take longer steps or fewer scales"
        )


def _base_weights(
    dev: DevSet, base: Base | None, swept: Sequence[str], seed: int
) -> dict[str, float]:
    """The weights of the scores that are not swept, and the word bonus."""
    if isinstance(base, Fusion):
        for nbest in dev.lists:
            check_signatures(nbest, base)
        return {**base.scales, WORD_BONUS: base.word_bonus}
    if isinstance(base, Mapping):
        return {WORD_BONUS: 0.0, **base}
    names = list(recogniser_scores(dev.lists) if base is None else base)
    others = [name for name in swept if name not in names]
    tuned = tune(dev, [*names, *others], seed=seed)
    return {**{name: tuned.scales[name] for name in names}, WORD_BONUS: tuned.word_bonus}


def _swept(dev: DevSet, grid: Grid, signatures: Mapping[str, str], options: SweepSettings) -> Sweep:
    """Count at every setting, at the optimum, and fold by fold."""
    membership = _membership(len(dev.lists), options.cross_validate, options.seed)
    optimum = grid.optimum(options.seed)
    optimum_errors = grid.errors_at(optimum)
    band = None
    if options.resamples:
        band = Band.drawn(dev.reference_lengths, optimum_errors, options.resamples, options.seed)
    counts = grid.count(membership, band)
    return Sweep(
        axes=grid.axes,
        held=grid.held,
        errors=counts.errors,
        utterances=len(dev.lists),
        reference_words=dev.reference_words,
        optimum=optimum,
        optimum_errors=int(optimum_errors.sum()),
        above_low=counts.above_low,
        above_high=counts.above_high,
        folds=_folds(grid.axes, counts, dev.reference_lengths @ membership),
        unit=dev.unit,
        normalizer=dev.normalizer,
        signatures=signatures,
    )


def _membership(utterances: int, folds: int, seed: int) -> IntArray:
    """Which fold every utterance belongs to, (U, folds) zeros and ones."""
    if not folds:
        return np.zeros((utterances, 0), dtype=np.int64)
    fold_of = assign_folds(utterances, folds, seed)
    membership: IntArray = (fold_of[:, None] == np.arange(folds)).astype(np.int64)
    return membership


def _folds(
    axes: Mapping[str, FloatArray], counts: GridCounts, reference_words: IntArray
) -> tuple[Fold, ...]:
    """For each fold the setting with the fewest errors on the others, and its errors on the fold.

    `reference_words` is (folds,).
    """
    folds = []
    for k, words in enumerate(reference_words):
        errors = counts.fold_errors[..., k]
        index = _middle(counts.errors - errors)
        folds.append(Fold(_weights(axes, index), int(errors[index]), int(words)))
    return tuple(folds)


def _weights(axes: Mapping[str, FloatArray], index: tuple[int, ...]) -> dict[str, float]:
    return {name: float(values[i]) for (name, values), i in zip(axes.items(), index, strict=True)}


def _middle(errors: IntArray) -> tuple[int, ...]:
    """The index of the fewest errors; ties go to the one nearest to the mean of their indices."""
    tied = np.argwhere(errors == errors.min())
    nearest = ((tied - tied.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return tuple(int(i) for i in tied[nearest])
