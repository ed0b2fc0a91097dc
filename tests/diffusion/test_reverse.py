"""Reverse steps against Bayes' rule, by enumeration of clean tokens, z_s and z_t.

The truth: q(z_s | z_t) = sum_x p(x | z_t) q(z_s | z_t, x) for one position of a sequence, where
q(z_s | z_t, x) = q(z_t | z_s) q(z_s | x) / q(z_t | x), and q(z_t | z_s) is the forward process from
s to t, whose alpha is alpha_t / alpha_s.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import MaskedTable, UniformTable, random_joint

from rescore.diffusion.draws import Draws, Stream
from rescore.diffusion.reverse import (
    draw_tokens,
    reverse_step,
    step_from_leave_one_out,
    step_from_posterior,
    step_masked,
)
from rescore.errors import ScoreError

N, LENGTH, MASK = 3, 3, 3
JOINT = random_joint(N, LENGTH, seed=2)
SEQUENCES = list(itertools.product(range(N), repeat=LENGTH))
LEVELS = [(0.9, 0.4), (0.5, 0.1), (1.0, 0.3), (0.7, 0.0), (1.0, 0.0), (0.2, 0.199)]


def uniform_kernel(alpha) -> np.ndarray:
    """q(z | x) of uniform states, (x, z)."""
    return alpha * np.eye(N) + (1 - alpha) / N


def masked_kernel(alpha) -> np.ndarray:
    """q(z | x) of masked states, (x, z), the mask symbol last; it stays once it is there."""
    kernel = np.zeros((N + 1, N + 1))
    kernel[:N, :N] = alpha * np.eye(N)
    kernel[:N, MASK] = 1 - alpha
    kernel[MASK, MASK] = 1
    return kernel


def posterior(kernel, noisy, position) -> np.ndarray:
    """p(x_position | z_t = noisy) by summing over all clean sequences, (N,)."""
    weights = np.zeros(N)
    for clean in SEQUENCES:
        likelihood = math.prod(kernel[x, z] for x, z in zip(clean, noisy, strict=True))
        weights[clean[position]] += JOINT[clean] * likelihood
    return weights / weights.sum()


def bayes(kernel, alpha_t, alpha_s, noisy, position) -> np.ndarray:
    """q(z_s | z_t = noisy) at the position, by Bayes' rule."""
    to_t, to_s, between = kernel(alpha_t), kernel(alpha_s), kernel(alpha_t / alpha_s)
    z_t = noisy[position]
    step = np.zeros(len(to_t))
    for x, p in enumerate(posterior(to_t, noisy, position)):
        if p > 0:
            step += p * between[:, z_t] * to_s[x] / to_t[x, z_t]
    return step


def predicted(table, noisy, noise) -> torch.Tensor:
    """The table's log-probabilities at every position of every noisy sequence, flattened."""
    rows = torch.tensor(noisy)
    levels = torch.full((len(rows),), noise, dtype=torch.float64)
    return table.log_probs(rows, levels, torch.zeros_like(rows, dtype=torch.bool)).flatten(0, 1)


def levels_of(noise, count) -> torch.Tensor:
    return torch.full((count,), noise, dtype=torch.float64)


@pytest.mark.parametrize(("noise_t", "noise_s"), LEVELS)
@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
def test_a_uniform_step_is_bayes_rule(prediction, noise_t, noise_s):
    log_probs = predicted(UniformTable(JOINT, prediction), SEQUENCES, noise_t)
    noisy = torch.tensor(SEQUENCES).flatten()
    count = len(noisy)
    step = reverse_step(
        prediction, log_probs, noisy, levels_of(noise_t, count), levels_of(noise_s, count)
    ).view(len(SEQUENCES), LENGTH, N)
    assert torch.all(step >= 0)
    assert step.sum(-1).numpy() == pytest.approx(1, abs=1e-12)
    for row, position in itertools.product(range(len(SEQUENCES)), range(LENGTH)):
        expected = bayes(uniform_kernel, 1 - noise_t, 1 - noise_s, SEQUENCES[row], position)
        assert step[row, position].numpy() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("noise_t", "noise_s"), LEVELS)
def test_a_masked_step_is_bayes_rule(noise_t, noise_s):
    noisy_sequences = list(itertools.product(range(N + 1), repeat=LENGTH))
    if noise_t == 1:  # then everything is masked
        noisy_sequences = [(MASK,) * LENGTH]
    log_probs = predicted(MaskedTable(JOINT), noisy_sequences, noise_t)
    noisy = torch.tensor(noisy_sequences).flatten()
    count = len(noisy)
    step = reverse_step(
        "masked", log_probs, noisy, levels_of(noise_t, count), levels_of(noise_s, count), MASK
    ).view(len(noisy_sequences), LENGTH, N + 1)
    assert step.sum(-1).numpy() == pytest.approx(1, abs=1e-12)
    for row, position in itertools.product(range(len(noisy_sequences)), range(LENGTH)):
        expected = bayes(masked_kernel, 1 - noise_t, 1 - noise_s, noisy_sequences[row], position)
        assert step[row, position].numpy() == pytest.approx(expected, abs=1e-12)


def test_a_posterior_taken_for_the_leave_one_out_predictive_gives_a_wrong_step():
    log_probs = predicted(UniformTable(JOINT, "posterior"), SEQUENCES, 0.5)
    noisy = torch.tensor(SEQUENCES).flatten()
    levels = levels_of(0.5, len(noisy)), levels_of(0.1, len(noisy))
    right = step_from_posterior(log_probs, noisy, *levels)
    wrong = step_from_leave_one_out(log_probs, noisy, *levels)
    assert float((right - wrong).abs().max()) > 0.1


@pytest.mark.parametrize("noise_t", [0.05, 0.5, 1.0])
def test_a_step_to_clean_tokens_returns_the_posterior(noise_t):
    noisy = torch.tensor(SEQUENCES).flatten()
    levels = levels_of(noise_t, len(noisy)), levels_of(0.0, len(noisy))
    truth = predicted(UniformTable(JOINT, "posterior"), SEQUENCES, noise_t)
    leave_one_out = predicted(UniformTable(JOINT, "leave_one_out"), SEQUENCES, noise_t)
    from_leave_one_out = step_from_leave_one_out(leave_one_out, noisy, *levels)
    assert from_leave_one_out.numpy() == pytest.approx(truth.exp().numpy(), abs=1e-12)
    from_posterior = step_from_posterior(truth, noisy, *levels)
    assert from_posterior.numpy() == pytest.approx(truth.exp().numpy(), abs=1e-12)
    masked = predicted(MaskedTable(JOINT), [(MASK, 1, MASK)], noise_t)
    step = step_masked(
        masked, torch.tensor([MASK, 1, MASK]), levels_of(noise_t, 3), levels_of(0.0, 3), MASK
    )
    assert step[[0, 2]].numpy() == pytest.approx(masked[[0, 2]].exp().numpy(), abs=1e-12)
    assert step[1].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("prediction", ["masked", "leave_one_out", "posterior"])
def test_chained_steps_give_the_marginals_of_the_forward_process(prediction):
    """One position: stepping from noise in three steps leads to q(z_s) at each, at last to p(x)."""
    clean = np.array([0.5, 0.2, 0.3])
    is_masked = prediction == "masked"
    table = MaskedTable(clean) if is_masked else UniformTable(clean, prediction)
    kernel = masked_kernel if is_masked else uniform_kernel
    start = np.append(clean, 0.0) if is_masked else clean
    marginal = start @ kernel(0.0)
    states = torch.arange(len(start))
    for noise_t, noise_s in itertools.pairwise([1.0, 0.6, 0.25, 0.0]):
        levels = levels_of(noise_t, len(start)), levels_of(noise_s, len(start))
        log_probs = predicted(table, [[int(state)] for state in states], noise_t)
        step = reverse_step(prediction, log_probs, states, *levels, MASK if is_masked else None)
        marginal = marginal @ step.numpy()
        assert marginal == pytest.approx(start @ kernel(1 - noise_s), abs=1e-12)
    assert marginal == pytest.approx(start, abs=1e-12)


def test_the_last_step_keeps_a_token_by_the_odds_of_the_method():
    """1 + N alpha / (1 - alpha): 11 nats for N = 10,240 at t = 0.1."""
    vocab, t = 10_240, 0.1
    predictive = torch.full((1, vocab), 1 / vocab, dtype=torch.float64).log()
    step = step_from_leave_one_out(
        predictive, torch.tensor([7]), levels_of(t, 1), levels_of(0.0, 1)
    )[0]
    assert math.log(step[7] / step[8]) == pytest.approx(math.log(1 + vocab * (1 - t) / t))
    assert math.log(step[7] / step[8]) == pytest.approx(11, abs=0.5)


def test_tiny_noise_keeps_its_digits():
    predictive = torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64)
    t, s = 1e-12, 5e-13
    step = step_from_leave_one_out(
        predictive.log(), torch.tensor([0]), levels_of(t, 1), levels_of(s, 1)
    )[0]
    leaves = (t - s) * predictive[0, 1:] / (N * predictive[0, 0]) + (t - s) * s / N
    assert step[1:].numpy() == pytest.approx(leaves.numpy(), rel=1e-9)


@pytest.mark.parametrize(("noise_t", "noise_s"), [(0.5, 0.5), (0.3, 0.6), (1.1, 0.5), (0.5, -0.1)])
def test_a_step_up_or_outside_is_refused(noise_t, noise_s):
    log_probs = torch.zeros(1, N + 1, dtype=torch.float64).log_softmax(-1)
    for prediction in ("masked", "leave_one_out", "posterior"):
        with pytest.raises(ScoreError, match="a reverse step goes down in noise"):
            reverse_step(
                prediction, log_probs, torch.tensor([0]),
                levels_of(noise_t, 1), levels_of(noise_s, 1), MASK,
            )  # fmt: skip
    with pytest.raises(ScoreError, match="needs the mask symbol"):
        reverse_step("masked", log_probs, torch.tensor([0]), levels_of(0.5, 1), levels_of(0.1, 1))


def test_tokens_are_drawn_in_proportion():
    row = torch.tensor([0.0, 2.0, 0.0, 1.0, 5.0, 0.0])  # not normalised
    u = (torch.arange(80, dtype=torch.float64) + 0.5) / 80
    tokens = draw_tokens(row.expand(80, -1), u)
    assert torch.bincount(tokens, minlength=6).tolist() == [0, 20, 0, 10, 50, 0]
    edges = draw_tokens(row.expand(2, -1), torch.tensor([2.0**-54, 1.0], dtype=torch.float64))
    assert edges.tolist() == [1, 4]


def test_keyed_numbers_draw_the_same_tokens_in_any_batch():
    probabilities = torch.from_numpy(np.random.default_rng(0).random((50, 7)))
    u = torch.from_numpy(Draws(3).tokens(50, 1, Stream.MOVE)[0])
    together = draw_tokens(probabilities, u)
    alone = [int(draw_tokens(probabilities[[i]], u[[i]])) for i in range(50)]
    assert together.tolist() == alone
