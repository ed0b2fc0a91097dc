"""Sequences to batches: sorted by length, within a budget of padded tokens.

Batches are a pure function of lengths and budget, so the same sequences with the same budget give
the same numbers to the last bit. The budget shrinks when memory runs out.
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

#: Padded tokens of one network call on a CPU: what fits its caches (with 4,096 the embedded models
#: are a quarter slower).
BATCH_TOKENS = 1024

#: What one more network call costs, in tokens: saving less padding than this is not worth another
#: call. Measured on a CPU with the embedded models.
CALL_TOKENS = 32

#: On a GPU a call costs more tokens, and a batch may fill this share of the free memory.
_GPU_CALL_TOKENS = 1024
_GPU_SHARE = 0.6
_GPU_TOKENS = 262_144


@dataclass
class Budget:
    """How many padded tokens one network call may have, and what a call costs in tokens.

    `tokens` shrinks when memory runs out, and stays small.
    """

    tokens: int = BATCH_TOKENS
    call_tokens: int = CALL_TOKENS

    @classmethod
    def of_gpu(cls, peak_bytes: int, trial_tokens: int, free_bytes: int) -> Budget:
        """The budget of a GPU with `free_bytes`.

        `peak_bytes` is the most that a trial call of `trial_tokens` padded tokens needed.
        """
        bytes_per_token = max(1, peak_bytes // trial_tokens)
        fitting = int(_GPU_SHARE * free_bytes / bytes_per_token)
        return cls(max(BATCH_TOKENS, min(_GPU_TOKENS, fitting)), _GPU_CALL_TOKENS)

    def halve(self, tokens: int) -> None:
        """Shrink after a call of `tokens` padded tokens did not fit."""
        self.tokens = max(1, min(self.tokens, tokens) // 2)
        logger.warning(
            "out of memory in a batch of %d tokens; continuing with at most %d", tokens, self.tokens
        )


def length_batches(lengths: Sequence[int], budget: Budget) -> Iterator[list[int]]:
    """Indices of the sequences, longest first, in batches within the budget.

    A batch has at most `budget.tokens` padded tokens; a longer sequence is alone. The sorted
    lengths are cut, between different ones, where padded tokens + `budget.call_tokens` a call are
    least, by dynamic programming in O(sequences + different lengths squared); parts above the
    budget are cut further.
    """
    if not lengths:
        return
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    sorted_lengths = np.array([max(1, lengths[index]) for index in order])
    is_new_length = np.diff(sorted_lengths, prepend=sorted_lengths[0] + 1) != 0
    starts = np.flatnonzero(is_new_length)  # of each run of equal lengths
    cuts = _cuts(sorted_lengths[starts], np.append(starts, len(order)), budget)
    for start, end in pairwise(cuts):
        rows = max(1, budget.tokens // int(sorted_lengths[start]))
        for first in range(start, end, rows):
            yield order[first : min(first + rows, end)]


def _cuts(run_lengths: np.ndarray, starts: np.ndarray, budget: Budget) -> list[int]:
    """Where the parts of one padded length begin, and the end.

    `run_lengths` (m,): the different lengths, falling; `starts` (m + 1,): the first sequence of
    each, and the end. `least[end]` is the least cost of the first `end` runs, `before[end]` the run
    at which their last part begins.
    """
    least, before = np.zeros(len(starts)), np.zeros(len(starts), np.int64)
    for end in range(1, len(starts)):
        rows = starts[end] - starts[:end]
        calls = np.ceil(rows / np.maximum(1, budget.tokens // run_lengths[:end]))
        costs = least[:end] + rows * run_lengths[:end] + budget.call_tokens * calls
        before[end] = int(costs.argmin())
        least[end] = costs[before[end]]
    cuts = [len(starts) - 1]
    while cuts[-1]:
        cuts.append(int(before[cuts[-1]]))
    return [int(starts[cut]) for cut in reversed(cuts)]


def in_batches(
    lengths: Sequence[int], evaluate: Callable[[list[int]], Sequence[T]], budget: Budget
) -> list[T]:
    """`evaluate(indices)` of every batch, one value a sequence, in the order of `lengths`.

    A batch that does not fit in memory is halved, and so are later ones. Raises ScoreError if a
    single sequence does not fit.
    """
    values: dict[int, T] = {}
    while len(values) < len(lengths):
        remaining = [index for index in range(len(lengths)) if index not in values]
        for batch in length_batches([lengths[index] for index in remaining], budget):
            indices = [remaining[row] for row in batch]
            try:
                values.update(zip(indices, evaluate(indices), strict=True))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                longest = max(lengths[index] for index in indices)
                halve(budget, longest * len(indices), len(indices), longest, error)
                break  # batch the rest anew, within the smaller budget
    return [values[index] for index in range(len(lengths))]


def halve(budget: Budget, tokens: int, sequences: int, longest: int, error: Exception) -> None:
    """Shrink the budget after a batch of `tokens` padded tokens did not fit.

    Raises ScoreError if the batch was a single sequence.
    """
    if sequences == 1:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ScoreError(
            f"out of memory in a sequence of {longest} tokens alone ({reason});"
            " use a smaller --window or model"
        ) from error
    budget.halve(tokens)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the host; torch words it in several ways."""
    message = str(error)
    return (
        isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))
        or "out of memory" in message
        or "can't allocate memory" in message
    )


def pad(arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Arrays as zero-padded rows (batch, length), and the padding (batch, length) bool."""
    lengths = np.array([len(array) for array in arrays])
    padding = np.arange(lengths.max())[None] >= lengths[:, None]
    padded = np.zeros(padding.shape, dtype=arrays[0].dtype)
    padded[~padding] = np.concatenate(arrays)
    return padded, padding
