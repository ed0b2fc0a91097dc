"""Utterances to posteriors: the work that the engine runs chunk by chunk (`ChunkTask`)."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rescore.acoustic.audio import read_audio, seconds_of
from rescore.acoustic.encoder import Encoder
from rescore.acoustic.posteriors import Posteriors, Recognised
from rescore.acoustic.utterance import Utterance
from rescore.acoustic.windows import Windows, join
from rescore.batching import Budget, in_batches
from rescore.errors import AudioError, RescoreError
from rescore.interfaces import Cost

__all__ = ["PosteriorTask"]

logger = logging.getLogger("rescore")

#: Batches are limited in hundredths of a second of audio, padding included.
_UNITS = 100

#: Seconds of audio in a batch on a CPU: a larger one saves nothing there.
_CPU_SECONDS = 30
#: Utterances and seconds of the trial batch that shows what fits on a GPU.
_TRIAL = 8, 10


@dataclass(frozen=True)
class Prepared:
    """The windows of every utterance's audio, and what reading them ended in."""

    utterances: Sequence[Utterance]
    windows: list[list[np.ndarray]]
    first_frames: list[list[int]]
    outcomes: list[Recognised]


class PosteriorTask:
    """A `ChunkTask` from utterances to `Recognised`.

    Audio that cannot be read becomes a problem of its utterance. `evaluations` are seconds of
    audio. Raises RescoreError if the windows are too short for the recogniser.
    """

    def __init__(self, encoder: Encoder, windows: Windows | None = None) -> None:
        self.encoder, self.windows = encoder, windows or Windows()
        self.windows.check(encoder.sampling_rate, encoder.frame_samples, encoder.min_samples)
        self._cut = 0
        self.budget = _budget(encoder)

    @property
    def signature(self) -> str:
        """See ChunkTask."""
        windows = f"window={self.windows.length:g} overlap={self.windows.shared:g}"
        return f"{self.encoder.signature} {windows}"

    @property
    def device(self) -> str:
        """See ChunkTask."""
        return self.encoder.device

    def evaluations(self, utterance: Utterance) -> int:
        """See ChunkTask; 1 for audio that cannot be opened."""
        try:
            return max(1, math.ceil(seconds_of(utterance)))
        except AudioError:
            return 1

    def prepare(self, utterances: Sequence[Utterance]) -> Prepared:
        """Read and resample the audio, and cut it into windows."""
        prepared = Prepared(utterances, [], [], [])
        rate, frame = self.encoder.sampling_rate, self.encoder.frame_samples
        for utterance in utterances:
            try:
                audio = self._audio(utterance)
            except AudioError as error:
                windows, first, outcome = [], [], Recognised(problem=str(error))
            else:
                windows = self.windows.cut(audio, rate, frame)
                first = self.windows.first_frames(len(audio), rate, frame)
                outcome = Recognised(len(audio) / rate)
                self._cut += len(windows) > 1
            prepared.windows.append(windows)
            prepared.first_frames.append(first)
            prepared.outcomes.append(outcome)
        return prepared

    def evaluate(self, prepared: Prepared) -> list[Recognised]:
        """Evaluate all windows in batches, and join those of each utterance.

        Raises FormatError for posteriors that are not finite.
        """
        windows = [window for windows in prepared.windows for window in windows]
        rows = iter(
            in_batches(
                self._lengths(windows),
                lambda batch: self.encoder.log_probs([windows[k] for k in batch]),
                self.budget,
            )
        )
        return [
            self._joined(prepared, k, [next(rows) for _ in windows])
            for k, windows in enumerate(prepared.windows)
        ]

    def cost(self, prepared: Prepared) -> Cost:
        """See ChunkTask; tokens are hundredths of a second."""
        lengths = self._lengths([window for windows in prepared.windows for window in windows])
        return Cost(len(lengths), sum(lengths))

    def warn(self) -> None:
        """Log how many utterances were cut."""
        if self._cut:
            logger.warning(
                "%d utterances are longer than a window of %g s; their posteriors were joined from "
                "windows with an overlap of %g s",
                self._cut,
                self.windows.length,
                self.windows.shared,
            )

    def _audio(self, utterance: Utterance) -> np.ndarray:
        audio = read_audio(utterance, self.encoder.sampling_rate)
        if len(audio) < self.encoder.min_samples:
            rate = self.encoder.sampling_rate
            raise AudioError(
                f"{utterance.place()}: {len(audio) / rate:.4f} s of audio, but this recogniser "
                f"needs {self.encoder.min_samples / rate:.4f} s for one frame; leave it out"
            )
        return audio

    def _joined(self, prepared: Prepared, k: int, parts: Sequence[np.ndarray]) -> Recognised:
        """The outcome of utterance k, with the rows of its windows joined and checked."""
        if not parts:
            return prepared.outcomes[k]
        utterance = prepared.utterances[k]
        rows = join(prepared.first_frames[k], parts)
        frame_shift = self.encoder.frame_samples / self.encoder.sampling_rate
        Posteriors(utterance.id, rows, self.encoder.symbols, frame_shift, utterance.where).checked()
        return Recognised(prepared.outcomes[k].seconds, len(rows), rows)

    def _lengths(self, windows: Sequence[np.ndarray]) -> list[int]:
        return [max(1, len(w) * _UNITS // self.encoder.sampling_rate) for w in windows]


def _budget(encoder: Encoder) -> Budget:
    """Batches that fit: a fixed size on a CPU, by one trial on a GPU."""
    if not encoder.device.startswith("cuda"):
        return Budget(_CPU_SECONDS * _UNITS)
    count, seconds = _TRIAL
    noise = np.random.default_rng(0).standard_normal(seconds * encoder.sampling_rate, np.float32)
    free, _total = torch.cuda.mem_get_info(encoder.device)
    torch.cuda.reset_peak_memory_stats(encoder.device)
    before = torch.cuda.memory_allocated(encoder.device)
    try:
        encoder.log_probs([0.1 * noise] * count)
    except RuntimeError as error:
        raise RescoreError(
            f"{encoder.device}: a batch of {count} x {seconds} s does not run ({error})"
        ) from error
    peak = torch.cuda.max_memory_allocated(encoder.device) - before
    return Budget.of_gpu(peak, count * seconds * _UNITS, free)
