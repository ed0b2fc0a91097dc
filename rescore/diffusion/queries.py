"""What the estimators need of a network, and the one place where a network is called for them.

An estimator never calls a network: it writes a `Plan`, which is data (which corrupted sequences to look at, with which weights), and `run` evaluates
the plans of many sequences together, in batches of nearly equal length. So every estimator is a few lines of arithmetic, and every speed-up is here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget, in_batches, pad
from rescore.errors import ScoreError
from rescore.types import Estimate

__all__ = [
    "Denoiser",
    "Plan",
    "Prediction",
    "Query",
    "Readout",
    "check_tokens",
    "is_sparse",
    "run",
    "same_sequence",
    "sums",
    "token_values",
]

Prediction = Literal["masked", "leave_one_out", "posterior"]

#: Rows of one read-out: with the budget of a batch it bounds the memory of an evaluation.
READOUT_ROWS = 1024


class Denoiser(Protocol):
    """A network (or a table) that predicts clean tokens from a corrupted sequence."""

    vocab_size: int  # output rows, a mask symbol included; N of the uniform formulas
    mask_id: int | None  # None for uniform-state models
    prediction: Prediction

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Log-probabilities of the clean token at every position.

        noisy (batch, length) int64; noise (batch,) noise level 1 - alpha, float; padding (batch, length) bool, True = padding.
        Returns (batch, length, vocab_size), float32 or wider; -inf where a token is impossible.
        """


class SparseDenoiser(Denoiser, Protocol):
    """A denoiser that can be read out at chosen positions only, so that the dense tensor is never built."""

    def encode(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        """Hidden states (batch, length, width)."""

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, vocab_size) of selected hidden states (n, width)."""


def is_sparse(denoiser: Denoiser) -> TypeGuard[SparseDenoiser]:
    """Whether a denoiser can be read out at chosen positions."""
    return hasattr(denoiser, "encode") and hasattr(denoiser, "readout")


@dataclass(frozen=True)
class Query:
    """One network pass over one sequence: `noisy` (length,) int64 at noise level `noise`, read at `positions` (n,), where `clean` (n,) is the truth."""

    noisy: np.ndarray
    noise: float
    positions: np.ndarray
    clean: np.ndarray


@dataclass(frozen=True)
class Plan:
    """A linear estimator: value = mean over draws of the sum of weight x (sum of token values) over the draw's queries.

    `draw` (Q,) numbers the draw of each query. `strata`: draw k lies in the k-th stratum. `exact`: no randomness, standard error 0.
    """

    queries: Sequence[Query]
    weights: np.ndarray
    draw: np.ndarray
    draws: int
    strata: bool = False
    exact: bool = False

    def combine(self, values: np.ndarray) -> Estimate:
        """Turn the queries' values (Q,) float64 into the estimate. Raises ScoreError if the network returned NaN."""
        if np.isnan(values).any():
            raise ScoreError("the network returned NaN; check the model and its dtype")
        per_draw = np.bincount(self.draw, weights=self.weights * values, minlength=self.draws)
        value = float(per_draw.mean())
        if self.exact:
            return Estimate(value, 0.0, len(self.queries))
        return Estimate(
            value, _std_error(per_draw, self.strata), len(self.queries), tuple(per_draw.tolist())
        )

    def shares(self, values: Sequence[np.ndarray], length: int) -> np.ndarray:
        """What each position of the sequence adds to the value of `combine`, (length,) float64, from the queries' token values.

        They sum to that value but for rounding. A position that no query reads adds 0.
        """
        shares = np.zeros(length)
        for query, weight, own in zip(self.queries, self.weights, values, strict=True):
            shares[query.positions] += weight * own
        return shares / self.draws


def _std_error(per_draw: np.ndarray, strata: bool) -> float:
    """Standard error of the mean of draws; NaN for one draw.

    Independent draws: sd / sqrt(K). Strata: the collapsed-strata estimator (Cochran 1977, Sampling Techniques, 5A.12) over neighbours, which
    overstates the variance only by the square of the difference of neighbouring means (about 3 % with 8 strata; sd / sqrt(K) by 35 %).
    """
    count = len(per_draw)
    if count < 2:
        return math.nan
    if not np.isfinite(per_draw).all():
        return math.inf
    if not strata:
        return float(per_draw.std(ddof=1) / math.sqrt(count))
    edges = list(range(0, count - 1, 2))
    groups = [per_draw[a:b] for a, b in itertools.pairwise([*edges, count])]
    return math.sqrt(sum(len(group) * float(group.var(ddof=1)) for group in groups)) / count


#: (log_probs (M, V), noisy (M,), clean (M,), noise (M,)) -> token values (M,)
Readout = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def check_tokens(tokens: object, scored: object, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Validate and return (tokens int64 (length,), scored bool (length,)). Raises ScoreError with what was got and expected."""
    ids = np.asarray(tokens)
    if ids.ndim != 1 or not np.issubdtype(ids.dtype, np.integer):
        raise ScoreError(
            f"tokens must be integers of shape (length,), got {ids.dtype} of shape {ids.shape}"
        )
    mask = np.ones(len(ids), dtype=bool) if scored is None else np.asarray(scored)
    if mask.shape != ids.shape or mask.dtype != bool:
        raise ScoreError(
            f"scored must be bool of shape {ids.shape}, got {mask.dtype} of shape {mask.shape}"
        )
    if not mask.any():
        raise ScoreError("no token is scored; score at least the end of the sentence")
    if ids.min() < 0 or ids.max() >= vocab_size:
        raise ScoreError(f"token ids must lie in 0..{vocab_size - 1}, got {ids.min()}..{ids.max()}")
    return ids.astype(np.int64), mask


@torch.no_grad()
def token_values(
    denoiser: Denoiser,
    plans: Sequence[Plan],
    readout: Readout,
    *,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[list[np.ndarray]]:
    """Evaluate the queries of all plans together; returns the token values of each plan's queries, (n,) float64 for n positions, for `Plan.shares`.

    Queries that look at the same corrupted sequence share one network pass.
    """
    queries = [query for plan in plans for query in plan.queries]
    groups = same_sequence(queries)
    lengths = [len(queries[group[0]].noisy) for group in groups]
    found = in_batches(
        lengths,
        lambda rows: _evaluate(
            denoiser, [[queries[q] for q in groups[i]] for i in rows], readout, device
        ),
        budget or Budget(),
    )
    by_query = dict(zip(itertools.chain(*groups), itertools.chain(*found), strict=True))
    values = (by_query[q] for q in range(len(queries)))
    return [list(itertools.islice(values, len(plan.queries))) for plan in plans]


def same_sequence(queries: Sequence[Query]) -> list[list[int]]:
    """The numbers of the queries, together where noisy sequence and noise level are the same, each group in the place of its first.

    In an N-best list there are many: two hypotheses with their difference hidden are one sequence, and common random numbers hide alike in both.
    """
    groups: dict[tuple[float, bytes], list[int]] = {}
    for number, query in enumerate(queries):
        groups.setdefault((query.noise, query.noisy.tobytes()), []).append(number)
    return list(groups.values())


def run(
    denoiser: Denoiser,
    plans: Sequence[Plan],
    readout: Readout,
    *,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[np.ndarray]:
    """Evaluate the queries of all plans together; returns each plan's values (Q,) float64, for `Plan.combine`."""
    return [
        sums(values)
        for values in token_values(denoiser, plans, readout, budget=budget, device=device)
    ]


def sums(values: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of each array (n > 0,), added up from its first number on, (Q,) float64."""
    return np.array([np.cumsum(own)[-1] for own in values], dtype=np.float64)


def _evaluate(
    denoiser: Denoiser, groups: Sequence[Sequence[Query]], readout: Readout, device: str
) -> list[list[np.ndarray]]:
    """The token values at each query's positions, (n,) float64 each; the queries of a group have one noisy sequence."""
    noisy, padding = pad([group[0].noisy for group in groups])
    noise = np.array([group[0].noise for group in groups])
    rows, positions, clean, each = _reads(groups)

    tensors = [
        torch.from_numpy(array).to(device) for array in (noisy, _for_device(noise, device), padding)
    ]
    read = _reader(
        denoiser, tensors, torch.from_numpy(rows).to(device), torch.from_numpy(positions).to(device)
    )
    values = []
    for at in range(0, len(rows), READOUT_ROWS):
        chunk = slice(at, at + READOUT_ROWS)
        inputs = (
            noisy[rows[chunk], positions[chunk]],
            clean[chunk],
            _for_device(noise[rows[chunk]], device),
        )
        values.append(
            readout(read(chunk), *(torch.from_numpy(array).to(device) for array in inputs))
            .double()
            .cpu()
            .numpy()
        )
    sizes = [len(query.positions) for group in groups for query in group]
    per_query = iter(np.split(np.concatenate(values)[each], np.cumsum(sizes)[:-1]))
    return [list(itertools.islice(per_query, len(group))) for group in groups]


def _reads(
    groups: Sequence[Sequence[Query]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What is read of a batch, each once: (row, position, clean token) (n,) each, and which of the n each position of each query is."""
    rows = np.repeat(
        np.arange(len(groups)), [sum(len(query.positions) for query in group) for group in groups]
    )
    positions = np.concatenate([query.positions for group in groups for query in group])
    clean = np.concatenate([query.clean for group in groups for query in group])
    key = (rows * (positions.max() + 1) + positions) * (clean.max() + 1) + clean
    _, first, each = np.unique(key, return_index=True, return_inverse=True)
    return rows[first], positions[first], clean[first], each


def _for_device(noise: np.ndarray, device: str) -> np.ndarray:
    """Noise levels stay float64 wherever the device has it: 1 - alpha must not be rounded."""
    return noise.astype(np.float32) if device.startswith("mps") else noise


def _reader(
    denoiser: Denoiser, inputs: list[Tensor], rows: Tensor, positions: Tensor
) -> Callable[[slice], Tensor]:
    """A function from a slice of the read positions to their log-probabilities (n, V); the dense tensor is built only where nothing else is offered."""
    if is_sparse(denoiser):
        hidden = denoiser.encode(*inputs)
        return lambda chunk: denoiser.readout(hidden[rows[chunk], positions[chunk]])
    dense = denoiser.log_probs(*inputs)
    return lambda chunk: dense[rows[chunk], positions[chunk]]
