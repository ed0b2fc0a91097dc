"""What is counted of one kind: how often something is true, errors, the values of a score."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import StatisticsError, correlation, median_low

from rescore.types import NBest
from rescore.wer import Unit, edit_distances, reference_length

__all__ = ["ErrorRates", "ScoreSummary", "Tally"]

_SAMPLE = 100_000  # values of a score that are kept for its median: 0.8 MB


@dataclass
class Tally:
    """How many hypotheses (or lists) something is true of, and the place of the first."""

    count: int = 0
    first: str = ""

    def add(self, nbest: NBest, index: int | None = None) -> None:
        """Count one."""
        if not self.count:
            self.first = nbest.place(index)
        self.count += 1


@dataclass
class ErrorRates:
    """Errors of the first hypotheses (`first`) and of the best ones (`oracle`).

    `reference_length` counts the words, or other units, of the references.
    """

    reference_length: int = 0
    first: int = 0
    oracle: int = 0

    def add(self, ref: str, texts: Sequence[str], unit: Unit) -> None:
        """Count one list."""
        errors = edit_distances([ref] * len(texts), texts, unit)
        self.reference_length += reference_length(ref, unit)
        self.first += int(errors[0])
        self.oracle += int(errors.min())

    @property
    def wer(self) -> float | None:
        """The error rate of the first hypotheses, a fraction; None without reference words."""
        return self.first / self.reference_length if self.reference_length else None

    @property
    def oracle_wer(self) -> float | None:
        """The error rate of the best hypotheses, a fraction; None without reference words."""
        return self.oracle / self.reference_length if self.reference_length else None


@dataclass
class ScoreSummary:
    """The values of one named score.

    `count` values lie between `low` and `high`; `positive` and `zero` tally them by sign, `missing`
    the hypotheses without a value. `lists` counts the lists with at least two values, `varied`
    those among them whose values differ; in `first_highest` and `first_lowest` of these the first
    hypothesis has the highest or the lowest value. `sample` holds all values, or 100,000 of them
    drawn at random; `words` holds the number of words of each of these hypotheses.
    """

    count: int = 0
    low: float = inf
    high: float = -inf
    positive: Tally = field(default_factory=Tally)
    zero: Tally = field(default_factory=Tally)
    missing: Tally = field(default_factory=Tally)
    lists: int = 0
    varied: int = 0
    first_highest: int = 0
    first_lowest: int = 0
    sample: array[float] = field(default_factory=lambda: array("d"))
    words: array[float] = field(default_factory=lambda: array("d"))
    _random: random.Random = field(
        default_factory=lambda: random.Random(0)  # noqa: S311 - draws the sample
    )

    def add(self, nbest: NBest, name: str, words: Sequence[int]) -> None:
        """Count the values of one list; `words` holds the number of words of each hypothesis."""
        values = []
        for index, hyp in enumerate(nbest.hyps):
            value = hyp.scores.get(name)
            if value is None:
                self.missing.add(nbest, index)
                continue
            values.append(value)
            self._keep(value, words[index])
            if value > 0:
                self.positive.add(nbest, index)
            elif value == 0:
                self.zero.add(nbest, index)
        if values:
            self._compare(values, nbest.hyps[0].scores.get(name))

    def _keep(self, value: float, words: int) -> None:
        """Add to the sample by reservoir sampling: all values are in it with the same chance."""
        self.count += 1
        if len(self.sample) < _SAMPLE:
            self.sample.append(value)
            self.words.append(words)
            return
        place = self._random.randrange(self.count)
        if place < _SAMPLE:
            self.sample[place], self.words[place] = value, words

    def _compare(self, values: Sequence[float], first: float | None) -> None:
        low, high = min(values), max(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.lists += len(values) > 1
        if low < high:
            self.varied += 1
            self.first_highest += first == high
            self.first_lowest += first == low

    @property
    def negative(self) -> int:
        """The number of values below 0."""
        return self.count - self.positive.count - self.zero.count

    @property
    def median(self) -> float:
        """The median of the sample; of two middle values the lower."""
        return median_low(self.sample)

    @property
    def length_correlation(self) -> float | None:
        """Pearson's correlation of the sample with its numbers of words; None for a constant."""
        largest = max(abs(self.low), abs(self.high)) or 1.0  # so that no square overflows
        try:
            return correlation([value / largest for value in self.sample], self.words)
        except StatisticsError:
            return None
