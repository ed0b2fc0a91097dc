"""What each token adds to an estimate: shares sum to it, and are right where they are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import MaskedTable, UniformTable, markov_joint, random_joint

from rescore.diffusion import masked, published, uniform
from rescore.diffusion.draws import Draws
from rescore.diffusion.plans import sums, token_values
from rescore.diffusion.sequence import scored_sequence

JOINT = random_joint(3, 4, seed=1)
TOKENS = (2, 0, 1, 1)
SCORED = np.array([False, True, True, True])
EVERY = np.ones(4, bool)


def product_joint(*marginals) -> np.ndarray:
    joint = np.ones(())
    for marginal in marginals:
        joint = joint[..., None] * np.asarray(marginal)
    return joint


#: Independent tokens: the share of each is log p of that token, whatever is hidden.
MARGINALS = ([0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.4, 0.4, 0.2])
INDEPENDENT = product_joint(*MARGINALS)
ALONE = np.log([marginal[token] for marginal, token in zip(MARGINALS, TOKENS, strict=True)])


def shares(denoiser, plans, readout, length=4) -> np.ndarray:
    """The shares of each plan, (plans, length), checked to sum to the plan's value."""
    token_shares = []
    for plan, values in zip(plans, token_values(denoiser, plans, readout), strict=True):
        token_shares.append(plan.shares(values, length))
        value = plan.combine(sums(values)).value
        assert math.fsum(token_shares[-1]) == pytest.approx(value, rel=1e-14, abs=1e-14)
    return np.array(token_shares)


def masked_plans(sampler, seeds, scored=EVERY, **options):
    return [
        masked.plan_nelbo(
            scored_sequence(TOKENS, scored),
            3,
            Draws(seed),
            set_sampler=published.SET_SAMPLERS[sampler],
            **options,
        )
        for seed in range(seeds)
    ]


def agree(samples, exact) -> bool:
    """Whether the means of samples (n, length) lie within 4 standard errors of the exact values."""
    return bool(
        np.all(
            np.abs(samples.mean(0) - exact) <= 4 * samples.std(0) / math.sqrt(len(samples)) + 1e-12
        )
    )


@pytest.mark.parametrize("scored", [EVERY, SCORED])
@pytest.mark.parametrize("sampler", list(published.SET_SAMPLERS))
def test_the_shares_of_every_masked_nelbo_sum_to_it(sampler, scored):
    for draws in (1, 5, 8):
        token_shares = shares(
            MaskedTable(JOINT), masked_plans(sampler, 20, scored, draws=draws), masked.read_token
        )
        assert np.all(token_shares >= 0)  # costs
        assert np.all(token_shares[:, ~scored] == 0)


@pytest.mark.parametrize(
    "sampler", ["exact_count", "realised_ratio_unbiased", "pair_empty", "pair_full"]
)
def test_a_share_of_the_nelbo_is_on_average_the_mean_over_all_orders(sampler):
    table = MaskedTable(JOINT)
    exact = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for step, position in enumerate(order):
            noisy = torch.tensor(
                [[token if i in order[:step] else 3 for i, token in enumerate(TOKENS)]]
            )
            log_probs = table.log_probs(
                noisy, torch.tensor([1 - step / 4]), torch.zeros(1, 4, dtype=torch.bool)
            )
            exact[position] -= float(log_probs[0, position, TOKENS[position]]) / math.factorial(4)
    assert exact.sum() == pytest.approx(-math.log(JOINT[TOKENS]))
    assert agree(shares(table, masked_plans(sampler, 500), masked.read_token), exact)


def test_the_share_of_an_independent_token_is_its_own_log_probability():
    for sampler in ("exact_count", "pair_empty", "pair_full"):
        assert agree(
            shares(MaskedTable(INDEPENDENT), masked_plans(sampler, 300), masked.read_token),
            -ALONE,
        )
    sequence = scored_sequence(TOKENS)
    for prediction in ("leave_one_out", "posterior"):
        table = UniformTable(INDEPENDENT, prediction)
        plans = [uniform.plan_nelbo(sequence, 3, Draws(seed)) for seed in range(300)]
        assert agree(shares(table, plans, uniform.read_loss(prediction)), -ALONE)
        assert shares(table, [uniform.plan_pll(sequence, 0.3)], uniform.read_token(prediction))[
            0
        ] == pytest.approx(ALONE)


def test_a_token_that_no_draw_hides_adds_nothing():
    plan = next(
        plan
        for plan in masked_plans("exact_count", 20, draws=1)
        if len(plan.queries[0].positions) < 4
    )
    [token_shares] = shares(MaskedTable(JOINT), [plan], masked.read_token)
    assert np.flatnonzero(token_shares).tolist() == plan.queries[0].positions.tolist()


def test_the_shares_of_exact_scores_are_their_conditionals():
    table, sequence = MaskedTable(JOINT), scored_sequence(TOKENS)
    conditionals = np.array(
        [
            math.log(JOINT[TOKENS] / JOINT[(*TOKENS[:i], slice(None), *TOKENS[i + 1 :])].sum())
            for i in range(4)
        ]
    )
    assert shares(table, [masked.plan_pll(sequence, 3)], masked.read_token)[0] == pytest.approx(
        conditionals
    )
    prefixes = [math.log(JOINT[TOKENS[:i]].sum()) for i in range(5)]
    assert shares(table, [masked.plan_chain(sequence, 3, np.arange(4))], masked.read_token)[
        0
    ] == pytest.approx(np.diff(prefixes))
    suffixes = [math.log(JOINT[(..., *TOKENS[4 - i :])].sum()) for i in range(5)]
    assert shares(table, [masked.plan_chain(sequence, 3, np.arange(4)[::-1])], masked.read_token)[
        0
    ] == pytest.approx(np.diff(suffixes)[::-1])
    uniform_table = UniformTable(JOINT, "leave_one_out")
    assert shares(uniform_table, [uniform.plan_pll(sequence, 1e-7)], masked.read_token)[
        0
    ] == pytest.approx(conditionals, abs=1e-4)


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_shares_of_a_uniform_nelbo_sum_to_it(power, prediction):
    joint = markov_joint(3, 4, 0.7)
    plans = [
        uniform.plan_nelbo(scored_sequence(TOKENS, SCORED), 3, Draws(seed), draws=6, power=power)
        for seed in range(20)
    ]
    token_shares = shares(UniformTable(joint, prediction), plans, uniform.read_loss(prediction))
    assert np.all(token_shares >= -1e-9)
    assert np.all(token_shares[:, 0] == 0)
