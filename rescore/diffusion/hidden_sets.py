"""Which tokens a draw of the masked NELBO hides, and with which weight.

A set sampler turns uniform numbers into weighted hidden sets. The estimate of one draw is the sum
over its sets of weight x (sum of the hidden tokens' negative log-probabilities). The default,
`exact_count`, is here; others are in `rescore.diffusion.published`.

Letters in shapes: K draws, S scored tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

__all__ = ["HiddenSet", "SetSampler", "exact_count", "smallest"]


class HiddenSet(NamedTuple):
    """One set of scored tokens to hide, `hidden` (S,) bool, with its weight in its draw.

    `draw` is the number of the draw, or `rescore.diffusion.plans.EVERY_DRAW`.
    """

    draw: int
    hidden: np.ndarray
    weight: float


#: (levels (K,), u (K, S)), uniform on (0, 1) -> hidden sets. An empty set adds 0 and costs nothing.
SetSampler: TypeAlias = Callable[[np.ndarray, np.ndarray], list[HiddenSet]]


def smallest(u: np.ndarray, count: int) -> np.ndarray:
    """(S,) bool: the `count` smallest of u (S,). Ties, of probability zero, go to the first."""
    hidden = np.zeros(len(u), dtype=bool)
    hidden[np.argsort(u, kind="stable")[:count]] = True
    return hidden


def exact_count(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """n uniform over 1..S, weight S / n: unbiased.

    Source: Nie et al. 2025 (LLaDA), arXiv:2502.09992, eq. 14. Exact check:
    tests/diffusion/test_nelbo.py::test_every_unbiased_set_sampler_agrees_with_enumeration.
    """
    size = u.shape[1]
    counts = np.maximum(1, np.ceil(size * levels)).astype(int)
    return [
        HiddenSet(draw, smallest(u[draw], count), size / count) for draw, count in enumerate(counts)
    ]
