"""The word-by-word vote of a list."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rescore.errors import FormatError
from rescore.fusion import Fusion, fuse
from rescore.fusion.consensus import consensus, consensus_lists
from rescore.types import Hypothesis, NBest


def test_without_insertions_each_place_votes():
    """Lists whose hypotheses differ in one word at most: the vote of each place by enumeration."""
    chance = np.random.default_rng(3)
    for _ in range(200):
        pivot = ["v", "w", "x", "y"]
        rows = [pivot]
        for _ in range(5):
            row = list(pivot)
            row[chance.integers(4)] = str(chance.integers(3))
            rows.append(row)
        probabilities = chance.dirichlet(np.ones(6))
        if probabilities[0] < 0.2:
            continue  # another pivot might place a word elsewhere
        words, confidences = consensus([" ".join(row) for row in rows], probabilities)
        for place, (word, confidence) in enumerate(zip(words, confidences, strict=True)):
            shares = {
                candidate: sum(
                    p for row, p in zip(rows, probabilities, strict=True) if row[place] == candidate
                )
                for candidate in {row[place] for row in rows}
            }
            assert shares[word] == pytest.approx(max(shares.values()))
            assert confidence == pytest.approx(shares[word])


def test_a_text_that_nobody_proposed_may_win():
    texts = ["the old horse stood", "the cold house stood", "the old house stand"]
    words, confidences = consensus(texts, np.array([0.4, 0.3, 0.3]))
    assert " ".join(words) == "the old house stood"
    assert confidences == pytest.approx((1.0, 0.7, 0.6, 0.7))


@pytest.mark.parametrize(
    ("texts", "probabilities", "expected"),
    [
        (["a b", "a x b", "a x b"], [0.4, 0.3, 0.3], "a x b"),  # an insertion that most have
        (["a b", "a x b", "a y b"], [0.4, 0.3, 0.3], "a b"),  # the words of one place divide
        (["a b c", "a c", "a c"], [0.4, 0.3, 0.3], "a c"),  # a deletion
        (["", "a"], [0.6, 0.4], ""),
        (["", "a"], [0.4, 0.6], "a"),
        (["a", "b"], [0.5, 0.5], "a"),  # a tie goes to the pivot, the first
        (["a"], [1.0], "a"),
    ],
)
def test_insertions_deletions_and_ties(texts, probabilities, expected):
    words, confidences = consensus(texts, np.array(probabilities))
    assert " ".join(words) == expected
    assert all(0 < confidence <= 1 for confidence in confidences)


def test_the_order_of_the_list_does_not_matter():
    chance = np.random.default_rng(0)
    texts = ["a b c", "a c", "b c d", "a b d"]
    probabilities = chance.dirichlet(np.ones(4))
    votes = {
        consensus([texts[i] for i in order], probabilities[list(order)])[0]
        for order in itertools.permutations(range(4))
    }
    assert len(votes) == 1


def test_lists_of_fuse_become_lists_of_one_hypothesis():
    nbest = NBest(
        "u", tuple(Hypothesis(t, {"am": s}) for t, s in (("a b", -1.0), ("a c", -1.2))), "a b"
    )
    [voted] = consensus_lists(fuse([nbest], Fusion({"am": 1.0}), posteriors=True))
    assert (voted.id, voted.ref, [hyp.text for hyp in voted.hyps]) == ("u", "a b", ["a b"])
    assert voted.hyps[0].raw["word_confidences"] == pytest.approx([1.0, 1 / (1 + np.exp(-0.2))])
    with pytest.raises(FormatError, match="utterance u: a hypothesis has no posterior; make them"):
        list(consensus_lists([nbest]))
