"""N-best, sampling and paths of given words: against all paths of small lattices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_strategies import floats, lattices
from small_lattices import arc_paths, best_by_words, from_rows, random_lattice, words_of

from rescore.errors import FormatError
from rescore.lattice import Lattice
from rescore.lattice.paths import Prefixes, _draw, as_nbest, n_best, paths_of, sample
from rescore.lattice.posteriors import arc_totals, slack


def check_path(lattice, totals, path):
    """Check that the arcs are a path and that its fields are sums over them."""
    rows = list(path.arcs)
    assert path.words == words_of(lattice, path.arcs)
    assert (path.am, path.lm, path.total) == (
        lattice.am[rows].sum(),
        lattice.lm[rows].sum(),
        totals[rows].sum(),
    )
    assert lattice.source[rows[0]] == 0
    assert lattice.target[rows[-1]] == lattice.states - 1
    assert (lattice.target[rows[:-1]] == lattice.source[rows[1:]]).all()


@given(lattices(), st.integers(1, 40), st.sampled_from([1.0, 0.5, 0.0, -1.0]))
def test_n_best_equals_enumeration(lattice, count, lm_scale):
    totals = arc_totals(lattice, 1.0, lm_scale, 0.5)
    listed, expected = n_best(lattice, totals, count), best_by_words(lattice, totals)
    assert [path.total for path in listed] == sorted(
        (total for total, _ in expected.values()), reverse=True
    )[:count]
    assert len({path.words for path in listed}) == len(listed)
    for path in listed:
        check_path(lattice, totals, path)
        assert path.total == expected[path.words][0]


@given(lattices(floats), st.integers(1, 40))
def test_n_best_of_any_floats_differs_by_rounding_alone(lattice, count):
    totals = arc_totals(lattice)
    listed, expected = n_best(lattice, totals, count), best_by_words(lattice, totals)
    best = sorted((total for total, _ in expected.values()), reverse=True)[:count]
    np.testing.assert_allclose(
        [path.total for path in listed], best, rtol=0, atol=slack(lattice, totals)
    )


@pytest.mark.parametrize("count", [1, 5, 200, 3000])
def test_a_search_that_drops_prefixes_finds_the_same(count):
    """There are thousands of word sequences: the search cuts its prefixes again and again."""
    lattice = random_lattice(np.random.default_rng(3), 9, 100, words=9)
    totals = arc_totals(lattice, 0.1, 1.0)
    expected = sorted((total for total, _ in best_by_words(lattice, totals).values()), reverse=True)
    assert len(expected) > 4000
    listed = n_best(lattice, totals, count)
    np.testing.assert_allclose(
        [path.total for path in listed], expected[:count], rtol=0, atol=slack(lattice, totals)
    )
    assert len({path.words for path in listed}) == count


@given(lattices(), st.lists(st.lists(st.integers(1, 3), max_size=4), max_size=8))
def test_the_best_path_of_given_words(lattice, sequences):
    totals = arc_totals(lattice)
    expected = best_by_words(lattice, totals)
    sequences = [*sequences, *expected]
    for words, path in zip(sequences, paths_of(lattice, totals, sequences), strict=True):
        if tuple(words) in expected:
            assert path is not None
            check_path(lattice, totals, path)
            assert path.total == expected[tuple(words)][0]
        else:
            assert path is None


@given(lattices(), st.integers(1, 20), st.integers(0, 3))
def test_samples_are_different_sequences_of_the_lattice_with_their_best_paths(lattice, count, seed):
    totals = arc_totals(lattice)
    drawn = sample(lattice, totals, count, scale=0.5, seed=seed)
    expected = best_by_words(lattice, totals)
    assert [path.total for path in drawn] == sorted((path.total for path in drawn), reverse=True)
    assert len({path.words for path in drawn}) == len(drawn) <= count
    assert all(path.total == expected[path.words][0] for path in drawn)
    assert bool(drawn) == bool(expected)
    assert drawn == sample(lattice, totals, count, scale=0.5, seed=seed)


def test_paths_are_drawn_as_often_as_their_scaled_totals_say():
    """Of 20,000 draws, each path's share is within five standard deviations of its probability."""
    lattice, count = random_lattice(np.random.default_rng(1), 7, 8), 20_000
    totals = 0.2 * arc_totals(lattice)
    paths = list(arc_paths(lattice))
    assert len(paths) > 20
    weights = np.exp([totals[list(arcs)].sum() for arcs in paths])
    chances = weights / weights.sum()
    drawn = [tuple(arcs) for arcs in _draw(lattice, totals, count, np.random.default_rng(0))]
    shares = np.array([drawn.count(arcs) for arcs in paths]) / count
    assert sum(shares) == pytest.approx(1.0)
    assert (abs(shares - chances) <= 5 * np.sqrt(chances * (1 - chances) / count)).all()


def test_a_low_scale_finds_more_than_a_high_one():
    lattice = random_lattice(np.random.default_rng(5), 12, 40)
    totals = arc_totals(lattice)
    assert len(sample(lattice, totals, 100, scale=0.01)) > len(
        sample(lattice, totals, 100, scale=1.0)
    )


EMPTY = from_rows([], 1)


def test_without_a_path_there_is_one_empty_hypothesis():
    totals = arc_totals(EMPTY)
    assert n_best(EMPTY, totals, 5) == sample(EMPTY, totals, 5) == []
    assert paths_of(EMPTY, totals, [(), (1,)]) == [None, None]
    nbest = as_nbest(EMPTY, [], ref="what was said")
    assert [(hyp.text, hyp.scores) for hyp in nbest.hyps] == [("", {"am": 0.0, "lm": 0.0})]
    assert (nbest.id, nbest.ref) == ("u", "what was said")


def test_lists_have_texts_and_scores_and_no_text_twice():
    lattice = from_rows(
        [(0, 1, 1, -1, -0.5), (0, 1, 2, -2, 0), (1, 2, 0, -1, 0), (1, 2, 3, -4, 0)], 2
    )
    paths = n_best(lattice, arc_totals(lattice), 10)
    nbest = as_nbest(lattice, paths, lm="ngram")
    assert [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps] == [
        ("a", {"am": -2.0, "ngram": -0.5}),
        ("b", {"am": -3.0, "ngram": 0.0}),
        ("a c", {"am": -5.0, "ngram": -0.5}),
        ("b c", {"am": -6.0, "ngram": 0.0}),
    ]
    joined = as_nbest(lattice, paths, lambda words: "".join("xxyz"[word] for word in words))
    assert [(hyp.text, hyp.scores["am"]) for hyp in joined.hyps] == [
        ("x", -2.0),
        ("y", -3.0),
        ("xz", -5.0),
        ("yz", -6.0),
    ]
    assert [hyp.scores["am"] for hyp in as_nbest(lattice, paths, lambda words: "same").hyps] == [
        -2.0
    ]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: n_best(EMPTY, np.empty(0), 0), "u: got 0 paths to find, expected at least 1"),
        (lambda: sample(EMPTY, np.empty(0), 0), "0 paths"),
        (
            lambda: sample(EMPTY, np.empty(0), 1, scale=0.0),
            r"cannot sample with scale 0\.0, expected a positive number",
        ),
        (lambda: sample(EMPTY, np.empty(0), 1, scale=float("nan")), "scale nan"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(FormatError, match=message):
        call()


def test_ties_at_every_place_are_a_matter_of_seconds():
    places = words = 300
    source = np.repeat(np.arange(places), words)
    lattice = Lattice.from_arcs(
        "u",
        source,
        source + 1,
        np.tile(np.arange(1, words + 1), places),
        np.full(places * words, -1.1),  # its sums differ in their last bits
        np.zeros(places * words),
        ["", *map(str, range(words))],
        start=0,
        ends=np.array([places]),
    )
    expanded = []
    extended = Prefixes.extended

    def counted(*arguments):
        expanded.append(1)
        return extended(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Prefixes, "extended", counted)
        paths = n_best(lattice, arc_totals(lattice), 100)
    assert len({path.words for path in paths}) == 100
    assert len(expanded) <= places + 200  # breadth first: 100 of every length, 30,000
