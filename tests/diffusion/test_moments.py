"""Exact moments of the masked NELBO's set samplers on a Markov chain of 8 tokens.

All 255 hidden sets are enumerated: this is what the table of standard deviations in the method
rests on. Its own chain is not published, so its figures are checked where they do not depend on the
chain (S / (S + 1), 2 S / (S + 1), the odds of an ancestral step), else by order and formula.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import MaskedTable, markov_joint

from rescore.diffusion import masked, published
from rescore.diffusion.draws import Draws
from rescore.diffusion.sequence import scored_sequence

S = 8
TOKENS = np.array([0, 0, 1, 1, 2, 1, 0, 0])
JOINT = markov_joint(3, S, 0.7)
TRUTH = float(np.log(JOINT[tuple(TOKENS)]))


@pytest.fixture(scope="module")
def sums() -> dict[tuple[int, ...], float]:
    """The summed log-probability of the hidden tokens for every hidden set."""
    table = MaskedTable(JOINT)
    sets = [hidden for n in range(1, S + 1) for hidden in itertools.combinations(range(S), n)]
    noisy = torch.tensor(
        [
            [table.mask_id if i in hidden else int(t) for i, t in enumerate(TOKENS)]
            for hidden in sets
        ]
    )
    log_probs = table.log_probs(
        noisy, torch.ones(len(sets)), torch.zeros_like(noisy, dtype=torch.bool)
    )
    return {
        hidden: sum(float(log_probs[row, i, TOKENS[i]]) for i in hidden)
        for row, hidden in enumerate(sets)
    }


def by_count(sums, power):
    """Mean over hidden sets of each size n of (sum)^power, (S,)."""
    return np.array(
        [
            np.mean([value**power for hidden, value in sums.items() if len(hidden) == n])
            for n in range(1, S + 1)
        ]
    )


def exact_moments(sums, sampler) -> tuple[float, float]:
    """Mean and standard deviation of one independent draw, in closed form."""
    n = np.arange(1, S + 1)
    first, second = by_count(sums, 1), by_count(sums, 2)
    if sampler == "exact_count":  # n uniform over 1..S
        mean, square = (S / n * first).mean(), ((S / n) ** 2 * second).mean()
    else:  # t uniform and Bernoulli: n uniform over 0..S; an empty set scores 0
        weight = {"realised_ratio": S / n, "realised_ratio_unbiased": (S + 1) / n}[sampler]
        mean, square = (weight * first).sum() / (S + 1), (weight**2 * second).sum() / (S + 1)
    return float(mean), math.sqrt(square - mean**2)


def drawn(sums, sampler, count, strata=False, draws=1):
    """Values of many estimates, with the network's answers looked up."""
    values = []
    for seed in range(count):
        plan = masked.plan_nelbo(
            scored_sequence(TOKENS),
            3,
            Draws(seed),
            draws=draws,
            set_sampler=published.SET_SAMPLERS[sampler],
            strata=strata,
        )
        answers = [sums[tuple(query.positions.tolist())] for query in plan.queries]
        values.append(-plan.combine(np.array(answers)).value)
    return np.array(values)


@pytest.mark.parametrize(
    ("sampler", "bias"),
    [("exact_count", 1), ("realised_ratio", S / (S + 1)), ("realised_ratio_unbiased", 1)],
)
def test_mean_and_spread_of_a_draw_are_the_exact_moments(sums, sampler, bias):
    mean, deviation = exact_moments(sums, sampler)
    assert mean == pytest.approx(bias * TRUTH, rel=1e-10)
    values = drawn(sums, sampler, 4000)
    assert abs(values.mean() - mean) < 4 * deviation / math.sqrt(len(values))
    assert values.std() == pytest.approx(deviation, rel=0.12)


def test_the_spread_has_the_order_of_the_table(sums):
    """Bernoulli with 1/t is worst, then realised ratios, then exact counts; strata help."""
    exact, realised, unbiased = (
        exact_moments(sums, sampler)[1]
        for sampler in ("exact_count", "realised_ratio", "realised_ratio_unbiased")
    )
    assert exact < realised < unbiased
    n = np.arange(1, S + 1)
    cut = 1e-3  # the second moment of 1/t diverges as the cut goes to 0
    t = np.exp(np.linspace(math.log(cut), 0, 20_001))
    density = (
        t[:, None] ** (n - 2) * (1 - t[:, None]) ** (S - n) * np.array([math.comb(S, k) for k in n])
    )
    integrand = (density * by_count(sums, 2)).sum(1)
    square = float(((integrand[1:] + integrand[:-1]) / 2 * np.diff(t)).sum())
    assert math.sqrt(square - TRUTH**2) > 1.5 * unbiased
    first, second = by_count(sums, 1), by_count(sums, 2)
    within = math.sqrt((((S / n) ** 2 * (second - first**2)).mean()) / 8)
    assert drawn(sums, "exact_count", 1500, strata=True, draws=8).std() == pytest.approx(
        within, rel=0.08
    )
    assert within < exact / math.sqrt(8)


def test_pairs_are_unbiased_as_corrected_and_biased_as_published(sums):
    for sampler in ("pair_empty", "pair_full"):
        values = drawn(sums, sampler, 3000)
        assert abs(values.mean() - TRUTH) < 4 * values.std() / math.sqrt(len(values))
    published = (S / (S - 1)) * (TRUTH - by_count(sums, 1)[-1] / S)  # g(S) is never drawn
    values = drawn(sums, "pair", 3000)
    assert abs(values.mean() - published) < 4 * values.std() / math.sqrt(len(values))
    assert abs(published - TRUTH) > 0.1


def test_figures_that_depend_on_no_chain():
    global_factor = 2 * S / (S + 1)
    assert global_factor == pytest.approx(
        1.78, abs=0.005
    )  # the global normalisation, relative to score / S
    vocab, t = 10_240, 0.1
    assert math.log(1 + vocab * (1 - t) / t) == pytest.approx(
        11, abs=0.5
    )  # an ancestral step to t = 0 keeps a token by 11 nats
