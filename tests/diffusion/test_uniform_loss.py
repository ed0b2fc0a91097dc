"""The token loss of uniform-state diffusion, and what turns a posterior into its input."""

from __future__ import annotations

import pytest
import torch
from tabular import UniformTable, markov_joint

from rescore.diffusion import uniform

JOINT = markov_joint(3, 3, 0.75)


def textbook_loss(log_probs, noisy, clean, noise):
    """The integrand exactly as UDLM prints it, with xbar built densely."""
    vocab = log_probs.shape[-1]
    alpha = 1 - noise
    predicted = vocab * alpha[:, None] * log_probs.exp() + noise[:, None]
    true = vocab * alpha[:, None] * torch.nn.functional.one_hot(clean, vocab) + noise[:, None]
    predicted_z, true_z = predicted.gather(1, noisy[:, None]), true.gather(1, noisy[:, None])
    summed = (true / true_z * torch.log(true * predicted_z / (true_z * predicted))).sum(1)
    return ((vocab / predicted_z - vocab / true_z).squeeze(1) + summed) / (vocab * alpha)


def random_case(vocab, count=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    log_probs = (
        torch.randn(count, vocab, dtype=torch.float64, generator=generator).mul(2).log_softmax(-1)
    )
    clean = torch.randint(vocab, (count,), generator=generator)
    noisy = torch.where(
        torch.rand(count, generator=generator) < 0.5,
        clean,
        torch.randint(vocab, (count,), generator=generator),
    )
    noise = torch.rand(count, dtype=torch.float64, generator=generator) ** 2 * 0.998 + 1e-3
    return log_probs, noisy, clean, noise


@pytest.mark.parametrize("vocab", [3, 50, 4096])
def test_both_forms_of_the_loss_are_equal(vocab):
    case = random_case(vocab)
    expected, stable = textbook_loss(*case), uniform.token_loss(*case)
    assert torch.all((expected - stable).abs() <= 1e-12 * expected.abs().clamp(min=1))


@pytest.mark.parametrize("vocab", [3, 4096])
def test_the_loss_keeps_its_digits_in_float32(vocab):
    log_probs, noisy, clean, noise = random_case(vocab)
    noise = torch.cat((noise, torch.full_like(noise, 1e-6), torch.full_like(noise, 1 - 1e-3)))
    log_probs, noisy, clean = log_probs.repeat(3, 1), noisy.repeat(3), clean.repeat(3)
    exact = uniform.token_loss(log_probs, noisy, clean, noise)
    rounded = uniform.token_loss(log_probs.float(), noisy, clean, noise)
    assert torch.all((exact - rounded).abs() <= 2e-5 * exact.abs().clamp(min=1))


def test_the_loss_is_zero_for_a_certain_and_right_network_and_never_negative():
    log_probs = torch.full((4, 5), -torch.inf, dtype=torch.float64)
    log_probs[:, 2] = 0.0
    noisy, clean = torch.tensor([2, 2, 0, 4]), torch.full((4,), 2)
    noise = torch.tensor([1e-6, 0.5, 0.3, 0.999], dtype=torch.float64)
    assert torch.allclose(
        uniform.token_loss(log_probs, noisy, clean, noise),
        torch.zeros(4, dtype=torch.float64),
        atol=1e-9,
    )
    assert torch.all(uniform.token_loss(*random_case(7)) >= -1e-12)


@pytest.mark.parametrize("t", [1e-3, 1e-6, 1e-9, 1e-12])
def test_the_loss_survives_tiny_noise_at_a_token_the_network_finds_impossible(t):
    """1 - p rounds to 1 in float32, b / a to 0: log1p(-n_alpha (1 - p) / a) would be -inf."""
    log_probs = torch.log(
        torch.tensor([[1e-9, 0.5, 0.5 - 1e-9], [0.9, 0.05, 0.05]], dtype=torch.float64)
    )
    same = torch.tensor([0, 0])
    levels = torch.tensor([t, t], dtype=torch.float64)
    exact = uniform.token_loss(log_probs, same, same, levels)
    assert torch.isfinite(exact).all()
    assert torch.allclose(
        uniform.token_loss(log_probs.float(), same, same, levels).double(), exact, rtol=1e-4
    )


@pytest.mark.parametrize("largest", [1e-12, 1.0, 1e4, 1e9, 1e15, 1e35])
@pytest.mark.parametrize("vocab", [1, 2, 3, 5, 31, 4096])
@pytest.mark.parametrize("even", [True, False])
def test_few_logarithms_give_the_sum_of_all_of_them(vocab, largest, even):
    """Rows that spread their sum evenly make the largest products, and may not overflow."""
    generator = torch.Generator().manual_seed(2)
    spread = 0.0 if even else 8.0
    shares = (torch.randn(20, vocab, generator=generator) * spread).softmax(-1)
    r = shares * largest
    exact = torch.log1p(r.double()).sum(-1)
    total = uniform._sum_of_log1p(r, torch.full((20,), largest))
    assert torch.allclose(total.double(), exact, rtol=2e-6, atol=0)
    total = uniform._sum_of_log1p(r.double(), torch.full((20,), largest))
    assert torch.allclose(total, exact, rtol=1e-14, atol=0)


def test_no_rows_have_no_sum():
    assert uniform._sum_of_log1p(torch.zeros(0, 5), torch.zeros(0)).shape == (0,)


def test_the_posterior_converts_to_leave_one_out():
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randint(3, (50, 3), generator=generator)
    noise = torch.rand(50, dtype=torch.float64, generator=generator).clamp(0.01)
    padding = torch.zeros_like(noisy, dtype=torch.bool)
    posterior = UniformTable(JOINT, "posterior").log_probs(noisy, noise, padding).flatten(0, 1)
    expected = UniformTable(JOINT, "leave_one_out").log_probs(noisy, noise, padding).flatten(0, 1)
    converted = uniform.leave_one_out(posterior, noisy.flatten(), noise.repeat_interleave(3))
    assert torch.allclose(converted, expected, atol=1e-10)
    assert not torch.allclose(posterior, expected, atol=0.1)
