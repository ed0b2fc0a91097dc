"""The three training losses: nats summed over a batch, each an estimate of the negative log-likelihood bound of its model.

Shapes: tokens (B, L) int64 with BOS first and EOS last, padding (B, L) bool; both on the CPU, where the noise is drawn, so that every device sees the
same. BOS is never noised nor scored. Noise levels are of low discrepancy: one uniform number per batch, shifted by i / B for sentence i, so that a
batch covers (0, 1) evenly (Kingma et al. 2021, arXiv:2107.00630). Losses return (nats, number of positions that were read out).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from rescore.diffusion.uniform import leave_one_out, token_loss
from rescore.models.checkpoint import Objective, Prediction
from rescore.models.network import Network

__all__ = ["Loss", "ar_loss", "loss_of", "mdlm_loss", "posterior_loss", "usdm_loss"]

#: (network, tokens, padding, generator) -> (nats summed over the batch, positions read out)
Loss: TypeAlias = Callable[[Network, Tensor, Tensor, torch.Generator], tuple[Tensor, int]]

EPS = 1e-3  # training only: the smallest noise level of uniform-state diffusion


def _scored(tokens: Tensor, padding: Tensor) -> Tensor:
    """(B, L) bool: every token but BOS and padding."""
    scored = ~padding
    scored[:, 0] = False
    return scored


def _even(batch: int, generator: torch.Generator) -> Tensor:
    """(B,) low-discrepancy numbers in (0, 1), in random order."""
    shift = torch.rand(1, generator=generator)
    return ((torch.randperm(batch, generator=generator) + shift) / batch).clamp(1e-6, 1 - 1e-6)


def _read(
    network: Network, noisy: Tensor, noise: Tensor | None, padding: Tensor, where: Tensor
) -> Tensor:
    """Raw float32 logits (n, V) at the n positions of `where`, an index into the flattened batch."""
    device = network.embedding.weight.device
    hidden = network.encode(
        noisy.to(device), None if noise is None else noise.to(device), padding.to(device)
    )
    return network.readout(hidden.flatten(0, 1)[where.to(device)]).float()


def ar_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """-sum_i log p(x_i | x_<i), EOS included."""
    del generator
    where = (~padding[:, 1:]).flatten().nonzero().squeeze(1)
    logits = _read(network, tokens[:, :-1], None, padding[:, :-1], where)
    return functional.cross_entropy(
        logits, tokens[:, 1:].flatten()[where].to(logits.device), reduction="sum"
    ), len(where)


def mdlm_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """The masked NELBO by exact counts: S / n times the cross-entropy of n masked tokens, n of low discrepancy over 1..S.

    Source: Sahoo et al. 2024, arXiv:2406.07524, eq. 10, in the exact-count form of Nie et al. 2025 (LLaDA), arXiv:2502.09992, eq. 14.
    """
    scored = _scored(tokens, padding)
    size = scored.sum(1)  # S, (B,)
    count = torch.ceil(size * _even(len(tokens), generator)).long().clamp(min=1)  # n, (B,)
    u = torch.rand(tokens.shape, generator=generator).masked_fill(~scored, 2.0)
    hidden_tokens = u.argsort(1).argsort(1) < count[:, None]  # the n smallest u
    noisy = tokens.masked_fill(hidden_tokens, network.config.vocab_size - 1)
    where = hidden_tokens.flatten().nonzero().squeeze(1)
    logits = _read(
        network, noisy, (count / size) if network.config.time_input else None, padding, where
    )[:, :-1]  # the mask itself is never predicted
    losses = functional.cross_entropy(
        logits, tokens.flatten()[where].to(logits.device), reduction="none"
    )
    weight = (size / count)[:, None].expand_as(tokens).flatten()[where]
    return (weight.to(logits.device) * losses).sum(), len(where)


def _moved(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """u (B,), t = u^2 (B,), noisy tokens (B, L), the scored positions (n,) and the logits there (n, V)."""
    scored = _scored(tokens, padding)
    u = _even(len(tokens), generator)
    t = (u**2).clamp(EPS, 1 - EPS)
    moved = scored & (torch.rand(tokens.shape, generator=generator) < t[:, None])
    noisy = torch.where(
        moved, torch.randint(network.config.vocab_size, tokens.shape, generator=generator), tokens
    )
    where = scored.flatten().nonzero().squeeze(1)
    return u, t, noisy, where, _read(network, noisy, t, padding, where)


def _uniform_nelbo(
    network: Network,
    tokens: Tensor,
    padding: Tensor,
    generator: torch.Generator,
    *,
    posterior: bool,
) -> tuple[Tensor, int]:
    u, t, noisy, where, logits = _moved(network, tokens, padding, generator)
    clean, corrupted, levels, weight = (
        values.flatten()[where].to(logits.device)
        for values in (
            tokens,
            noisy,
            t[:, None].expand_as(tokens),
            (2 * u)[:, None].expand_as(tokens),
        )
    )
    log_probs = logits.log_softmax(-1)
    if posterior:
        log_probs = leave_one_out(log_probs, corrupted, levels)
    return (weight * token_loss(log_probs, corrupted, clean, levels)).sum(), len(where)


def usdm_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """The uniform-state NELBO with t = u^2 (weight 2u), which bounds the variance at small t; trains the leave-one-out predictive.

    Source: Schiff et al. 2024 (UDLM), arXiv:2412.10193, eq. 18.
    """
    return _uniform_nelbo(network, tokens, padding, generator, posterior=False)


def posterior_nelbo(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """The same bound for a network that predicts the posterior, converted to the leave-one-out predictive: for validation."""
    return _uniform_nelbo(network, tokens, padding, generator, posterior=True)


def posterior_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Plain cross-entropy of the clean tokens given all noisy ones, t = u^2: trains the posterior p(x_i | z), not a bound of anything."""
    _, _, _, where, logits = _moved(network, tokens, padding, generator)
    return functional.cross_entropy(
        logits, tokens.flatten()[where].to(logits.device), reduction="sum"
    ), len(where)


def loss_of(objective: Objective, prediction: Prediction) -> tuple[Loss, Loss]:
    """The loss to train with and the bound to validate with."""
    if prediction == "posterior":
        return posterior_loss, posterior_nelbo
    loss: Loss = {"ar": ar_loss, "mdlm": mdlm_loss, "usdm": usdm_loss}[objective]
    return loss, loss
