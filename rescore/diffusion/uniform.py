"""Likelihoods of uniform-state diffusion language models: NELBO and the one-pass pseudo-log-likelihood.

Source: Schiff et al. 2024 (UDLM), arXiv:2412.10193, eq. 18; Sahoo et al. 2025 (Duo), arXiv:2506.10892. Noise schedule: linear, alpha = 1 - t.

A network trained with this loss predicts the *leave-one-out* distribution p(x_i | z without z_i) although it sees z_i; one trained with plain
cross-entropy predicts the posterior p(x_i | z), which is converted (`leave_one_out`) before any formula here uses it.

The token loss neither builds xbar nor cancels: with b = 1 - alpha = t, c = N alpha / b and r_v = c x_theta[v], xbar_theta[v] = b (1 + r_v), and
writing everything through log1p(r_v) removes each difference of large near-equal numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from rescore.diffusion import masked
from rescore.diffusion.draws import Draws, Stream
from rescore.diffusion.queries import Denoiser, Plan, Prediction, Query, Readout, check_tokens, run
from rescore.errors import ScoreError
from rescore.types import Estimate

__all__ = [
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

    log_probs (M, N): log of the network's leave-one-out predictive; noisy, clean (M,) int64; noise (M,) = 1 - alpha in (0, 1).
    Returns (M,), in the dtype of `log_probs`. -inf in `log_probs` is legal.
    Exact check: tests/diffusion/test_uniform.py::test_both_forms_of_the_loss_are_equal.
    """
    vocab = log_probs.shape[-1]
    n_alpha = (vocab * (1 - noise)).to(
        log_probs.dtype
    )  # before the cast: float32 would round alpha near t = 1
    b = noise.to(log_probs.dtype)
    a = b + n_alpha
    log1p_r = torch.log1p(torch.exp(log_probs) * (n_alpha / b)[:, None])  # (M, N)
    total = log1p_r.sum(-1)
    at_noisy = log1p_r.gather(-1, noisy[:, None]).squeeze(-1)
    at_clean = log1p_r.gather(-1, clean[:, None]).squeeze(-1)
    log_p_noisy = log_probs.gather(-1, noisy[:, None]).squeeze(-1)
    p_noisy, p_other = torch.exp(log_p_noisy), -torch.expm1(log_p_noisy.clamp(max=0.0))

    # z = x: N/xbar_theta[z] - N/a = N * n_alpha * (1 - p) / (xbar_theta[z] * a), and log(xbar_theta[z] / a) = log1p(-lost), lost = n_alpha (1 - p) / a,
    # which keeps its digits where lost is small; near 1 the quotient itself does
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


def leave_one_out(log_posterior: Tensor, noisy: Tensor, noise: Tensor) -> Tensor:
    """Convert log p(x_i | z) to log p(x_i | z without z_i), in log space: divide by q(z_i | v) and normalise.

    log_posterior (M, N), noisy (M,), noise (M,) = 1 - alpha > 0. Returns (M, N).
    """
    vocab = log_posterior.shape[-1]
    at_noisy = torch.log1p(vocab * (1 - noise) / noise).to(
        log_posterior.dtype
    )  # log of q(z | z) / q(z | v)
    shifted = log_posterior.scatter_add(-1, noisy[:, None], -at_noisy[:, None])
    return shifted.log_softmax(-1)


def read_loss(prediction: Prediction) -> Readout:
    """The read-out of `nelbo`: the token loss, converting a posterior first."""
    return token_loss if prediction == "leave_one_out" else partial(_of_posterior, token_loss)


def read_token(prediction: Prediction) -> Readout:
    """The read-out of `pll`: log of the leave-one-out predictive at the true token, converting a posterior first."""
    return (
        masked.read_token
        if prediction == "leave_one_out"
        else partial(_of_posterior, masked.read_token)
    )


def _of_posterior(
    read: Readout, log_probs: Tensor, noisy: Tensor, clean: Tensor, noise: Tensor
) -> Tensor:
    """What `read` finds in a posterior's leave-one-out predictive."""
    return read(leave_one_out(log_probs, noisy, noise), noisy, clean, noise)


def _check(denoiser: Denoiser) -> None:
    if denoiser.prediction not in ("leave_one_out", "posterior"):
        raise ScoreError(
            f"uniform estimators need prediction leave_one_out or posterior, got {denoiser.prediction!r}; use rescore.diffusion.masked"
        )


def plan_nelbo(
    tokens: np.ndarray,
    scored: np.ndarray,
    vocab_size: int,
    random: Draws,
    *,
    draws: int = 8,
    power: int = 2,
    strata: bool = True,
) -> Plan:
    """The plan of `nelbo` for tokens (length,) and scored (length,) that have been checked."""
    if draws < 1 or power < 1:
        raise ScoreError(f"draws and power must be at least 1, got draws {draws}, power {power}")
    u = random.levels(draws, strata)
    t = np.minimum(
        u**power, 1 - 1e-9
    )  # t has density (1 / power) u^(1 - power): the weight is its inverse
    hide, move = (
        random.tokens(len(tokens), draws, stream) for stream in (Stream.HIDE, Stream.MOVE)
    )
    moved = scored & (hide < t[:, None])  # (draws, length)
    noisy = np.where(
        moved, np.minimum((move * vocab_size).astype(np.int64), vocab_size - 1), tokens
    )
    where = np.flatnonzero(scored)
    queries = [Query(noisy[k], float(t[k]), where, tokens[where]) for k in range(draws)]
    return Plan(queries, power * u ** (power - 1), np.arange(draws), draws, strata=strata)


def nelbo(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
    power: int = 2,
    strata: bool = True,
) -> Estimate:
    """Estimate the negative evidence lower bound of tokens (length,) int64 under uniform-state diffusion, conditional on the length.

    Returns a cost in nats, summed over the `scored` tokens (bool (length,), default all), in `draws` evaluations. t = u^power with weight
    power u^(power - 1), u in (0, 1) stratified: unbiased, and the variance at small t stays bounded for power >= 2.
    A posterior network is converted to its leave-one-out predictive first. Raises ScoreError for a masked denoiser or NaN.
    Source: UDLM, arXiv:2412.10193, eq. 18. Exact check: tests/diffusion/test_uniform.py::test_nelbo_by_quadrature_is_minus_log_p_for_leave_one_out_only.
    """
    _check(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    plan = plan_nelbo(
        ids, mask, denoiser.vocab_size, Draws(seed), draws=draws, power=power, strata=strata
    )
    return plan.combine(run(denoiser, [plan], read_loss(denoiser.prediction))[0])


def plan_pll(tokens: np.ndarray, scored: np.ndarray, t: float) -> Plan:
    """The plan of `pll` for checked tokens: one query."""
    if not 0 < t < 1:
        raise ScoreError(f"t must lie between 0 and 1, got {t}")
    where = np.flatnonzero(scored)
    return Plan(
        [Query(tokens, t, where, tokens[where])],
        np.ones(1),
        np.zeros(1, dtype=np.int64),
        1,
        exact=True,
    )


def pll(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    t: float = 0.1,
    scored: np.ndarray | None = None,
) -> Estimate:
    """One-pass pseudo-log-likelihood: sum_i log x_theta,i(x_i | z = x, t), a score in nats (<= 0), in ONE evaluation.

    The hypothesis itself is fed at noise level t, which says how wrong the other tokens may be. With leave-one-out output it tends to the exact
    pseudo-log-likelihood as t -> 0; a posterior is converted first. Raises ScoreError for a masked denoiser.
    Exact check: tests/diffusion/test_uniform.py::test_one_pass_pll_tends_to_the_exact_pll.
    """
    _check(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    plan = plan_pll(ids, mask, t)
    return plan.combine(run(denoiser, [plan], read_token(denoiser.prediction))[0])
