"""Sequences to batches: sorted by length, within a budget of padded tokens that shrinks when memory runs out.

Batches are a pure function of lengths and budget, so the same sequences with the same budget give the same numbers to the last bit.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch

from rescore.errors import ScoreError

__all__ = [
    "BATCH_TOKENS",
    "CALL_TOKENS",
    "Budget",
    "halve",
    "in_batches",
    "is_out_of_memory",
    "length_batches",
    "pad",
]

T = TypeVar("T")

logger = logging.getLogger("rescore")

#: Padded tokens of one network call on a CPU: what fits its caches (at 4,096 the embedded models are a quarter slower).
BATCH_TOKENS = 1024

#: What one more network call costs, in tokens: less padding is not worth another call below this. Measured on a CPU with the embedded models.
CALL_TOKENS = 32

#: Of a GPU: a call costs more tokens there, and a batch may hold this share of the free memory.
_GPU_CALL_TOKENS = 1024
_GPU_SHARE = 0.6
_GPU_TOKENS = 262_144


@dataclass
class Budget:
    """How many padded tokens one network call may have, and what one more call costs in tokens.

    `tokens` shrinks when memory runs out, and stays small.
    """

    tokens: int = BATCH_TOKENS
    call_tokens: int = CALL_TOKENS

    @classmethod
    def of_gpu(cls, peak_bytes: int, trial_tokens: int, free_bytes: int) -> Budget:
        """The budget of a GPU with `free_bytes`, on which a trial call of `trial_tokens` took `peak_bytes` at most."""
        per_token = max(1, peak_bytes // trial_tokens)
        return cls(
            max(BATCH_TOKENS, min(_GPU_TOKENS, int(_GPU_SHARE * free_bytes / per_token))),
            _GPU_CALL_TOKENS,
        )

    def halve(self, tokens: int) -> None:
        """Take note that a call of `tokens` padded tokens did not fit."""
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        logger.warning(
            "out of memory in a batch of %d tokens; going on with at most %d", tokens, self.tokens
        )


def length_batches(lengths: Sequence[int], budget: Budget) -> Iterator[list[int]]:
    """Indices of the sequences, longest first, in batches of padded size at most `budget.tokens` (a longer sequence is alone).

    The sorted lengths are cut, between different ones, where padded tokens + `budget.call_tokens` for every call are least, by dynamic programming:
    O(sequences + different lengths squared). What then is above the budget is cut where it has to be.
    """
    if not lengths:
        return
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    ordered = np.array([max(1, lengths[i]) for i in order])
    starts = np.flatnonzero(
        np.diff(ordered, prepend=ordered[0] + 1)
    )  # of each run of equal lengths
    cuts = _cuts(ordered[starts], np.append(starts, len(order)), budget)
    for start, end in pairwise(cuts):
        size = max(1, budget.tokens // int(ordered[start]))
        for at in range(start, end, size):
            yield order[at : min(at + size, end)]


def _cuts(different: np.ndarray, starts: np.ndarray, budget: Budget) -> list[int]:
    """Where batches of one padded length begin, and the end. `different` (m,) falling lengths; `starts` (m + 1,) first sequence of each, and the end."""
    best, before = np.zeros(len(starts)), np.zeros(len(starts), np.int64)
    for end in range(1, len(starts)):
        rows = starts[end] - starts[:end]
        calls = np.ceil(rows / np.maximum(1, budget.tokens // different[:end]))
        costs = best[:end] + rows * different[:end] + budget.call_tokens * calls
        before[end] = int(costs.argmin())
        best[end] = costs[before[end]]
    cuts = [len(starts) - 1]
    while cuts[-1]:
        cuts.append(int(before[cuts[-1]]))
    return [int(starts[cut]) for cut in reversed(cuts)]


def in_batches(
    lengths: Sequence[int], evaluate: Callable[[list[int]], Sequence[T]], budget: Budget
) -> list[T]:
    """`evaluate(indices)` of batches of `length_batches`, put back in order; a batch that does not fit in memory is halved, and so are later ones.

    Raises ScoreError if a single sequence does not fit.
    """
    values: dict[int, T] = {}
    while len(values) < len(lengths):
        left = [i for i in range(len(lengths)) if i not in values]
        for batch in length_batches([lengths[i] for i in left], budget):
            rows = [left[i] for i in batch]
            try:
                values.update(zip(rows, evaluate(rows), strict=True))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                longest = max(lengths[i] for i in rows)
                halve(budget, longest * len(rows), len(rows), longest, error)
                break
    return [values[i] for i in range(len(lengths))]


def halve(budget: Budget, tokens: int, sequences: int, longest: int, error: Exception) -> None:
    """Make the budget smaller after a batch of `tokens` did not fit. Raises ScoreError if it was a single sequence."""
    if sequences == 1:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScoreError(
            f"out of memory in a sequence of {longest} tokens alone ({why}); use a smaller --window or model"
        ) from error
    budget.halve(tokens)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the host: torch says so in different ways."""
    text = str(error)
    return (
        isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        or "out of memory" in text
        or "can't allocate memory" in text
    )


def pad(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of zeros-padded arrays (batch, length), and padding (batch, length) bool, True = padding."""
    lengths = np.array([len(array) for array in arrays])
    padding = np.arange(lengths.max())[None] >= lengths[:, None]
    padded = np.zeros(padding.shape, dtype=arrays[0].dtype)
    padded[~padding] = np.concatenate(arrays)
    return padded, padding
