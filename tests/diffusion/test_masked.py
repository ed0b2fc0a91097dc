"""The masked estimators against exact enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import MaskedTable, UniformTable, markov_joint, random_joint

from rescore.diffusion import masked
from rescore.diffusion.draws import Draws
from rescore.diffusion.queries import Plan, run
from rescore.errors import ScoreError

JOINT = random_joint(3, 4, seed=1)
TABLE = MaskedTable(JOINT)
UNBIASED = ["exact_count", "bernoulli", "realised_ratio_unbiased", "pair_empty", "pair_full"]


class Inconsistent(MaskedTable):
    """Conditionals that belong to no joint distribution, as a real network's: every answer is tempered by how much is hidden."""

    def log_probs(self, noisy, noise, padding):
        hidden = (noisy == self.mask_id).sum(1)[:, None, None].double()
        return (super().log_probs(noisy, noise, padding) / (1 + 0.3 * hidden)).log_softmax(-1)


class Counting(MaskedTable):
    """A table that counts the sequences it is asked about."""

    asked = 0

    def log_probs(self, noisy, noise, padding):
        self.asked += len(noisy)
        return super().log_probs(noisy, noise, padding)


def estimates(table, tokens, seeds, **options) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors of `nelbo` for many seeds, evaluated together."""
    ids = np.asarray(tokens)
    plans = [
        masked.plan_nelbo(ids, np.ones(len(ids), bool), table.mask_id, Draws(seed), **options)
        for seed in range(seeds)
    ]
    results = [
        plan.combine(values)
        for plan, values in zip(plans, run(table, plans, masked.read_token), strict=True)
    ]
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


@pytest.mark.parametrize("table", [TABLE, Inconsistent(JOINT)])
@pytest.mark.parametrize("strata", [True, False])
@pytest.mark.parametrize("estimator", UNBIASED)
def test_every_unbiased_estimator_agrees_with_enumeration(estimator, strata, table):
    tokens = (2, 0, 1, 1)
    exact = masked.nelbo_exact(table, tokens).value
    values, _ = estimates(table, tokens, 500, draws=4, estimator=estimator, strata=strata)
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize("draws", [2, 3, 5, 8])
def test_strata_are_unbiased_for_any_number_of_draws(draws):
    tokens = (0, 2, 2, 1)
    values, _ = estimates(TABLE, tokens, 500, draws=draws)
    assert abs(
        values.mean() - masked.nelbo_exact(TABLE, tokens).value
    ) < 4 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("estimator", "strata"),
    [
        ("exact_count", True),
        ("exact_count", False),
        ("realised_ratio_unbiased", False),
        ("pair_empty", False),
    ],
)
def test_the_standard_error_is_calibrated(estimator, strata):
    table, tokens = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1)
    values, errors = estimates(table, tokens, 1000, draws=8, estimator=estimator, strata=strata)
    assert math.sqrt((errors**2).mean()) / values.std() == pytest.approx(1, abs=0.12)


def test_many_draws_cover_the_exact_value_within_four_standard_errors():
    table, tokens = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1)
    exact = masked.nelbo_exact(table, tokens).value
    for estimator in UNBIASED:
        values, errors = estimates(table, tokens, 40, draws=256, estimator=estimator)
        assert (np.abs(values - exact) < 4 * errors).mean() > (
            0.9 if estimator == "bernoulli" else 0.95
        ), estimator  # infinite variance


def test_the_spread_of_exact_counts_is_what_exact_moments_say():
    """With K = S strata each count is drawn once; independent draws add the spread of the counts' means."""
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


@pytest.mark.parametrize(("estimator", "factor"), [("realised_ratio", 4 / 5), ("pair", None)])
def test_the_published_estimators_are_biased(estimator, factor):
    tokens = (2, 0, 1, 1)
    exact = masked.nelbo_exact(TABLE, tokens).value
    values, _ = estimates(TABLE, tokens, 1500, draws=4, estimator=estimator, strata=False)
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() - exact) > 4 * error
    if factor is not None:  # S / (S + 1)
        assert abs(values.mean() - factor * exact) < 4 * error
    else:  # g(S) is never drawn: S / (S - 1) times the sum of the other g
        without_last = sum(mean_log_prob(TABLE, tokens, n) for n in range(1, 4)) * 4 / 3
        assert abs(values.mean() + without_last) < 4 * error


def hidden_scores(table, tokens, count) -> list[float]:
    """The summed log-probability of the hidden tokens for each hidden set of `count` tokens."""
    sets = list(itertools.combinations(range(len(tokens)), count))
    noisy = torch.tensor(
        [[table.mask_id if i in hidden else t for i, t in enumerate(tokens)] for hidden in sets]
    )
    log_probs = table.log_probs(
        noisy,
        torch.full((len(sets),), count / len(tokens)),
        torch.zeros_like(noisy, dtype=torch.bool),
    )
    return [
        sum(float(log_probs[row, i, tokens[i]]) for i in hidden) for row, hidden in enumerate(sets)
    ]


def mean_log_prob(table, tokens, count) -> float:
    """g(count): the mean over hidden sets of the mean log-probability of the hidden tokens."""
    return float(np.mean(hidden_scores(table, tokens, count))) / count


def test_minus_nelbo_is_the_sum_of_g():
    table, tokens = Inconsistent(JOINT), (1, 0, 2, 2)
    assert -masked.nelbo_exact(table, tokens).value == pytest.approx(
        sum(mean_log_prob(table, tokens, n) for n in range(1, 5)), abs=1e-10
    )


@pytest.mark.parametrize("table", [TABLE, Inconsistent(JOINT)])
def test_pll_equals_its_definition(table):
    for tokens in [(0, 1, 2, 0), (2, 2, 1, 0), (1, 1, 1, 1)]:
        expected = 0.0
        for i in range(4):
            noisy = torch.tensor([[table.mask_id if j == i else t for j, t in enumerate(tokens)]])
            expected += float(
                table.log_probs(noisy, torch.tensor([0.25]), torch.zeros(1, 4, dtype=torch.bool))[
                    0, i, tokens[i]
                ]
            )
        estimate = masked.pll(table, tokens)
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert estimate.value == pytest.approx(4 * mean_log_prob(table, tokens, 1), abs=1e-12)
        assert (estimate.evaluations, estimate.std_error) == (4, 0)


def test_pll_is_no_probability_for_a_consistent_network():
    assert (
        sum(
            math.exp(masked.pll(TABLE, tokens).value)
            for tokens in itertools.product(range(3), repeat=4)
        )
        >= 1
    )


def test_within_word_pll_hides_the_rest_of_the_word():
    tokens, words = (0, 1, 2, 0), np.array([0, 1, 1, 2])
    hidden = [{0}, {1, 2}, {2}, {3}]
    expected = 0.0
    for i, sets in enumerate(hidden):
        noisy = torch.tensor([[TABLE.mask_id if j in sets else t for j, t in enumerate(tokens)]])
        expected += float(
            TABLE.log_probs(noisy, torch.tensor([0.25]), torch.zeros(1, 4, dtype=torch.bool))[
                0, i, tokens[i]
            ]
        )
    assert masked.pll(TABLE, tokens, words=words).value == pytest.approx(expected, abs=1e-12)
    assert masked.pll(TABLE, tokens, words=np.arange(4)).value == pytest.approx(
        masked.pll(TABLE, tokens).value, abs=1e-12
    )


def test_a_chain_of_a_known_joint_is_log_p_in_every_order():
    tokens = (2, 1, 0, 1)
    for order in itertools.permutations(range(4)):
        estimate = masked.chain(TABLE, tokens, order=order)
        assert estimate.value == pytest.approx(math.log(JOINT[tokens]), abs=1e-12)
    assert masked.chain(TABLE, tokens, order="random", seed=3).value == pytest.approx(
        math.log(JOINT[tokens]), abs=1e-12
    )


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_a_chain_in_blocks_is_normalised_and_below_log_p_on_average(block):
    sequences = list(itertools.product(range(3), repeat=4))
    scores = np.array([masked.chain(TABLE, tokens, block=block).value for tokens in sequences])
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-10)
    log_p = np.log([JOINT[tokens] for tokens in sequences])
    assert (np.exp(log_p) * (scores - log_p)).sum() <= 1e-12
    assert masked.chain(TABLE, sequences[5], block=block).evaluations == math.ceil(4 / block)


def test_the_mean_over_all_orders_is_minus_nelbo():
    table, tokens = Inconsistent(JOINT), (1, 2, 0, 0)
    chains = [
        masked.chain(table, tokens, order=order).value for order in itertools.permutations(range(4))
    ]
    assert -masked.nelbo_exact(table, tokens).value == pytest.approx(np.mean(chains), abs=1e-10)


def test_scored_tokens_alone_are_hidden_and_counted():
    tokens, scored = (2, 0, 1, 1), np.array([False, True, True, False])
    conditional = JOINT[2, 0, 1, 1] / JOINT[2, :, :, 1].sum()
    assert masked.nelbo_exact(TABLE, tokens, scored=scored).value == pytest.approx(
        -math.log(conditional), abs=1e-10
    )
    assert masked.pll(TABLE, tokens, scored=scored).evaluations == 2
    table = MaskedTable(JOINT)
    masked.pll(table, tokens, scored=scored)
    assert table.noises == [0.5, 0.5]  # n / S of the sequence that the network sees


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


def test_a_single_token_is_exact_in_every_estimator():
    joint = random_joint(4, 1, seed=3)
    table = MaskedTable(joint)
    for estimator in ("exact_count", "pair", "pair_full"):
        assert masked.nelbo(table, (2,), draws=3, estimator=estimator).value == pytest.approx(
            -math.log(joint[2])
        )


def test_normalisations_of_the_paper_measure_different_things():
    """Relative to score / S, with exact counts: 1, S mean_n(g(n) / n) / mean_n g(n), 2 S / (S + 1), and the coupled pair (2, biased)."""
    table, tokens, size = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1), 6
    g = np.array([mean_log_prob(table, tokens, n) for n in range(1, size + 1)])
    expected = {
        "sequence_length": 1.0,
        "sample_level": size * (g / np.arange(1, size + 1)).mean() / g.mean(),
        "global": 2 * size / (size + 1),
        "coupled": (g.sum() + g[:-1].sum() + 0.0) / g.sum(),
    }
    for name, factor in expected.items():
        values = [
            masked.paper_score(
                table, tokens, normalization=name, draws=32, seed=seed, estimator="exact_count"
            ).value
            / (g.sum() / size)
            for seed in range(40)
        ]
        margin = 4 * np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values) - factor) < margin + (0.04 if name == "global" else 0), (
            name
        )  # a ratio of sums has a bias of order 1 / draws


def test_the_noise_level_is_the_hidden_share():
    table = MaskedTable(JOINT)
    masked.nelbo(table, (0, 1, 2, 0), draws=4)
    assert sorted(table.noises) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: masked.nelbo(TABLE, (0, 1, 2, 0), draws=0), "draws must be at least 1"),
        (
            lambda: masked.nelbo(TABLE, (0, 1, 2, 0), estimator="magic"),
            "estimator 'magic' is unknown",
        ),
        (lambda: masked.nelbo(TABLE, (0, 1, 2, 9)), "token ids must lie in 0..3"),
        (lambda: masked.nelbo(TABLE, ()), "tokens must be integers"),
        (lambda: masked.nelbo(TABLE, np.zeros(0, dtype=int)), "no token is scored"),
        (lambda: masked.nelbo(TABLE, (0.5, 1.0)), "tokens must be integers"),
        (lambda: masked.pll(TABLE, (0, 1, 2, 0), scored=np.zeros(4, bool)), "no token is scored"),
        (
            lambda: masked.pll(TABLE, (0, 1, 2, 0), scored=np.ones(3, bool)),
            "scored must be bool of shape",
        ),
        (lambda: masked.pll(TABLE, (0, 1, 2, 0), words=np.zeros(2)), "words must have shape"),
        (
            lambda: masked.chain(TABLE, (0, 1, 2, 0), order=[0, 0, 1, 2]),
            "order must be a permutation",
        ),
        (
            lambda: masked.chain(TABLE, (0, 1, 2, 0), order="backwards"),
            "order 'backwards' is unknown",
        ),
        (lambda: masked.chain(TABLE, (0, 1, 2, 0), block=0), "block must be at least 1"),
        (lambda: masked.nelbo_exact(TABLE, np.zeros(17, dtype=int)), "at most 16 tokens"),
        (
            lambda: masked.pll(UniformTable(JOINT, "posterior"), (0, 1, 2, 0)),
            "need a denoiser with a mask symbol",
        ),
        (
            lambda: masked.paper_score(TABLE, (0, 1, 2, 0), normalization="mean"),
            "normalization 'mean' is unknown",
        ),
    ],
)
def test_bad_calls_say_what_was_wrong(call, message):
    with pytest.raises(ScoreError, match=message.replace("(", r"\(")):
        call()


def test_nan_from_the_network_is_an_error_never_a_score():
    class Broken(MaskedTable):
        def log_probs(self, noisy, noise, padding):
            return super().log_probs(noisy, noise, padding) * math.nan

    with pytest.raises(ScoreError, match="NaN"):
        masked.nelbo(Broken(JOINT), (0, 1, 2, 0))


def test_odd_strata_use_every_draw_for_the_standard_error():
    values = np.array([1.0, 2.0, 4.0, 4.0, 10.0])
    plan = Plan([], np.ones(5), np.arange(5), 5, strata=True)
    variance = 2 * np.var(values[:2], ddof=1) + 3 * np.var(values[2:], ddof=1)
    assert plan.combine(values).std_error == pytest.approx(math.sqrt(variance) / 5)


def test_hypotheses_whose_differences_are_hidden_share_a_pass():
    table, tokens = (
        Counting(JOINT),
        [np.array(row) for row in ((2, 0, 1, 1), (2, 0, 2, 1), (2, 0, 2, 1), (1, 0, 1, 1))],
    )
    plans = [masked.plan_pll(row, np.ones(4, bool), table.mask_id) for row in tokens]
    together = run(table, plans, masked.read_token)
    assert (
        table.asked == 3 * 4 - 1 - 1
    )  # the third place of rows 1 and 2, the first of rows 1 and 4; row 3 is row 2
    for plan, values in zip(plans, together, strict=True):
        assert np.array_equal(values, run(TABLE, [plan], masked.read_token)[0])


def test_random_numbers_in_common_make_passes_in_common():
    table, ones = Counting(JOINT), np.ones(4, bool)
    plans = [
        masked.plan_nelbo(np.array(row), ones, table.mask_id, Draws(seed=3), draws=64)
        for row in ((2, 0, 1, 1), (2, 0, 2, 1))
    ]
    together = run(table, plans, masked.read_token)
    assert (
        table.asked < 64
    )  # of 128: half of them hide the place that differs, and few tokens have few hidden sets
    for plan, values in zip(plans, together, strict=True):
        assert values == pytest.approx(run(TABLE, [plan], masked.read_token)[0], abs=1e-15)
