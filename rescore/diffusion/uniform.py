"""Likelihoods of uniform-state diffusion language models: NELBO and one-pass pseudo-likelihood.

Sources: Schiff et al. 2024 (UDLM), arXiv:2412.10193, eq. 18; Sahoo et al. 2025 (Duo),
arXiv:2506.10892. Noise schedule: linear, alpha = 1 - t.

A network trained with this loss predicts the *leave-one-out* distribution p(x_i | z without z_i)
although it sees z_i. One trained with plain cross-entropy predicts the posterior p(x_i | z), which
`leave_one_out` converts before any formula here uses it.

The network is told one noise level for the whole sequence, so unscored context is noised with the
rest; only fixed tokens (BOS), which training never noises, stay clean. The NELBOs of disjoint parts
of a sequence add up to that of the whole.

The token loss neither builds xbar nor cancels: with b = 1 - alpha = t, c = N alpha / b and
r_v = c x_theta[v], xbar_theta[v] = b (1 + r_v), and writing everything through log1p(r_v) removes
each difference of large near-equal numbers.

Letters in shapes: M positions, N vocabulary.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rescore.diffusion import readouts
from rescore.diffusion.draws import Draws
from rescore.diffusion.forward import corrupt_uniform
from rescore.diffusion.plans import Plan, estimate, exact_plan
from rescore.diffusion.queries import Query
from rescore.diffusion.readouts import Readings, Readout
from rescore.diffusion.sequence import ScoredSequence, Tokens, scored_sequence
from rescore.errors import ScoreError
from rescore.interfaces import Denoiser, Prediction
from rescore.types import Estimate

__all__ = [
    "check_prediction",
    "leave_one_out",
    "nelbo",
    "plan_nelbo",
    "plan_pll",
    "pll",
    "read_loss",
    "read_token",
    "token_loss",
]


def token_loss(log_probs: Tensor, noisy: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """The integrand -alpha' / (N alpha) * [...] of one position at noise level t, in nats (>= 0).

    log_probs (M, N): log of the network's leave-one-out predictive; -inf is legal. noisy, clean
    (M,) int64; noise (M,) = 1 - alpha in (0, 1). Returns (M,), in the dtype of `log_probs`.
    Source: UDLM, eq. 18. Exact check:
    tests/diffusion/test_uniform_loss.py::test_both_forms_of_the_loss_are_equal.
    """
    vocab = log_probs.shape[-1]
    # before the cast: float32 would round alpha near t = 1
    n_alpha = (vocab * (1 - noise)).to(log_probs.dtype)
    b = noise.to(log_probs.dtype)
    a = b + n_alpha
    r, ratio = torch.exp(log_probs), (n_alpha / b)[:, None]
    r = r * ratio if r.requires_grad else r.mul_(ratio)  # (M, N); the gradient of exp needs exp
    at_noisy = torch.log1p(r.gather(-1, noisy[:, None])).squeeze(-1)
    at_clean = torch.log1p(r.gather(-1, clean[:, None])).squeeze(-1)
    total = _sum_of_log1p(r, n_alpha / b)
    log_p_noisy = log_probs.gather(-1, noisy[:, None]).squeeze(-1)
    p_noisy, p_other = torch.exp(log_p_noisy), -torch.expm1(log_p_noisy.clamp(max=0.0))

    # z = x: N/xbar_theta[z] - N/a = N * n_alpha * (1 - p) / (xbar_theta[z] * a), and
    # log(xbar_theta[z] / a) = log1p(-lost), lost = n_alpha (1 - p) / a, which keeps its digits
    # where lost is small; near 1 the quotient itself does
    xbar_noisy = b + n_alpha * p_noisy
    lost = n_alpha * p_other / a
    log_share = torch.where(
        lost < 0.5, torch.log1p(-lost.clamp(max=0.5)), torch.log(xbar_noisy / a)
    )
    kept = vocab * n_alpha * p_other / (xbar_noisy * a)
    kept = kept + (b / a) * (at_noisy - total + (vocab - 1) * log_share)
    # z != x: N/xbar_theta[z] - N/b = -N * n_alpha * p / (xbar_theta[z] * b)
    moved = -vocab * n_alpha * p_noisy / (xbar_noisy * b)
    moved = moved + (vocab - 1) * at_noisy + at_clean - total
    moved = moved + (a / b) * (at_noisy - at_clean + torch.log1p(n_alpha / b))
    return torch.where(noisy == clean, kept, moved) / n_alpha


def _sum_of_log1p(r: Tensor, row_sums: Tensor) -> Tensor:
    """The sum of log1p(r) over each row of r (M, N) >= 0, with few logarithms; returns (M,).

    A logarithm costs ten multiplications, so the product of 2, 4 or 8 factors 1 + r is taken first,
    as (1 + a)(1 + b) - 1 = a + b + ab: all terms are positive, and no digit is lost. The number of
    factors keeps the product below the largest float of the dtype; it is at most
    (1 + S / k)^k for k factors of a row that sums to S (row_sums (M,), about right).
    Exact check: tests/diffusion/test_uniform_loss.py::
    test_few_logarithms_give_the_sum_of_all_of_them.
    """
    room = 0.9 * math.log(torch.finfo(r.dtype).max)
    largest = float(row_sums.max()) if len(row_sums) else 0.0
    factors = 2
    while factors <= 8 and r.shape[-1] > 1 and factors * math.log1p(largest / factors) < room:
        pairs = r.shape[-1] // 2
        a, b, alone = r[:, :pairs], r[:, pairs : 2 * pairs], r[:, 2 * pairs :]
        products = torch.addcmul(a + b, a, b)
        r = torch.cat((products, alone), -1) if alone.shape[-1] else products
        factors *= 2
    return torch.log1p(r).sum(-1)


def leave_one_out(log_posterior: Tensor, noisy: Tensor, noise: Tensor) -> Tensor:
    """Convert log p(x_i | z) to log p(x_i | z without z_i): divide by q(z_i | v) and normalise.

    log_posterior (M, N), noisy (M,) int64, noise (M,) = 1 - alpha > 0. Returns (M, N).
    Exact check: tests/diffusion/test_uniform_loss.py::test_the_posterior_converts_to_leave_one_out.
    """
    vocab = log_posterior.shape[-1]
    log_odds_of_staying = torch.log1p(vocab * (1 - noise) / noise)  # log of q(z | z) / q(z | v)
    at_noisy = log_odds_of_staying.to(log_posterior.dtype)
    shifted = log_posterior.scatter_add(-1, noisy[:, None], -at_noisy[:, None])
    return shifted.log_softmax(-1)


def _token_loss_of(readings: Readings) -> Tensor:
    return token_loss(readings.log_probs, readings.noisy, readings.truth, readings.noise)


def _of_posterior(readout: Readout, readings: Readings) -> Tensor:
    """What `readout` reads of the leave-one-out predictive that a posterior stands for."""
    log_probs = leave_one_out(readings.log_probs, readings.noisy, readings.noise)
    return readout(Readings(log_probs, readings.noisy, readings.noise, readings.clean))


def read_loss(prediction: Prediction) -> Readout:
    """The read-out of `nelbo`: the token loss (M,); a posterior is converted first."""
    return (
        _token_loss_of if prediction == "leave_one_out" else partial(_of_posterior, _token_loss_of)
    )


def read_token(prediction: Prediction) -> Readout:
    """The read-out of `pll`: log of the leave-one-out predictive at the true token, (M,)."""
    read = readouts.read_token
    return read if prediction == "leave_one_out" else partial(_of_posterior, read)


def check_prediction(denoiser: Denoiser) -> None:
    """Raise ScoreError for a denoiser that is no uniform-state one."""
    if denoiser.prediction not in ("leave_one_out", "posterior"):
        raise ScoreError(
            "uniform estimators need prediction leave_one_out or posterior, got"
            f" {denoiser.prediction!r}; use rescore.diffusion.masked"
        )


def plan_nelbo(
    sequence: ScoredSequence,
    vocab_size: int,
    random: Draws,
    *,
    draws: int = 8,
    power: int = 2,
    strata: bool = True,
) -> Plan:
    """The plan of `nelbo` for a checked sequence."""
    if draws < 1 or power < 1:
        raise ScoreError(f"draws and power must be at least 1, got draws {draws}, power {power}")
    u = random.levels(draws, strata)
    t = np.minimum(u**power, 1 - 1e-9)
    weights = power * u ** (power - 1)  # t has the density 1 / weight
    noisy = corrupt_uniform(sequence.tokens, t, random, vocab_size, sequence.fixed)
    positions = sequence.positions
    queries = [
        Query(noisy[draw], float(t[draw]), positions, sequence.tokens[positions])
        for draw in range(draws)
    ]
    return Plan(queries, weights, np.arange(draws), draws, strata=strata)


def nelbo(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
    power: int = 2,
    strata: bool = True,
) -> Estimate:
    """Estimate the negative evidence lower bound of tokens (length,) int64, given the length.

    Returns a cost in nats, summed over the `scored` tokens (bool (length,), default all), in
    `draws` evaluations. Tokens that are not scored are noised as well; give a ScoredSequence as
    `tokens` where some are fixed (BOS). t = u^power with weight power u^(power - 1), u in (0, 1)
    stratified: unbiased, and the variance at small t stays bounded for power >= 2. A posterior
    network is converted to its leave-one-out predictive first.

    Raises ScoreError for a masked denoiser or NaN.
    Source: UDLM, arXiv:2412.10193, eq. 18. Exact checks: tests/diffusion/test_uniform_nelbo.py::
    test_nelbo_by_quadrature_is_minus_log_p_for_leave_one_out_only and
    ::test_parts_of_a_sequence_add_up_to_minus_log_p.
    """
    check_prediction(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    plan = plan_nelbo(
        sequence, denoiser.vocab_size, Draws(seed), draws=draws, power=power, strata=strata
    )
    return estimate(denoiser, plan, read_loss(denoiser.prediction))


def plan_pll(sequence: ScoredSequence, t: float) -> Plan:
    """The plan of `pll` for a checked sequence: one query."""
    if not 0 < t < 1:
        raise ScoreError(f"t must lie between 0 and 1, got {t}")
    positions = sequence.positions
    query = Query(sequence.tokens, t, positions, sequence.tokens[positions])
    return exact_plan([query], np.ones(1))


def pll(
    denoiser: Denoiser, tokens: Tokens, *, t: float = 0.1, scored: np.ndarray | None = None
) -> Estimate:
    """One-pass pseudo-log-likelihood: sum_i log x_theta,i(x_i | z = x, t), a score in nats (<= 0).

    Costs ONE evaluation: the hypothesis itself is fed at noise level t, which says how wrong the
    other tokens may be. With leave-one-out output it tends to the exact pseudo-log-likelihood as
    t -> 0; a posterior is converted first.

    Raises ScoreError for a masked denoiser.
    Exact check: tests/diffusion/test_uniform_nelbo.py::test_one_pass_pll_tends_to_the_exact_pll.
    """
    check_prediction(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    return estimate(denoiser, plan_pll(sequence, t), read_token(denoiser.prediction))
