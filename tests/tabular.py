"""Denoisers that are tables of a known joint distribution: the ground truth of every exact check.

`joint` is p(x) over all sequences of `length` tokens of a vocabulary of `size`, an array of shape (size,) * length.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def random_joint(size: int, length: int, seed: int, impossible: float = 0.0) -> np.ndarray:
    """A joint distribution with no structure at all; a share of its sequences may be impossible."""
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.5, size=(size,) * length)
    weights[rng.random(weights.shape) < impossible] = 0.0
    return weights / weights.sum()


def markov_joint(size: int, length: int, stay: float) -> np.ndarray:
    """A sticky Markov chain with a uniform start."""
    move = np.full((size, size), (1 - stay) / (size - 1))
    np.fill_diagonal(move, stay)
    joint = np.full((size,), 1 / size)
    for _ in range(length - 1):
        joint = joint[..., None] * move
    return joint


class _Table:
    def __init__(self, joint: np.ndarray) -> None:
        size, length = joint.shape[0], joint.ndim
        self.size, self.length = size, length
        self.sequences = torch.tensor(list(itertools.product(range(size), repeat=length)))  # (X, L)
        self.log_joint = torch.from_numpy(joint.reshape(-1)).log()  # (X,)
        self.one_hot = torch.nn.functional.one_hot(self.sequences, size).double()  # (X, L, size)

    def marginals(self, log_weights: Tensor) -> Tensor:
        """log of sum over sequences of exp(log_weights) per position and token, normalised: (B, L, X) or (B, 1, X) -> (B, L, size)."""
        weights = torch.exp(
            log_weights - log_weights.amax(-1, keepdim=True).clamp(min=-1e300)
        ).expand(-1, self.length, -1)
        sums = torch.einsum("blx,xlv->blv", weights, self.one_hot)
        return (sums / sums.sum(-1, keepdim=True)).log()


class MaskedTable(_Table):
    """p(x_i | visible tokens), with an impossible row for the mask symbol."""

    prediction = "masked"

    def __init__(self, joint: np.ndarray) -> None:
        super().__init__(joint)
        self.vocab_size, self.mask_id = self.size + 1, self.size
        self.evaluations = 0
        self.noises: list[float] = []

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        assert not padding.any()
        self.evaluations += len(noisy)
        self.noises += noise.tolist()
        agrees = ((noisy[:, None] == self.sequences[None]) | (noisy[:, None] == self.mask_id)).all(
            -1
        )  # (B, X)
        weights = torch.where(agrees, self.log_joint, -torch.inf)[:, None]
        predicted = self.marginals(weights)
        return torch.cat(
            (predicted, torch.full((*predicted.shape[:2], 1), -torch.inf, dtype=predicted.dtype)),
            -1,
        )


class UniformTable(_Table):
    """p(x_i | z without z_i) or p(x_i | z) under uniform noise."""

    mask_id = None

    def __init__(self, joint: np.ndarray, prediction: str) -> None:
        super().__init__(joint)
        self.vocab_size, self.prediction = self.size, prediction

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        assert not padding.any()
        b = noise.double()[:, None, None]
        same = noisy[:, None] == self.sequences[None]  # (B, X, L)
        log_q = torch.log(b / self.size + (1 - b) * same)
        whole = self.log_joint + log_q.sum(-1)  # (B, X)
        if self.prediction == "posterior":
            return self.marginals(whole[:, None])
        return self.marginals(whole[:, None] - log_q.transpose(1, 2))
