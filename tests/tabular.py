"""Denoisers that are tables of a known joint distribution: the ground truth of every exact check.

`joint` is p(x) over all sequences of `length` tokens of a vocabulary of `size`, an array of shape
(size,) * length. Letters in shapes: B batch, L length, X all sequences, V vocabulary.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


def random_joint(size: int, length: int, seed: int, impossible: float = 0.0) -> np.ndarray:
    """A joint distribution with no structure; a share of its sequences may be impossible."""
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
        """log of the weighted share of each token per position: (B, L or 1, X) -> (B, L, size)."""
        largest = log_weights.amax(-1, keepdim=True).clamp(min=-1e300)
        weights = torch.exp(log_weights - largest).expand(-1, self.length, -1)
        sums = torch.einsum("blx,xlv->blv", weights, self.one_hot)
        return (sums / sums.sum(-1, keepdim=True)).log()


class MaskedTable(_Table):
    """p(x_i | visible tokens), with an impossible row for the mask symbol.

    It counts the sequences it is asked about, and keeps the noise levels it is told.
    """

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
        visible = noisy[:, None] != self.mask_id
        differs = (visible & (noisy[:, None] != self.sequences[None])).any(-1)  # (B, X)
        weights = torch.where(differs, -torch.inf, self.log_joint)[:, None]
        predicted = self.marginals(weights)
        mask_row = torch.full((*predicted.shape[:2], 1), -torch.inf, dtype=predicted.dtype)
        return torch.cat((predicted, mask_row), -1)


class Inconsistent(MaskedTable):
    """Conditionals of no joint distribution, as a real network's: flatter, the more is hidden."""

    def log_probs(self, noisy: Tensor, noise: Tensor, padding: Tensor) -> Tensor:
        hidden = (noisy == self.mask_id).sum(1)[:, None, None].double()
        return (super().log_probs(noisy, noise, padding) / (1 + 0.3 * hidden)).log_softmax(-1)


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


@dataclass(frozen=True)
class Topic:
    """A condition that is nothing but its name."""

    key: str


class ConditionedTable(MaskedTable):
    """A joint distribution per topic, and one for text alone (key "")."""

    def __init__(self, joints: dict[str, np.ndarray]) -> None:
        super().__init__(joints[""])
        self.tables = {key: MaskedTable(joint) for key, joint in joints.items()}
        self.batches: list[list[str]] = []

    def log_probs(
        self, noisy: Tensor, noise: Tensor, padding: Tensor, condition: list | None = None
    ) -> Tensor:
        conditions = [None] * len(noisy) if condition is None else condition
        keys = ["" if topic is None else topic.key for topic in conditions]
        assert len(keys) == len(noisy)
        self.batches.append(keys)
        self.evaluations += len(noisy)
        rows = [
            self.tables[key].log_probs(noisy[[row]], noise[[row]], padding[[row]])
            for row, key in enumerate(keys)
        ]
        return torch.cat(rows)


def hidden_scores(table, tokens, count) -> list[float]:
    """The summed log-probability of the hidden tokens for each hidden set of `count` tokens."""
    sets = list(itertools.combinations(range(len(tokens)), count))
    noisy = torch.tensor(
        [[table.mask_id if i in hidden else t for i, t in enumerate(tokens)] for hidden in sets]
    )
    log_probs = table.log_probs(
        noisy,
        torch.full((len(sets),), count / len(tokens)),
        torch.zeros_like(noisy, dtype=torch.bool),
    )
    return [
        sum(float(log_probs[row, i, tokens[i]]) for i in hidden) for row, hidden in enumerate(sets)
    ]


def mean_log_prob(table, tokens, count) -> float:
    """g(count): the mean over hidden sets of the mean log-probability of the hidden tokens."""
    return float(np.mean(hidden_scores(table, tokens, count))) / count
