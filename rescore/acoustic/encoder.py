"""What turns audio into posteriors: a Hugging Face CTC model, or one of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rescore.acoustic.symbols import Symbols

__all__ = ["Encoder"]


class Encoder(Protocol):
    """A CTC recogniser, ready to evaluate. N utterances, T_i frames, V symbols."""

    @property
    def symbols(self) -> Symbols:
        """The columns of its output."""

    @property
    def sampling_rate(self) -> int:
        """Samples a second of the audio that it takes."""

    @property
    def frame_samples(self) -> int:
        """Samples from one output frame to the next; frame k of audio begins at k times that."""

    @property
    def min_samples(self) -> int:
        """The shortest audio that has a frame."""

    @property
    def signature(self) -> str:
        """Names weights and settings: equal signatures mean equal posteriors."""

    @property
    def device(self) -> str:
        """The torch device of the network."""

    def log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Posteriors of one batch, each (T_i, V) float32, natural log.

        audios: N arrays (samples,) float32, one channel, -1..1, at `sampling_rate`, none shorter
        than `min_samples`. Results do not depend on the other audios of the batch but for rounding.
        """
