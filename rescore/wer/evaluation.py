"""Evaluate the first hypotheses of lists, alone and against a baseline.

Corpus figures are functions of counts per utterance, computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FormatError
from rescore.ids import each_once
from rescore.text import Normalizer
from rescore.text import normalizer as named_normalizer
from rescore.types import ErrorCounts, NBest
from rescore.wer.counts import Unit, count_errors, list_errors, no_reference_words, reference
from rescore.wer.significance import Interval, bootstrap_ci, probability_of_improvement

__all__ = ["Comparison", "Evaluation", "evaluate"]

IntArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """A system against a baseline on the same utterances. Rates are fractions; a positive reduction means that the system is better.

    `oracle_gap_closed` is (baseline_wer - wer) / (baseline_wer - oracle_wer), None where the baseline is already at the oracle.
    `relative_reduction` is None where the baseline makes no error. `reduction_ci95` belongs to `absolute_reduction` (paired bootstrap).
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
    """Error rates of the first hypotheses of a set of lists, and of the best ones (oracle). Rates are fractions, not rounded.

    `errors.reference_words` counts what `unit` says. `ci95` is a bootstrap over `clusters` clusters
    (utterances unless a cluster was given). `tuned_on` counts utterances whose totals, as `rescore.fusion.fuse` recorded, come from weights tuned
    on them: unless it is 0, this is not a test result.
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
    comparison: Comparison | None = None

    def to_json(self) -> dict[str, Any]:
        """Return one flat JSON object: the fields of this record, then those of the comparison where there is one."""
        record = asdict(self)
        comparison = record.pop("comparison")
        record["ci95"] = list(self.ci95)
        if comparison is None:
            return record
        return record | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in comparison.items()
        }


@dataclass(frozen=True)
class _Row:
    """What evaluation keeps of one utterance."""

    place: str
    ref: str
    errors: ErrorCounts
    oracle: int
    cluster: Hashable
    tuned_on: bool


def evaluate(
    lists: Iterable[NBest],
    baseline: Iterable[NBest] | None = None,
    *,
    unit: Unit = "word",
    normalizer: str = "none",
    cluster: Callable[[NBest], str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the first hypothesis of every list, and compare it with the first hypotheses of `baseline`, matched by id.

    `normalizer` names an entry of the registry, applied to references and hypotheses alike. `cluster` maps a list to the unit of
    resampling, for example its speaker. Both inputs are read once, one list at a time.
    Raises FormatError for a missing reference, a repeated id, ids or references that differ from the baseline's, and references without words.
    """
    normalize = named_normalizer(normalizer)
    rows = _rows(lists, unit, normalize, cluster)
    errors = sum((row.errors for row in rows.values()), ErrorCounts())
    if not errors.reference_words:
        raise no_reference_words([row.place for row in rows.values()])
    counted, words = (
        _column(row.errors.errors for row in rows.values()),
        _column(row.errors.reference_words for row in rows.values()),
    )
    clusters = [row.cluster for row in rows.values()]
    oracle_wer = sum(row.oracle for row in rows.values()) / errors.reference_words
    comparison = None
    if baseline is not None:
        baseline_errors = _baseline_errors(rows, baseline, unit, normalize)
        comparison = _compare(
            counted, baseline_errors, words, clusters, oracle_wer=oracle_wer, seed=seed
        )
    interval = bootstrap_ci(counted, words, clusters, seed=seed)
    tuned_on = sum(row.tuned_on for row in rows.values())
    return Evaluation(
        len(rows),
        errors.wer,
        interval,
        oracle_wer,
        errors,
        unit,
        normalizer,
        len(set(clusters)),
        seed,
        tuned_on,
        comparison,
    )


def _column(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _rows(
    lists: Iterable[NBest],
    unit: Unit,
    normalize: Normalizer,
    cluster: Callable[[NBest], str] | None,
) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for nbest in each_once(lists, "counted"):
        ref = normalize(reference(nbest))
        errors = count_errors(ref, normalize(nbest.hyps[0].text), unit)
        fewest = int(list_errors(nbest, unit, normalize).min())
        rows[nbest.id] = _Row(
            nbest.place(),
            ref,
            errors,
            fewest,
            nbest.id if cluster is None else cluster(nbest),
            _is_tuned_on(nbest),
        )
    return rows


def _is_tuned_on(nbest: NBest) -> bool:
    return "total" in nbest.provenance and nbest.provenance["total"].is_tuned_on


def _baseline_errors(
    rows: dict[str, _Row], baseline: Iterable[NBest], unit: Unit, normalize: Normalizer
) -> IntArray:
    """Return the baseline's errors in the order of `rows`, counted against the same references."""
    errors: dict[str, int] = {}
    for nbest in each_once(baseline, "counted"):
        row = rows.get(nbest.id)
        if row is None:
            raise FormatError(
                f"{nbest.place()}: it is in the baseline and not among the evaluated lists; both need the same utterances"
            )
        if nbest.ref is not None and normalize(nbest.ref) != row.ref:
            raise FormatError(
                f"{nbest.place()}: the baseline's reference differs from the evaluated list's; both need the same references"
            )
        errors[nbest.id] = count_errors(row.ref, normalize(nbest.hyps[0].text), unit).errors
    for missing in rows.keys() - errors.keys():
        raise FormatError(
            f"utterance {missing}: it is missing from the baseline; both need the same utterances"
        )
    return _column(errors[name] for name in rows)


def _compare(
    errors: IntArray,
    baseline: IntArray,
    words: IntArray,
    clusters: Sequence[Hashable],
    *,
    oracle_wer: float,
    seed: int,
) -> Comparison:
    total = int(words.sum())
    wer, baseline_wer = int(errors.sum()) / total, int(baseline.sum()) / total
    reduction, gap = baseline_wer - wer, baseline_wer - oracle_wer
    return Comparison(
        baseline_wer=baseline_wer,
        baseline_ci95=bootstrap_ci(baseline, words, clusters, seed=seed),
        absolute_reduction=reduction,
        relative_reduction=reduction / baseline_wer if baseline_wer else None,
        reduction_ci95=bootstrap_ci(baseline - errors, words, clusters, seed=seed),
        probability_better=probability_of_improvement(errors, baseline, clusters, seed=seed),
        oracle_gap_closed=reduction / gap if gap > 0 else None,
    )
