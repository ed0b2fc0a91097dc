"""What is read of a denoiser's predictions: one number a position, a choice, or whole rows.

A read-out is a function from `Readings` (M positions of one batch) to an array with one row a
position. Estimators read one number; samplers read the likeliest token with its confidence and
entropy, or the whole distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from rescore.errors import ScoreError

__all__ = ["Readings", "Readout", "read_choice", "read_rows", "read_token"]


@dataclass(frozen=True)
class Readings:
    """M positions of a batch, as the denoiser predicts them.

    log_probs (M, V); noisy (M,) int64 the tokens there; noise (M,) the noise level 1 - alpha of
    their sequences; clean (M,) int64 the true tokens, None where the queries do not name them.
    """

    log_probs: Tensor
    noisy: Tensor
    noise: Tensor
    clean: Tensor | None = None

    @property
    def truth(self) -> Tensor:
        """`clean`. Raises ScoreError where the queries do not name the true tokens."""
        if self.clean is None:
            raise ScoreError("this read-out needs the clean tokens of every query")
        return self.clean


#: Readings of M positions -> values (M, ...); the trailing shape is the same in every call.
Readout = Callable[[Readings], Tensor]


def read_token(readings: Readings) -> Tensor:
    """Log-probability of the true token, (M,): what masked estimators read."""
    return readings.log_probs.gather(-1, readings.truth[:, None]).squeeze(-1)


def read_choice(readings: Readings) -> Tensor:
    """The likeliest token, its log-probability and the entropy in nats, (M, 3).

    Ties go to the smallest id. An id is a float here, exact below 2^53. Impossible tokens
    (log-probability -inf) add nothing to the entropy.
    Exact check: tests/diffusion/test_readouts.py::test_a_choice_is_argmax_confidence_and_entropy.
    """
    log_probs = readings.log_probs.double()
    confidence, token = log_probs.max(-1)
    entropy = torch.special.entr(log_probs.exp()).sum(-1)
    return torch.stack((token.double(), confidence, entropy), -1)


def read_rows(readings: Readings) -> Tensor:
    """The whole log-probabilities, (M, V)."""
    return readings.log_probs
