"""One reverse (ancestral) step: q(z_s | z_t), from noise level 1 - alpha_t to a lower 1 - alpha_s.

Each position steps on its own, given what the denoiser predicts for it at level t:

    masked           the prediction p(x | z); a visible token stays
    leave_one_out    uniform states, from p(x_i | z without z_i)
    posterior        uniform states, from p(x_i | z)

With a perfect denoiser the step is the posterior of the forward process, and at alpha_s = 1 it
returns p(x_i | z). For uniform states the odds of keeping z_i are then multiplied by
1 + N alpha_t / (1 - alpha_t), so a last step from a small t hardly edits.

The arguments are noise levels 1 - alpha, not alphas: small ones keep their digits.

Sources: Sahoo et al. 2024 (MDLM), arXiv:2406.07524, section 3; Schiff et al. 2024 (UDLM),
arXiv:2412.10193, section 3.
Letters in shapes: M positions, V vocabulary (N in the formulas of uniform states).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rescore.errors import ScoreError
from rescore.interfaces import Prediction

__all__ = [
    "draw_tokens",
    "reverse_step",
    "step_from_leave_one_out",
    "step_from_posterior",
    "step_masked",
]


def step_masked(
    log_probs: Tensor, noisy: Tensor, noise_t: Tensor, noise_s: Tensor, mask_id: int
) -> Tensor:
    """q(z_s | z_t) of masked states, probabilities (M, V).

    log_probs (M, V): the prediction, -inf at the mask symbol; noisy (M,) int64; noise_t, noise_s
    (M,) float64, 0 <= noise_s < noise_t <= 1. At a mask: v with (alpha_s - alpha_t) /
    (1 - alpha_t) x_theta(v), else it stays masked. Raises ScoreError for other noise levels.
    Exact check: tests/diffusion/test_reverse.py::test_a_masked_step_is_bayes_rule.
    """
    _check_levels(noise_t, noise_s)
    stays_masked = (noise_s / noise_t).to(log_probs.dtype)[:, None]
    revealed = (1 - stays_masked) * log_probs.exp()
    kept = functional.one_hot(noisy, log_probs.shape[-1]).to(log_probs.dtype)
    return torch.where((noisy == mask_id)[:, None], revealed + stays_masked * kept, kept)


def step_from_leave_one_out(
    log_probs: Tensor, noisy: Tensor, noise_t: Tensor, noise_s: Tensor
) -> Tensor:
    """q(z_s | z_t) of uniform states from the leave-one-out predictive, probabilities (M, V).

    Shapes and Raises as `step_masked`; log_probs (M, N) is log p(x_i | z without z_i).
    With a = alpha_t / alpha_s and x the predictive:

        [alpha_t N x [v=z] + (a - alpha_t) [v=z] + (alpha_s - alpha_t) x + (1-a) (1-alpha_s) / N]
        / [alpha_t N x(z) + 1 - alpha_t]

    Exact check: tests/diffusion/test_reverse.py::test_a_uniform_step_is_bayes_rule.
    """
    _check_levels(noise_t, noise_s)
    predictive = log_probs.double().exp()
    at_noisy = predictive.gather(-1, noisy[:, None])
    total = (1 - noise_t)[:, None] * log_probs.shape[-1] * at_noisy + noise_t[:, None]
    step = _uniform_step(predictive / total, noisy, noise_t, noise_s, scale=1 / total)
    return step.to(log_probs.dtype)


def step_from_posterior(
    log_probs: Tensor, noisy: Tensor, noise_t: Tensor, noise_s: Tensor
) -> Tensor:
    """q(z_s | z_t) of uniform states from the posterior p(x_i | z), probabilities (M, V).

    Shapes and Raises as `step_masked`. With r(v) = posterior(v) / (N alpha_t [v=z] + 1 - alpha_t):

        alpha_t N r [v=z] + ((a - alpha_t) [v=z] + (1-a) (1-alpha_s) / N) sum(r)
        + (alpha_s - alpha_t) r

    Exact check: tests/diffusion/test_reverse.py::test_a_uniform_step_is_bayes_rule.
    """
    _check_levels(noise_t, noise_s)
    vocab = log_probs.shape[-1]
    is_noisy = functional.one_hot(noisy, vocab).double()
    ratio = log_probs.double().exp() / (
        vocab * (1 - noise_t)[:, None] * is_noisy + noise_t[:, None]
    )
    scale = ratio.sum(-1, keepdim=True)
    return _uniform_step(ratio, noisy, noise_t, noise_s, scale).to(log_probs.dtype)


def _uniform_step(
    ratio: Tensor, noisy: Tensor, noise_t: Tensor, noise_s: Tensor, scale: Tensor
) -> Tensor:
    """alpha_t N r [v=z] + ((a-alpha_t) [v=z] + (1-a)(1-alpha_s)/N) scale + (alpha_s-alpha_t) r."""
    vocab = ratio.shape[-1]
    is_noisy = functional.one_hot(noisy, vocab).double()
    level_t, level_s = noise_t.double()[:, None], noise_s.double()[:, None]
    alpha_t, alpha_s = 1 - level_t, 1 - level_s
    alpha_drop = level_t - level_s  # alpha_s - alpha_t
    stays = alpha_t * level_s / alpha_s  # a - alpha_t
    moves = alpha_drop / alpha_s * level_s / vocab  # (1 - a) (1 - alpha_s) / N
    return (
        alpha_t * vocab * ratio * is_noisy
        + (stays * is_noisy + moves) * scale
        + (alpha_drop * ratio)
    )


def reverse_step(
    prediction: Prediction,
    log_probs: Tensor,
    noisy: Tensor,
    noise_t: Tensor,
    noise_s: Tensor,
    mask_id: int | None = None,
) -> Tensor:
    """The step that belongs to a denoiser's `prediction`, probabilities (M, V).

    Raises ScoreError for a masked prediction without a mask symbol.
    """
    if prediction == "leave_one_out":
        return step_from_leave_one_out(log_probs, noisy, noise_t, noise_s)
    if prediction == "posterior":
        return step_from_posterior(log_probs, noisy, noise_t, noise_s)
    if mask_id is None:
        raise ScoreError("a masked reverse step needs the mask symbol; pass mask_id")
    return step_masked(log_probs, noisy, noise_t, noise_s, mask_id)


def draw_tokens(probabilities: Tensor, u: Tensor) -> Tensor:
    """One token per row, (M,) int64: the inverse distribution function at u (M,) in (0, 1).

    probabilities (M, V), not all 0 in a row; they are normalised. A token of probability 0 is never
    drawn. With keyed u (`rescore.diffusion.draws`) the tokens do not depend on the batch.
    Exact check: tests/diffusion/test_reverse.py::test_tokens_are_drawn_in_proportion.
    """
    cumulative = probabilities.double().cumsum(-1).contiguous()
    total = cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, u.double()[:, None] * total, right=True)
    last_possible = torch.searchsorted(cumulative, total.contiguous())  # u may round to 1
    return torch.minimum(drawn, last_possible).squeeze(-1)


def _check_levels(noise_t: Tensor, noise_s: Tensor) -> None:
    if not bool(((noise_s >= 0) & (noise_s < noise_t) & (noise_t <= 1)).all()):
        raise ScoreError(
            "a reverse step goes down in noise, 0 <= noise_s < noise_t <= 1; got noise_t"
            f" {noise_t.tolist()}, noise_s {noise_s.tolist()}"
        )
