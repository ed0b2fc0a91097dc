"""The staircase against exact arithmetic, the search against every cell of small problems, the result against `fuse` and `evaluate`."""

import math
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError, FusionError, ScoreError
from rescore.fusion import ScoreTable, SearchSettings, descent, fuse, tune, tune_arrays
from rescore.fusion.decisions import fit_temperature
from rescore.fusion.descent import minimize_errors
from rescore.fusion.line_search import Staircase, staircase
from rescore.fusion.totals import totals, winners
from rescore.fusion.tuning import cross_validation
from rescore.types import Hypothesis, NBest, Provenance
from rescore.wer import evaluate, list_errors

THOROUGH = SearchSettings(restarts=12, random_directions=12)
small = st.integers(-3, 3)  # few values: many ties, parallel lines and corners that coincide


def lists_of(*columns):
    """Lists of hypotheses, each a tuple with an entry for each column."""
    return st.lists(st.lists(st.tuples(*columns), min_size=1, max_size=5), min_size=1, max_size=6)


def arrays(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return offsets, *(
        np.array(column) for column in zip(*(hyp for one in lists for hyp in one), strict=True)
    )


def exact_count(lists, step):
    """Errors of the 1-bests, in rational arithmetic; of equal hypotheses the first."""
    return sum(
        max(enumerate(one), key=lambda pair: (pair[1][0] + step * pair[1][1], -pair[0]))[1][2]
        for one in lists
    )


def crossings(lists):
    """Every step at which two hypotheses of a list cross."""
    return sorted(
        {
            Fraction(p[0] - q[0], q[1] - p[1])
            for one in lists
            for p, q in combinations(one, 2)
            if p[1] != q[1]
        }
    )


def made_up(seed, utterances=40, hypotheses=12, scores=3, whole=False):
    """Scores that each see the errors through noise; `whole` rounds them, for ties."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, hypotheses + 1, utterances)
    errors = [random.poisson(2.0, size) for size in sizes]
    features = [
        np.column_stack([-count + random.normal(0, 1.5, len(count)) for _ in range(scores)])
        for count in errors
    ]
    words = [random.integers(3, 7, size) for size in sizes]
    return ScoreTable.from_arrays(
        [np.round(table) if whole else table for table in features], words
    ), np.concatenate(errors)


def errors_at(table, errors, scales, word_bonus=0.0):
    return int(errors[winners(totals(table, scales, word_bonus), table.offsets)].sum())


# --- the staircase -----------------------------------------------------------------------------------------------------------------------


@given(lists_of(small, small, st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_staircase_equals_every_interval_of_a_brute_force_sweep(lists):
    offsets, intercept, slope, errors = arrays(lists)
    stairs = staircase(intercept.astype(float), slope.astype(float), errors, offsets)
    corners = crossings(lists)
    edges = [corners[0] - 1, *corners, corners[-1] + 1] if corners else [Fraction(-1), Fraction(1)]
    for low, high in pairwise(edges):
        middle = (low + high) / 2
        assert stairs.plateau(float(middle))[2] == exact_count(lists, middle)
    assert np.all(np.diff(stairs.corners) > 0)
    assert np.all(np.diff(stairs.counts) != 0)
    assert set(stairs.corners) <= {float(corner) for corner in corners}


@given(lists_of(small, small, st.integers(0, 3)), st.tuples(small, small))
@settings(max_examples=200, deadline=None)
def test_a_bounded_staircase_is_a_part_of_the_whole(lists, ends):
    low, high = float(min(ends)), float(max(ends))
    assume(low < high)
    offsets, intercept, slope, errors = arrays(lists)
    whole = staircase(intercept.astype(float), slope.astype(float), errors, offsets)
    part = staircase(
        intercept.astype(float), slope.astype(float), errors, offsets, low=low, high=high
    )
    inside = whole.corners[(whole.corners > low) & (whole.corners < high)]
    assert part.corners.tolist() == inside.tolist()
    for a, b in pairwise([low, *inside, high]):
        assert part.plateau((a + b) / 2)[2] == whole.plateau((a + b) / 2)[2]
    assert (part.low, part.high) == (low, high)


def test_a_staircase_by_hand():
    """Lines 0, s - 1, 3s - 7 with 2, 0 and 1 errors: corners at 1 and 3, where the second meets them. A copy of the second adds nothing."""
    stairs = staircase(
        np.array([-7.0, 0, -1, -1]),
        np.array([3.0, 0, 1, 1]),
        np.array([1, 2, 0, 5]),
        np.array([0, 4]),
    )
    assert (stairs.corners.tolist(), stairs.counts.tolist()) == ([1.0, 3.0], [2, 0, 1])
    assert stairs.plateau(2.5) == (1.0, 3.0, 0)
    assert stairs.plateau(-9.0) == (-math.inf, 1.0, 2)
    assert stairs.best() == (2.0, 0)


def test_corners_of_two_lists_that_cancel_are_no_corner():
    stairs = staircase(
        np.zeros(4), np.array([0.0, 1, 0, 1]), np.array([0, 1, 1, 0]), np.array([0, 2, 4])
    )
    assert (stairs.corners.tolist(), stairs.counts.tolist()) == ([], [1])
    assert stairs.best() == (0.0, 1)


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(-math.inf, math.inf, 0.0), (-2.0, math.inf, -1.0), (-math.inf, 9.0, 8.0), (-2.0, 9.0, 3.5)],
)
def test_the_middle_of_a_staircase_without_steps(low, high, step):
    assert Staircase(low, high, np.array([]), np.array([7])).best() == (step, 7)


@pytest.mark.parametrize(
    ("corners", "counts", "low", "high", "expected"),
    [
        (
            [1, 3, 4, 8],
            [5, 2, 3, 2, 5],
            -math.inf,
            math.inf,
            (6.0, 2),
        ),  # of equal plateaus the widest
        (
            [1, 3],
            [5, 3, 2],
            -math.inf,
            math.inf,
            (3.5, 2),
        ),  # no end: `reach` beyond the last corner
        ([1, 3], [2, 3, 4], -math.inf, math.inf, (0.5, 2)),
        ([1, 3], [2, 3, 4], 0.0, 9.0, (0.5, 2)),  # a bound is an end
        ([1, 3], [4, 3, 2], 0.0, 9.0, (6.0, 2)),
        ([1, 1 + 1e-12, 3], [4, 0, 2, 5], 0.0, 9.0, (2.0, 2)),  # a sliver is rounding
    ],
)
def test_the_best_step_is_the_middle_of_the_best_plateau(corners, counts, low, high, expected):
    stairs = Staircase(low, high, np.array(corners, dtype=float), np.array(counts))
    assert stairs.best(reach=0.5) == pytest.approx(expected)


# --- the search --------------------------------------------------------------------------------------------------------------------------


@given(lists_of(small, small, st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_one_scale_is_solved_exactly(lists):
    """The best of every interval between crossings above 0, and of 0 itself, where ties go to the earliest."""
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
    """Ties of pairs are lines in the plane of two weights; every cell touches a crossing of two of them or of one and the border."""
    table, errors = made_up(seed, utterances=4, hypotheses=4, scores=2, whole=whole)
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
    for one, other in combinations(ties, 2):
        if abs(np.linalg.det([one[1:], other[1:]])) > 1e-9:
            corner = np.linalg.solve([one[1:], other[1:]], [-one[0], -other[0]])
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
    table, errors = made_up(seed)
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
    found = minimize_errors(
        table, errors, SearchSettings(seed=seed, restarts=1, random_directions=2)
    )
    assert (
        found.errors
        == errors_at(table, errors, found.scales, found.word_bonus)
        <= found.errors_before
    )
    for column, low in (
        (table.features[:, 1], 0.0),
        (table.features[:, 2], -math.inf),
        (words + 0.0, -math.inf),
    ):
        assert (
            found.errors
            <= staircase(table.features[:, 0], column, errors, offsets, low=low).best()[1]
        )


@pytest.mark.parametrize("seed", range(4))
def test_the_plateaus_are_where_the_errors_change(seed):
    table, errors = made_up(seed)
    found = minimize_errors(table, errors)
    weights = {**found.scales, "word_bonus": found.word_bonus}
    assert found.plateaus.keys() == {"score_1", "score_2", "word_bonus"}

    def count(name, value):
        changed = {**weights, name: value}
        bonus = changed.pop("word_bonus")
        return errors_at(table, errors, changed, bonus)

    for name, (low, high) in found.plateaus.items():
        margin = 1e-6 * (high - low)
        assert low < weights[name] < high
        assert count(name, low + margin) == count(name, high - margin) == found.errors
        assert count(name, high + margin) != found.errors
        assert low == 0 or count(name, low - margin) != found.errors


def test_the_middle_of_the_plateau_and_open_ends():
    """One list decides: the second hypothesis wins for 2 < scale < 6. Another is right as long as the word bonus is above -5."""
    table = ScoreTable.from_arrays(
        [[[0.0, 0.0], [-2.0, 1.0], [-8.0, 2.0]], [[0.0, 0.0], [-5.0, 0.0]]],
        [[3, 3, 3], [2, 1]],
        ["am", "lm"],
    )
    found = minimize_errors(table, np.array([1, 0, 1, 0, 1]))
    assert (found.errors, found.scales["am"]) == (0, 1.0)
    assert found.scales["lm"] == pytest.approx(4.0)
    assert found.plateaus["lm"] == pytest.approx((2.0, 6.0))
    assert found.plateaus["word_bonus"] == (pytest.approx(-5.0), None)
    assert found.word_bonus > -5


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


# --- what must not matter ----------------------------------------------------------------------------------------------------------------


def test_the_order_of_the_utterances_does_not_matter():
    table, errors = made_up(3)
    shuffled, rows = table.take(np.random.default_rng(0).permutation(40))
    assert minimize_errors(shuffled, errors[rows]) == minimize_errors(table, errors)


@pytest.mark.parametrize("factor", [2.0**-30, 0.125, 4096.0])
def test_the_magnitude_of_a_score_does_not_matter(factor):
    """Powers of two leave the digits alone, so the weights agree to the last bit."""
    table, errors = made_up(5)
    expected = minimize_errors(table, errors)
    found = minimize_errors(replace(table, features=table.features * [1, factor, 1]), errors)
    assert {**found.scales, "score_1": found.scales["score_1"] * factor} == expected.scales
    assert found.errors == expected.errors
    found = minimize_errors(replace(table, features=table.features * [factor, 1, 1]), errors)
    assert [found.scales["score_1"], found.scales["score_2"], found.word_bonus] == [
        factor * weight
        for weight in (expected.scales["score_1"], expected.scales["score_2"], expected.word_bonus)
    ]


@pytest.mark.parametrize("factors", [[1, 1e-12, 1e12], [1e9, 1, 1e-9], [1e-100, 1e100, 1]])
def test_scores_of_wildly_different_magnitude(factors):
    table, errors = made_up(5)
    assert (
        minimize_errors(replace(table, features=table.features * factors), errors).errors
        == minimize_errors(table, errors).errors
    )


@pytest.mark.parametrize(
    "useless", [np.zeros, np.ones, lambda n: np.random.default_rng(0).normal(size=n)]
)
def test_a_useless_score_does_no_harm(useless):
    table, errors = made_up(6)
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
    table, errors = made_up(7)
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
    table, errors = made_up(8)
    results = [minimize_errors(table, errors, SearchSettings(seed=seed)) for seed in (0, 0, 1)]
    assert results[0] == results[1] != results[2]


# --- settings and edges ------------------------------------------------------------------------------------------------------------------


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


def test_without_a_word_bonus():
    table, errors = made_up(2)
    found = minimize_errors(table, errors, SearchSettings(word_bonus=False))
    assert found.word_bonus == 0.0
    assert "word_bonus" not in found.plateaus
    assert found.errors == errors_at(table, errors, found.scales)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([[[1.0, 2.0]]], [[1]]),
        ([[[1.0, 2.0], [1.0, 2.0]]], [[1, 1]]),
        ([[[1.0], [0.0]]], None),
        ([[[0.0, 1.0], [0.0, 0.0]]], [[2, 1]]),
    ],
)
def test_nothing_to_choose(features, words):
    """One hypothesis, two equal ones, one score, a first score that says nothing: no error, no division by zero."""
    found = tune_arrays(
        features, [np.zeros(len(table), dtype=int) for table in features], words=words
    )
    assert (found.errors, found.scales["score_0"]) == (0, 1.0)
    assert all(math.isfinite(weight) for weight in (*found.scales.values(), found.word_bonus))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, e: minimize_errors(r, e[:-1]), "expected integers of shape"),
        (lambda r, e: minimize_errors(r, e + 0.5), "the errors are float64"),
        (lambda r, e: minimize_errors(r, e, SearchSettings(bounds={"lm": (0, 1)})), 'bounds are given for "lm", expected one of .*: score_1, score_2, word_bonus'),
        (lambda r, e: minimize_errors(r, e, SearchSettings(bounds={"score_0": (0, 1)})), 'bounds are given for "score_0"'),
        (lambda r, e: minimize_errors(r, e, SearchSettings(bounds={"score_1": (2, 1)})), 'the bounds of "score_1" are 2 and 1'),
        (lambda r, e: minimize_errors(r, e, SearchSettings(bounds={"score_1": (0, math.nan)})), 'the bounds of "score_1" are 0 and nan'),
        (lambda r, e: cross_validation(r, e, 1), "got 1 folds for 40 utterances, expected 2 to 40"),
        (lambda r, e: cross_validation(r, e, 41), "got 41 folds"),
        (lambda r, e: tune_arrays([r.features], [e], words=[r.words, r.words]), "the word counts"),
        (lambda r, e: tune_arrays([r.features], [e, e]), "expected integers of shape"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(call, message):
    with pytest.raises(FusionError, match=message):
        call(*made_up(0))


def test_of_the_points_that_improve_the_better_half_goes_on_and_none_is_forgotten(monkeypatch):
    problem = descent._problem(*made_up(0), SearchSettings())
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
    problem = descent._problem(*made_up(0), SearchSettings(bounds={"score_2": (0.0, 1.0)}))
    turned = problem.inward(np.array([1.0, 0.0, 1.0, -3.0]), np.array([0.0, -2.0, 2.0, -2.0]))
    assert turned.tolist() == [0.0, 2.0, -2.0, -2.0]
    assert problem.reachable(np.array([1.0, 4.0, 0.5, -3.0]), np.array([0.0, -2.0, 0.5, 7.0])) == (
        -1.0,
        1.0,
    )


def test_a_move_that_does_not_keep_its_promise_is_not_made(monkeypatch):
    problem = descent._problem(*made_up(0), SearchSettings())
    point, [axis, *_] = problem.at(np.array([1.0, 0.0, 0.0, 0.0])), problem.axes()
    assert problem.move(point, axis).errors < point.errors
    monkeypatch.setattr(Staircase, "best", lambda *_: (1.0, 0))
    assert problem.move(point, axis) is point


def test_a_promise_that_a_recount_does_not_keep_is_an_error(monkeypatch):
    table, errors = made_up(0)
    monkeypatch.setattr(descent, "totals", lambda *_: -table.features[:, 0])
    with pytest.raises(
        FusionError, match=r"the search promised \d+ errors and a recount finds \d+"
    ):
        minimize_errors(table, errors)


def test_cross_validation_counts_every_utterance_with_weights_that_never_saw_it():
    table, errors = made_up(9)
    result = cross_validation(table, errors, 4, SearchSettings(seed=3))
    dealt = np.random.default_rng(3).permutation(40) % 4
    pooled = 0
    for fold, optimum in enumerate(result.folds):
        rest, rows = table.take(np.flatnonzero(dealt != fold))
        assert optimum == minimize_errors(rest, errors[rows], SearchSettings(seed=3))
        held, rows = table.take(np.flatnonzero(dealt == fold))
        pooled += errors_at(held, errors[rows], optimum.scales, optimum.word_bonus)
    assert (result.errors, len(result.folds)) == (pooled, 4)
    assert minimize_errors(table, errors).errors <= result.errors


# --- lists in, weights out ---------------------------------------------------------------------------------------------------------------


def dev_lists(utterances=30, signature="m:1"):
    random = np.random.default_rng(1)
    lists = []
    for u in range(utterances):
        ref = random.choice(list("abcdef"), random.integers(2, 9)).tolist()
        hyps = []
        for _ in range(6):
            wrong = random.random(len(ref)) < 0.3
            words = [
                random.choice(list("xyz")) if bad else word
                for word, bad in zip(ref, wrong, strict=True)
            ][random.integers(0, 2) :]
            cost = wrong.sum() + len(ref) - len(words)
            hyps.append(
                Hypothesis(
                    " ".join(words),
                    {"am": 10 * random.normal(-cost, 2), "lm": random.normal(-cost, 1)},
                )
            )
        lists.append(
            NBest(
                f"u{u}",
                tuple(hyps),
                " ".join(ref),
                where=f"dev.jsonl:{u + 1}",
                provenance={"lm": Provenance({"signature": signature})},
            )
        )
    return lists


def test_tuned_weights_make_the_errors_they_promise():
    lists = dev_lists()
    fusion = tune(iter(lists), ["am", "lm"], cross_validate=3)
    before, after = evaluate(lists), evaluate(fuse(lists, fusion))
    assert (
        fusion.dev.wer
        == after.wer
        < before.wer
        == fusion.dev.first_pass_wer
        <= fusion.dev.cross_validated_wer + 0.2
    )
    assert fusion.dev.oracle_wer == after.oracle_wer
    assert fusion.dev.wer <= fusion.dev.cross_validated_wer
    assert (fusion.dev.utterances, fusion.dev.reference_words, fusion.dev.folds) == (
        30,
        before.errors.reference_words,
        3,
    )
    assert (fusion.scales["am"], list(fusion.scales)) == (1.0, ["am", "lm"])
    assert fusion.signatures == {"lm": "m:1"}
    assert fusion.overlap(one.id for one in lists) == 30
    table = ScoreTable.of(lists, ["am", "lm"])
    errors = np.concatenate([list_errors(one) for one in lists])
    assert fusion.temperature == fit_temperature(
        totals(table, fusion.scales, fusion.word_bonus), errors, table.offsets
    )
    assert tune(lists, ["am", "lm"], cross_validate=3) == fusion


def test_lists_and_arrays_give_the_same_weights():
    lists = dev_lists()
    table = ScoreTable.of(lists, ["am", "lm"])
    errors = [
        [
            sum(r != h for r, h in zip(one.ref.split()[::-1], hyp.words[::-1], strict=False))
            for hyp in one.hyps
        ]
        for one in lists
    ]
    missing = [
        [len(one.ref.split()) - len(hyp.words) for hyp in one.hyps] for one in lists
    ]  # only deletions at the front
    split = [np.split(array, table.offsets[1:-1]) for array in (table.features, table.words)]
    found = tune_arrays(
        split[0],
        [np.add(e, m) for e, m in zip(errors, missing, strict=True)],
        words=split[1],
        names=["am", "lm"],
    )
    fusion = tune(lists, ["am", "lm"])
    assert (found.scales, found.word_bonus, found.plateaus) == (
        fusion.scales,
        fusion.word_bonus,
        fusion.dev.plateaus,
    )


def test_characters_and_normalisers_are_what_is_counted():
    lists = [NBest("u", (Hypothesis("Ab", {"am": 1.0}), Hypothesis("ab cd", {"am": 0.0})), "ab")]
    assert tune(lists, ["am"], word_bonus=False).dev.wer == 1.0
    result = tune(lists, ["am"], word_bonus=False, unit="char", normalizer="librispeech").dev
    assert (result.wer, result.reference_words, result.unit, result.normalizer) == (
        0.0,
        2,
        "char",
        "librispeech",
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda lists: [*lists, replace(lists[0], ref=None)],
            FormatError,
            r'^dev\.jsonl:1: utterance u0: the reference \("ref"\) is missing',
        ),
        (
            lambda lists: [replace(one, ref="") for one in lists],
            FormatError,
            r"^dev\.jsonl:1: utterance u0: the reference holds no words, like",
        ),
        (lambda lists: [], FormatError, "there are no lists"),
        (
            lambda lists: [*lists, replace(lists[3], hyps=(Hypothesis("a", {"am": 1.0}),))],
            ScoreError,
            'u3, hypothesis 1: score "lm" is missing',
        ),
        (
            lambda lists: lists + dev_lists(1, "m:2"),
            FusionError,
            'utterance u0: score "lm" was made by "m:2", earlier ones by "m:1"; score all lists alike',
        ),
        (
            lambda lists: [*lists, replace(lists[0], provenance={})],
            FusionError,
            'score "lm" was made by "unknown", earlier ones by "m:1"',
        ),
    ],
)
def test_bad_lists_are_named(change, error, message):
    with pytest.raises(error, match=message):
        tune(change(dev_lists(4)), ["am", "lm"])


@pytest.mark.parametrize(
    ("count", "place"),
    [(4, "dev.jsonl:1: utterance u0 and 3 others"), (1, "dev.jsonl:1: utterance u0")],
)
def test_too_many_folds_name_the_lists_before_the_search_begins(count, place, monkeypatch):
    monkeypatch.setattr("rescore.fusion.tuning.minimize_errors", None)
    with pytest.raises(FusionError) as caught:
        tune(dev_lists(count), ["am", "lm"], cross_validate=5)
    assert (
        str(caught.value) == f"{place}: got 5 folds for {count} utterances, expected 2 to {count}"
    )
