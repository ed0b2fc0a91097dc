"""Long audio in overlapping windows, of whose frames the central ones are kept.

    audio    |----------------------------------------|
    windows  |------------|
                     |------------|
                              |-----------------------|   the last one ends with the audio
    frames   [........... ][...... ][................ ]   cut in the middle of each overlap

Windows begin at whole frames, so frame k of a window is frame `first + k` of the audio. A frame
sees at least half the overlap on both sides. A network that sees more, or normalises over the whole
audio, gives other values than for the audio at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rescore.errors import RescoreError

__all__ = ["Windows"]


@dataclass(frozen=True)
class Windows:
    """Windows of `length` seconds, of which neighbours share `overlap` (None: a sixth of it).

    Raises RescoreError unless 0 <= overlap <= length / 2.
    """

    length: float = 60.0
    overlap: float | None = None

    def __post_init__(self) -> None:
        if not (self.length > 0 and 0 <= self.shared <= self.length / 2):
            raise RescoreError(
                f"windows of {self.length:g} s with an overlap of {self.shared:g} s: expected an "
                "overlap of at most half a window"
            )

    @property
    def shared(self) -> float:
        """The seconds that neighbours share."""
        return self.length / 6 if self.overlap is None else self.overlap

    def check(self, rate: int, frame_samples: int, min_samples: int) -> None:
        """Raise RescoreError if a recogniser would leave frames out between these windows.

        `min_samples` make its first frame, so at the end of a window it lacks the frames that need
        more audio than there is; the next window must begin before them.
        """
        lost = -(-(min_samples - frame_samples) // frame_samples)
        least = (max(2, lost + 2) * frame_samples, max(0, lost) * frame_samples)
        length, shared = (
            self._frames(seconds, rate, frame_samples) * frame_samples
            for seconds in (self.length, self.shared)
        )
        if length < least[0] or shared < least[1]:
            raise RescoreError(
                f"windows of {self.length:g} s with an overlap of {self.shared:g} s lose frames: "
                f"this recogniser needs windows of {least[0] / rate:g} s and an overlap of "
                f"{least[1] / rate:g} s at least (--window, --overlap)"
            )

    def cut(self, audio: np.ndarray, rate: int, frame_samples: int) -> list[np.ndarray]:
        """The windows of audio (samples,); views, no copies."""
        starts = self.first_frames(len(audio), rate, frame_samples)
        size = max(1, self._frames(self.length, rate, frame_samples)) * frame_samples
        begins = [start * frame_samples for start in starts]
        return [audio[begin : begin + size] for begin in begins[:-1]] + [audio[begins[-1] :]]

    def first_frames(self, samples: int, rate: int, frame_samples: int) -> list[int]:
        """The frame at which each window begins."""
        size = max(1, self._frames(self.length, rate, frame_samples))
        step = size - self._frames(self.shared, rate, frame_samples)
        surplus = -(-samples // frame_samples) - size  # frames beyond the first window
        if surplus <= 0:
            return [0]
        return [*range(0, surplus, step), surplus]

    @staticmethod
    def _frames(seconds: float, rate: int, frame_samples: int) -> int:
        return round(seconds * rate / frame_samples)


def join(first_frames: Sequence[int], rows: Sequence[np.ndarray]) -> np.ndarray:
    """The rows of the whole audio, (T, V), from those of its windows, each (T_i, V).

    Raises RescoreError if there are frames that no window has.
    """
    ends = [first + len(part) for first, part in zip(first_frames, rows, strict=True)]
    for end, begin in zip(ends[:-1], first_frames[1:], strict=True):
        if end < begin:
            raise RescoreError(
                f"no window has the {begin - end} frames from frame {end} on; widen --overlap"
            )
    cuts = [
        0,
        *(
            (second + end) // 2
            for (_, second), end in zip(pairwise(first_frames), ends[:-1], strict=True)
        ),
        ends[-1],
    ]
    kept = [
        part[start - first : end - first]
        for first, part, (start, end) in zip(first_frames, rows, pairwise(cuts), strict=True)
    ]
    return np.concatenate(kept)
