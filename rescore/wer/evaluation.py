"""Evaluate the first hypotheses of lists, alone and against a baseline.

Corpus figures are functions of counts per utterance, computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FormatError
from rescore.ids import each_once
from rescore.text import Normalizer
from rescore.text import normalizer as named_normalizer
from rescore.types import ErrorCounts, NBest
from rescore.wer.case_watch import CaseWatch
from rescore.wer.counts import Unit, count_errors, list_errors, no_reference_words, reference
from rescore.wer.significance import Interval, bootstrap_ci, probability_of_improvement

__all__ = ["Comparison", "Evaluation", "ResampledErrors", "baseline_texts", "evaluate"]

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """A system against a baseline on the same utterances.

    Rates are fractions; a positive reduction means that the system is better. `oracle_gap_closed`
    is (baseline_wer - wer) / (baseline_wer - oracle_wer), None where the baseline is already at the
    oracle. `relative_reduction` is None where the baseline makes no error. `reduction_ci95` is the
    interval of `absolute_reduction` (paired bootstrap).
    """

    baseline_wer: float
    baseline_ci95: Interval
    absolute_reduction: float
    relative_reduction: float | None
    reduction_ci95: Interval
    probability_better: float
    oracle_gap_closed: float | None


@dataclass(frozen=True)
class Evaluation:
    """Error rates of the first hypotheses of lists, and of the best ones (oracle).

    Rates are fractions, not rounded. `errors.reference_words` counts what `unit` says. `ci95` is a
    bootstrap over `clusters` clusters (utterances unless a cluster was given). `tuned_on` counts
    the utterances whose totals come from weights tuned on them, as `rescore.fusion.fuse` recorded:
    unless it is 0, this is not a test result. `comparison` is with the baseline, `first_pass` with
    the recogniser's first hypotheses, where `fuse` recorded them.
    """

    utterances: int
    wer: float
    ci95: Interval
    oracle_wer: float
    errors: ErrorCounts
    unit: Unit
    normalizer: str
    clusters: int
    seed: int
    tuned_on: int = 0
    first_pass: Comparison | None = None
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object: these fields, then those of the comparison with the baseline."""
        record = asdict(self)
        comparison = record.pop("comparison") or {}
        return {name: _plain(value) for name, value in {**record, **comparison}.items()}


def _plain(value: Any) -> Any:
    """The value as JSON reads it back: lists for tuples."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Utterance:
    """What evaluation keeps of one list."""

    place: str
    ref: str
    errors: ErrorCounts
    first_pass_errors: int | None
    oracle_errors: int
    cluster: Hashable
    is_tuned_on: bool


def evaluate(
    lists: Iterable[NBest],
    baseline: Iterable[NBest] | None = None,
    *,
    unit: Unit = "word",
    normalizer: str = "none",
    cluster: Callable[[NBest], str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the first hypothesis of every list, and compare it with that of a baseline.

    `baseline` holds lists with the same ids. `normalizer` names an entry of the registry, applied
    to references and hypotheses alike. `cluster` maps a list to the unit of resampling, for example
    its speaker. Both inputs are read once, one list at a time.
    Raises FormatError for a missing reference, a repeated id, ids or references that differ from
    the baseline's, and references without words.
    Exact check: tests/wer/test_evaluation.py::test_an_evaluation_equals_one_by_hand.
    """
    normalize = named_normalizer(normalizer)
    utterances = _utterances(lists, unit, normalize, cluster)
    rows = list(utterances.values())
    errors = sum((row.errors for row in rows), ErrorCounts())
    if not errors.reference_words:
        raise no_reference_words([row.place for row in rows])
    system = _resampled(rows, seed)
    oracle_wer = sum(row.oracle_errors for row in rows) / errors.reference_words
    comparison = first_pass = None
    if any(row.first_pass_errors is not None for row in rows):
        first_pass = system.against(_first_pass_errors(rows), oracle_wer)
    if baseline is not None:
        baseline_errors = _baseline_errors(utterances, baseline, unit, normalize)
        comparison = system.against(baseline_errors, oracle_wer)
    return Evaluation(
        utterances=len(rows),
        wer=errors.wer,
        ci95=system.interval(system.errors),
        oracle_wer=oracle_wer,
        errors=errors,
        unit=unit,
        normalizer=normalizer,
        clusters=len(set(system.clusters)),
        seed=seed,
        tuned_on=sum(row.is_tuned_on for row in rows),
        first_pass=first_pass,
        comparison=comparison,
    )


def _utterances(
    lists: Iterable[NBest],
    unit: Unit,
    normalize: Normalizer,
    cluster: Callable[[NBest], str] | None,
) -> dict[str, _Utterance]:
    """Count the errors of each list, by id."""
    utterances: dict[str, _Utterance] = {}
    watch = CaseWatch()
    for nbest in each_once(lists, "counted"):
        ref, text = normalize(reference(nbest)), normalize(nbest.hyps[0].text)
        watch.add(ref, text)
        total, first = nbest.provenance.get("total"), nbest.first_pass
        list_counts = list_errors(nbest, unit, normalize)
        utterances[nbest.id] = _Utterance(
            place=nbest.place(),
            ref=ref,
            errors=count_errors(ref, text, unit),
            first_pass_errors=None if first is None else int(list_counts[first]),
            oracle_errors=int(list_counts.min()),
            cluster=nbest.id if cluster is None else cluster(nbest),
            is_tuned_on=total is not None and total.is_tuned_on,
        )
    watch.warn()
    return utterances


def _first_pass_errors(rows: Sequence[_Utterance]) -> IntArray:
    """The errors of the recogniser's first hypotheses, (U,)."""
    counts = []
    for row in rows:
        is_reordered = row.first_pass_errors is not None
        counts.append(row.first_pass_errors if is_reordered else row.errors.errors)
    return np.array(counts, dtype=np.int64)


def _baseline_errors(
    utterances: dict[str, _Utterance],
    baseline: Iterable[NBest],
    unit: Unit,
    normalize: Normalizer,
) -> IntArray:
    """Return the baseline's errors in the order of `utterances`, against the same references."""
    references = {id: utterance.ref for id, utterance in utterances.items()}
    texts = baseline_texts(references, baseline, normalize)
    errors = [
        count_errors(ref, normalize(texts[id]), unit).errors for id, ref in references.items()
    ]
    return np.array(errors, dtype=np.int64)


def baseline_texts(
    references: Mapping[str, str], baseline: Iterable[NBest], normalize: Normalizer
) -> dict[str, str]:
    """Return the first hypotheses of a baseline, as they were read, by id.

    `references` holds the normalised reference of every evaluated utterance. Raises FormatError if
    the baseline has other utterances, or another reference for one of them.
    """
    texts: dict[str, str] = {}
    for nbest in each_once(baseline, "counted"):
        ref = references.get(nbest.id)
        if ref is None:
            raise FormatError(
                f"{nbest.place()}: it is in the baseline and not among the evaluated lists;"
                " both need the same utterances"
            )
        if nbest.ref is not None and normalize(nbest.ref) != ref:
            raise FormatError(
                f"{nbest.place()}: the baseline's reference differs from the evaluated list's;"
                " both need the same references"
            )
        texts[nbest.id] = nbest.hyps[0].text
    for id in references:
        if id not in texts:
            raise FormatError(
                f"utterance {id}: it is missing from the baseline; both need the same utterances"
            )
    return texts


@dataclass(frozen=True)
class ResampledErrors:
    """The errors and reference words of each utterance, (U,), and how to resample them."""

    errors: IntArray
    reference_words: IntArray
    clusters: Sequence[Hashable]
    seed: int

    def interval(self, errors: IntArray) -> Interval:
        """The 95 % interval of the error rate of these errors, (U,)."""
        return bootstrap_ci(errors, self.reference_words, self.clusters, seed=self.seed)

    def against(self, baseline: IntArray, oracle_wer: float) -> Comparison:
        """Compare with the errors of a baseline, (U,)."""
        words = int(self.reference_words.sum())
        wer, baseline_wer = int(self.errors.sum()) / words, int(baseline.sum()) / words
        reduction, gap = baseline_wer - wer, baseline_wer - oracle_wer
        return Comparison(
            baseline_wer=baseline_wer,
            baseline_ci95=self.interval(baseline),
            absolute_reduction=reduction,
            relative_reduction=reduction / baseline_wer if baseline_wer else None,
            reduction_ci95=self.interval(baseline - self.errors),
            probability_better=probability_of_improvement(
                self.errors, baseline, self.clusters, seed=self.seed
            ),
            oracle_gap_closed=reduction / gap if gap > 0 else None,
        )


def _resampled(rows: Sequence[_Utterance], seed: int) -> ResampledErrors:
    return ResampledErrors(
        np.array([row.errors.errors for row in rows], dtype=np.int64),
        np.array([row.errors.reference_words for row in rows], dtype=np.int64),
        [row.cluster for row in rows],
        seed,
    )
