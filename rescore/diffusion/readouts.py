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

__all__ = ["NormalisedRows", "Readings", "Readout", "read_choice", "read_rows", "read_token"]


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


#: How far from 0 the log of the sum of a row may be: the rounding of float32 log-softmax over 10^5
#: tokens is far below, logits that were not normalised are far above.
_TOLERANCE = torch.finfo(torch.float32).eps ** 0.5


class NormalisedRows:
    """A read-out that first looks, once, whether the rows of the denoiser are normalised."""

    def __init__(self, readout: Readout) -> None:
        self._readout, self._is_checked = readout, False

    def __call__(self, readings: Readings) -> Tensor:
        """Raises ScoreError at the first call if the probabilities of a row do not sum to 1."""
        if not self._is_checked:
            sums = readings.log_probs.double().logsumexp(-1)
            worst = sums[(sums.abs().nan_to_num(0.0)).argmax()].item() if len(sums) else 0.0
            if abs(worst) > _TOLERANCE:
                raise ScoreError(
                    f"a row of the denoiser's log_probs sums to e^{worst:.1f}, expected e^0:"
                    " return log-probabilities, such as logits.log_softmax(-1)"
                )
            self._is_checked = True
        return self._readout(readings)


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
