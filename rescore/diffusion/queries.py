"""Batched queries: the one place where a denoiser is called.

Estimators and samplers never call a network. They write queries, which are data: a corrupted
sequence with its noise level and its condition, and the positions to read there.
`evaluate_queries` evaluates many together, in batches of nearly equal length, and queries about the
same sequence share one pass. So every speed-up is here.

Letters in shapes: B sequences of a batch, L their padded length, M positions read, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget, in_batches, pad
from rescore.diffusion.readouts import Readings, Readout
from rescore.errors import ScoreError
from rescore.interfaces import Condition, Denoiser, SparseDenoiser

__all__ = ["Query", "evaluate_queries", "readout_rows", "shared_passes"]

#: Rows of one read-out. With the budget of a batch it bounds the memory of an evaluation. A CPU
#: takes few: what a read-out of a small vocabulary makes of them then stays in its cache.
_READOUT_ROWS, _READOUT_ROWS_CPU = 1024, 256


@dataclass(frozen=True)
class Query:
    """What to read of one network pass over one sequence.

    `noisy` (length,) int64 at noise level `noise` = 1 - alpha. `positions` (n,) int64, n > 0.
    `clean` (n,) int64: the true tokens there, for read-outs that need them. `condition`: what the
    sequence is conditioned on; None for text alone.
    """

    noisy: np.ndarray
    noise: float
    positions: np.ndarray
    clean: np.ndarray | None = None
    condition: Condition | None = None

    @property
    def pass_key(self) -> tuple[float, str | None, bytes]:
        """Queries with equal keys see the same thing: they share a network pass."""
        condition = None if self.condition is None else self.condition.key
        return self.noise, condition, self.noisy.tobytes()


def readout_rows(device: str) -> int:
    """How many rows are read out together on a device."""
    return _READOUT_ROWS_CPU if device == "cpu" else _READOUT_ROWS


def shared_passes(queries: Sequence[Query]) -> list[list[int]]:
    """The numbers of the queries, those that share a pass together, each group in first place.

    An N-best list has many: two hypotheses with their difference hidden are one sequence, and
    common random numbers hide alike in both.
    """
    groups: dict[tuple[float, str | None, bytes], list[int]] = {}
    for number, query in enumerate(queries):
        groups.setdefault(query.pass_key, []).append(number)
    return list(groups.values())


@torch.no_grad()
def evaluate_queries(
    denoiser: Denoiser,
    queries: Sequence[Query],
    readout: Readout,
    *,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[np.ndarray]:
    """What `readout` reads at each query's positions, (n, ...) float64, in the order of `queries`.

    Raises ScoreError if only some queries name their clean tokens, or if a single sequence does not
    fit in memory.
    Exact check: tests/diffusion/test_queries.py::test_together_and_one_by_one_give_the_same.
    """
    if len({query.clean is None for query in queries}) > 1:
        raise ScoreError("some queries name their clean tokens and some do not; name all or none")
    groups = shared_passes(queries)
    lengths = [len(queries[numbers[0]].noisy) for numbers in groups]

    def evaluate(batch: list[int]) -> list[list[np.ndarray]]:
        queries_by_pass = [[queries[number] for number in groups[row]] for row in batch]
        return _evaluate_batch(denoiser, queries_by_pass, readout, device)

    values: dict[int, np.ndarray] = {}
    for numbers, group_values in zip(
        groups, in_batches(lengths, evaluate, budget or Budget()), strict=True
    ):
        values.update(zip(numbers, group_values, strict=True))
    return [values[number] for number in range(len(queries))]


def _evaluate_batch(
    denoiser: Denoiser, groups: Sequence[Sequence[Query]], readout: Readout, device: str
) -> list[list[np.ndarray]]:
    """The values of each query of each group; the queries of a group share a row of the batch."""
    first_queries = [group[0] for group in groups]
    noisy, padding = pad([query.noisy for query in first_queries])
    noise = np.array([query.noise for query in first_queries])
    reads = _reads(groups)

    predict = _predictor(
        denoiser,
        [_to(device, noisy), _to(device, noise), _to(device, padding)],
        [query.condition for query in first_queries],
        (_to(device, reads.rows), _to(device, reads.positions)),
    )
    chunks, size = [], readout_rows(device)
    for start in range(0, len(reads.rows), size):
        chunk = slice(start, start + size)
        rows, positions = reads.rows[chunk], reads.positions[chunk]
        readings = Readings(
            predict(chunk),
            _to(device, noisy[rows, positions]),
            _to(device, noise[rows]),
            None if reads.clean is None else _to(device, reads.clean[chunk]),
        )
        chunks.append(readout(readings).double().cpu().numpy())
    return _by_query(np.concatenate(chunks)[reads.index], groups)


def _by_query(values: np.ndarray, groups: Sequence[Sequence[Query]]) -> list[list[np.ndarray]]:
    """Values (all positions of all queries, ...) cut into those of each query of each group."""
    values_by_group, start = [], 0
    for group in groups:
        values_by_query = []
        for query in group:
            end = start + len(query.positions)
            values_by_query.append(values[start:end])
            start = end
        values_by_group.append(values_by_query)
    return values_by_group


@dataclass(frozen=True)
class _Reads:
    """What is read of a batch, each position once: rows, positions and clean tokens (M,).

    `index` finds every position of every query among the M.
    """

    rows: np.ndarray
    positions: np.ndarray
    clean: np.ndarray | None
    index: np.ndarray


def _reads(groups: Sequence[Sequence[Query]]) -> _Reads:
    """The different (row, position, clean token) that the queries of a batch ask for."""
    counts = [sum(len(query.positions) for query in group) for group in groups]
    rows = np.repeat(np.arange(len(groups)), counts)
    positions = np.concatenate([query.positions for group in groups for query in group])
    key = rows * (positions.max() + 1) + positions
    clean_tokens = [query.clean for group in groups for query in group if query.clean is not None]
    clean = np.concatenate(clean_tokens) if clean_tokens else None
    if clean is not None:
        key = key * (clean.max() + 1) + clean
    _, first, index = np.unique(key, return_index=True, return_inverse=True)
    return _Reads(
        rows[first], positions[first], None if clean is None else clean[first], index.ravel()
    )


def _to(device: str, array: np.ndarray) -> Tensor:
    """The array on the device. Noise levels stay float64 where it has that: 1 - alpha is exact."""
    if array.dtype == np.float64 and device.startswith("mps"):
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(device)


def _predictor(
    denoiser: Denoiser,
    inputs: Sequence[Tensor],
    conditions: Sequence[Condition | None],
    places: tuple[Tensor, Tensor],
) -> Callable[[slice], Tensor]:
    """A function from a slice of `places` (rows, positions) to log-probabilities (m, V) there.

    (B, L, V) is only built where the denoiser offers nothing else. The condition is only passed
    where a query has one, so that denoisers of text alone need not know it.
    """
    rows, positions = places
    arguments: dict[str, Any] = {}
    if any(condition is not None for condition in conditions):
        arguments["condition"] = list(conditions)
    if isinstance(denoiser, SparseDenoiser):
        sparse = denoiser
        hidden = sparse.encode(*inputs, **arguments)
        return lambda chunk: sparse.readout(hidden[rows[chunk], positions[chunk]])
    dense = denoiser.log_probs(*inputs, **arguments)
    return lambda chunk: dense[rows[chunk], positions[chunk]]
