"""States of a frozen encoder, made once: training costs the decoder alone.

A frozen encoder says the same of the same features at every step. So its states are kept, of every
utterance, speed and draw of SpecAugment. A folder of states is one of features as `speech_corpus`
reads it, one state a frame of the output; the draws of a speed are versions that follow one
another. It lies in the corpus, under a digest of the encoder's weights and the augmentation, so
that all runs on one encoder share it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rescore.errors import TrainError
from rescore.formats.files import make_folder, read_bytes, replace_file
from rescore.models.checkpoint import serialized_weights
from rescore.models.speech_network import SpeechNetwork
from rescore.train.ctc import SpecAugment, network_input
from rescore.train.feature_file import continue_from, forget_progress, offsets_of, write_features
from rescore.train.options import SpeechOptions
from rescore.train.speech_corpus import SpeechBatches, SpeechCorpus, open_speech
from rescore.train.state import writing_to

__all__ = ["Augmentation", "open_states"]

_PARTS = ("train", "valid")


@dataclass(frozen=True)
class Augmentation:
    """`draws` of SpecAugment for each utterance at each speed, from `seed`."""

    masks: SpecAugment
    draws: int
    seed: int = 0


def open_states(
    speech: SpeechOptions,
    symbols: int,
    batch_seconds: float,
    encoder: SpeechNetwork,
    augmentation: Augmentation,
    device: str = "cpu",
) -> tuple[SpeechBatches, SpeechCorpus]:
    """`speech_corpus.open_parts` of states in place of features; makes them where they are missing.

    Held-out speech is not augmented. A call that was stopped goes on where it was. Raises
    TrainError as `open_parts`, and for states that float16 cannot hold.
    Exact check: tests/train/test_encoder_states.py::
    test_states_are_those_that_the_encoder_has_of_its_features.
    """
    versions = len(speech.speeds) * augmentation.draws
    directory = _prepared(speech, symbols, encoder.to(device).eval(), augmentation)
    width = encoder.config.width
    training = open_speech(directory / "train", width, versions, symbols, 1)
    states_a_second = speech.frames_a_second / speech.subsampling
    batches = SpeechBatches(training, round(batch_seconds * states_a_second))
    return batches, open_speech(directory / "valid", width, 1, symbols, 1)


def _prepared(
    speech: SpeechOptions, symbols: int, encoder: SpeechNetwork, augmentation: Augmentation
) -> Path:
    """The folder of the states, which are made unless they are there."""
    settings = {
        "corpus": json.loads(read_bytes(speech.directory / "ready.json")),
        "encoder": hashlib.blake2b(serialized_weights(encoder), digest_size=8).hexdigest(),
        "augmentation": asdict(augmentation),
    }
    record = (json.dumps(settings) + "\n").encode()
    name = hashlib.blake2b(record, digest_size=8).hexdigest()
    directory = speech.directory / "states" / name
    ready = directory / "ready.json"
    if ready.exists():
        return directory
    make_folder(directory)
    with writing_to(directory):
        continue_from(directory, settings, dict.fromkeys(_PARTS, ()))
        for part, versions in zip(_PARTS, (len(speech.speeds), 1), strict=True):
            source = speech.directory / part
            corpus = open_speech(source, speech.bins, versions, symbols, speech.subsampling)
            masks = augmentation if part == "train" else None
            _write(_Listening(SpeechBatches(corpus, 1), encoder, masks), source, directory / part)
        replace_file(ready, record)
        forget_progress(directory, _PARTS)
    return directory


@dataclass(frozen=True)
class _Listening:
    """An encoder that hears a corpus, utterance by utterance."""

    speech: SpeechBatches
    encoder: SpeechNetwork
    augmentation: Augmentation | None

    @property
    def draws(self) -> int:
        """Of each version of an utterance."""
        return 1 if self.augmentation is None else self.augmentation.draws

    @torch.no_grad()
    def states(self, utterance: int) -> list[np.ndarray]:
        """(T_i, width) float32 of every version of an utterance and every draw of it."""
        versions = self.speech.corpus.versions
        rows = np.repeat(np.arange(versions) + utterance * versions, self.draws)
        features, frames, *_ = self.speech.batch(rows).inputs
        masks, generator = None, torch.Generator()
        if self.augmentation is not None:
            masks = self.augmentation.masks
            generator.manual_seed(self.augmentation.seed * 1_000_003 + utterance)
        device = self.encoder.head.weight.device
        x = network_input(features, frames, masks, device, generator)
        hidden, lengths = self.encoder.hidden(x, frames)
        return [self._row(*pair) for pair in zip(hidden.cpu(), lengths.tolist(), strict=True)]

    def _row(self, hidden: Tensor, length: int) -> np.ndarray:
        states: np.ndarray = hidden[:length].numpy()
        largest = np.finfo(np.float16).max
        if not (np.abs(states) <= largest).all():
            raise TrainError(
                f"the encoder has states beyond {largest:g}, or not finite; leave out --state-draws"
            )
        return states


def _write(listening: _Listening, source: Path, directory: Path) -> None:
    """Write the states of a part and its texts, which are those of `source`."""
    corpus = listening.speech.corpus
    lengths = write_features(
        directory,
        range(len(corpus)),
        listening.states,
        (corpus.versions * listening.draws, listening.encoder.config.width),
    )
    np.save(directory / "offsets.npy", offsets_of(lengths))
    for name in ("targets.npy", "target_offsets.npy"):
        replace_file(directory / name, read_bytes(source / name))
