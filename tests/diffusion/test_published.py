"""The scores of arXiv:2604.14001, as printed and as coded, against their formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tabular import (
    Inconsistent,
    MaskedTable,
    UniformTable,
    markov_joint,
    mean_log_prob,
    random_joint,
)

from rescore.diffusion import published, uniform
from rescore.diffusion.draws import Draws, Stream
from rescore.errors import ScoreError

JOINT = random_joint(3, 4, seed=1)
TOKENS = (2, 0, 1, 1)


def sets_and_sums(table, tokens, levels, seed):
    """By hand: the Bernoulli sets of each draw and the summed log-probabilities of any set."""
    u = Draws(seed).tokens(len(tokens), len(levels), Stream.HIDE)
    sets = [np.flatnonzero(row < t) for row, t in zip(u, levels, strict=True)]

    def summed(hidden, noise):
        if len(hidden) == 0:
            return 0.0
        noisy = torch.tensor([tokens])
        noisy[0, hidden] = table.mask_id
        padding = torch.zeros_like(noisy, dtype=torch.bool)
        log_probs = table.log_probs(noisy, torch.tensor([noise]), padding)[0]
        return sum(float(log_probs[i, tokens[i]]) for i in hidden)

    return sets, summed


@pytest.mark.parametrize("seed", range(5))
def test_scores_as_printed_are_the_formulas(seed):
    table, draws, size = Inconsistent(JOINT), 6, 4
    sets, summed = sets_and_sums(table, TOKENS, np.full(draws, 0.5), seed)
    sums = [summed(hidden, 0.5) for hidden in sets]
    counts = [len(hidden) for hidden in sets]
    complements = [np.setdiff1d(np.arange(size), hidden) for hidden in sets]
    pairs = [total + summed(c, 0.5) for total, c in zip(sums, complements, strict=True)]
    means = [total / max(1, count) for total, count in zip(sums, counts, strict=True)]
    expected = {
        "sequence_length": np.mean([1 / size * 2 * total for total in sums]),
        "sample_level": np.mean(means),
        "global": sum(sums) / sum(counts),
        "coupled": np.mean([total / size for total in pairs]),
    }
    for normalization, value in expected.items():
        table.noises.clear()
        score = published.mdlm_as_printed(
            table, TOKENS, normalization=normalization, draws=draws, seed=seed
        )
        assert score.value == pytest.approx(value, abs=1e-12), normalization
        assert set(table.noises) == {0.5}  # the network is told t, not the realised share


@pytest.mark.parametrize("seed", range(5))
def test_scores_as_coded_are_the_formulas(seed):
    table, draws, size = Inconsistent(JOINT), 6, 4
    levels = Draws(seed).levels(draws, strata=False)
    sets, summed = sets_and_sums(table, TOKENS, levels, seed)

    def raw(hidden):
        return size / max(1, len(hidden)) * summed(hidden, len(hidden) / size)

    counts = [len(hidden) for hidden in sets]
    complements = [np.setdiff1d(np.arange(size), hidden) for hidden in sets]
    raws = [raw(hidden) for hidden in sets]
    pairs = [raw(a) + raw(b) for a, b in zip(sets, complements, strict=True)]
    expected = {
        "sequence_length": np.mean(raws) / size,
        "sample_level": np.mean([r / max(1, n) for r, n in zip(raws, counts, strict=True)]),
        "global": sum(raws) / sum(counts),
        "coupled": np.mean(pairs) / size,
    }
    for normalization, value in expected.items():
        table.noises.clear()
        score = published.mdlm_as_coded(
            table, TOKENS, normalization=normalization, draws=draws, seed=seed
        )
        assert score.value == pytest.approx(value, abs=1e-12), normalization
        assert set(table.noises) <= {0.25, 0.5, 0.75, 1.0}  # the realised share


def test_the_global_score_of_one_token_is_its_log_probability_however_few_draws_hide_it():
    """Fewer hidden tokens than draws: the mean count is below 1."""
    joint = random_joint(4, 1, seed=3)
    for reading in (published.mdlm_as_coded, published.mdlm_as_printed):
        outcomes = []
        for seed in range(40):
            u = Draws(seed).tokens(1, 5, Stream.HIDE)[:, 0]
            printed = reading is published.mdlm_as_printed
            levels = np.full(5, 0.5) if printed else Draws(seed).levels(5, strata=False)
            hides = int((u < levels).sum())
            outcomes.append(hides)
            if hides:
                score = reading(
                    MaskedTable(joint), (2,), normalization="global", draws=5, seed=seed
                )
                assert score.value == pytest.approx(math.log(joint[2]), abs=1e-12)
            else:
                with pytest.raises(ScoreError, match="none of 5 draws hides a token"):
                    reading(MaskedTable(joint), (2,), normalization="global", draws=5, seed=seed)
        assert {0, 1} <= set(outcomes)


def test_scores_as_coded_have_the_expectations_of_their_formulas():
    """With n uniform over 0..S (t uniform) and g(n) the mean log-probability of n hidden tokens."""
    table, tokens, size = MaskedTable(markov_joint(3, 6, 0.75)), (0, 0, 1, 1, 2, 1), 6
    n = np.arange(1, size + 1)
    g = np.array([mean_log_prob(table, tokens, count) for count in n])
    expected = {
        "sequence_length": g.sum() / (size + 1),
        "sample_level": (size * g / n).sum() / (size + 1),
        "coupled": 2 * g.sum() / (size + 1),
    }
    for name, value in expected.items():
        values = [
            published.mdlm_as_coded(table, tokens, normalization=name, draws=32, seed=seed).value
            for seed in range(40)
        ]
        assert abs(np.mean(values) - value) < 4 * np.std(values) / math.sqrt(len(values)), name


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
def test_usdm_as_printed_is_the_loss_at_one_half(prediction):
    joint, draws, seed = markov_joint(3, 4, 0.7), 6, 2
    table = UniformTable(joint, prediction)
    u, v = (Draws(seed).tokens(4, draws, stream) for stream in (Stream.HIDE, Stream.MOVE))
    losses = []
    for hide, move in zip(u, v, strict=True):
        noisy = torch.tensor(
            [[int(m * 3) if h < 0.5 else x for h, m, x in zip(hide, move, TOKENS, strict=True)]]
        )
        noise = torch.full((4,), 0.5, dtype=torch.float64)
        exact = UniformTable(joint, "leave_one_out").log_probs(
            noisy, noise[:1], torch.zeros_like(noisy, dtype=torch.bool)
        )
        losses.append(uniform.token_loss(exact[0], noisy[0], torch.tensor(TOKENS), noise).sum())
    score = published.usdm_as_printed(table, TOKENS, draws=draws, seed=seed)
    assert score.value == pytest.approx(-float(np.mean(losses)) / 4, abs=1e-10)
    assert score.value < 0
    assert score.evaluations == draws


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: published.mdlm_as_coded(MaskedTable(JOINT), TOKENS, normalization="mean"),
            "normalization 'mean' is unknown",
        ),
        (
            lambda: published.mdlm_as_printed(
                MaskedTable(JOINT), TOKENS, normalization="coupled", draws=0
            ),
            "draws must be at least 1",
        ),
        (
            lambda: published.usdm_as_printed(MaskedTable(JOINT), TOKENS),
            "use rescore.diffusion.masked",
        ),
    ],
)
def test_bad_calls_say_what_was_wrong(call, message):
    with pytest.raises(ScoreError, match=message):
        call()


def test_normalisations_of_the_paper_measure_different_things():
    """Relative to score / S, with exact counts; the coupled pair tends to 2."""
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
            published.mdlm_as_coded(
                table,
                tokens,
                normalization=name,
                draws=32,
                seed=seed,
                set_sampler=published.exact_count,
            ).value
            / (g.sum() / size)
            for seed in range(40)
        ]
        margin = 4 * np.std(values) / math.sqrt(len(values))
        assert abs(np.mean(values) - factor) < margin + (0.04 if name == "global" else 0), (
            name
        )  # a ratio of sums has a bias of order 1 / draws
