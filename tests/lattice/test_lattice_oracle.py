"""The oracle of a lattice: against the edit distance to every word sequence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_strategies import lattices
from rapidfuzz.distance import Levenshtein
from small_lattices import best_by_words, from_rows

from rescore.errors import FormatError
from rescore.lattice import Lattice
from rescore.lattice.oracle import oracle
from rescore.lattice.posteriors import arc_totals
from rescore.wer import count_errors


@given(lattices(), st.lists(st.sampled_from(["a", "b", "c", "never"]), max_size=6))
def test_equals_enumeration(lattice, reference):
    nearest = oracle(lattice, reference)
    language = {
        tuple(lattice.symbols[word] for word in words)
        for words in best_by_words(lattice, arc_totals(lattice))
    } or {()}
    assert nearest.words in language
    assert nearest.errors.errors == min(
        Levenshtein.distance(words, reference) for words in language
    )
    assert (
        nearest.errors.errors == count_errors(" ".join(reference), " ".join(nearest.words)).errors
    )
    assert nearest.errors.reference_words == len(reference)
    assert (
        len(nearest.words) == len(reference) + nearest.errors.insertions - nearest.errors.deletions
    )


def test_two_numbers_of_one_spelling_are_one_word():
    lattice = from_rows([(0, 1, 2, -1, 0), (1, 2, 1, -1, 0)], 2, ["", "same", "same"])
    assert oracle(lattice, ["same", "same"]).errors.errors == 0


def test_a_table_too_large_is_refused():
    large = Lattice.from_arcs(
        "u",
        *np.array([[0], [1], [1]]),
        np.zeros(1),
        np.zeros(1),
        ["", "a"],
        start=0,
        ends=np.array([1]),
    )
    with pytest.raises(
        FormatError,
        match="u: an oracle of 2 states and 200000000 reference words needs more than 268435456 "
        "cells; prune first",
    ):
        oracle(large, range(200_000_000))
