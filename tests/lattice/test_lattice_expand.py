"""n-gram scores on arcs: against the sum along every path."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_strategies import lattices
from small_lattices import arc_paths, from_rows

from rescore.errors import FormatError
from rescore.lattice.expand import expand

NUMBERS = {"<s>": 1, "a": 2, "b": 3, "c": 4, "</s>": 5}


def log_prob(history, word):
    """Return a score that differs for every history and word."""
    return -(
        NUMBERS[word]
        + sum(
            NUMBERS[earlier] * 8.0 ** -(place + 1)
            for place, earlier in enumerate(reversed(history))
        )
    )


def sentence_score(words, order):
    whole = ["<s>", *words, "</s>"]
    return sum(
        log_prob(tuple(whole[max(0, i - order + 1) : i]), whole[i]) for i in range(1, len(whole))
    )


def described(lattice, order=None):
    """Return every path as (words, am, lm, labels of arcs), sorted.

    With an order, lm includes the n-gram's score.
    """
    rows = []
    for arcs in arc_paths(lattice):
        words = [lattice.symbols[word] for word in lattice.word[list(arcs)] if word]
        extra = sentence_score(words, order) if order else 0.0
        rows.append(
            (
                words,
                float(lattice.am[list(arcs)].sum()),
                float(lattice.lm[list(arcs)].sum() + extra),
                lattice.scores["seconds"][list(arcs)].tolist(),
            )
        )
    return sorted(rows)


@given(lattices(), st.integers(1, 4))
def test_every_path_gets_the_score_of_its_words(lattice, order):
    asked = []

    def counted(history, word):
        asked.append((history, word))
        return log_prob(history, word)

    expanded = expand(lattice, order, counted)
    for path, expected in zip(described(expanded), described(lattice, order), strict=True):
        words, am, lm, labels = path
        assert (words, am, labels) == (expected[0], expected[1], expected[3])
        assert lm == pytest.approx(expected[2], rel=1e-14, abs=1e-12)
    assert len(asked) == len(set(asked))
    assert all(len(history) < order for history, _ in asked)


def test_states_keep_their_times():
    lattice = from_rows([(0, 1, 1, 0, 0), (0, 1, 2, 0, 0), (1, 2, 0, 0, 0), (2, 3, 3, 0, 0)], 3)
    assert expand(lattice, 2, log_prob).times.tolist() == [0.0, 0.1, 0.1, 0.2, 0.2, 0.3]
    assert expand(lattice, 1, log_prob).states == lattice.states


def test_a_limit_is_named():
    lattice = from_rows([(i, i + 1, word, 0, 0) for i in range(5) for word in (1, 2, 3)], 5)
    with pytest.raises(
        FormatError, match="u: with histories of 3 words it needs more than 20 arcs; prune first"
    ):
        expand(lattice, 4, lambda history, word: -math.log(3), limit=20)
