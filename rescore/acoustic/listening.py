"""A transcriber's masked decoder as a `Denoiser` that is conditioned on utterances of a manifest.

The memory of an utterance, the encoder's share of the work, is computed once for all queries about
it. `hear` computes those of a chunk in batches; queries about any other utterance hear it alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from rescore.acoustic.audio import read_audio
from rescore.acoustic.recogniser import Recogniser
from rescore.acoustic.transcriber import Transcriber
from rescore.acoustic.transcription import impossible
from rescore.acoustic.utterance import Utterance
from rescore.batching import Budget, in_batches
from rescore.errors import AudioError, ModelError
from rescore.interfaces import Condition, Prediction
from rescore.models.audio_network import Heard
from rescore.models.conditioned import Memory, stacked

__all__ = ["AudioDenoiser", "HeardUtterance", "Listened", "features_of", "hear_all"]

#: Audio of a batch that the encoder hears together, padding included.
_BATCH_SECONDS = 120


@dataclass(frozen=True)
class Listened:
    """A condition: the audio of an utterance. `key` is a digest of its samples."""

    utterance: Utterance
    sampling_rate: int

    @cached_property
    def key(self) -> str:
        """16 hex digits over the samples. Raises AudioError if they cannot be read."""
        samples = read_audio(self.utterance, self.sampling_rate)
        return hashlib.blake2b(samples.tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class HeardUtterance:
    """CTC's log-probabilities (M, V), the symbols that it expects, and the memory, of one row."""

    log_probs: Tensor
    expected: float
    memory: Memory


class AudioDenoiser:
    """`rescore.interfaces.SparseDenoiser` on a transcriber; without a condition, a row is deaf.

    Raises ModelError for a causal decoder.
    """

    prediction: Prediction = "masked"

    def __init__(self, transcriber: Transcriber, device: str = "cpu") -> None:
        if transcriber.is_causal:
            raise ModelError(
                "this model's decoder is autoregressive, not a denoiser; give one that `train mdm` "
                "made without --causal"
            )
        self.transcriber, self.rows = transcriber, transcriber.rows
        self.network = transcriber.network.to(device).eval()
        self.vocab_size = self.rows.mask + 1
        self.mask_id: int | None = self.rows.mask
        self.device = device
        self._impossible = impossible(self.rows, device)
        self._heard: dict[str, HeardUtterance] = {}

    def hear(self, conditions: Iterable[Listened]) -> dict[str, HeardUtterance]:
        """The memories of a chunk, by keys; those of the chunk before are forgotten."""
        every = {condition.key: condition for condition in conditions}
        self._heard = dict(
            zip(every, hear_all(self.transcriber, list(every.values()), self.device), strict=True)
        )
        return self._heard

    def encode(
        self,
        noisy: Tensor,
        noise: Tensor,
        padding: Tensor,
        condition: Sequence[Condition | None] | None = None,
    ) -> Tensor:
        """Hidden states (B, L, W)."""
        del noise  # the count of masks says it
        memory = self._memory(condition or [None] * len(noisy))
        mask = padding if bool(padding.any()) else None
        return self.network.decoder.encode(noisy, memory, mask)

    def readout(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (n, V); padding, BOS and the mask symbol are impossible."""
        logits = self.network.decoder.readout(hidden)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits.masked_fill(self._impossible, -torch.inf).log_softmax(-1)

    @torch.no_grad()
    def log_probs(
        self,
        noisy: Tensor,
        noise: Tensor,
        padding: Tensor,
        condition: Sequence[Condition | None] | None = None,
    ) -> Tensor:
        """The dense form (B, L, V), for tests and small uses."""
        return self.readout(self.encode(noisy, noise, padding, condition))

    def _memory(self, conditions: Sequence[Condition | None]) -> Memory:
        """The memory of every row; each condition's is there once before rows repeat it."""
        every = {_key(condition): condition for condition in conditions}
        place = {key: number for number, key in enumerate(every)}
        memory = stacked([self._memory_of(condition) for condition in every.values()])
        index = torch.tensor([place[_key(condition)] for condition in conditions])
        return memory.rows(index.to(self.device))

    def _memory_of(self, condition: Condition | None) -> Memory:
        if condition is None:
            return self._silence
        if condition.key in self._heard:
            return self._heard[condition.key].memory
        if not isinstance(condition, Listened):
            raise ModelError("an audio-conditioned network was asked about something else")
        return hear_all(self.transcriber, [condition], self.device)[0].memory

    @cached_property
    def _silence(self) -> Memory:
        """A memory of `null` alone."""
        decoder = self.network.decoder
        nothing = torch.zeros(1, 0, decoder.config.memory_width, device=self.device)
        nothing = nothing.to(decoder.null.dtype)
        return decoder.listen(nothing, nothing[..., 0], torch.zeros(1, dtype=torch.int64))


def _key(condition: Condition | None) -> str:
    return "" if condition is None else condition.key


def features_of(condition: Listened, recogniser: Recogniser) -> Tensor:
    """The features (T, F) of an utterance, as a recogniser's network takes them.

    Raises AudioError for audio that cannot be read or has no frame.
    """
    [features] = recogniser.features([_audio(recogniser, condition.utterance)])
    return torch.from_numpy(features)


@torch.no_grad()
def hear_all(
    transcriber: Transcriber, conditions: Sequence[Listened], device: str = "cpu"
) -> list[HeardUtterance]:
    """What the encoder makes of utterances, in batches of similar lengths.

    Raises AudioError for audio that cannot be read, has no frame, or is longer than a frozen
    encoder hears.
    """
    network, recogniser = transcriber.network, transcriber.recogniser
    audios = [_audio(recogniser, condition.utterance) for condition in conditions]

    def hear(batch: list[int]) -> list[HeardUtterance]:
        features = list(map(torch.from_numpy, recogniser.features([audios[k] for k in batch])))
        frames = torch.tensor([len(rows) for rows in features])
        padded = torch.nn.utils.rnn.pad_sequence(features, batch_first=True)
        kind = network.decoder.null.dtype
        return _split(network.hear(padded.to(device, kind), frames))

    budget = Budget(_BATCH_SECONDS * transcriber.sampling_rate)
    return in_batches([len(audio) for audio in audios], hear, budget)


def _audio(recogniser: Recogniser, utterance: Utterance) -> np.ndarray:
    audio = read_audio(utterance, recogniser.sampling_rate)
    if len(audio) < recogniser.min_samples:
        raise AudioError(
            f"{utterance.place()}: {len(audio)} samples are too few for one frame; leave it out"
        )
    if recogniser.frozen is not None:
        recogniser.frozen.check(len(audio), utterance.place())
    return audio


def _split(heard: Heard) -> list[HeardUtterance]:
    """A batch as its utterances."""
    parts = []
    for row, length in enumerate(heard.lengths.tolist()):
        states, seen = heard.memory
        this, places = slice(row, row + 1), slice(0, 1 + length)
        memory = Memory(states[:, :, this, :, places], seen[this, ..., places])
        expected = float(heard.places[row, length - 1])
        parts.append(HeardUtterance(heard.log_probs[row, :length], expected, memory))
    return parts
