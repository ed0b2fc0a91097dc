"""The uniform-state estimators against exact enumeration and quadrature."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import MaskedTable, UniformTable, markov_joint, random_joint

from rescore.diffusion import masked, uniform
from rescore.diffusion.draws import Draws
from rescore.diffusion.queries import run
from rescore.errors import ScoreError

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
    expected, found = textbook_loss(*case), uniform.token_loss(*case)
    assert torch.all((expected - found).abs() <= 1e-12 * expected.abs().clamp(min=1))


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


def enumerate_losses(table, tokens, t) -> tuple[torch.Tensor, torch.Tensor]:
    """For every noise level t (T,) and every noisy sequence z: q(z | x) and the summed token losses, each (T, Z)."""
    noisy = torch.tensor(list(itertools.product(range(table.size), repeat=table.length)))
    clean, levels = torch.tensor(tokens), torch.from_numpy(t)[:, None, None]
    probability = torch.where(
        noisy == clean, 1 - levels + levels / table.size, levels / table.size
    ).prod(2)
    rows, noise = noisy.repeat(len(t), 1), torch.from_numpy(t).repeat_interleave(len(noisy))
    log_probs = table.log_probs(rows, noise, torch.zeros_like(rows, dtype=torch.bool)).flatten(0, 1)
    losses = uniform.read_loss(table.prediction)(
        log_probs, rows.flatten(), clean.repeat(len(rows)), noise.repeat_interleave(table.length)
    )
    return probability, losses.view(len(t), len(noisy), table.length).sum(2)


def quadrature_nelbo(table, tokens, nodes=100) -> float:
    """The NELBO by Gauss-Legendre over u (t = u^3) and enumeration of all noisy sequences."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    u = (points + 1) / 2
    probability, losses = enumerate_losses(table, tokens, u**3)
    return float((torch.from_numpy(weights / 2 * 3 * u**2) * (probability * losses).sum(1)).sum())


def test_nelbo_by_quadrature_is_minus_log_p_for_leave_one_out_only():
    class TakenForLeaveOneOut(UniformTable):
        """A posterior that claims to be the leave-one-out predictive."""

        def __init__(self, joint):
            super().__init__(joint, "leave_one_out")

        def log_probs(self, noisy, noise, padding):
            self.prediction = "posterior"
            found = super().log_probs(noisy, noise, padding)
            self.prediction = "leave_one_out"
            return found

    for tokens in [(0, 1, 2), (2, 2, 0), (1, 1, 1)]:
        truth = -math.log(JOINT[tokens])
        assert quadrature_nelbo(UniformTable(JOINT, "leave_one_out"), tokens) == pytest.approx(
            truth, abs=1e-6
        )
        assert quadrature_nelbo(UniformTable(JOINT, "posterior"), tokens) == pytest.approx(
            truth, abs=1e-6
        )  # converted by read_loss
        assert abs(quadrature_nelbo(TakenForLeaveOneOut(JOINT), tokens) - truth) > 0.05


def test_the_posterior_converts_to_leave_one_out():
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randint(3, (50, 3), generator=generator)
    noise = torch.rand(50, dtype=torch.float64, generator=generator).clamp(0.01)
    padding = torch.zeros_like(noisy, dtype=torch.bool)
    posterior = UniformTable(JOINT, "posterior").log_probs(noisy, noise, padding).flatten(0, 1)
    expected = UniformTable(JOINT, "leave_one_out").log_probs(noisy, noise, padding).flatten(0, 1)
    found = uniform.leave_one_out(posterior, noisy.flatten(), noise.repeat_interleave(3))
    assert torch.allclose(found, expected, atol=1e-10)
    assert not torch.allclose(posterior, expected, atol=0.1)


def estimates(table, tokens, seeds, **options):
    ids = np.asarray(tokens)
    plans = [
        uniform.plan_nelbo(ids, np.ones(len(ids), bool), table.vocab_size, Draws(seed), **options)
        for seed in range(seeds)
    ]
    found = run(table, plans, uniform.read_loss(table.prediction))
    results = [plan.combine(values) for plan, values in zip(plans, found, strict=True)]
    return np.array([r.value for r in results]), np.array([r.std_error for r in results])


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
@pytest.mark.parametrize(("power", "strata"), [(2, True), (3, True), (2, False), (3, False)])
def test_monte_carlo_agrees_with_the_exact_value(power, strata, prediction):
    tokens = (2, 0, 1)
    values, errors = estimates(
        UniformTable(JOINT, prediction), tokens, 500, draws=8, power=power, strata=strata
    )
    assert abs(values.mean() + math.log(JOINT[tokens])) < 4 * values.std() / math.sqrt(len(values))
    assert math.sqrt((errors**2).mean()) / values.std() == pytest.approx(1, abs=0.15)


def test_many_draws_cover_the_exact_value():
    tokens = (0, 1, 2)
    values, errors = estimates(UniformTable(JOINT, "leave_one_out"), tokens, 50, draws=256)
    assert (np.abs(values + math.log(JOINT[tokens])) < 4 * errors).mean() > 0.95


def exact_second_moment(table, tokens, power, smallest, nodes=100) -> float:
    """E[estimate^2] of one draw with t = u^power, t >= smallest, by quadrature over log t and enumeration of all noisy sequences."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    low = math.log(smallest)
    t = np.minimum(np.exp(low * (1 - points) / 2), 1 - 1e-9)
    probability, losses = enumerate_losses(table, tokens, t)
    weight = weights * -low / 2 * t * power * t ** (1 - 1 / power)
    return float((torch.from_numpy(weight) * (probability * losses**2).sum(1)).sum())


def test_drawing_t_as_a_power_bounds_the_variance():
    table, tokens = UniformTable(JOINT, "leave_one_out"), (2, 0, 1)
    moment = {
        (p, cut): exact_second_moment(table, tokens, p, cut)
        for p in (1, 2, 3)
        for cut in (1e-3, 1e-8)
    }
    assert moment[1, 1e-8] > 5 * moment[1, 1e-3]  # diverges
    assert moment[2, 1e-8] < 1.5 * moment[2, 1e-3]
    assert moment[3, 1e-8] < 1.1 * moment[3, 1e-3]
    values, _ = estimates(table, tokens, 2000, draws=1, power=3)
    assert (values**2).mean() == pytest.approx(moment[3, 1e-8], rel=0.3)


def test_unscored_tokens_are_never_moved():
    tokens, scored = np.array([0, 1, 2]), np.array([False, True, False])
    for query in uniform.plan_nelbo(tokens, scored, 3, Draws(3), draws=50).queries:
        assert query.noisy[0] == 0
        assert query.noisy[2] == 2
        assert query.positions.tolist() == [1]


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
def test_one_pass_pll_tends_to_the_exact_pll(prediction):
    table = UniformTable(JOINT, prediction)
    for tokens in [(0, 1, 2), (2, 2, 0)]:
        exact = masked.pll(MaskedTable(JOINT), tokens).value
        errors = [abs(uniform.pll(table, tokens, t=t).value - exact) for t in (0.3, 1e-2, 1e-6)]
        assert errors[2] < 1e-4
        assert errors[2] < errors[0]
        assert uniform.pll(table, tokens).evaluations == 1


def test_impossible_sequences_stay_finite_where_they_may():
    joint = random_joint(3, 3, seed=8, impossible=0.4)
    table = UniformTable(joint, "leave_one_out")
    for tokens in itertools.product(range(3), repeat=3):
        if joint[tokens] > 0:
            assert math.isfinite(uniform.nelbo(table, tokens).value)
            assert math.isfinite(uniform.pll(table, tokens).value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform.nelbo(MaskedTable(JOINT), (0, 1, 2)), "use rescore.diffusion.masked"),
        (
            lambda: uniform.pll(UniformTable(JOINT, "posterior"), (0, 1, 2), t=0.0),
            "t must lie between 0 and 1",
        ),
        (
            lambda: uniform.nelbo(UniformTable(JOINT, "posterior"), (0, 1, 2), draws=0),
            "draws and power must be at least 1",
        ),
        (
            lambda: uniform.nelbo(UniformTable(JOINT, "posterior"), (0, 1, 3)),
            "token ids must lie in 0..2",
        ),
    ],
)
def test_bad_calls_say_what_was_wrong(call, message):
    with pytest.raises(ScoreError, match=message):
        call()


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
