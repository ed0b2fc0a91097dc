"""The noise schedule alpha(t) = P(token kept): t = 0 is clean, t = 1 is noise.

Log-linear (MDLM's): alpha(t) = 1 - (1 - eps) t, so that sigma(t) = -log alpha is nearly linear in t
at first and stays finite. With eps = 0 it is linear, alpha(t) = 1 - t, which is what scoring
integrates over; eps > 0 serves training and checkpoints that expect it.

Source: Sahoo et al. 2024 (MDLM), arXiv:2406.07524, appendix on the noise schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from rescore.errors import ScoreError

__all__ = ["LINEAR", "Level", "LogLinear", "NoiseSchedule"]

#: A number, or float64 numbers of any shape; functions return the shape they are given.
Level: TypeAlias = float | np.ndarray


class NoiseSchedule(Protocol):
    """What samplers and losses need of a noise schedule; t in [0, 1]."""

    def alpha(self, t: Level) -> Level:
        """The probability that a token is kept, falling from alpha(0) = 1."""

    def derivative(self, t: Level) -> Level:
        """alpha'(t) <= 0."""

    def noise(self, t: Level) -> Level:
        """1 - alpha(t), without the rounding of a difference: what a denoiser is told."""


@dataclass(frozen=True)
class LogLinear:
    """alpha(t) = 1 - (1 - eps) t. Raises ScoreError for eps outside [0, 1) and t outside [0, 1].

    Exact check: tests/diffusion/test_schedule.py::test_the_derivative_is_that_of_alpha.
    """

    eps: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.eps < 1:
            raise ScoreError(f"eps must lie in [0, 1), got {self.eps}")

    def alpha(self, t: Level) -> Level:
        """P(token kept) at time t; eps at t = 1."""
        _check_time(t)
        return (1 - t) + self.eps * t

    def derivative(self, t: Level) -> Level:
        """alpha'(t) = -(1 - eps), in the shape of t."""
        _check_time(t)
        return (self.eps - 1) + 0.0 * t

    def noise(self, t: Level) -> Level:
        """1 - alpha(t) = (1 - eps) t."""
        _check_time(t)
        return (1 - self.eps) * t

    def sigma(self, t: Level) -> Level:
        """-log alpha(t), the time input of MDLM's and Duo's checkpoints; inf where alpha is 0."""
        with np.errstate(divide="ignore"):
            sigma: Level = -np.log1p(-np.asarray(self.noise(t)))
        return sigma

    def weight(self, t: Level) -> Level:
        """-alpha'(t) / (1 - alpha(t)), the weight of the masked NELBO: 1 / t for every eps."""
        return -self.derivative(t) / self.noise(t)


#: alpha(t) = 1 - t: the schedule of every estimator here.
LINEAR = LogLinear(eps=0.0)


def _check_time(t: Level) -> None:
    if np.any(np.asarray(t) < 0) or np.any(np.asarray(t) > 1):
        raise ScoreError(f"t must lie in [0, 1], got {np.min(t)}..{np.max(t)}")
