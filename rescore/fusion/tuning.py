"""Tune weights on development lists: lists or arrays in, weights out.

The search itself is `rescore.fusion.descent.minimize_errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FusionError
from rescore.fusion.cost_watch import warn_of_costs
from rescore.fusion.decisions import fit_temperature
from rescore.fusion.descent import Optimum, SearchSettings, minimize_errors
from rescore.fusion.dev_set import DevSet, dev_set
from rescore.fusion.table import ScoreTable
from rescore.fusion.totals import totals, winners
from rescore.fusion.weights import DevResult, Fusion, digest
from rescore.types import NBest
from rescore.wer.counts import Unit

__all__ = [
    "CrossValidation",
    "Tuned",
    "assign_folds",
    "cross_validation",
    "tune",
    "tune_and_validate",
    "tune_arrays",
]

IntArray: TypeAlias = NDArray[np.int64]


def tune(
    lists: Iterable[NBest] | DevSet,
    names: Sequence[str],
    *,
    cross_validate: int = 0,
    unit: Unit | None = None,
    normalizer: str | None = None,
    **search: Any,
) -> Fusion:
    """Tune the scales of the named scores and a word bonus on lists with references.

    The first scale is 1. `lists` are read once; a `DevSet` saves aligning them again.
    `cross_validate` is a number of folds (0: none). `unit` and `normalizer` say what an error is,
    as in `rescore.wer.evaluate`; they default to "word" and "none", or to those of the DevSet.
    `search` are fields of `SearchSettings` as keywords: word_bonus, bounds, restarts,
    random_directions, seed. The temperature makes the hypotheses with the fewest errors most
    probable.

    Raises ScoreError for a score that is missing or not finite, FormatError for a missing
    reference or references without words, FusionError for a score made in two ways, bounds that
    do not fit, or fewer utterances than folds.
    Exact check: tests/fusion/test_tuning.py::test_tuned_weights_make_the_errors_they_promise.
    """
    dev = dev_set(lists, unit, normalizer)
    settings = SearchSettings(**search)
    table = dev.table(names)
    warn_of_costs(table)
    if not cross_validate:
        return _tuned(dev, table, settings)
    return _validated(dev, table, cross_validate, settings).fusion


@dataclass(frozen=True)
class Tuned:
    """Weights, and what to expect of them.

    `held_out_errors`, int64 (U,), are the errors of each dev utterance with weights that were tuned
    without it.
    """

    fusion: Fusion
    held_out_errors: IntArray


def tune_and_validate(
    dev: DevSet, names: Sequence[str], folds: int, settings: SearchSettings | None = None
) -> Tuned:
    """Tune on all of dev, and on all folds but one for each fold. Raises as `tune` does."""
    return _validated(dev, dev.table(names), folds, settings or SearchSettings())


def _validated(dev: DevSet, table: ScoreTable, folds: int, settings: SearchSettings) -> Tuned:
    """Weights and their errors on held-out folds, from the table of their scores."""
    _check_folds(dev, folds)
    fusion = _tuned(dev, table, settings)
    validated = cross_validation(table, dev.errors, folds, settings)
    if fusion.dev is not None:
        wer = validated.errors / dev.reference_words
        result = replace(fusion.dev, cross_validated_wer=wer, folds=folds)
        fusion = replace(fusion, dev=result)
    return Tuned(fusion, validated.utterance_errors)


def _tuned(dev: DevSet, table: ScoreTable, settings: SearchSettings) -> Fusion:
    """The weights with the fewest errors on all of dev."""
    signatures = dev.signatures(table.names)
    optimum = minimize_errors(table, dev.errors, settings)
    total = totals(table, optimum.scales, optimum.word_bonus)
    return Fusion(
        optimum.scales,
        optimum.word_bonus,
        signatures,
        _dev_result(dev, optimum, settings),
        tuned_on=" ".join(sorted(digest(nbest.id) for nbest in dev.lists)),
        temperature=fit_temperature(total, dev.errors, dev.offsets),
    )


def _dev_result(dev: DevSet, optimum: Optimum, settings: SearchSettings) -> DevResult:
    return DevResult(
        utterances=len(dev.lists),
        reference_words=dev.reference_words,
        first_pass_wer=dev.first_pass_wer,
        wer=optimum.errors / dev.reference_words,
        oracle_wer=dev.oracle_wer,
        plateaus=optimum.plateaus,
        unit=dev.unit,
        normalizer=dev.normalizer,
        restarts=settings.restarts,
        random_directions=settings.random_directions,
        seed=settings.seed,
        version=_version(),
    )


def _version() -> str:
    try:
        return version("dlmrescore")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def tune_arrays(
    features: Sequence[ArrayLike],
    errors: Sequence[ArrayLike],
    *,
    words: Sequence[ArrayLike] | None = None,
    names: Sequence[str] | None = None,
    settings: SearchSettings | None = None,
) -> Optimum:
    """Tune without files.

    `features` holds a (hypotheses, scores) array for each utterance, `errors` a (hypotheses,)
    array of error counts, `words` a (hypotheses,) array of word counts, without which there is no
    word bonus. Raises FusionError for arrays that do not fit each other.
    """
    table = ScoreTable.from_arrays(features, words, names)
    settings = settings or SearchSettings()
    if words is None:
        settings = replace(settings, word_bonus=False)
    return minimize_errors(
        table, np.concatenate([np.asarray(counts) for counts in errors]), settings
    )


@dataclass(frozen=True)
class CrossValidation:
    """The errors of every utterance with weights tuned without it, int64 (U,); those weights."""

    utterance_errors: IntArray
    folds: tuple[Optimum, ...]

    @property
    def errors(self) -> int:
        """The errors of all utterances."""
        return int(self.utterance_errors.sum())


def cross_validation(
    table: ScoreTable, errors: ArrayLike, folds: int, settings: SearchSettings | None = None
) -> CrossValidation:
    """Tune on all folds but one and count the errors on that one, for each fold in turn.

    `errors` is (H,) integers. Raises FusionError unless there are at least two folds and an
    utterance for each.
    """
    settings = settings or SearchSettings()
    counts = np.asarray(errors)
    fold_of = assign_folds(len(table.offsets) - 1, folds, settings.seed)
    held_out_errors = np.zeros(len(fold_of), dtype=np.int64)
    optima = []
    for fold in range(folds):
        rest, rest_rows = table.take(np.flatnonzero(fold_of != fold))
        held_out, held_out_rows = table.take(np.flatnonzero(fold_of == fold))
        optimum = minimize_errors(rest, counts[rest_rows], settings)
        total = totals(held_out, optimum.scales, optimum.word_bonus)
        best = winners(total, held_out.offsets)
        held_out_errors[fold_of == fold] = counts[held_out_rows][best]
        optima.append(optimum)
    return CrossValidation(held_out_errors, tuple(optima))


def assign_folds(utterances: int, folds: int, seed: int) -> IntArray:
    """Return a random fold for each utterance, (U,) from 0; sizes differ by at most 1.

    Raises FusionError unless there are at least two folds and an utterance for each.
    """
    if not 2 <= folds <= utterances:
        raise FusionError(
            f"got {folds} folds for {utterances} utterances, expected 2 to {utterances}"
        )
    return np.random.default_rng(seed).permutation(utterances) % folds


def _check_folds(dev: DevSet, folds: int) -> None:
    """Refuse a number of folds that does not fit, before the search begins."""
    utterances = len(dev.lists)
    try:
        assign_folds(utterances, folds, 0)
    except FusionError as error:
        others = f" and {utterances - 1} others" if utterances > 1 else ""
        raise FusionError(f"{dev.lists[0].place()}{others}: {error}") from error
