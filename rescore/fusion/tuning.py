"""Tune."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FusionError
from rescore.fusion.decisions import fit_temperature
from rescore.fusion.descent import Optimum, SearchSettings, minimize_errors
from rescore.fusion.table import ScoreTable, signature
from rescore.fusion.totals import totals, winners
from rescore.fusion.weights import DevResult, Fusion, digest
from rescore.text import normalizer as named_normalizer
from rescore.types import NBest
from rescore.wer.counts import (
    Unit,
    list_errors,
    no_reference_words,
    reference,
    reference_length,
)

__all__ = ["HeldOut", "cross_validation", "tune", "tune_arrays"]

IntArray: TypeAlias = NDArray[np.int64]


def tune_arrays(
    features: Sequence[ArrayLike],
    errors: Sequence[ArrayLike],
    *,
    words: Sequence[ArrayLike] | None = None,
    names: Sequence[str] | None = None,
    settings: SearchSettings | None = None,
) -> Optimum:
    """Tune without files: a (hypotheses, scores) array and a (hypotheses,) array of error counts for every utterance.

    `words` holds word counts, without which there is no word bonus. Raises FusionError for arrays that do not fit each other.
    """
    table = ScoreTable.from_arrays(features, words, names)
    settings = settings or SearchSettings()
    settings = replace(settings, word_bonus=settings.word_bonus and words is not None)
    return minimize_errors(table, np.concatenate([np.asarray(count) for count in errors]), settings)


@dataclass(frozen=True)
class HeldOut:
    """Cross-validation: errors of each utterance counted with weights tuned without it, summed; and those weights, fold by fold."""

    errors: int
    folds: tuple[Optimum, ...]


def cross_validation(
    table: ScoreTable, errors: ArrayLike, folds: int, settings: SearchSettings | None = None
) -> HeldOut:
    """Tune on all folds but one and count on that one, for each in turn; utterances are dealt to folds at random by `settings.seed`.

    Raises FusionError unless there are at least two folds and an utterance for each.
    """
    settings, counts, utterances = (
        settings or SearchSettings(),
        np.asarray(errors),
        len(table.offsets) - 1,
    )
    if not 2 <= folds <= utterances:
        raise FusionError(_folds(folds, utterances))
    dealt = np.random.default_rng(settings.seed).permutation(utterances) % folds
    held_out, optima = 0, []
    for fold in range(folds):
        (rest, rows), (held, held_rows) = (
            table.take(np.flatnonzero(dealt != fold)),
            table.take(np.flatnonzero(dealt == fold)),
        )
        optimum = minimize_errors(rest, counts[rows], settings)
        held_out += int(
            counts[held_rows][
                winners(totals(held, optimum.scales, optimum.word_bonus), held.offsets)
            ].sum()
        )
        optima.append(optimum)
    return HeldOut(held_out, tuple(optima))


def _folds(folds: int, utterances: int) -> str:
    return f"got {folds} folds for {utterances} utterances, expected 2 to {utterances}"


@dataclass
class _Dev:
    """What tuning keeps of the lists besides their scores, collected while they pass."""

    names: Sequence[str]
    unit: Unit
    normalizer: str
    ids: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    errors: list[IntArray] = field(default_factory=list)
    reference_words: int = 0
    signatures: dict[str, str | None] = field(default_factory=dict)

    def watch(self, lists: Iterable[NBest]) -> Iterator[NBest]:
        """Pass the lists on. Raises FormatError for a missing reference, FusionError for a score made in two ways."""
        normalize = named_normalizer(self.normalizer)
        for nbest in lists:
            self.ids.append(nbest.id)
            self.places.append(nbest.place())
            self.errors.append(list_errors(nbest, self.unit, normalize))
            self.reference_words += reference_length(normalize(reference(nbest)), self.unit)
            for name in self.names:
                made, others = (
                    signature(nbest, name),
                    self.signatures.setdefault(name, signature(nbest, name)),
                )
                if made != others:
                    message = f'score "{name}" was made by "{made or "unknown"}", earlier ones by "{others or "unknown"}"; score all lists alike'
                    raise FusionError(f"{nbest.place()}: {message}")
            yield nbest

    def result(
        self, offsets: IntArray, optimum: Optimum, held_out: int | None, settings: SearchSettings
    ) -> DevResult:
        """What tuning found, as rates."""
        errors, words = np.concatenate(self.errors), self.reference_words
        return DevResult(
            utterances=len(self.ids),
            reference_words=words,
            first_pass_wer=int(errors[offsets[:-1]].sum()) / words,
            wer=optimum.errors / words,
            oracle_wer=int(np.minimum.reduceat(errors, offsets[:-1]).sum()) / words,
            plateaus=optimum.plateaus,
            cross_validated_wer=None if held_out is None else held_out / words,
            unit=self.unit,
            normalizer=self.normalizer,
            restarts=settings.restarts,
            random_directions=settings.random_directions,
            seed=settings.seed,
            version=_version(),
        )


def tune(
    lists: Iterable[NBest],
    names: Sequence[str],
    *,
    word_bonus: bool = True,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    restarts: int = SearchSettings.restarts,
    random_directions: int = SearchSettings.random_directions,
    seed: int = 0,
    cross_validate: int = 0,
    unit: Unit = "word",
    normalizer: str = "none",
) -> Fusion:
    """Tune the scales of the named scores, the first fixed at 1, and a word bonus, on lists with references; lists are read once.

    The temperature makes the hypotheses with the fewest errors most probable. `cross_validate` is a number of folds (0: none). `unit` and
    `normalizer` say what an error is, as in `rescore.wer.evaluate`.
    Raises ScoreError for a score that is missing or not finite, FormatError for a missing reference or references without words, FusionError for
    a score made in two ways, bounds that do not fit, or fewer utterances than folds.
    """
    settings = SearchSettings(word_bonus, bounds or {}, restarts, random_directions, seed)
    dev = _Dev(names, unit, normalizer)
    table = ScoreTable.of(dev.watch(lists), names)
    if not dev.reference_words:
        raise no_reference_words(dev.places)
    if cross_validate and not 2 <= cross_validate <= len(dev.ids):
        others = f" and {len(dev.ids) - 1} others" if len(dev.ids) > 1 else ""
        raise FusionError(f"{dev.places[0]}{others}: {_folds(cross_validate, len(dev.ids))}")
    errors = np.concatenate(dev.errors)
    optimum = minimize_errors(table, errors, settings)
    held_out = (
        cross_validation(table, errors, cross_validate, settings).errors if cross_validate else None
    )
    result = replace(dev.result(table.offsets, optimum, held_out, settings), folds=cross_validate)
    signatures = {name: made for name, made in dev.signatures.items() if made is not None}
    temperature = fit_temperature(
        totals(table, optimum.scales, optimum.word_bonus), errors, table.offsets
    )
    return Fusion(
        optimum.scales,
        optimum.word_bonus,
        signatures,
        result,
        " ".join(sorted(map(digest, dev.ids))),
        temperature,
    )


def _version() -> str:
    try:
        return version("dlmrescore")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"
