"""The search for weights against every cell of small problems."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning_problems import (
    arrays,
    crossings,
    errors_at,
    exact_count,
    lists_of,
    made_up_table,
    small,
)

from rescore.errors import FusionError
from rescore.fusion import ScoreTable, SearchSettings, descent, tune_arrays
from rescore.fusion.descent import minimize_errors
from rescore.fusion.line_search import Staircase, staircase
from rescore.fusion.totals import winners
from rescore.fusion.tuning import cross_validation

THOROUGH = SearchSettings(restarts=12, random_directions=12)


@given(lists_of(small, small, st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_one_scale_is_solved_exactly(lists):
    """The best interval between crossings above 0, or 0 itself, where ties go to the earliest."""
    offsets, first, second, errors = arrays(lists)
    table = ScoreTable(
        offsets,
        np.column_stack([first, second]).astype(float),
        ("am", "lm"),
        np.ones(len(errors), dtype=np.int64),
    )
    optimum = minimize_errors(table, errors, SearchSettings(word_bonus=False, restarts=0))
    edges = [Fraction(0), *(corner for corner in crossings(lists) if corner > 0)]
    steps = [0, *((low + high) / 2 for low, high in pairwise(edges)), edges[-1] + 1]
    assert optimum.errors == min(exact_count(lists, step) for step in steps)
    assert optimum.errors == errors_at(table, errors, optimum.scales)
    assert optimum.errors_before == exact_count(lists, 0)
    assert optimum.scales["am"] == 1.0
    assert optimum.scales["lm"] >= 0


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("whole", [False, True])
def test_two_scales_find_the_best_cell_of_the_plane(seed, whole):
    """Ties of pairs are lines in the plane of two weights.

    Every cell touches a crossing of two of them, or of one and the border.
    """
    table, errors = made_up_table(seed, utterances=4, hypotheses=4, scores=2, whole=whole)
    columns = np.column_stack([table.features, table.words]) + 0.0
    pairs = [
        (p, q)
        for begin, end in pairwise(table.offsets)
        for p, q in combinations(range(begin, end), 2)
    ]
    ties = [columns[p] - columns[q] for p, q in pairs if (columns[p] != columns[q])[1:].any()]
    ties += [np.array([offset, 1.0, 0.0]) for offset in (0.0, -1e3)] + [
        np.array([offset, 0.0, 1.0]) for offset in (-1e3, 1e3)
    ]
    best = errors_at(table, errors, [1.0, 0.0])
    for first, second in combinations(ties, 2):
        if abs(np.linalg.det([first[1:], second[1:]])) > 1e-9:
            corner = np.linalg.solve([first[1:], second[1:]], [-first[0], -second[0]])
            for lm, bonus in corner + 1e-5 * np.array(
                [
                    *product([-1, 1], repeat=2),
                    *product([-1, 1], [-9, 9]),
                    *product([-9, 9], [-1, 1]),
                ]
            ):
                best = min(best, errors_at(table, errors, [1.0, lm], bonus)) if lm > 0 else best
    assert minimize_errors(table, errors, THOROUGH).errors <= best


@pytest.mark.parametrize("seed", range(3))
def test_at_least_as_good_as_a_grid(seed):
    table, errors = made_up_table(seed)
    optimum = minimize_errors(table, errors)
    grid = product(np.linspace(0, 4, 9), np.linspace(0, 4, 9), np.linspace(-2, 2, 9))
    assert optimum.errors <= min(
        errors_at(table, errors, [1.0, a, b], bonus) for a, b, bonus in grid
    )
    assert optimum.errors == errors_at(table, errors, optimum.scales, optimum.word_bonus)
    assert optimum.errors < optimum.errors_before == errors_at(table, errors, [1.0, 0.0, 0.0])


@given(lists_of(small, small, small, st.integers(1, 3), st.integers(0, 3)), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_never_worse_than_any_single_scale(lists, seed):
    offsets, *scores, words, errors = arrays(lists)
    table = ScoreTable(offsets, np.column_stack(scores).astype(float), ("am", "lm", "prior"), words)
    optimum = minimize_errors(
        table, errors, SearchSettings(seed=seed, restarts=1, random_directions=2)
    )
    assert (
        optimum.errors
        == errors_at(table, errors, optimum.scales, optimum.word_bonus)
        <= optimum.errors_before
    )
    for column, low in (
        (table.features[:, 1], 0.0),
        (table.features[:, 2], -math.inf),
        (words + 0.0, -math.inf),
    ):
        assert (
            optimum.errors
            <= staircase(table.features[:, 0], column, errors, offsets, low=low).best()[1]
        )


@pytest.mark.parametrize("seed", range(4))
def test_the_plateaus_are_where_the_errors_change(seed):
    table, errors = made_up_table(seed)
    optimum = minimize_errors(table, errors)
    weights = {**optimum.scales, "word_bonus": optimum.word_bonus}
    assert optimum.plateaus.keys() == {"score_1", "score_2", "word_bonus"}

    def count(name, value):
        changed = {**weights, name: value}
        bonus = changed.pop("word_bonus")
        return errors_at(table, errors, changed, bonus)

    for name, (low, high) in optimum.plateaus.items():
        margin = 1e-6 * (high - low)
        assert low < weights[name] < high
        assert count(name, low + margin) == count(name, high - margin) == optimum.errors
        assert count(name, high + margin) != optimum.errors
        assert low == 0 or count(name, low - margin) != optimum.errors


def test_weights_are_in_the_middle_of_plateaus_and_ends_may_be_open():
    """The second hypothesis of one list wins for 2 < scale < 6.

    The other list is right as long as the word bonus is above -5.
    """
    table = ScoreTable.from_arrays(
        [[[0.0, 0.0], [-2.0, 1.0], [-8.0, 2.0]], [[0.0, 0.0], [-5.0, 0.0]]],
        [[3, 3, 3], [2, 1]],
        ["am", "lm"],
    )
    optimum = minimize_errors(table, np.array([1, 0, 1, 0, 1]))
    assert (optimum.errors, optimum.scales["am"]) == (0, 1.0)
    assert optimum.scales["lm"] == pytest.approx(4.0)
    assert optimum.plateaus["lm"] == pytest.approx((2.0, 6.0))
    assert optimum.plateaus["word_bonus"] == (pytest.approx(-5.0), None)
    assert optimum.word_bonus > -5


@given(
    lists_of(small, small, small, st.integers(1, 3), st.integers(0, 3)),
    st.lists(st.floats(0, 9), min_size=3, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_pruning_keeps_every_winner(lists, weights):
    offsets, *scores, words, errors = arrays(lists)
    table = ScoreTable(offsets, np.column_stack(scores).astype(float), ("am", "lm", "prior"), words)
    problem = descent._problem(
        table, np.arange(len(errors)), SearchSettings()
    )  # an error count that tells hypotheses apart
    for size in (2, 16):
        kept = descent._pruned(problem, size)
        for bonus, prior in product((-weights[0], weights[0]), (-weights[1], weights[1])):
            point = np.array([1.0, weights[2], prior, bonus])
            alive = kept.errors[winners(kept.combine(point), kept.offsets)]
            assert alive.tolist() == winners(problem.combine(point), offsets).tolist()


def test_long_lists_are_pruned_piece_by_piece():
    table = ScoreTable.from_arrays([np.arange(300.0)[:, None], [[1.0]], -np.arange(40.0)[:, None]])
    problem = descent._problem(table, np.zeros(341, dtype=int), SearchSettings(word_bonus=False))
    assert descent._pruned(problem, 128).columns.ravel().tolist() == [127, 255, 299, 1, 0]
    assert descent._pruned(problem, 128).offsets.tolist() == [0, 3, 4, 5]


def test_the_order_of_the_utterances_does_not_matter():
    table, errors = made_up_table(3)
    shuffled, rows = table.take(np.random.default_rng(0).permutation(40))
    assert minimize_errors(shuffled, errors[rows]) == minimize_errors(table, errors)


@pytest.mark.parametrize("factor", [2.0**-30, 0.125, 4096.0])
def test_the_magnitude_of_a_score_does_not_matter(factor):
    """Powers of two leave the digits alone, so the weights agree to the last bit."""
    table, errors = made_up_table(5)
    expected = minimize_errors(table, errors)
    optimum = minimize_errors(replace(table, features=table.features * [1, factor, 1]), errors)
    assert {**optimum.scales, "score_1": optimum.scales["score_1"] * factor} == expected.scales
    assert optimum.errors == expected.errors
    optimum = minimize_errors(replace(table, features=table.features * [factor, 1, 1]), errors)
    assert [optimum.scales["score_1"], optimum.scales["score_2"], optimum.word_bonus] == [
        factor * weight
        for weight in (expected.scales["score_1"], expected.scales["score_2"], expected.word_bonus)
    ]


@pytest.mark.parametrize("factors", [[1, 1e-12, 1e12], [1e9, 1, 1e-9], [1e-100, 1e100, 1]])
def test_scores_of_wildly_different_magnitude_do_no_harm(factors):
    table, errors = made_up_table(5)
    assert (
        minimize_errors(replace(table, features=table.features * factors), errors).errors
        == minimize_errors(table, errors).errors
    )


@pytest.mark.parametrize(
    "useless", [np.zeros, np.ones, lambda n: np.random.default_rng(0).normal(size=n)]
)
def test_a_useless_score_does_no_harm(useless):
    table, errors = made_up_table(6)
    more = ScoreTable(
        table.offsets,
        np.column_stack([table.features, useless(len(errors))]),
        (*table.names, "useless"),
        table.words,
    )
    assert (
        minimize_errors(more, errors, THOROUGH).errors
        <= minimize_errors(table, errors, THOROUGH).errors
    )


def test_copies_and_hopeless_hypotheses_change_nothing():
    table, errors = made_up_table(7)
    features = [
        np.vstack([table, table[::-1], table.min(axis=0)])
        for table in np.split(table.features, table.offsets[1:-1])
    ]
    counts = [
        np.concatenate([count, count[::-1] + 7, [9]])
        for count in np.split(errors, table.offsets[1:-1])
    ]
    words = [
        np.concatenate([count, count[::-1], count[:1]])
        for count in np.split(table.words, table.offsets[1:-1])
    ]
    assert tune_arrays(features, counts, words=words) == minimize_errors(table, errors)


def test_a_seed_gives_one_result_and_seeds_differ():
    table, errors = made_up_table(8)
    results = [minimize_errors(table, errors, SearchSettings(seed=seed)) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


def test_bounds_hold_and_a_prior_may_be_subtracted():
    random = np.random.default_rng(0)
    errors = random.poisson(2.0, 400)
    prior = random.normal(0, 1, 400)
    features = np.column_stack([-errors + prior, prior, -errors + random.normal(0, 0.1, 400)])
    offsets, words = np.arange(0, 401, 10), random.integers(1, 4, 400)
    free = minimize_errors(ScoreTable(offsets, features[:, :2], ("am", "ilm_prior"), words), errors)
    assert free.scales["ilm_prior"] == pytest.approx(-1, abs=0.3)
    kept_up = minimize_errors(ScoreTable(offsets, features[:, :2], ("am", "ilm"), words), errors)
    assert 0 <= kept_up.scales["ilm"] < 0.2
    bounds = {"ilm": (-0.5, -0.25), "lm": (0.125, 0.125), "word_bonus": (0.0, 1.0)}
    bounded = minimize_errors(
        ScoreTable(offsets, features, ("am", "ilm", "lm"), words),
        errors,
        SearchSettings(bounds=bounds),
    )
    assert -0.5 <= bounded.scales["ilm"] <= -0.25
    assert bounded.scales["lm"] == 0.125
    assert 0 <= bounded.word_bonus <= 1
    assert "lm" not in bounded.plateaus


def test_a_search_without_a_word_bonus_leaves_it_at_0():
    table, errors = made_up_table(2)
    optimum = minimize_errors(table, errors, SearchSettings(word_bonus=False))
    assert optimum.word_bonus == 0.0
    assert "word_bonus" not in optimum.plateaus
    assert optimum.errors == errors_at(table, errors, optimum.scales)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([[[1.0, 2.0]]], [[1]]),
        ([[[1.0, 2.0], [1.0, 2.0]]], [[1, 1]]),
        ([[[1.0], [0.0]]], None),
        ([[[0.0, 1.0], [0.0, 0.0]]], [[2, 1]]),
    ],
)
def test_where_nothing_is_to_choose_weights_are_finite(features, words):
    """One hypothesis, two equal ones, one score, a constant first score.

    No error is raised, nothing is divided by zero.
    """
    optimum = tune_arrays(
        features, [np.zeros(len(table), dtype=int) for table in features], words=words
    )
    assert (optimum.errors, optimum.scales["score_0"]) == (0, 1.0)
    assert all(math.isfinite(weight) for weight in (*optimum.scales.values(), optimum.word_bonus))


def bounded(table, errors, **bounds):
    return minimize_errors(table, errors, SearchSettings(bounds=bounds))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, e: minimize_errors(r, e[:-1]), "expected integers of shape"),
        (lambda r, e: minimize_errors(r, e + 0.5), "the errors are float64"),
        (
            lambda r, e: bounded(r, e, lm=(0, 1)),
            'bounds are given for "lm", expected one of .*: score_1, score_2, word_bonus',
        ),
        (lambda r, e: bounded(r, e, score_0=(0, 1)), 'bounds are given for "score_0"'),
        (lambda r, e: bounded(r, e, score_1=(2, 1)), 'the bounds of "score_1" are 2 and 1'),
        (
            lambda r, e: bounded(r, e, score_1=(0, math.nan)),
            'the bounds of "score_1" are 0 and nan',
        ),
        (lambda r, e: cross_validation(r, e, 1), "got 1 folds for 40 utterances, expected 2 to 40"),
        (lambda r, e: cross_validation(r, e, 41), "got 41 folds"),
        (lambda r, e: tune_arrays([r.features], [e], words=[r.words, r.words]), "the word counts"),
        (lambda r, e: tune_arrays([r.features], [e, e]), "expected integers of shape"),
    ],
)
def test_bad_settings_are_named(call, message):
    with pytest.raises(FusionError, match=message):
        call(*made_up_table(0))


def test_the_better_half_of_the_points_that_improve_goes_on_and_none_is_lost(monkeypatch):
    problem = descent._problem(*made_up_table(0), SearchSettings())
    script = {
        5: 5,
        9: 8,
        8: 7,
        12: 10,
        10: 1,
        1: 1,
        20: 11,
    }  # errors before and after a round: 11 has no second one, 7 no third
    monkeypatch.setattr(
        descent._Problem,
        "one_round",
        lambda _self, point, *_: replace(point, errors=script[point.errors]),
    )
    points = [descent._Point(np.zeros(4), np.zeros(1), errors) for errors in (5, 9, 12, 20)]
    assert [point.errors for point in problem.descend(points, np.random.default_rng(0), 0)] == [
        5,
        1,
    ]


def test_directions_are_turned_into_the_bounds():
    problem = descent._problem(*made_up_table(0), SearchSettings(bounds={"score_2": (0.0, 1.0)}))
    turned = problem.inward(np.array([1.0, 0.0, 1.0, -3.0]), np.array([0.0, -2.0, 2.0, -2.0]))
    assert turned.tolist() == [0.0, 2.0, -2.0, -2.0]
    assert problem.reachable(np.array([1.0, 4.0, 0.5, -3.0]), np.array([0.0, -2.0, 0.5, 7.0])) == (
        -1.0,
        1.0,
    )


def test_a_move_that_does_not_keep_its_promise_is_not_made(monkeypatch):
    problem = descent._problem(*made_up_table(0), SearchSettings())
    point, [axis, *_] = (
        problem.point(np.array([1.0, 0.0, 0.0, 0.0])),
        [problem.axis(k) for k in problem.free],
    )
    assert problem.move(point, axis).errors < point.errors
    monkeypatch.setattr(Staircase, "best", lambda *_: (1.0, 0))
    assert problem.move(point, axis) is point


def test_a_promise_that_a_recount_does_not_keep_is_an_error(monkeypatch):
    table, errors = made_up_table(0)
    monkeypatch.setattr(descent, "totals", lambda *_: -table.features[:, 0])
    with pytest.raises(
        FusionError, match=r"the search promised \d+ errors and a recount finds \d+"
    ):
        minimize_errors(table, errors)
