"""Hugging Face causal LMs as `rescore.interfaces.CausalLM`."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget, length_batches, pad
from rescore.models import forest
from rescore.models.hub.limits import attention_span
from rescore.models.hub.masked_head import UNFIT

__all__ = ["HubCausalLM"]

logger = logging.getLogger("rescore")

#: Nodes of a row of a packed forest: the network's work grows with the nodes, that of its
#: attention with their square.
_PACKED_ROW = 512

#: Parents of the tree on which a network is tried: branches of several lengths and depths.
_PROBE = np.array([-1, 0, 1, 2, 3, 1, 5, 0, 7, 8, 9, 8, 11])

#: Largest difference that is rounding, as a share of what another context changes.
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4}


class HubCausalLM:
    """A causal LM on forests of prefixes.

    Forests go through a mask of ancestors and positions by depth where the architecture follows
    both, which is tried once on a small tree; else (ALiBi, recurrence) every path from a root to a
    leaf is a row of its own. `readout` needs the output layer alone where logits are exactly the
    output layer of the body's hidden states; else (soft-capped or scaled logits) the hidden states
    are logits.
    """

    def __init__(self, network: Any, device: str, dtype: torch.dtype) -> None:
        self.network = network.to(device=torch.device(device), dtype=dtype).eval()
        self.network.config.use_cache = False
        self.vocab_size: int = int(network.config.vocab_size)
        self._span = attention_span(network.config)
        tokens = torch.arange(len(_PROBE), device=device) * (self.vocab_size - 1) // len(_PROBE)
        self._head = _output_layer(self.network, tokens[None])
        self.sees_trees = self._try_trees(tokens)
        if not self.sees_trees:
            logger.debug(
                "%s does not follow a mask of ancestors: hypotheses are scored row by row",
                type(network).__name__,
            )

    @torch.no_grad()
    def encode(self, tokens: Tensor, parents: np.ndarray) -> Tensor:
        """Hidden states (n, W) of the nodes of a forest; a node sees its ancestors and itself."""
        depths = forest.depths(parents)
        deepest = int(depths.max())
        size = min(max(_PACKED_ROW, 4 * deepest), self._span)
        if self.sees_trees and size > 2 * deepest:
            return self._encode_packed(tokens, depths, forest.packed(parents, size))
        return self._encode_rows(tokens, forest.leaf_paths(parents))

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V) of the next token."""
        logits: Tensor = hidden if self._head is None else self._head(hidden)
        return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)

    def _encode_packed(self, tokens: Tensor, depths: np.ndarray, layout: forest.Packed) -> Tensor:
        nodes, is_new, seen = (
            torch.from_numpy(array).to(tokens.device)
            for array in (layout.nodes, layout.is_new, layout.seen)
        )
        dtype = self.network.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=tokens.device)
        mask.masked_fill_(~seen, torch.finfo(dtype).min)
        positions = torch.from_numpy(depths).to(tokens.device)[nodes]
        hidden = self._run(
            input_ids=tokens[nodes], attention_mask=mask[:, None], position_ids=positions
        )
        return hidden[is_new]

    def _encode_rows(self, tokens: Tensor, paths: list[np.ndarray]) -> Tensor:
        """Each path as a row, in batches of about as many padded tokens as there are nodes.

        Padding is on the right and is never seen.
        """
        hidden: Tensor | None = None
        for batch in length_batches([len(path) for path in paths], Budget(len(tokens))):
            nodes, padding = (
                torch.from_numpy(array).to(tokens.device)
                for array in pad([paths[i] for i in batch])
            )
            states = self._run(input_ids=tokens[nodes], attention_mask=(~padding).long())
            if hidden is None:
                hidden = states.new_empty(len(tokens), states.shape[-1])
            hidden[nodes[~padding]] = states[~padding]
        if hidden is None:
            raise ValueError("a forest without nodes")
        return hidden

    def _run(self, **inputs: Tensor) -> Tensor:
        """Hidden states (B, L, W), or logits where the output layer cannot be taken alone."""
        hidden: Tensor = (
            self.network(**inputs).logits
            if self._head is None
            else self.network.base_model(**inputs)[0]
        )
        return hidden

    @torch.no_grad()
    def _try_trees(self, tokens: Tensor) -> bool:
        """Whether a small tree in one pass gives what its rows give, up to rounding.

        Rounding is measured in what another context would change.
        """
        if self._span < len(_PROBE):
            return False
        layout = forest.packed(_PROBE, len(_PROBE))
        try:
            rows = self.readout(self._encode_rows(tokens, forest.leaf_paths(_PROBE)))
            other = self.readout(self._encode_rows(tokens, [np.arange(len(_PROBE))]))
            tree = self.readout(self._encode_packed(tokens, forest.depths(_PROBE), layout))
        except UNFIT:
            return False
        rounding = _ROUNDING.get(self.network.dtype, 0.05) * (other - rows).abs().max()
        return bool((tree - rows).abs().max() <= rounding)


@torch.no_grad()
def _output_layer(network: Any, tokens: Tensor) -> Any:
    """The layer that makes the logits of the hidden states of `network.base_model`, bit by bit.

    None where no such layer is found.
    """
    try:
        head = network.get_output_embeddings()
        logits = head(network.base_model(input_ids=tokens)[0])
        is_same = torch.equal(logits, network(input_ids=tokens).logits)
    except UNFIT:
        return None
    return head if is_same else None
