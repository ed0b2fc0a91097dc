"""The word-by-word vote of a list: a confusion network along its best hypothesis.

Every hypothesis is aligned with the pivot, the one with the fewest expected errors. A place of the
pivot holds the words that hypotheses have there, and the empty word; the k-th word inserted behind
a place is a place of its own. The likeliest word of each place is taken, so that the result may be
a text that no system proposed. Ties go to the pivot.
Sources: Fiscus 1997, "A post-processing system to yield reduced word error rates: ROVER", ASRU;
Mangu, Brill and Stolcke 2000, "Finding consensus in speech recognition", Computer Speech and
Language 14.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from rescore.errors import FormatError
from rescore.fusion.decisions import FloatArray, expected_errors
from rescore.types import Hypothesis, NBest

__all__ = ["consensus", "consensus_lists"]

_NO_WORD = ""  # of a place where nothing is said
_TIE = 1e-12

#: (place of the pivot, 0) or, for the k-th word inserted behind it, (place, k); -1: before all.
Place = tuple[int, int]


def consensus(
    texts: Sequence[str], probabilities: FloatArray
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The likeliest word of every place, and the probability of each.

    `probabilities` (H,) sum to 1.
    Exact check: tests/fusion/test_consensus.py::test_without_insertions_each_place_votes.
    """
    pivot = texts[int(expected_errors(texts, probabilities).argmin())].split()
    votes: defaultdict[Place, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for text, probability in zip(texts, probabilities.tolist(), strict=True):
        for place, word in _aligned(pivot, text.split()):
            votes[place][word] += probability
    words, confidences = [], []
    for place in sorted(votes):
        at_place = votes[place]
        index, offset = place
        if offset:  # hypotheses without an insertion here say nothing
            at_place[_NO_WORD] += 1.0 - sum(at_place.values())
        default = _NO_WORD if offset else pivot[index]
        best = max(at_place, key=lambda word: at_place[word])
        if at_place[best] <= at_place[default] + _TIE:
            best = default
        if best != _NO_WORD:
            words.append(best)
            confidences.append(min(at_place[best], 1.0))
    return tuple(words), tuple(confidences)


def _aligned(pivot: Sequence[str], words: Sequence[str]) -> Iterator[tuple[Place, str]]:
    """The word of a hypothesis at every place of the pivot, and at its insertions."""
    for op in Levenshtein.opcodes(pivot, words):
        if op.tag == "insert":
            for offset, word in enumerate(words[op.dest_start : op.dest_end], 1):
                yield (op.src_start - 1, offset), word
        else:
            for step, index in enumerate(range(op.src_start, op.src_end)):
                yield (index, 0), _NO_WORD if op.tag == "delete" else words[op.dest_start + step]


def consensus_lists(lists: Iterable[NBest]) -> Iterator[NBest]:
    """Lists with posteriors (`fuse(posteriors=True)`) to lists of one hypothesis: their vote.

    It has `word_confidences`, as the winner of `fuse` has them, and no score. Raises FormatError
    for a list without posteriors.
    """
    for nbest in lists:
        values = [hyp.raw.get("posterior") for hyp in nbest.hyps]
        if not all(isinstance(value, int | float) for value in values):
            raise FormatError(
                f"{nbest.place()}: a hypothesis has no posterior; make them with fuse --posterior"
            )
        words, confidences = consensus(
            [hyp.text for hyp in nbest.hyps], np.array(values, dtype=np.float64)
        )
        raw = {"word_confidences": list(confidences)}
        yield NBest(nbest.id, (Hypothesis(" ".join(words), {}, raw),), nbest.ref, {}, nbest.where)
