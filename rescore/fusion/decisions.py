"""Choose one hypothesis of a scored list: the highest total, or the smallest expected number of word errors; say how sure the list is.

Every decision has one signature, so that `rescore.registry.DECISIONS` can name it: (texts, totals, temperature) -> index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from rapidfuzz.process import cdist

from rescore.errors import FusionError

__all__ = [
    "expected_errors",
    "fit_temperature",
    "map_choice",
    "mbr_choice",
    "posterior",
    "word_confidences",
]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]

_TIE = 1e-9  # expected errors closer than this are equal: a sum of 10,000 products rounds to about 1e-12
_WIDTH = (
    -9.0,
    6.0,
)  # temperatures looked at: e to this, times the mean distance of a total from the highest of its list
_ROUNDS, _POINTS = 4, 16  # of the search for a temperature; the last step is 0.4 %
_BLOCK = 256  # rows of the distance matrix held at once: 10 MB for a list of 10,000


def map_choice(texts: Sequence[str], totals: FloatArray, temperature: float = 1.0) -> int:
    """Return the index of the highest total, of equal ones the first. `texts` and `temperature` do not matter."""
    return int(np.argmax(totals))


def mbr_choice(texts: Sequence[str], totals: FloatArray, temperature: float = 1.0) -> int:
    """Return the index of the hypothesis with the fewest expected word errors; of equal ones the highest total, then the first.

    `totals` is (hypotheses,) in nats. Raises FusionError unless the temperature is positive and finite.
    Source: Stolcke, Konig and Weintraub 1997, "Explicit word error minimization in N-best list rescoring", Eurospeech.
    """
    risks = expected_errors(texts, posterior(totals, temperature))
    tied = np.flatnonzero(risks <= risks.min() + _TIE)
    return int(tied[np.argmax(totals[tied])])


def posterior(totals: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Return softmax(totals / temperature), (hypotheses,). Raises FusionError unless the temperature is positive and finite."""
    if not (math.isfinite(temperature) and temperature > 0):
        raise FusionError(
            f"the temperature is {temperature}, expected a positive number: it divides the totals"
        )
    with np.errstate(
        over="ignore"
    ):  # a tiny temperature: everything but the best has probability 0
        weights = np.exp((totals - totals.max()) / temperature)
    probabilities: FloatArray = weights / weights.sum()
    return probabilities


def expected_errors(texts: Sequence[str], probabilities: FloatArray) -> FloatArray:
    """Return the expected word errors of every hypothesis, (hypotheses,), were the truth drawn from the list with `probabilities`."""
    column = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    where = np.array([column[text] for text in texts], dtype=np.int64)
    words = [text.split() for text in column]
    mass = np.bincount(where, weights=probabilities, minlength=len(words))
    blocks = [
        cdist(words[i : i + _BLOCK], words, scorer=Levenshtein.distance) @ mass
        for i in range(0, len(words), _BLOCK)
    ]
    risks: FloatArray = np.concatenate(blocks)
    return risks[where]


def word_confidences(texts: Sequence[str], probabilities: FloatArray, chosen: int) -> FloatArray:
    """Return the confidence of each word of the chosen hypothesis, (words,): the probability of the hypotheses that have the same word there.

    "There" is what a Levenshtein alignment of the words to those of the chosen one says; of several best alignments rapidfuzz's counts.
    Source: Wessel, Macherey and Ney 1999, "A comparison of word graph and N-best list based confidence measures", Eurospeech.
    """
    words = texts[chosen].split()
    confidences = np.zeros(len(words))
    for text, probability in zip(texts, probabilities, strict=True):
        for block in Levenshtein.opcodes(text.split(), words):
            if block.tag == "equal":
                confidences[block.dest_start : block.dest_end] += probability
    return np.minimum(confidences, 1.0)  # a sum of probabilities may round to more


def fit_temperature(totals: FloatArray, errors: IntArray, offsets: IntArray) -> float | None:
    """Return the temperature under which the hypotheses with the fewest errors of their lists are together most probable (maximum likelihood).

    `totals` and `errors` are (hypotheses,) of all lists, list u from offsets[u] to offsets[u + 1]. None where no total tells hypotheses apart.
    """
    below = totals - np.repeat(np.maximum.reduceat(totals, offsets[:-1]), np.diff(offsets))
    width = -float(below.mean())
    if width == 0:
        return None
    fewest = errors == np.repeat(np.minimum.reduceat(errors, offsets[:-1]), np.diff(offsets))
    their_offsets = np.append(0, np.cumsum(fewest))[offsets]

    def log_likelihood(temperature: float) -> float:
        return float(
            (
                _log_mass(below[fewest], their_offsets, temperature)
                - _log_mass(below, offsets, temperature)
            ).sum()
        )

    low, high = _WIDTH
    for _ in range(_ROUNDS):
        steps = np.linspace(low, high, _POINTS + 1)
        best = float(steps[np.argmax([log_likelihood(width * math.exp(step)) for step in steps])])
        low, high = best - (high - low) / _POINTS, best + (high - low) / _POINTS
    return width * math.exp(best)


def _log_mass(totals: FloatArray, offsets: IntArray, temperature: float) -> FloatArray:
    """log sum exp(totals / temperature) of each list."""
    highest = np.maximum.reduceat(totals, offsets[:-1])
    below = totals - np.repeat(highest, np.diff(offsets))
    mass: FloatArray = highest / temperature + np.log(
        np.add.reduceat(np.exp(below / temperature), offsets[:-1])
    )
    return mass
