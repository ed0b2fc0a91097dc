"""Plans: how weighted answers become an estimate, its standard error and its shares."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tabular import MaskedTable, random_joint

from rescore.diffusion import masked, uniform
from rescore.diffusion.draws import Draws
from rescore.diffusion.plans import EVERY_DRAW, Plan, estimate, exact_plan, sums
from rescore.diffusion.queries import Query
from rescore.diffusion.readouts import read_token
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError


def plan_of(draw, draws, *, strata=False, weights=None) -> Plan:
    count = len(draw)
    queries = [Query(np.zeros(3, np.int64), 0.5, np.array([i % 3])) for i in range(count)]
    ones = np.ones(count) if weights is None else np.array(weights)
    return Plan(queries, ones, np.array(draw), draws, strata=strata)


def test_odd_strata_use_every_draw_for_the_standard_error():
    values = np.array([1.0, 2.0, 4.0, 4.0, 10.0])
    variance = 2 * np.var(values[:2], ddof=1) + 3 * np.var(values[2:], ddof=1)
    result = plan_of(range(5), 5, strata=True).combine(values)
    assert result.std_error == pytest.approx(math.sqrt(variance) / 5)


def test_independent_draws_have_the_textbook_standard_error():
    values = np.array([1.0, 2.0, 4.0, 4.0, 10.0])
    result = plan_of(range(5), 5).combine(values)
    assert result.value == pytest.approx(values.mean())
    assert result.std_error == pytest.approx(values.std(ddof=1) / math.sqrt(5))
    assert result.draws == tuple(values)


def test_a_term_of_every_draw_moves_them_all_and_is_evaluated_once():
    plan = plan_of([0, 1, 1, EVERY_DRAW, 2], 3, weights=[1, 2, 1, 0.5, 1])
    answers = np.array([1.0, 2.0, 3.0, 8.0, 6.0])
    result = plan.combine(answers)
    assert result.draws == (1 + 4, 7 + 4, 6 + 4)
    assert result.value == pytest.approx(26 / 3)
    assert result.std_error == plan_of([0, 1, 2], 3).combine(np.array([5.0, 11, 10])).std_error
    assert result.evaluations == 5
    shares = plan.shares([np.array([answer]) for answer in answers], 3)
    assert shares.sum() == pytest.approx(result.value)
    assert shares[0] == pytest.approx((1 + 3 * 0.5 * 8) / 3)  # the queries read 0, 1, 2, 0, 1


def test_a_draw_without_a_query_counts_as_zero():
    assert plan_of([0, 2], 3).combine(np.array([3.0, 6.0])).draws == (3.0, 0.0, 6.0)


def test_a_stochastic_plan_is_not_exact_even_if_its_error_is_zero():
    table = MaskedTable(random_joint(3, 1, seed=2))
    sequence = scored_sequence((1,))
    stochastic = masked.plan_nelbo(sequence, table.mask_id, Draws(0), draws=4)
    assert not stochastic.is_exact
    assert estimate(table, stochastic, read_token).std_error == 0  # one hidden set is possible
    exact = masked.plan_pll(sequence, table.mask_id)
    assert exact.is_exact
    assert estimate(table, exact, read_token).std_error == 0
    assert masked.plan_chain(sequence, table.mask_id, np.arange(1)).is_exact
    assert uniform.plan_pll(sequence, 0.1).is_exact
    assert not uniform.plan_nelbo(sequence, 3, Draws(0)).is_exact


def test_one_draw_has_an_unknown_error_and_an_infinite_draw_an_infinite_one():
    assert math.isnan(plan_of([0], 1).combine(np.array([1.0])).std_error)
    assert plan_of([0, 1], 2).combine(np.array([1.0, math.inf])).std_error == math.inf


def test_a_nan_is_an_error():
    with pytest.raises(ScoreError, match="the network returned NaN"):
        exact_plan([], np.ones(2)).combine(np.array([1.0, math.nan]))


def test_sums_start_from_the_first_number():
    values = [np.array([0.1, 0.2, 0.3]), np.array([-math.inf, 1.0])]
    assert sums(values).tolist() == [0.1 + 0.2 + 0.3, -math.inf]
