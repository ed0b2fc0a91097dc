"""Which tokens of a batch are hidden while training: drawn on the CPU, the same on every device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Masks", "draw_masks", "even_levels", "scored_positions"]


class Masks(NamedTuple):
    """Hidden positions (B, L) bool; scored tokens S and hidden ones n of each row, (B,) int64."""

    is_hidden: Tensor
    sizes: Tensor
    counts: Tensor

    @property
    def scale(self) -> Tensor:
        """S / n of the row of each hidden position, (hidden,), in the order of `is_hidden`."""
        scale = (self.sizes / self.counts)[:, None].expand_as(self.is_hidden)
        return scale[self.is_hidden]


def scored_positions(padding: Tensor) -> Tensor:
    """(B, L) bool: every token but BOS and padding."""
    scored = ~padding
    scored[:, 0] = False
    return scored


def draw_masks(scored: Tensor, generator: torch.Generator, lowest: float = 0.0) -> Masks:
    """Hide n of the S scored tokens of each row; n has low discrepancy over 1..S.

    With `lowest`, n covers the shares from there to 1 alone.
    """
    size = scored.sum(1)
    levels = lowest + (1 - lowest) * even_levels(len(scored), generator)
    count = torch.ceil(size * levels).long().clamp(min=1)
    u = torch.rand(scored.shape, generator=generator).masked_fill(~scored, 2.0)
    is_hidden = u.argsort(1).argsort(1) < count[:, None]  # the n smallest u
    return Masks(is_hidden, size, count)


def even_levels(batch: int, generator: torch.Generator) -> Tensor:
    """(B,) low-discrepancy numbers in (0, 1), in random order."""
    shift = torch.rand(1, generator=generator)
    return ((torch.randperm(batch, generator=generator) + shift) / batch).clamp(1e-6, 1 - 1e-6)
