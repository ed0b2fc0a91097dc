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
    def frame_shift(self) -> float:
        """Seconds from one output frame to the next."""

    @property
    def signature(self) -> str:
        """Names weights and settings: equal signatures mean equal posteriors."""

    @property
    def device(self) -> str:
        """The torch device of the network."""

    def log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Posteriors of one batch, each (T_i, V) float32, natural log.

        audios: N arrays (samples,) float32, one channel, -1..1, at `sampling_rate`. Results do not
        depend on the other audios of the batch but for rounding. Raises ScoreError for audio too
        short for one frame.
        """
