"""Choose one hypothesis of a scored list: the highest total, or the smallest expected number of word errors.

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

__all__ = ["expected_errors", "map_choice", "mbr_choice", "posterior"]

FloatArray: TypeAlias = NDArray[np.float64]

_TIE = 1e-9  # expected errors closer than this are equal: a sum of 10,000 products rounds to about 1e-12
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
        raise FusionError(f"the temperature is {temperature}, expected a positive number: it divides the totals")
    with np.errstate(over="ignore"):  # a tiny temperature: everything but the best has probability 0
        weights = np.exp((totals - totals.max()) / temperature)
    probabilities: FloatArray = weights / weights.sum()
    return probabilities


def expected_errors(texts: Sequence[str], probabilities: FloatArray) -> FloatArray:
    """Return the expected word errors of every hypothesis, (hypotheses,), were the truth drawn from the list with `probabilities`."""
    column = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    where = np.array([column[text] for text in texts], dtype=np.int64)
    words = [text.split() for text in column]
    mass = np.bincount(where, weights=probabilities, minlength=len(words))
    blocks = [cdist(words[i : i + _BLOCK], words, scorer=Levenshtein.distance) @ mass for i in range(0, len(words), _BLOCK)]
    risks: FloatArray = np.concatenate(blocks)
    return risks[where]
