"""The three training losses: nats summed over a batch, each an estimate of the negative log-likelihood bound of its model.

Shapes: tokens (B, L) int64 with BOS first and EOS last, padding (B, L) bool. BOS is never noised nor scored. Noise levels are of low discrepancy:
one uniform number per batch, shifted by i / B for sentence i, so that a batch covers (0, 1) evenly (Kingma et al. 2021, arXiv:2107.00630).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from rescore.diffusion.uniform import token_loss
from rescore.models.network import Network

__all__ = ["LOSSES", "ar_loss", "mdlm_loss", "usdm_loss"]

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


def ar_loss(network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator) -> Tensor:
    """-sum_i log p(x_i | x_<i), EOS included."""
    del generator
    hidden = network.encode(tokens[:, :-1], None, padding[:, :-1])
    wanted = ~padding[:, 1:]
    return functional.cross_entropy(network.readout(hidden[wanted]).float(), tokens[:, 1:][wanted], reduction="sum")


def mdlm_loss(network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator) -> Tensor:
    """The masked NELBO by exact counts: S / n times the cross-entropy of n masked tokens, n of low discrepancy over 1..S.

    Source: Sahoo et al. 2024, arXiv:2406.07524, eq. 10, in the exact-count form of Nie et al. 2025 (LLaDA), arXiv:2502.09992, eq. 14.
    """
    scored = _scored(tokens, padding)
    size = scored.sum(1)  # S, (B,)
    count = torch.ceil(size * _even(len(tokens), generator)).long().clamp(min=1)  # n, (B,)
    u = torch.rand(tokens.shape, generator=generator).masked_fill(~scored, 2.0)
    hidden_tokens = u.argsort(1).argsort(1) < count[:, None]  # the n smallest u
    noisy = tokens.masked_fill(hidden_tokens, network.config.vocab_size - 1)
    noise = (count / size) if network.config.time_input else None
    hidden = network.encode(noisy, noise, padding)
    logits = network.readout(hidden[hidden_tokens]).float()[:, :-1]  # the mask itself is never predicted
    losses = functional.cross_entropy(logits, tokens[hidden_tokens], reduction="none")
    weight = (size / count)[:, None].expand_as(tokens)[hidden_tokens]
    return (weight * losses).sum()


def usdm_loss(network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator) -> Tensor:
    """The uniform-state NELBO with t = u^2 (weight 2u), which bounds the variance at small t; trains the leave-one-out predictive.

    Source: Schiff et al. 2024 (UDLM), arXiv:2412.10193, eq. 18.
    """
    scored = _scored(tokens, padding)
    u = _even(len(tokens), generator)
    t = (u**2).clamp(EPS, 1 - EPS)
    moved = scored & (torch.rand(tokens.shape, generator=generator) < t[:, None])
    noisy = torch.where(moved, torch.randint(network.config.vocab_size, tokens.shape, generator=generator), tokens)
    hidden = network.encode(noisy, t, padding)
    log_probs = network.readout(hidden[scored]).float().log_softmax(-1)
    losses = token_loss(log_probs, noisy[scored], tokens[scored], t[:, None].expand_as(tokens)[scored])
    return ((2 * u)[:, None].expand_as(tokens)[scored] * losses).sum()


LOSSES = {"ar": ar_loss, "mdlm": mdlm_loss, "usdm": usdm_loss}
