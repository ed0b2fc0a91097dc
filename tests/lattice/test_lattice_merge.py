"""Merging time variants keeps word sequences and best scores.

Each sequence has one path; states are as few as possible.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_strategies import floats, lattices
from small_lattices import arc_paths, best_by_words, from_rows, random_lattice, words_of

from rescore.errors import FormatError
from rescore.lattice.cover import path_cover
from rescore.lattice.merge import merge
from rescore.lattice.paths import n_best
from rescore.lattice.posteriors import arc_totals, slack


def check_merged(lattice, merged, scales):
    totals = arc_totals(lattice, *scales)
    before, after = (
        best_by_words(lattice, totals),
        best_by_words(merged, arc_totals(merged, *scales)),
    )
    assert set(before) == set(after)
    paths = list(arc_paths(merged))
    assert len(paths) == len(after)  # every sequence has one path
    margin = (1 + lattice.states) * slack(lattice, totals)
    for words, (total, arcs) in before.items():
        assert after[words][0] == pytest.approx(total, rel=0, abs=margin)
        rows, old = list(after[words][1]), list(arcs)
        if scales == (1.0, 0.7, 0.0):  # ties between other splits of a total are improbable then
            assert merged.am[rows].sum() == pytest.approx(
                lattice.am[old].sum(), rel=0, abs=(1 + lattice.states) * slack(lattice, lattice.am)
            )
            assert merged.scores["seconds"][rows].sum() == pytest.approx(
                lattice.scores["seconds"][old].sum(), rel=0, abs=1e-9
            )
    silent = merged.target[merged.word == 0]
    assert (silent == merged.states - 1).all()


@given(lattices(), st.sampled_from([(1.0, 1.0, 0.0), (0.5, 2.0, 0.5)]))
def test_sequences_and_scores_are_kept(lattice, scales):
    check_merged(lattice, merge(lattice, arc_totals(lattice, *scales)), scales)


@given(lattices(st.integers(-(10**6), 10**6).map(lambda value: value / 1000)))
def test_scores_are_those_of_the_best_path(lattice):
    totals = arc_totals(lattice, 1.0, 0.7)
    best = best_by_words(lattice, totals)
    rivals = [
        float(totals[list(arcs)].sum())
        for arcs in arc_paths(lattice)
        for total, chosen in [best[words_of(lattice, arcs)]]
        if arcs != chosen
    ]
    merged = merge(lattice, totals)
    check_merged(
        lattice,
        merged,
        (1.0, 0.7, 0.0)
        if len(set(rivals) | {total for total, _ in best.values()}) == len(rivals) + len(best)
        else (1.0, 0.7),
    )


@given(lattices(floats))
def test_any_floats(lattice):
    check_merged(lattice, merge(lattice, arc_totals(lattice)), (1.0, 1.0, 0.0))


#            .-a/-1--> 1 --x/-5--.                              x/-5
#  0 --b/-1--- a/-2--> 2 --x/-4-- 4         a at three times:  0 --b--> . --a--> . --c--> .
#            '-a/-3--> 3 --c/-2--'
def test_time_variants_become_one_arc():
    rows = [
        (0, 1, 2, -1.0, 0),
        (1, 2, 1, -1.0, 0),
        (1, 3, 1, -2.0, 0),
        (1, 4, 1, -3.0, 0),
        (2, 5, 3, -5.0, 0),
        (3, 5, 3, -4.5, 0),
        (4, 5, 4, -2.0, 0),
    ]
    lattice = from_rows(rows, 5)
    merged = merge(lattice, arc_totals(lattice))
    assert (merged.arcs, merged.states) == (4, 4)
    assert [(path.words, path.total) for path in n_best(merged, arc_totals(merged), 9)] == [
        ((2, 1, 4), -6.0),
        ((2, 1, 3), -7.0),
    ]
    assert (
        len(path_cover(lattice, arc_totals(lattice))),
        len(path_cover(merged, arc_totals(merged))),
    ) == (3, 2)
    assert merged.times is None


def test_states_with_the_same_way_on_become_one():
    """Two words, each with its own copy of the same two words after it, share one copy."""
    rows = [
        (0, 1, 1, -1.0, 0),
        (0, 2, 2, -2.0, 0),
        *((state, 3, word, -float(word) - state, 0) for state in (1, 2) for word in (3, 4)),
    ]
    merged = merge(from_rows(rows, 3), arc_totals(from_rows(rows, 3)))
    assert (merged.arcs, merged.states) == (4, 3)


def test_merging_twice_changes_nothing():
    lattice = random_lattice(np.random.default_rng(2), 10, 30)
    once = merge(lattice, arc_totals(lattice))
    twice = merge(once, arc_totals(once))
    assert (twice.arcs, twice.states) == (once.arcs, once.states)
    assert (
        best_by_words(twice, arc_totals(twice)).keys()
        == best_by_words(once, arc_totals(once)).keys()
    )


def test_refusals():
    lattice = random_lattice(np.random.default_rng(2), 12, 40)
    with pytest.raises(
        FormatError, match="r: merging equal words needs more than 10 arcs; prune first"
    ):
        merge(lattice, arc_totals(lattice), limit=10)
    with pytest.raises(FormatError, match='a score is called "total"'):
        merge(replace(lattice, scores={"total": lattice.am}), arc_totals(lattice))
    empty = from_rows([], 1)
    assert merge(empty, np.empty(0)) is empty
