"""The Monte-Carlo NELBO of masked diffusion against exact enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import (
    Inconsistent,
    MaskedTable,
    hidden_scores,
    markov_joint,
    mean_log_prob,
    random_joint,
)

from rescore.diffusion import masked, published
from rescore.diffusion.draws import Draws
from rescore.diffusion.plans import EVERY_DRAW
from rescore.diffusion.plans import estimates as estimates_of
from rescore.diffusion.sequence import scored_sequence

JOINT = random_joint(3, 4, seed=1)
TABLE = MaskedTable(JOINT)
UNBIASED = ["exact_count", "bernoulli", "realised_ratio_unbiased", "pair_empty", "pair_full"]


def estimates(table, tokens, seeds, sampler="exact_count", **options):
    """Values and standard errors of `nelbo` for many seeds, (seeds,) each, evaluated together."""
    set_sampler = published.SET_SAMPLERS[sampler]
    sequence = scored_sequence(tokens)
    plans = [
        masked.plan_nelbo(sequence, table.mask_id, Draws(seed), set_sampler=set_sampler, **options)
        for seed in range(seeds)
    ]
    results = estimates_of(table, plans, masked.read_token)
    return np.array([r.value for r in results]), np.array([r.std_error for r in results])


@pytest.mark.parametrize("joint", [JOINT, random_joint(4, 3, seed=2), markov_joint(3, 4, 0.7)])
def test_nelbo_exact_is_minus_log_p_of_a_known_joint(joint):
    table = MaskedTable(joint)
    for tokens in itertools.product(range(joint.shape[0]), repeat=joint.ndim):
        estimate = masked.nelbo_exact(table, tokens)
        assert estimate.value == pytest.approx(-math.log(joint[tokens]), abs=1e-10)
        assert estimate.evaluations == 2**joint.ndim - 1
        assert estimate.std_error == 0


def test_nelbo_exact_of_inconsistent_conditionals_is_a_bound():
    table = Inconsistent(JOINT)
    total = sum(
        math.exp(-masked.nelbo_exact(table, tokens).value)
        for tokens in itertools.product(range(3), repeat=4)
    )
    assert total < 1
    assert total > 0.5


def test_minus_nelbo_is_the_sum_of_g():
    table, tokens = Inconsistent(JOINT), (1, 0, 2, 2)
    assert -masked.nelbo_exact(table, tokens).value == pytest.approx(
        sum(mean_log_prob(table, tokens, n) for n in range(1, 5)), abs=1e-10
    )


@pytest.mark.parametrize("table", [TABLE, Inconsistent(JOINT)])
@pytest.mark.parametrize("strata", [True, False])
@pytest.mark.parametrize("sampler", UNBIASED)
def test_every_unbiased_set_sampler_agrees_with_enumeration(sampler, strata, table):
    tokens = (2, 0, 1, 1)
    exact = masked.nelbo_exact(table, tokens).value
    values, _ = estimates(table, tokens, 500, sampler, draws=4, strata=strata)
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize("draws", [2, 3, 5, 8])
def test_strata_are_unbiased_for_any_number_of_draws(draws):
    tokens = (0, 2, 2, 1)
    values, _ = estimates(TABLE, tokens, 500, draws=draws)
    assert abs(
        values.mean() - masked.nelbo_exact(TABLE, tokens).value
    ) < 4 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("sampler", "strata"),
    [
        ("exact_count", True),
        ("exact_count", False),
        ("realised_ratio_unbiased", False),
        ("pair_empty", False),
        ("pair_full", True),
        ("pair_full", False),
    ],
)
def test_the_standard_error_is_calibrated(sampler, strata):
    table, tokens = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1)
    values, errors = estimates(table, tokens, 1000, sampler, draws=8, strata=strata)
    assert math.sqrt((errors**2).mean()) / values.std() == pytest.approx(1, abs=0.12)


def test_many_draws_cover_the_exact_value_within_four_standard_errors():
    table, tokens = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1)
    exact = masked.nelbo_exact(table, tokens).value
    for sampler in UNBIASED:
        values, errors = estimates(table, tokens, 40, sampler, draws=256)
        least = 0.9 if sampler == "bernoulli" else 0.95  # infinite variance
        assert (np.abs(values - exact) < 4 * errors).mean() > least, sampler


def test_the_spread_of_exact_counts_is_what_exact_moments_say():
    """With K = S strata each count is drawn once; independent draws add the spread of means."""
    table, tokens, size = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1), 6
    means, variances = [], []
    for n in range(1, size + 1):
        scores = [size / n * score for score in hidden_scores(table, tokens, n)]
        means.append(np.mean(scores))
        variances.append(np.var(scores))
    within, between = np.mean(variances), np.var(means)
    assert between > 0.02 * within
    for strata, variance in ((True, within), (False, within + between)):
        values, _ = estimates(table, tokens, 1500, draws=size, strata=strata)
        assert values.std() == pytest.approx(
            math.sqrt(variance / size), rel=4 / math.sqrt(2 * 1500)
        )


@pytest.mark.parametrize(("sampler", "factor"), [("realised_ratio", 4 / 5), ("pair", None)])
def test_the_published_set_samplers_are_biased(sampler, factor):
    tokens = (2, 0, 1, 1)
    exact = masked.nelbo_exact(TABLE, tokens).value
    values, _ = estimates(TABLE, tokens, 1500, sampler, draws=4, strata=False)
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - exact) > 4 * error
    if factor is not None:  # S / (S + 1)
        assert abs(values.mean() - factor * exact) < 4 * error
    else:  # g(S) is never drawn: S / (S - 1) times the sum of the other g
        without_last = sum(mean_log_prob(TABLE, tokens, n) for n in range(1, 4)) * 4 / 3
        assert abs(values.mean() + without_last) < 4 * error


def test_impossible_tokens_cost_infinity_and_other_impossible_tokens_nothing():
    joint = random_joint(3, 3, seed=5, impossible=0.4)
    table = MaskedTable(joint)
    for tokens in itertools.product(range(3), repeat=3):
        if joint[tokens] > 0:
            assert masked.nelbo_exact(table, tokens).value == pytest.approx(
                -math.log(joint[tokens]), abs=1e-10
            )
            assert math.isfinite(masked.nelbo(table, tokens).value)

    class Impossible(MaskedTable):
        def log_probs(self, noisy, noise, padding):
            return torch.where(
                torch.arange(4) == 1, -torch.inf, super().log_probs(noisy, noise, padding)
            )

    estimate = masked.nelbo(Impossible(random_joint(3, 3, seed=6)), (1, 1, 1))
    assert (estimate.value, estimate.std_error) == (math.inf, math.inf)
    assert masked.pll(Impossible(random_joint(3, 3, seed=6)), (0, 1, 2)).value == -math.inf


def test_one_draw_has_no_standard_error_and_draws_average_to_the_value():
    assert math.isnan(masked.nelbo(TABLE, (0, 1, 2, 0), draws=1).std_error)
    estimate = masked.nelbo(TABLE, (0, 1, 2, 0), draws=5, seed=9)
    assert estimate.value == pytest.approx(np.mean(estimate.draws))
    assert estimate.evaluations == len(estimate.draws) == 5
    assert masked.nelbo(TABLE, (0, 1, 2, 0), draws=5, seed=9) == estimate
    assert masked.nelbo(TABLE, (0, 1, 2, 0), draws=5, seed=10) != estimate


@pytest.mark.parametrize("sampler", ["exact_count", "pair", "pair_full"])
def test_a_single_token_is_exact_with_samplers_that_always_hide_it(sampler):
    joint = random_joint(4, 1, seed=3)
    set_sampler = published.SET_SAMPLERS[sampler]
    estimate = masked.nelbo(MaskedTable(joint), (2,), draws=3, set_sampler=set_sampler)
    assert estimate.value == pytest.approx(-math.log(joint[2]))
    assert estimate.std_error == 0  # one hidden set is possible


def test_the_all_hidden_term_of_pair_full_stands_in_every_draw_and_is_evaluated_once():
    tokens = (2, 0, 1, 1)
    table = Inconsistent(JOINT)
    plan = masked.plan_nelbo(
        scored_sequence(tokens), table.mask_id, Draws(5), set_sampler=published.pair_full, draws=6
    )
    assert (plan.draw == EVERY_DRAW).sum() == 1
    estimate = masked.nelbo(table, tokens, draws=6, seed=5, set_sampler=published.pair_full)
    pairs = masked.nelbo(table, tokens, draws=6, seed=5, set_sampler=published.pair)
    all_hidden = -mean_log_prob(table, tokens, 4)
    expected = [3 / 4 * cost + all_hidden for cost in pairs.draws]  # (S - 1) / S
    assert estimate.draws == pytest.approx(expected, abs=1e-12)
    assert estimate.std_error == pytest.approx(3 / 4 * pairs.std_error, abs=1e-12)
    assert estimate.evaluations == pairs.evaluations + 1


def test_the_noise_level_is_the_hidden_share():
    table = MaskedTable(JOINT)
    masked.nelbo(table, (0, 1, 2, 0), draws=4)
    assert sorted(table.noises) == [0.25, 0.5, 0.75, 1.0]
