"""Blocks that compute some positions and keep the keys and values of all.

A position whose token does not change need not be computed again: its keys and values stay, and
others go on seeing them. What this is equal to depends on the mask:

    prompt          sees itself alone, so its states never change: exact
    causal text     a token sees what is before it, so its states never change: exact
    bidirectional   exact if all positions of the text are computed; if only some are, the kept
                    states are those that their positions had when they were last computed

Shadows are queries whose keys nobody else sees: a mask symbol at the place of a token, which says
how likely that token is given the others.

Letters in shapes: B rows, q positions that are computed, n positions that are seen, H heads, K
width of one head, D width.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from rescore.models.conditioned import ConditionedBlock, Memory
from rescore.models.network import Block, attend

__all__ = ["KeptStates"]


class KeptStates:
    """Keys and values (B, H, n, K) of every block, in slots; `live` of them can be seen.

    `blocks` are those of a `Network`, or of a `ConditionedNetwork` with its `memory`. `products`
    counts multiplications of the blocks, all rows together.
    """

    def __init__(
        self, blocks: Iterable[nn.Module], slots: int, rows: int = 1, memory: Memory | None = None
    ) -> None:
        self.blocks, self.memory = list(blocks), memory
        first = _inner(self.blocks[0])
        weight, heads = first.qkv.weight, first.heads
        shape = (rows, heads, slots, weight.shape[1] // heads)
        self._keys = [weight.new_zeros(shape) for _ in self.blocks]
        self._values = [weight.new_zeros(shape) for _ in self.blocks]
        self._per_position = sum(map(_products, self.blocks))
        self.live, self.products = 0, 0

    def advance(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        slots: Tensor,
        seen: Tensor | None = None,
    ) -> Tensor:
        """States (B, q, D) after the last block, of embeddings (B, q, D).

        angles: cosine and sine (q, K / 2). slots (s,) int64: where the first s positions are kept,
        below `live`; the other q - s are shadows. seen (q, live + shadows) bool; None: all is seen.
        """
        count = len(slots)
        for layer, outer in enumerate(self.blocks):
            block = _inner(outer)
            q, k, v = block.project(block.attention_norm(x), angles)
            self._keys[layer].index_copy_(2, slots, k[:, :, :count])
            self._values[layer].index_copy_(2, slots, v[:, :, :count])
            keys, values = (
                states[layer][:, :, : self.live] for states in (self._keys, self._values)
            )
            if count < x.shape[1]:
                keys = torch.cat((keys, k[:, :, count:]), dim=2)
                values = torch.cat((values, v[:, :, count:]), dim=2)
            out = attend(q, keys, values, seen, causal=False)
            x = x + block.merge(out)
            if isinstance(outer, ConditionedBlock) and self.memory is not None:
                states = self.memory.states[layer]
                x = x + outer.listen(outer.cross_norm(x), angles, states, self.memory.seen)
            x = block.feed(x)
        self._count(x, self.live + x.shape[1] - count)
        return x

    def rows(self, index: Tensor) -> None:
        """Keep the rows `index` (n,) int64, in that order; rows may repeat."""
        self._keys = [keys[index] for keys in self._keys]
        self._values = [values[index] for values in self._values]

    def _count(self, x: Tensor, seen: int) -> None:
        batch, positions, width = x.shape
        if self.memory is not None:
            seen += self.memory.seen.shape[-1]
        attention = len(self.blocks) * 2 * seen * width
        self.products += batch * positions * (self._per_position + attention)


def _inner(block: nn.Module) -> Block:
    inner = block.block if isinstance(block, ConditionedBlock) else block
    if not isinstance(inner, Block):
        raise TypeError(f"{type(inner).__name__} is no block of ours")
    return inner


def _products(block: nn.Module) -> int:
    """Multiplications of a block's matrices for one position."""
    return sum(weight.numel() for weight in block.parameters() if weight.ndim == 2)
