"""A start state that is final: the empty word sequence is a path, for every algorithm."""

from __future__ import annotations

import numpy as np
import pytest

from rescore.lattice import Lattice
from rescore.lattice.cover import path_cover
from rescore.lattice.expand import expand
from rescore.lattice.lists import Choice, nbest_of
from rescore.lattice.merge import merge
from rescore.lattice.oracle import oracle
from rescore.lattice.paths import n_best, paths_of, sample
from rescore.lattice.posteriors import arc_posteriors, arc_totals, total_score

SYMBOLS = ["", "a", "b"]


def from_arcs(arcs, ends):
    """Arcs (source, target, word, am) from state 0; `ends` are final."""
    columns = np.array(arcs, dtype=float).reshape(-1, 4).T
    source, target, word = columns[:3].astype(int)
    no_lm = np.zeros(len(source))
    return Lattice.from_arcs(
        "u", source, target, word, columns[3], no_lm, SYMBOLS, start=0, ends=np.array(ends)
    )


def accepted(lattice):
    """All word sequences by enumeration of the arcs, with the best total of each."""
    best = {}

    def walk(state, words, total):
        if state == lattice.states - 1:
            best[words] = max(total, best.get(words, -np.inf))
        for row in np.flatnonzero(lattice.source == state).tolist():
            word = (int(lattice.word[row]),) if lattice.word[row] else ()
            walk(int(lattice.target[row]), words + word, total + float(lattice.am[row]))

    walk(0, (), 0.0)
    return best


CASES = [
    pytest.param([], [0], {(): 0.0}, id="the start alone"),
    pytest.param([(0, 1, 1, -1.0)], [0], {(): 0.0}, id="a dead end beside it"),
    pytest.param(
        [(0, 1, 1, -1.0), (1, 2, 2, -2.0)], [0, 1], {(): 0.0, (1,): -1.0}, id="the start and more"
    ),
]


@pytest.mark.parametrize(("arcs", "ends", "expected"), CASES)
def test_the_empty_path_is_kept_by_every_algorithm(arcs, ends, expected):
    lattice = from_arcs(arcs, ends)
    assert accepted(lattice) == expected
    totals = arc_totals(lattice)
    assert {path.words: path.total for path in n_best(lattice, totals, 10)} == expected
    assert {path.words for path in sample(lattice, totals, 50, seed=1)} == set(expected)
    assert [path is not None for path in paths_of(lattice, totals, [(), (2, 2)])] == [True, False]
    covered = [row for path in path_cover(lattice, totals) for row in path.arcs]
    assert sorted(set(covered)) == list(range(lattice.arcs))
    log_sum = float(np.logaddexp.reduce(list(expected.values())))
    assert total_score(lattice, totals) == pytest.approx(log_sum)
    assert arc_posteriors(lattice, totals).max() <= 1e-12
    assert accepted(merge(lattice, totals)) == expected
    assert oracle(lattice, []).errors.errors == 0
    assert nbest_of(lattice, Choice()).hyps[0].text == ""


def test_expansion_by_an_n_gram_keeps_the_empty_path():
    lattice = from_arcs(*CASES[2].values[:2])
    expanded = expand(lattice, 2, lambda history, word: -0.5 if word == "</s>" else -3.0)
    assert set(accepted(expanded)) == {(), (1,)}
    first = n_best(expanded, arc_totals(expanded), 2)
    assert [(path.words, path.lm) for path in first] == [((), -0.5), ((1,), -3.5)]
