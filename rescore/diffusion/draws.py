"""Random numbers keyed by what they are for, so that batches, shards and list sizes change nothing.

Key: (seed, utterance, draw, stream, anchor, offset). Tokens of several hypotheses that are aligned
to the same token of the first hypothesis share their numbers (common random numbers), so the
differences between hypotheses vary little. Tokens of one hypothesis have independent numbers.

The generator is the finaliser of SplitMix64 (Steele et al. 2014, doi:10.1145/2660193.2660195),
applied to one part of the key after the other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from rescore.errors import ScoreError

__all__ = ["Draws", "SamplingDraws", "Stream", "utterance_key"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Stream(IntEnum):
    """What a number decides; numbers of different streams are independent."""

    LEVEL = 0  # the noise level or the number of hidden tokens of a draw
    HIDE = 1  # whether a token is hidden or moved
    MOVE = 2  # where a moved token goes
    ORDER = 3  # the order of a chain
    START = 4  # whether a token of a sampler's draft is noised
    STATE = 5  # the token that a sampler's step takes
    REMASK = 6  # whether a committed token is opened again


def _mix(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = state ^ (state >> np.uint64(31))
    return mixed


def _hash(*parts: int | np.ndarray) -> np.ndarray:
    """Uniform numbers in (0, 1), float64, of the broadcast shape of the parts."""
    state = np.zeros(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            number = np.atleast_1d(np.asarray(part)).astype(np.uint64)
            state = _mix((state ^ _mix(number + _GOLDEN)) + _GOLDEN)
    uniform: np.ndarray = ((state >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return uniform


def utterance_key(utterance_id: str) -> int:
    """A 63-bit number for an utterance id, the same everywhere."""
    digest = hashlib.blake2b(utterance_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True)
class Draws:
    """The random numbers of one hypothesis.

    `anchors`, `offsets` (length,) int64: the token of the first hypothesis that each token is
    aligned to, and its place among the tokens inserted there. By default the token's own index and
    0, which is what the first hypothesis has.
    """

    seed: int = 0
    utterance: int = 0
    anchors: np.ndarray | None = field(default=None)
    offsets: np.ndarray | None = field(default=None)

    def shared(self, draws: int, stream: Stream) -> np.ndarray:
        """(draws,) numbers that all hypotheses of the utterance share."""
        return _hash(self.seed, self.utterance, np.arange(draws), int(stream))

    def levels(self, draws: int, strata: bool) -> np.ndarray:
        """(draws,) shared numbers that set noise levels.

        One in each stratum (k, k + 1) / draws, or independent. Raises ScoreError without a draw.
        """
        if draws < 1:
            raise ScoreError(f"draws must be at least 1, got {draws}")
        shared = self.shared(draws, Stream.LEVEL)
        return (np.arange(draws) + shared) / draws if strata else shared

    def tokens(self, length: int, draws: int, stream: Stream) -> np.ndarray:
        """(draws, length) numbers, one per token and draw."""
        anchors = np.arange(length) if self.anchors is None else self.anchors
        offsets = np.zeros(length, dtype=np.int64) if self.offsets is None else self.offsets
        return _hash(
            self.seed,
            self.utterance,
            np.arange(draws)[:, None],
            int(stream),
            anchors[None],
            offsets[None],
        )


@dataclass(frozen=True)
class SamplingDraws:
    """The random numbers of one candidate of a sampler: keyed by step and position, too."""

    seed: int
    utterance: int
    candidate: int = 0

    def positions(self, length: int, step: int, stream: Stream) -> np.ndarray:
        """(length,) numbers, one a position.

        Exact check: tests/diffusion/test_draws.py::test_sampling_numbers_are_independent.
        """
        return _hash(
            self.seed, self.utterance, self.candidate, int(stream), step, np.arange(length)
        )
