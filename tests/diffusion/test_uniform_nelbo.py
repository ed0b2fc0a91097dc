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
from rescore.diffusion.plans import estimates as estimates_of
from rescore.diffusion.readouts import Readings
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError

JOINT = markov_joint(3, 3, 0.75)


def enumerate_losses(table, tokens, t, scored=None, noised=None):
    """For every level t (T,) and noisy sequence z: q(z | x) and the summed losses, (T, Z) each.

    `scored`: the positions whose losses are summed; `noised`: those that are corrupted (default
    all).
    """
    noisy = torch.tensor(list(itertools.product(range(table.size), repeat=table.length)))
    clean, levels = torch.tensor(tokens), torch.from_numpy(t)[:, None, None]
    if noised is not None:
        levels = levels * torch.tensor(noised)
    kept = (noisy == clean).double()
    probability = ((1 - levels) * kept + levels / table.size).prod(2)
    rows, noise = noisy.repeat(len(t), 1), torch.from_numpy(t).repeat_interleave(len(noisy))
    log_probs = table.log_probs(rows, noise, torch.zeros_like(rows, dtype=torch.bool)).flatten(0, 1)
    readings = Readings(
        log_probs, rows.flatten(), noise.repeat_interleave(table.length), clean.repeat(len(rows))
    )
    losses = uniform.read_loss(table.prediction)(readings).view(len(t), len(noisy), table.length)
    if scored is not None:
        losses = losses[..., scored]
    return probability, losses.sum(2)


def quadrature_nelbo(table, tokens, scored=None, noised=None, nodes=100) -> float:
    """The NELBO by Gauss-Legendre over u (t = u^3) and enumeration of all noisy sequences."""
    points, weights = np.polynomial.legendre.leggauss(nodes)
    u = (points + 1) / 2
    probability, losses = enumerate_losses(table, tokens, u**3, scored, noised)
    return float((torch.from_numpy(weights / 2 * 3 * u**2) * (probability * losses).sum(1)).sum())


def test_nelbo_by_quadrature_is_minus_log_p_for_leave_one_out_only():
    class TakenForLeaveOneOut(UniformTable):
        """A posterior that claims to be the leave-one-out predictive."""

        def __init__(self, joint):
            super().__init__(joint, "leave_one_out")

        def log_probs(self, noisy, noise, padding):
            self.prediction = "posterior"
            posterior = super().log_probs(noisy, noise, padding)
            self.prediction = "leave_one_out"
            return posterior

    for tokens in [(0, 1, 2), (2, 2, 0), (1, 1, 1)]:
        truth = -math.log(JOINT[tokens])
        assert quadrature_nelbo(UniformTable(JOINT, "leave_one_out"), tokens) == pytest.approx(
            truth, abs=1e-6
        )
        assert quadrature_nelbo(UniformTable(JOINT, "posterior"), tokens) == pytest.approx(
            truth, abs=1e-6
        )  # converted by read_loss
        assert abs(quadrature_nelbo(TakenForLeaveOneOut(JOINT), tokens) - truth) > 0.05


def estimates(table, tokens, seeds, scored=None, **options):
    """Values and standard errors of `nelbo` for many seeds, (seeds,) each."""
    sequence = scored_sequence(tokens, scored)
    plans = [
        uniform.plan_nelbo(sequence, table.vocab_size, Draws(seed), **options)
        for seed in range(seeds)
    ]
    results = estimates_of(table, plans, uniform.read_loss(table.prediction))
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
    """E[estimate^2] of one draw with t = u^power, t >= smallest.

    By quadrature over log t and enumeration of all noisy sequences.
    """
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


PARTS = [[True, False, False], [False, True, False], [True, False, True], [False, True, True]]


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
@pytest.mark.parametrize("part", PARTS)
def test_parts_of_a_sequence_add_up_to_minus_log_p(part, prediction):
    """Unscored context is noised like the rest, so a part is its share of the whole NELBO.

    With clean context, of which the network is told that it is noisy, it is something else.
    """
    joint, tokens, scored = markov_joint(3, 3, 0.9), (1, 1, 1), np.array(part)
    table = UniformTable(joint, prediction)
    share, other_share = (quadrature_nelbo(table, tokens, where) for where in (scored, ~scored))
    assert share + other_share == pytest.approx(-math.log(joint[tokens]), abs=1e-6)
    clean_context = quadrature_nelbo(table, tokens, scored, noised=part)
    assert abs(clean_context - share) > 0.25

    values, _ = estimates(table, tokens, 150, scored, draws=32, power=3)
    margin = 4 * values.std() / math.sqrt(len(values))
    assert abs(values.mean() - share) < margin < abs(clean_context - share)


def test_context_is_noised_and_fixed_tokens_stay():
    scored, fixed = np.array([False, True, False]), np.array([True, False, False])
    sequence = scored_sequence((0, 1, 2), scored, fixed=fixed)
    plan = uniform.plan_nelbo(sequence, 3, Draws(3), draws=50)
    noisy = np.array([query.noisy for query in plan.queries])
    assert np.all(noisy[:, 0] == 0)
    assert np.any(noisy[:, 1] != 1)
    assert np.any(noisy[:, 2] != 2)
    assert all(query.positions.tolist() == [1] for query in plan.queries)


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
