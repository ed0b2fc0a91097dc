"""What changes between two systems: utterances helped and hurt, errors fixed and broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from rescore.ids import each_once
from rescore.text import normalizer as named_normalizer
from rescore.types import ErrorCounts, NBest
from rescore.wer.alignment import Edit, EditKind, Error, align, counts_of, errors_of
from rescore.wer.counts import Unit, list_errors, no_reference_words, reference
from rescore.wer.evaluation import Comparison, ResampledErrors, baseline_texts
from rescore.wer.significance import Interval

__all__ = ["Change", "Changes", "Outcome", "Pair", "changes"]

Outcome: TypeAlias = Literal["helped", "hurt", "unchanged"]


class Pair(NamedTuple):
    """A kind of error: which word of the reference became which word, wherever it stands."""

    kind: EditKind
    ref: str
    hyp: str


@dataclass(frozen=True)
class Change:
    """One utterance: the texts of baseline and system, aligned to the reference.

    Texts are as they were read, alignments as errors are counted. `oracle_errors` are those of the
    best hypothesis of the system's list. `is_tuned_on`: its totals come from weights tuned on it.
    """

    id: str
    ref: str
    baseline_text: str
    text: str
    baseline_edits: tuple[Edit, ...]
    edits: tuple[Edit, ...]
    oracle_errors: int
    is_tuned_on: bool = False

    @cached_property
    def baseline_errors(self) -> ErrorCounts:
        """The errors of the baseline."""
        return counts_of(self.baseline_edits)

    @cached_property
    def errors(self) -> ErrorCounts:
        """The errors of the system."""
        return counts_of(self.edits)

    @property
    def outcome(self) -> Outcome:
        """Whether the system makes fewer errors than the baseline, more, or as many."""
        gained = self.baseline_errors.errors - self.errors.errors
        return "helped" if gained > 0 else "hurt" if gained < 0 else "unchanged"

    @property
    def is_improvable(self) -> bool:
        """Whether a hypothesis of the system's list has fewer errors."""
        return self.oracle_errors < self.errors.errors

    @property
    def fixed(self) -> Counter[Pair]:
        """The errors of the baseline that the system does not make at that place."""
        return _without_places(errors_of(self.baseline_edits) - errors_of(self.edits))

    @property
    def broken(self) -> Counter[Pair]:
        """The errors of the system that the baseline does not make at that place."""
        return _without_places(errors_of(self.edits) - errors_of(self.baseline_edits))


def _without_places(errors: Counter[Error]) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for error, count in errors.items():
        pairs[Pair(error.kind, error.ref, error.hyp)] += count
    return pairs


def _total(counts: Iterable[Counter[Pair]]) -> Counter[Pair]:
    total: Counter[Pair] = Counter()
    for count in counts:
        total.update(count)
    return total


@dataclass(frozen=True)
class Changes:
    """A system against a baseline on the same utterances.

    `ci95` is the interval of the system's error rate; `comparison` holds the baseline's rate, the
    gain with its interval, and the probability of improvement.
    Errors of the system = errors of the baseline - `fixed` + `broken`.
    """

    utterances: tuple[Change, ...]
    ci95: Interval
    comparison: Comparison
    unit: Unit
    normalizer: str
    seed: int

    @cached_property
    def errors(self) -> ErrorCounts:
        """The errors of the system."""
        return sum((change.errors for change in self.utterances), ErrorCounts())

    @cached_property
    def baseline_errors(self) -> ErrorCounts:
        """The errors of the baseline."""
        return sum((change.baseline_errors for change in self.utterances), ErrorCounts())

    @property
    def oracle_wer(self) -> float:
        """The error rate of the best hypotheses of the system's lists."""
        oracle_errors = sum(change.oracle_errors for change in self.utterances)
        return oracle_errors / self.errors.reference_words

    @property
    def tuned_on(self) -> int:
        """How many utterances the weights were tuned on; unless 0, this is not a test result."""
        return sum(change.is_tuned_on for change in self.utterances)

    @cached_property
    def outcomes(self) -> Counter[Outcome]:
        """How many utterances were helped, hurt and left with as many errors."""
        return Counter(change.outcome for change in self.utterances)

    @cached_property
    def fixed(self) -> Counter[Pair]:
        """Errors that only the baseline makes, by kind."""
        return _total(change.fixed for change in self.utterances)

    @cached_property
    def broken(self) -> Counter[Pair]:
        """Errors that only the system makes, by kind."""
        return _total(change.broken for change in self.utterances)


def changes(
    lists: Iterable[NBest],
    baseline: Iterable[NBest] | None = None,
    *,
    unit: Unit = "word",
    normalizer: str = "none",
    cluster: Callable[[NBest], str] | None = None,
    seed: int = 0,
) -> Changes:
    """Compare the first hypothesis of every list with that of the baseline.

    Without `baseline` it is the recogniser's first hypothesis, as `rescore.fusion.fuse` recorded
    it. The other arguments are those of `rescore.wer.evaluate`, and so is what it raises.
    Exact checks: tests/wer/test_changes.py::test_the_comparison_is_that_of_evaluate,
    tests/wer/test_changes.py::test_fixed_and_broken_errors_account_for_the_difference.
    """
    normalize = named_normalizer(normalizer)
    kept: dict[str, _Kept] = {}
    for nbest in each_once(lists, "counted"):
        kept[nbest.id] = _Kept(
            nbest.place(),
            reference(nbest),
            nbest.hyps[0].text,
            nbest.hyps[nbest.first_pass or 0].text,
            int(list_errors(nbest, unit, normalize).min()),
            nbest.id if cluster is None else cluster(nbest),
            "total" in nbest.provenance and nbest.provenance["total"].is_tuned_on,
        )
    texts = {id: row.first_pass for id, row in kept.items()}
    if baseline is not None:
        references = {id: normalize(row.ref) for id, row in kept.items()}
        texts = baseline_texts(references, baseline, normalize)
    rows = []
    for id, row in kept.items():
        ref = normalize(row.ref)
        before = align(ref, normalize(texts[id]), unit)
        edits = align(ref, normalize(row.text), unit)
        change = Change(id, row.ref, texts[id], row.text, before, edits, row.oracle_errors)
        rows.append(replace(change, is_tuned_on=row.is_tuned_on))
    if not any(change.errors.reference_words for change in rows):
        raise no_reference_words([row.place for row in kept.values()])
    clusters = [row.cluster for row in kept.values()]
    return Changes(tuple(rows), *_compared(rows, clusters, seed), unit, normalizer, seed)


class _Kept(NamedTuple):
    """What is kept of a list while the others are read."""

    place: str
    ref: str
    text: str
    first_pass: str
    oracle_errors: int
    cluster: str
    is_tuned_on: bool


def _compared(
    rows: Sequence[Change], clusters: Sequence[str], seed: int
) -> tuple[Interval, Comparison]:
    """The interval of the system's rate, and its comparison with the baseline."""
    system = ResampledErrors(
        np.array([change.errors.errors for change in rows], dtype=np.int64),
        np.array([change.errors.reference_words for change in rows], dtype=np.int64),
        clusters,
        seed,
    )
    baseline = np.array([change.baseline_errors.errors for change in rows], dtype=np.int64)
    oracle_wer = sum(change.oracle_errors for change in rows) / int(system.reference_words.sum())
    return system.interval(system.errors), system.against(baseline, oracle_wer)
