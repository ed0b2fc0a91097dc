"""Interpolated modified Kneser-Ney smoothing by sorting: arrays, no dictionary of n-grams.

p(w | context) = (a - D(a)) / A + gamma(context) p(w | shorter context), where a is the adjusted
count of the n-gram, A its sum over the context, and gamma the share that the discounts leave. The
adjusted count is the count itself at the highest order and for n-grams that begin with <s>; below,
it is the number of different words to the left. D(1), D(2), D(3+) come from the counts of counts of
each order. Unigrams interpolate with 1 / words. A pruned n-gram gives its whole count to gamma, so
probabilities still sum to 1; the discounts are those of all n-grams.

Source: Chen and Goodman 1998, TR-10-98, section 3 (interpolated form); pruning as in Heafield et
al. 2013 (KenLM). Exact check: tests/train/test_kneser_ney.py::test_equals_the_formulas.
"""

from __future__ import annotations

import itertools
import logging
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rescore.errors import TrainError
from rescore.models.ngram import BOS, EOS, UNK, NgramModel

__all__ = ["FALLBACK", "discounts", "encode", "estimate", "thresholds"]

logger = logging.getLogger("rescore")

#: D(1), D(2), D(3+) where a text is too small to estimate them.
FALLBACK = (0.5, 1.0, 1.5)

_BOS = 1  # <unk>, <s> and </s> are words 0, 1 and 2
_SPECIAL = (UNK, BOS, EOS)
_LOG10_OF_NEVER = -99.0  # what ARPA files give <s>, which is never predicted


def encode(lines: Iterable[str], min_count: int = 1) -> tuple[list[str], np.ndarray]:
    """The vocabulary, and the text as (length,) int32 word numbers.

    The text is <s>, words, </s>, sentence after sentence. Words seen fewer than `min_count` times
    become <unk>; the others are numbered by frequency. Raises TrainError for a text without words,
    or with <s> or </s> among its words.
    """
    numbers = {word: number for number, word in enumerate(_SPECIAL)}
    stream = array("i")
    sentences = 0
    for line in lines:
        stream.append(_BOS)
        stream.extend([numbers.setdefault(word, len(numbers)) for word in line.split()])
        stream.append(_BOS + 1)
        sentences += 1
    tokens = np.frombuffer(stream, dtype=np.int32)
    counts = np.bincount(tokens, minlength=len(numbers))
    if not sentences:
        raise TrainError("the text holds no words; check --text")
    if counts[_BOS] != sentences or counts[_BOS + 1] != sentences:
        raise TrainError(
            f"the text has {BOS} or {EOS} as words; give one sentence a line, without them"
        )
    words = list(numbers)
    kept = sorted(
        (number for number in range(len(_SPECIAL), len(words)) if counts[number] >= min_count),
        key=lambda number: (-counts[number], words[number]),
    )
    if not kept:
        raise TrainError(f"no word occurs {min_count} times; give more text or a lower --min-count")
    renumbered = np.zeros(len(words), dtype=np.int32)
    renumbered[[*range(len(_SPECIAL)), *kept]] = np.arange(len(_SPECIAL) + len(kept))
    return [*_SPECIAL, *(words[number] for number in kept)], renumbered[tokens]


def discounts(adjusted: np.ndarray) -> tuple[float, float, float] | None:
    """D(1), D(2) and D(3+) of one order from its adjusted counts; None if too few to estimate.

    Source: Chen and Goodman 1998, eq. 26.
    """
    n1, n2, n3, n4 = (int(n) for n in np.bincount(np.minimum(adjusted, 5), minlength=6)[1:5])
    if not (n1 and n2 and n3):
        return None
    y = n1 / (n1 + 2 * n2)
    estimates = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    is_usable = all(0 < value <= count for count, value in enumerate(estimates, 1))
    return estimates if is_usable else None


@dataclass
class _Grams:
    """The different n-grams of one order, ascending by (context, word); all arrays (entries,).

    `contexts` and `suffixes` number n-grams of the order below: this one without its last word,
    and without its first. `is_initial`: begins with <s>.
    """

    contexts: np.ndarray
    words: np.ndarray
    counts: np.ndarray
    suffixes: np.ndarray
    is_initial: np.ndarray


def _count(
    tokens: np.ndarray, entries: np.ndarray, size: int, below: _Grams, *, is_last: bool
) -> tuple[_Grams, np.ndarray]:
    """Count the n-grams that extend those of the order below by one word.

    `entries` (length,) says which n-gram of the order below ends at each token, -1: none. Returns
    the n-grams and their own `entries`, empty where `is_last`.
    """
    # The key of the n-gram that ends at a token: its context, which ends one token earlier, and it.
    keys = np.full(len(tokens), -1, dtype=np.int64)
    ends = keys[1:]
    np.multiply(entries[:-1], size, out=ends, dtype=np.int64)
    ends += tokens[1:]
    ends[entries[:-1] < 0] = -1
    keys[tokens == _BOS] = -1  # nothing reaches over the beginning of a sentence
    without = np.count_nonzero(keys < 0)
    order = np.argsort(keys)[without:]  # the tokens that end an n-gram, equal n-grams together
    keys = keys[order]
    is_first = np.diff(keys, prepend=-1) != 0
    starts = np.flatnonzero(is_first)
    contexts, words = np.divmod(keys[starts], size)
    del keys
    grams = _Grams(
        contexts=contexts.astype(np.int32),
        words=words.astype(np.int32),
        counts=np.diff(starts, append=len(order)).astype(np.int32),
        suffixes=entries[order[starts]],
        is_initial=below.is_initial[contexts],
    )
    if is_last:
        return grams, np.empty(0, dtype=np.int32)
    longer_entries = np.full(len(tokens), -1, dtype=np.int32)
    longer_entries[order] = np.cumsum(is_first, dtype=np.int32) - 1
    return grams, longer_entries


class _Builder:
    """The orders that are done, and the probabilities that the next order interpolates with."""

    def __init__(self, words: Sequence[str]) -> None:
        self.size = len(words)
        self.keys: list[np.ndarray] = []
        self.log_probs: list[np.ndarray] = []
        self.backoffs: list[np.ndarray] = []
        self.discounts: list[tuple[float, float, float]] = []
        self.probs = np.empty(0)  # of every entry of the order below, NaN where it is pruned
        self.kept = np.empty(0, dtype=np.int64)  # numbers of the entries that are not pruned

    def _discounted(self, adjusted: np.ndarray) -> np.ndarray:
        """The discount of every n-gram of the next order, (entries,)."""
        by_count = discounts(adjusted)
        if by_count is None:
            by_count = FALLBACK
            logger.warning(
                "too few %d-grams to estimate their discounts; %s, %s and %s are used",
                len(self.discounts) + 1,
                *FALLBACK,
            )
        self.discounts.append(by_count)
        discount: np.ndarray = np.array([0.0, *by_count])[np.minimum(adjusted, 3)]
        return discount

    def unigrams(self, adjusted: np.ndarray) -> None:
        """Add the words, interpolated with the uniform distribution over all of them but <s>."""
        discount = self._discounted(adjusted)
        total = adjusted.sum()
        probs = (adjusted - discount) / total + discount.sum() / total / (self.size - 1)
        self.log_probs.append(np.log(probs).astype(np.float32))
        self.log_probs[0][_BOS] = _LOG10_OF_NEVER * np.log(10)
        self.probs, self.kept = probs, np.arange(self.size)

    def add(self, grams: _Grams, adjusted: np.ndarray, threshold: int) -> None:
        """Add the next order; n-grams counted at most `threshold` times are pruned."""
        discount = self._discounted(adjusted)
        is_kept = grams.counts > threshold
        kept = np.flatnonzero(is_kept)
        contexts = len(self.probs)
        total = np.bincount(grams.contexts, adjusted, contexts)
        left = np.bincount(grams.contexts, np.where(is_kept, discount, adjusted), contexts)
        gamma = np.divide(left, total, out=np.ones(contexts), where=total > 0)
        context = grams.contexts[kept]
        probs = np.full(len(is_kept), np.nan)
        lower = self.probs[grams.suffixes[kept]]
        probs[kept] = (adjusted[kept] - discount[kept]) / total[context] + gamma[context] * lower
        self.log_probs.append(np.log(probs[kept]).astype(np.float32))
        self.backoffs.append(np.log(gamma[self.kept]).astype(np.float32))
        self.keys.append(np.searchsorted(self.kept, context) * self.size + grams.words[kept])
        self.probs, self.kept = probs, kept


def thresholds(prune: Sequence[int], order: int) -> list[int]:
    """For each order, the largest count at which an n-gram is pruned.

    The last number of `prune` holds for higher orders, too. The first must be 0, and they may not
    fall, so that every n-gram that stays keeps its context. Raises TrainError otherwise.
    """
    last = prune[-1] if prune else 0
    limits = [*prune, *[last] * order][:order]
    if limits[0] != 0 or any(b < a for a, b in itertools.pairwise(limits)):
        raise TrainError(
            f"--prune {','.join(map(str, prune))}: expected numbers that begin with 0 and never "
            "fall, such as 0,0,1"
        )
    return limits


def estimate(
    words: Sequence[str],
    tokens: np.ndarray,
    order: int,
    prune: Sequence[int] = (),
    advance: Callable[[], object] = lambda: None,
) -> tuple[NgramModel, list[tuple[float, float, float]]]:
    """The model of an encoded text (see `encode`), and the discounts of its orders.

    `prune`: see `thresholds`. `advance` is called after every order. Raises TrainError if `prune`
    does not fit.
    """
    limits = thresholds(prune, order)
    builder = _Builder(words)
    everything = np.arange(len(words), dtype=np.int32)
    grams = _Grams(
        np.zeros_like(everything),
        everything,
        np.bincount(tokens, minlength=len(words)),
        np.zeros_like(everything),
        everything == _BOS,
    )
    entries = tokens
    for n in range(2, order + 1):
        longer, entries = _count(tokens, entries, len(words), grams, is_last=n == order)
        adjusted = np.bincount(longer.suffixes, minlength=len(grams.counts))
        if n == 2:
            builder.unigrams(np.where(grams.is_initial, 0, adjusted))  # <s> is never predicted
        else:
            builder.add(grams, np.where(grams.is_initial, grams.counts, adjusted), limits[n - 2])
        grams = longer
        advance()
    builder.add(grams, grams.counts, limits[-1])
    advance()
    return NgramModel(
        list(words), tuple(builder.log_probs), tuple(builder.backoffs), tuple(builder.keys)
    ), builder.discounts
