"""The training losses: nats summed over a batch, and the bounds that validation reports.

Shapes: B sentences, L positions, n positions that are read out, D width. Tokens
(B, L) int64 have BOS first and EOS last; padding (B, L) bool, True = padding. Both stay on the CPU,
where the noise is drawn, so that every device sees the same noise. BOS is neither noised nor
scored. Noise levels have low discrepancy: one uniform number per batch, shifted by i / B for
sentence i, so that a batch covers (0, 1) evenly (Kingma et al. 2021, arXiv:2107.00630).
Which objective is trained by which loss: rescore.models.objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from rescore.diffusion.uniform import leave_one_out, token_loss
from rescore.models.network import Network
from rescore.models.objectives import ModelPrediction, objective_named
from rescore.registry import resolve
from rescore.train.masking import draw_masks, even_levels, scored_positions
from rescore.train.readout import by_rows, cross_entropy
from rescore.train.transfer import to_device

__all__ = [
    "Loss",
    "ar_loss",
    "losses_of",
    "mdlm_loss",
    "posterior_loss",
    "posterior_nelbo",
    "usdm_loss",
]

#: (network, tokens, padding, generator) -> (nats summed over the batch, positions read out)
Loss: TypeAlias = Callable[[Network, Tensor, Tensor, torch.Generator], tuple[Tensor, int]]

EPS = 1e-3  # training only: the smallest noise level of uniform-state diffusion


def losses_of(objective: str, prediction: ModelPrediction) -> tuple[Loss, Loss]:
    """Return the loss to train with and the bound to validate with.

    Raises ModelError for an unknown objective.
    """
    names = objective_named(objective).losses[prediction]
    return resolve(names.loss), resolve(names.bound)


def ar_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """-sum_i log p(x_i | x_<i), EOS included.

    Exact check: tests/train/test_losses.py::test_the_ar_loss_is_minus_the_score.
    """
    del generator
    where = (~padding[:, 1:]).flatten().nonzero().squeeze(1)
    hidden = _encode(network, tokens[:, :-1], None, padding[:, :-1], where)
    targets = to_device(tokens[:, 1:].flatten()[where], hidden.device)
    return cross_entropy(hidden, network.embedding.weight, targets), len(where)


def mdlm_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """The masked NELBO by exact counts: S / n times the cross-entropy of n masked tokens.

    S is the number of scored tokens; n has low discrepancy over 1..S.
    Source: Sahoo et al. 2024, arXiv:2406.07524, eq. 10, in the exact-count form of Nie et al. 2025
    (LLaDA), arXiv:2502.09992, eq. 14.
    Exact check: tests/train/test_losses.py::test_the_mdlm_loss_averages_to_the_exact_nelbo.
    """
    is_hidden, size, count = draw_masks(scored_positions(padding), generator)
    noisy = tokens.masked_fill(is_hidden, network.config.vocab_size - 1)
    where = is_hidden.flatten().nonzero().squeeze(1)
    noise = count / size if network.config.time_input else None
    hidden = _encode(network, noisy, noise, padding, where)
    targets = to_device(tokens.flatten()[where], hidden.device)
    scale = to_device((size / count)[:, None].expand_as(tokens).flatten()[where], hidden.device)
    pieces = network.embedding.weight[:-1]  # the mask symbol is never predicted
    return cross_entropy(hidden, pieces, targets, scale), len(where)


def usdm_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """The uniform-state NELBO with t = u^2 (weight 2u), which bounds the variance at small t.

    Trains the leave-one-out predictive.
    Source: Schiff et al. 2024 (UDLM), arXiv:2412.10193, eq. 18.
    Exact check: tests/train/test_losses.py::test_the_usdm_loss_averages_to_the_uniform_nelbo.
    """
    sample = _corrupted(network, tokens, padding, generator)

    def predictive(logits: Tensor, part: slice) -> Tensor:
        del part
        return logits.log_softmax(-1)

    return _uniform_nelbo(network, sample, predictive)


def posterior_nelbo(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """The same bound for a network that predicts the posterior: for validation.

    The posterior is converted to the leave-one-out predictive first. Exact check: test_losses.py::
    test_the_posterior_bound_equals_the_leave_one_out_bound_of_the_same_model in tests/train.
    """
    sample = _corrupted(network, tokens, padding, generator)

    def predictive(logits: Tensor, part: slice) -> Tensor:
        return leave_one_out(logits.log_softmax(-1), sample.noisy[part], sample.levels[part])

    return _uniform_nelbo(network, sample, predictive)


def posterior_loss(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> tuple[Tensor, int]:
    """Plain cross-entropy of the clean tokens given all noisy ones, with t = u^2.

    Trains the posterior p(x_i | z); it bounds nothing.
    """
    sample = _corrupted(network, tokens, padding, generator)
    loss = cross_entropy(sample.hidden, network.embedding.weight, sample.clean)
    return loss, len(sample.clean)


class _Corrupted(NamedTuple):
    """The n scored positions of a batch in which tokens were redrawn uniformly.

    Tokens `clean` and `noisy` (n,), noise levels t `levels` (n,), the weight dt/du of each `weight`
    (n,), and the hidden states there, `hidden` (n, D).
    """

    clean: Tensor
    noisy: Tensor
    levels: Tensor
    weight: Tensor
    hidden: Tensor


def _corrupted(
    network: Network, tokens: Tensor, padding: Tensor, generator: torch.Generator
) -> _Corrupted:
    """Redraw each scored token with probability t = u^2, u even over the batch, and encode."""
    scored = scored_positions(padding)
    u = even_levels(len(tokens), generator)
    t = (u**2).clamp(EPS, 1 - EPS)
    is_redrawn = scored & (torch.rand(tokens.shape, generator=generator) < t[:, None])
    drawn = torch.randint(network.config.vocab_size, tokens.shape, generator=generator)
    noisy = torch.where(is_redrawn, drawn, tokens)
    where = scored.flatten().nonzero().squeeze(1)
    hidden = _encode(network, noisy, t, padding, where)

    def at_scored(values: Tensor) -> Tensor:
        return to_device(values.expand_as(tokens).flatten()[where], hidden.device)

    return _Corrupted(
        clean=at_scored(tokens),
        noisy=at_scored(noisy),
        levels=at_scored(t[:, None]),
        weight=at_scored((2 * u)[:, None]),
        hidden=hidden,
    )


def _uniform_nelbo(
    network: Network, sample: _Corrupted, predictive: Callable[[Tensor, slice], Tensor]
) -> tuple[Tensor, int]:
    """The bound of one draw.

    `predictive` makes leave-one-out log-probabilities (rows, V) of raw logits (rows, V).
    """

    def loss(logits: Tensor, part: slice) -> Tensor:
        log_probs = predictive(logits, part)
        losses = token_loss(log_probs, sample.noisy[part], sample.clean[part], sample.levels[part])
        return (sample.weight[part] * losses).sum()

    return by_rows(sample.hidden, network.embedding.weight, loss), len(sample.clean)


def _encode(
    network: Network, noisy: Tensor, noise: Tensor | None, padding: Tensor, where: Tensor
) -> Tensor:
    """Hidden states (n, D) at the positions `where` (n,) of the flattened batch."""
    device = network.embedding.weight.device
    is_padded = bool(padding.any())  # asked here, on the CPU: asking a GPU waits for its queue
    hidden = network.encode(
        to_device(noisy, device),
        None if noise is None else to_device(noise, device),
        to_device(padding, device) if is_padded else None,
    )
    return hidden.flatten(0, 1).index_select(0, to_device(where, device))
