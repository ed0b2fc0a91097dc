"""Are probabilities what they say? Word confidences against the words that are right.

ECE is the mean distance between confidence and share of right words in ten equal bins (Guo et al.
2017, arXiv:1706.04599); NCE the normalised cross entropy of NIST: 0 for a constant confidence that
is right on average, 1 for certainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rescore.fusion.decisions import posterior, word_confidences
from rescore.fusion.probabilities import stored_confidences
from rescore.fusion.table import TOTAL
from rescore.text import Normalizer
from rescore.types import NBest
from rescore.wer import align, reference

__all__ = ["Calibration", "ConfidenceBin", "Reliability", "confidences_of"]

BINS = 10
# NCE is infinite if a word of confidence 1 is wrong: keep confidences this far from 0 and 1.
_LIMIT = 0.01


@dataclass(frozen=True)
class ConfidenceBin:
    """The words with confidences in one tenth: how many, their mean confidence, the share right."""

    words: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Reliability:
    """The calibration of all words; `nce` is None where all words are right, or all wrong."""

    words: int
    confidence: float
    right: float
    ece: float
    nce: float | None
    bins: tuple[ConfidenceBin, ...]


@dataclass
class Calibration:
    """Collects the confidences of words and whether they are right."""

    confidences: list[float] = field(default_factory=list)
    rights: list[bool] = field(default_factory=list)

    def add(self, nbest: NBest, confidences: tuple[float, ...], normalize: Normalizer) -> None:
        """Add the words of the first hypothesis; a normaliser may split words, or remove them."""
        parts = [
            (part, confidence)
            for word, confidence in zip(nbest.hyps[0].words, confidences, strict=True)
            for part in normalize(word).split()
        ]
        text = " ".join(part for part, _ in parts)
        edits = align(normalize(reference(nbest)), text)
        self.confidences += [confidence for _, confidence in parts]
        self.rights += [edit.kind == "equal" for edit in edits if edit.kind != "deletion"]

    def reliability(self) -> Reliability | None:
        """The calibration so far; None without words.

        Exact check: tests/report/test_calibration.py::test_reliability_of_words_by_hand.
        """
        if not self.confidences:
            return None
        confidences, right = np.array(self.confidences), np.array(self.rights, dtype=np.float64)
        place = np.minimum((confidences * BINS).astype(int), BINS - 1)
        bins = []
        for number in range(BINS):
            inside = place == number
            if inside.any():
                means = float(confidences[inside].mean()), float(right[inside].mean())
                bins.append(ConfidenceBin(int(inside.sum()), *means))
        words, share = len(right), float(right.mean())
        ece = sum(part.words * abs(part.confidence - part.right) for part in bins) / words
        nce = None
        if 0 < share < 1:
            limited = np.clip(confidences, _LIMIT, 1 - _LIMIT)
            entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
            likelihood = np.log(np.where(right > 0, limited, 1 - limited)).mean()
            nce = float(1 + likelihood / entropy)
        return Reliability(words, float(confidences.mean()), share, ece, nce, tuple(bins))


def confidences_of(temperature: float | None) -> Callable[[NBest], tuple[float, ...] | None]:
    """The function that returns the confidence of each word of a list's first hypothesis.

    Those that the list holds, or else those that its totals give at this temperature; None where
    there is neither.
    """

    def confidences(nbest: NBest) -> tuple[float, ...] | None:
        stored = stored_confidences(nbest, 0)
        if stored is not None or temperature is None:
            return stored
        if any(TOTAL not in hyp.scores for hyp in nbest.hyps):
            return None
        totals = np.array([hyp.scores[TOTAL] for hyp in nbest.hyps])
        texts = [hyp.text for hyp in nbest.hyps]
        values = word_confidences(texts, posterior(totals, temperature), 0)
        return tuple(float(value) for value in values)

    return confidences
