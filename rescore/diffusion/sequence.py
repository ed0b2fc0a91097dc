"""The tokens that an estimator scores, and the part that each of them plays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from rescore.errors import ScoreError

__all__ = ["ScoredSequence", "Tokens", "scored_sequence"]


@dataclass(frozen=True)
class ScoredSequence:
    """One sequence as the network sees it; arrays of shape (length,).

    `tokens` int64. `scored` bool: the tokens whose likelihood is estimated; the others are context.
    `fixed` bool: tokens outside the diffusion, such as BOS. They are never corrupted or scored, and
    they do not count in the noise level.
    """

    tokens: np.ndarray
    scored: np.ndarray
    fixed: np.ndarray

    @cached_property
    def positions(self) -> np.ndarray:
        """The scored positions, (S,) int64."""
        return np.flatnonzero(self.scored)

    @cached_property
    def diffused(self) -> int:
        """How many tokens take part in the diffusion: what n hidden tokens are a share of."""
        return int(np.count_nonzero(~self.fixed))


#: What the public estimators take: token ids, or a sequence with its `scored` and `fixed` parts.
Tokens: TypeAlias = Sequence[int] | np.ndarray | Tensor | ScoredSequence


def scored_sequence(
    tokens: Tokens,
    scored: np.ndarray | None = None,
    *,
    fixed: np.ndarray | None = None,
    vocab_size: int | None = None,
) -> ScoredSequence:
    """The checked sequence of token ids (length,); by default all are scored and none is fixed.

    Raises ScoreError that says what is wrong with a shape, a dtype or an id; also if nothing is
    scored, or if a fixed token is.
    """
    if isinstance(tokens, ScoredSequence):
        if scored is not None or fixed is not None:
            raise ScoreError("a ScoredSequence says itself what is scored and fixed; pass it alone")
        return scored_sequence(
            tokens.tokens, tokens.scored, fixed=tokens.fixed, vocab_size=vocab_size
        )
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ScoreError(
            f"tokens must be integers of shape (length,), got {ids.dtype} of shape {ids.shape}"
        )
    sequence = ScoredSequence(
        ids.astype(np.int64),
        _mask("scored", scored, ids, default=True),
        _mask("fixed", fixed, ids, default=False),
    )
    if not sequence.scored.any():
        raise ScoreError("no token is scored; score at least the end of the sentence")
    if (sequence.scored & sequence.fixed).any():
        raise ScoreError("fixed tokens cannot be scored; leave them out of `scored`")
    if vocab_size is not None and (ids.min() < 0 or ids.max() >= vocab_size):
        raise ScoreError(f"token ids must lie in 0..{vocab_size - 1}, got {ids.min()}..{ids.max()}")
    return sequence


def _mask(name: str, mask: Any, ids: np.ndarray, *, default: bool) -> np.ndarray:
    """`mask` as a bool array of the shape of `ids`; `default` everywhere if it is None."""
    array = np.full(ids.shape, default) if mask is None else np.asarray(mask)
    if array.shape != ids.shape or array.dtype != bool:
        raise ScoreError(
            f"{name} must be bool of shape {ids.shape}, got {array.dtype} of shape {array.shape}"
        )
    return array
