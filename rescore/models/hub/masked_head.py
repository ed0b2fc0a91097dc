"""The head of any Hugging Face masked LM alone: hidden states of chosen positions to logits.

Every architecture has another head (BERT's `cls`, RoBERTa's `lm_head`, DistilBERT's four layers of
its own), but all compute `head(base_model(...)[0])` in their `forward`, and pass `inputs_embeds` on
to the base model. So the head is the network itself on a base model that returns its
`inputs_embeds`. It is used only if it gives the logits of the whole network on a small input.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["UNFIT", "MaskedHead", "masked_head"]

#: What networks raise when they are given an input they do not know.
UNFIT = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError)

#: Largest difference of logits that is rounding, as a share of their spread.
_ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-5}


class _Identity(nn.Module):
    """Stands in for a base model: its input embeddings are the last hidden state."""

    def forward(
        self, input_ids: Tensor | None = None, *, inputs_embeds: Tensor, **_: object
    ) -> Any:
        """The output of a base model whose last hidden state is `inputs_embeds` (B, L, W)."""
        from transformers.modeling_outputs import BaseModelOutput  # noqa: PLC0415 - heavy, optional

        return BaseModelOutput(last_hidden_state=inputs_embeds)


class MaskedHead:
    """Hidden states (n, W) to logits (n, V); `network` has `_Identity` for its base model."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def __call__(self, hidden: Tensor) -> Tensor:
        """The logits of every hidden state by itself."""
        logits: Tensor = self._network(inputs_embeds=hidden[None]).logits
        return logits[0]


@torch.no_grad()
def masked_head(network: Any, tokens: Tensor) -> MaskedHead | None:
    """The head of a network; None where it cannot be taken alone.

    `tokens` (B, L) int64 are what it is tried on, in another order and number than the whole
    network sees them.
    """
    alone = _without_base(network)
    if alone is None:
        return None
    head = MaskedHead(alone)
    try:
        inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        expected = network(**inputs).logits.flatten(0, 1)
        hidden = network.base_model(**inputs)[0].flatten(0, 1)
        chosen = torch.arange(len(hidden) - 1, -1, -3, device=tokens.device)
        difference = (head(hidden[chosen]) - expected[chosen]).abs().max()
    except UNFIT:
        return None
    rounding = _ROUNDING.get(expected.dtype, 0.02) * (expected.max() - expected.min())
    return head if bool(difference <= rounding) else None


def _without_base(network: Any) -> Any:
    """A network with the same parameters whose base model is `_Identity`.

    None where the base model is the network itself.
    """
    name = network.base_model_prefix
    if name not in network._modules:
        return None
    head = copy.copy(network)
    head._modules = {**network._modules, name: _Identity()}
    return head
