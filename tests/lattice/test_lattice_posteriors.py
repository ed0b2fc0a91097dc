"""Scores of all paths, arc posteriors, pruning, density: against all paths of small lattices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_strategies import floats, lattices
from small_lattices import arc_paths, best_by_words, from_rows

from rescore.errors import FormatError
from rescore.lattice import Lattice
from rescore.lattice.posteriors import (
    arc_posteriors,
    arc_totals,
    backward,
    best_through,
    density,
    forward,
    prune,
    slack,
    total_score,
)

EPSILON = float(np.finfo(np.float64).eps)


def path_totals(lattice, totals):
    return {arcs: float(totals[list(arcs)].sum()) for arcs in arc_paths(lattice)}


def log_sum(values):
    highest = max(values)
    return highest + math.log(sum(math.exp(value - highest) for value in values))


@given(lattices(floats), st.sampled_from([1.0, 0.1, 0.0]))
def test_scores_and_posteriors_equal_enumeration(lattice, scale):
    totals = arc_totals(lattice, scale, scale, 0.25)
    paths = path_totals(lattice, totals)
    if not paths:
        assert total_score(lattice, totals) == total_score(lattice, totals, best=True) == -math.inf
        assert len(arc_posteriors(lattice, totals)) == len(best_through(lattice, totals)) == 0
        return
    # sums of up to 5 arcs round by their size; log and exp by the number of terms
    tolerance = slack(lattice, totals) + 16 * EPSILON * (1 + lattice.arcs)
    whole = log_sum(list(paths.values()))
    assert total_score(lattice, totals) == pytest.approx(whole, rel=0, abs=tolerance)
    assert total_score(lattice, totals, best=True) == pytest.approx(
        max(paths.values()), rel=0, abs=tolerance
    )
    assert backward(lattice, totals)[0] == pytest.approx(
        forward(lattice, totals)[-1], rel=0, abs=tolerance
    )
    posteriors, through = arc_posteriors(lattice, totals), best_through(lattice, totals)
    for arc in range(lattice.arcs):
        totals_through = [total for arcs, total in paths.items() if arc in arcs]
        assert posteriors[arc] == pytest.approx(
            log_sum(totals_through) - whole, rel=0, abs=4 * tolerance
        )
        assert through[arc] == pytest.approx(max(totals_through), rel=0, abs=2 * tolerance)
    assert (posteriors <= 0).all()


@given(lattices(), st.sampled_from([0.0, 0.5, 1.0, 3.0, 20.0]))
def test_a_beam_keeps_exactly_the_paths_within_it_or_more(lattice, beam):
    totals = arc_totals(lattice)
    before = best_by_words(lattice, totals)
    small = prune(lattice, totals, beam=beam)
    after = best_by_words(small, arc_totals(small))
    highest = max((total for total, _ in before.values()), default=0.0)
    assert {
        words: total for words, (total, _) in before.items() if total >= highest - beam
    }.items() <= {w: t for w, (t, _) in after.items()}.items()
    assert {words: total for words, (total, _) in after.items()}.items() <= {
        words: total for words, (total, _) in before.items()
    }.items() or beam > 0
    assert small.arcs == sum(best_through(lattice, totals) >= highest - beam)


@given(lattices(), st.sampled_from([0.0, 0.01, 0.2, 0.6, 1.0]))
def test_pruning_by_posterior_keeps_the_best_path_and_no_arc_below(lattice, posterior):
    totals = arc_totals(lattice, 0.5, 0.5)
    small = prune(lattice, totals, posterior=posterior)
    if not lattice.arcs:
        assert not small.arcs
        return
    likely = arc_posteriors(lattice, totals) >= (math.log(posterior) if posterior else -math.inf)
    assert small.arcs <= max(int(likely.sum()) + lattice.states, 1)
    assert total_score(small, arc_totals(small, 0.5, 0.5), best=True) == total_score(
        lattice, totals, best=True
    )
    if not posterior:
        assert small is lattice


def test_pruning_takes_what_leads_nowhere_with_it():
    #   0 --a .5--> 1 --(b, c, d: .17 each)--> 2, and 0 --d .5--> 2
    rows = [
        (0, 1, 1, 0.0, 0),
        (1, 2, 1, -math.log(3), 0),
        (1, 2, 2, -math.log(3), 0),
        (1, 2, 3, -math.log(3), 0),
        (0, 2, 4, 0.0, 0),
    ]
    lattice = from_rows(rows, 2)
    np.testing.assert_allclose(
        np.exp(arc_posteriors(lattice, arc_totals(lattice))), [0.5, 0.5, 1 / 6, 1 / 6, 1 / 6]
    )
    small = prune(lattice, arc_totals(lattice), posterior=0.3)
    assert (small.word.tolist(), small.scores["seconds"].tolist(), small.times.tolist()) == (
        [4],
        [4.0],
        [0.0, 0.2],
    )


@given(lattices())
def test_density_counts_paths(lattice):
    measured = density(lattice, arc_totals(lattice))
    paths = list(arc_paths(lattice))
    assert (measured.arcs, measured.states, measured.word_arcs) == (
        lattice.arcs,
        lattice.states,
        int((lattice.word > 0).sum()),
    )
    if not paths:
        assert (measured.log10_paths, measured.arcs_per_word, measured.arcs_per_second) == (
            -math.inf,
            None,
            None,
        )
        return
    assert measured.log10_paths == pytest.approx(
        math.log10(len(paths)), rel=0, abs=16 * EPSILON * (1 + lattice.arcs)
    )
    assert measured.seconds == pytest.approx(lattice.times[-1])
    assert measured.arcs_per_second == pytest.approx(measured.word_arcs / lattice.times[-1])


def test_a_long_lattice_neither_overflows_nor_underflows():
    """2,000 times two arcs of -1000 and -1001 nats: the sum of all paths in closed form."""
    rows = [
        (state, state + 1, word, -1000.0 - word, 0.0) for state in range(2000) for word in (0, 1)
    ]
    lattice = from_rows(rows, 2000)
    expected = 2000 * (-1000 + math.log1p(math.exp(-1)))
    assert total_score(lattice, arc_totals(lattice)) == pytest.approx(expected, rel=2000 * EPSILON)
    shares = np.exp(arc_posteriors(lattice, arc_totals(lattice)).reshape(2000, 2))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=2000 * EPSILON * abs(expected))
    assert density(lattice, arc_totals(lattice)).log10_paths == pytest.approx(2000 * math.log10(2))


def test_posteriors_of_a_million_arcs_sum_to_one():
    states = np.arange(250_000)
    random = np.random.default_rng(0)
    columns = np.repeat(states, 4), np.repeat(states + 1, 4), np.tile([0, 1, 2, 3], len(states))
    large = Lattice.from_arcs(
        "u",
        *columns,
        random.normal(size=1_000_000),
        np.zeros(1_000_000),
        ["", "a", "b", "c"],
        start=0,
        ends=np.array([len(states)]),
    )
    posteriors = arc_posteriors(large, large.am)
    assert np.abs(np.exp(posteriors).reshape(-1, 4).sum(axis=1) - 1).max() < slack(large, large.am)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda lattice: arc_totals(lattice, math.nan),
            "u: totals with scales nan, 1.0 and word bonus 0.0 are not finite",
        ),
        (lambda lattice: arc_totals(lattice, 1e308, 1e308), "not finite"),
        (
            lambda lattice: prune(lattice, arc_totals(lattice), posterior=1.5),
            r"posterior 1\.5 and beam inf, expected a posterior in \[0, 1\]",
        ),
        (lambda lattice: prune(lattice, arc_totals(lattice), beam=-1.0), r"beam -1\.0"),
        (lambda lattice: prune(lattice, arc_totals(lattice), beam=math.nan), "beam nan"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(FormatError, match=message):
        call(from_rows([(0, 1, 1, -10.0, 2.0)], 1))
