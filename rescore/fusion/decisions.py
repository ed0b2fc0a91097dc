"""Choose one hypothesis of a list by its totals, and say how sure the list is.

A decision is a function (texts, totals, temperature) -> index, named in
`rescore.registry.DECISIONS`: `map_choice` takes the highest total, `mbr_choice` the smallest
expected number of word errors. Shapes: H hypotheses of one list, unless a docstring says otherwise.
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

# Expected errors closer than this are equal: a sum of 10,000 products rounds to about 1e-12.
_TIE = 1e-9
_BLOCK = 256  # rows of the distance matrix held at once: 10 MB for a list of 10,000
# The search for a temperature covers e to these powers, times the mean distance of a total from
# the highest of its list. The last step is 0.4 %.
_LOG_LOW, _LOG_HIGH = -9.0, 6.0
_ROUNDS, _POINTS = 4, 16


def map_choice(texts: Sequence[str], totals: FloatArray, temperature: float = 1.0) -> int:
    """Return the index of the highest total; ties go to the first.

    `totals` is (H,). `texts` and `temperature` are not used.
    """
    return int(np.argmax(totals))


def mbr_choice(texts: Sequence[str], totals: FloatArray, temperature: float = 1.0) -> int:
    """Return the index of the hypothesis with the fewest expected word errors.

    Ties go to the highest total, then to the first. `totals` is (H,) in nats. Raises FusionError
    unless the temperature is positive and finite.
    Source: Stolcke, Konig and Weintraub 1997, "Explicit word error minimization in N-best list
    rescoring", Eurospeech.
    Exact check: tests/fusion/test_decisions.py::test_mbr_equals_brute_force.
    """
    risks = expected_errors(texts, posterior(totals, temperature))
    tied = np.flatnonzero(risks <= risks.min() + _TIE)
    return int(tied[np.argmax(totals[tied])])


def posterior(totals: FloatArray, temperature: float = 1.0) -> FloatArray:
    """Return softmax(totals / temperature), (H,).

    Raises FusionError unless the temperature is positive and finite.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise FusionError(
            f"the temperature is {temperature}, expected a positive number: it divides the totals"
        )
    # Under a tiny temperature everything but the best overflows to -inf: probability 0.
    with np.errstate(over="ignore"):
        weights = np.exp((totals - totals.max()) / temperature)
    probabilities: FloatArray = weights / weights.sum()
    return probabilities


def expected_errors(texts: Sequence[str], probabilities: FloatArray) -> FloatArray:
    """Return the expected word errors of every hypothesis, (H,).

    The truth is taken to be drawn from the list with `probabilities`, (H,).
    Exact check: tests/fusion/test_decisions.py::test_mbr_equals_brute_force.
    """
    number = {text: n for n, text in enumerate(dict.fromkeys(texts))}
    text_of = np.array([number[text] for text in texts], dtype=np.int64)
    words = [text.split() for text in number]
    mass = np.bincount(text_of, weights=probabilities, minlength=len(words))
    blocks = []
    for begin in range(0, len(words), _BLOCK):
        block = words[begin : begin + _BLOCK]
        blocks.append(cdist(block, words, scorer=Levenshtein.distance) @ mass)
    risks: FloatArray = np.concatenate(blocks)
    return risks[text_of]


def word_confidences(texts: Sequence[str], probabilities: FloatArray, chosen: int) -> FloatArray:
    """Return the confidence of each word of the chosen hypothesis, (words,).

    It is the probability of all hypotheses with the same word in the same place, as a Levenshtein
    alignment with the chosen one places it (rapidfuzz's, where several are best).
    Source: Wessel, Macherey and Ney 1999, "A comparison of word graph and N-best list based
    confidence measures", Eurospeech. Exact check:
    tests/fusion/test_decisions.py::test_a_word_is_as_sure_as_the_hypotheses_that_have_it_there.
    """
    words = texts[chosen].split()
    confidences = np.zeros(len(words))
    for text, probability in zip(texts, probabilities, strict=True):
        for block in Levenshtein.opcodes(text.split(), words):
            if block.tag == "equal":
                confidences[block.dest_start : block.dest_end] += probability
    return np.minimum(confidences, 1.0)  # a sum of probabilities may round to more


def fit_temperature(totals: FloatArray, errors: IntArray, offsets: IntArray) -> float | None:
    """Return the maximum-likelihood temperature.

    Under it the hypotheses with the fewest errors of their lists are together most probable.
    `totals` and `errors` hold the hypotheses of all lists; list u has those from offsets[u] to
    offsets[u + 1]. None where no total tells hypotheses apart.
    Exact check:
    tests/fusion/test_decisions.py::test_the_temperature_of_lists_of_two_is_known.
    """
    highest = np.maximum.reduceat(totals, offsets[:-1])
    below = totals - np.repeat(highest, np.diff(offsets))
    width = -float(below.mean())
    if width == 0:
        return None
    is_best = errors == np.repeat(np.minimum.reduceat(errors, offsets[:-1]), np.diff(offsets))
    best_offsets = np.append(0, np.cumsum(is_best))[offsets]

    def log_likelihood(temperature: float) -> float:
        mass_of_best = _log_mass(below[is_best], best_offsets, temperature)
        return float((mass_of_best - _log_mass(below, offsets, temperature)).sum())

    low, high = _LOG_LOW, _LOG_HIGH
    for _ in range(_ROUNDS):
        steps = np.linspace(low, high, _POINTS + 1)
        likelihoods = [log_likelihood(width * math.exp(step)) for step in steps]
        best = float(steps[np.argmax(likelihoods)])
        low, high = best - (high - low) / _POINTS, best + (high - low) / _POINTS
    return width * math.exp(best)


def _log_mass(totals: FloatArray, offsets: IntArray, temperature: float) -> FloatArray:
    """log sum exp(totals / temperature) of each list."""
    highest = np.maximum.reduceat(totals, offsets[:-1])
    below = totals - np.repeat(highest, np.diff(offsets))
    mass = np.add.reduceat(np.exp(below / temperature), offsets[:-1])
    log_mass: FloatArray = highest / temperature + np.log(mass)
    return log_mass
