"""Path cover: every arc is covered, and no smaller list could do it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from lattice_strategies import lattices
from scipy.optimize import linprog
from small_lattices import from_rows, random_lattice

from rescore.lattice.cover import path_cover
from rescore.lattice.posteriors import arc_totals, total_score


def largest_antichain(lattice):
    """The most arcs no two of which lie on one path, by trying all sets."""
    reach = np.eye(lattice.states, dtype=bool)
    for state in range(lattice.states - 1, -1, -1):
        for target in lattice.target[lattice.source == state]:
            reach[state] |= reach[target]
    follows = reach[np.ix_(lattice.target, lattice.source)]
    apart = ~(follows | follows.T)
    best = 0
    for size in range(1, lattice.arcs + 1):
        if any(
            all(apart[a, b] for a, b in itertools.combinations(arcs, 2))
            for arcs in itertools.combinations(range(lattice.arcs), size)
        ):
            best = size
    return best


def check_cover(lattice, totals, paths):
    assert {arc for path in paths for arc in path.arcs} == set(range(lattice.arcs))
    for path in paths:
        rows = list(path.arcs)
        assert (lattice.source[rows[0]], lattice.target[rows[-1]]) == (0, lattice.states - 1)
        assert (lattice.target[rows[:-1]] == lattice.source[rows[1:]]).all()
    assert paths[0].total == pytest.approx(total_score(lattice, totals, best=True))
    assert [path.total for path in paths] == sorted((path.total for path in paths), reverse=True)


@given(lattices(most_arcs=9))
def test_is_as_small_as_the_largest_antichain(lattice):
    totals = arc_totals(lattice)
    paths = path_cover(lattice, totals)
    assert len(paths) == largest_antichain(lattice)
    if lattice.arcs:
        check_cover(lattice, totals, paths)


@pytest.mark.parametrize("seed", range(20))
def test_is_as_small_as_the_minimum_flow_of_a_linear_program(seed):
    random = np.random.default_rng(seed)
    states = int(random.integers(5, 80))
    lattice = random_lattice(random, states, int(random.integers(0, 5 * states)))
    incidence = np.zeros((lattice.states, lattice.arcs))
    incidence[lattice.source, np.arange(lattice.arcs)] -= 1
    incidence[lattice.target, np.arange(lattice.arcs)] += 1
    solved = linprog(
        lattice.source == 0,
        A_eq=incidence[1:-1],
        b_eq=np.zeros(lattice.states - 2),
        bounds=(1, None),
    )
    paths = path_cover(lattice, arc_totals(lattice))
    assert len(paths) == round(solved.fun)
    check_cover(lattice, arc_totals(lattice), paths)


def test_one_path_may_not_be_enough_where_arcs_cross():
    #  0 ==a,b==> 1 ==c,d,a==> 2: three paths cover five arcs
    lattice = from_rows(
        [(0, 1, 1, -1, 0), (0, 1, 2, -2, 0), (1, 2, 3, -1, 0), (1, 2, 4, -2, 0), (1, 2, 1, -3, 0)],
        2,
    )
    paths = path_cover(lattice, arc_totals(lattice))
    assert [path.words for path in paths] == [(1, 3), (1, 4), (2, 1)] or len(paths) == 3
    assert paths[0].words == (1, 3)


def test_nothing_to_cover():
    assert path_cover(from_rows([], 1), np.empty(0)) == []
