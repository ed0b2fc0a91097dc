"""Recognisers of our own: `dlmrescore train ctc` makes them, `posteriors --model` runs them.

A directory of data, no code: `config.json`, `model.safetensors`, `symbols.json` and, where symbols
are pieces of words, `tokenizer.model`. config.json:

    {"format": "dlmrescore-recogniser", "version": 1,
     "normalizer": "librispeech",     what the training texts went through
     "sampling_rate": 16000,
     "network": {...},                the fields of SpeechConfig
     "frozen": {...},                 the fields of FrozenEncoder, if its states are the features
     "card": {...}}                   free text and figures: training speech, quality
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from rescore.acoustic.features import FRAME_SECONDS, fbank
from rescore.acoustic.frozen import FrozenEncoder
from rescore.acoustic.symbols import Segmenter, Symbols, WordRule
from rescore.errors import ModelError
from rescore.formats.files import make_folder, replace_file
from rescore.formats.strict_json import decode, short
from rescore.models.checkpoint import build_network, serialized_weights
from rescore.models.opening import (
    PROMPTED_FORMAT,
    RECOGNISER_FORMAT,
    TRANSCRIBER_FORMAT,
    VERSION,
    checked_field,
    has_format,
    network_config,
    opening,
    read_config,
    read_file,
)
from rescore.models.speech_network import (
    SHORTEST,
    SUBSAMPLING,
    SpeechConfig,
    SpeechNetwork,
    speech_tensor_shapes,
)
from rescore.models.tokenizer import Tokenizer

__all__ = [
    "Recogniser",
    "character_symbols",
    "check_width",
    "frozen_field",
    "is_recogniser",
    "load_recogniser",
    "piece_symbols",
    "read_frozen",
    "read_speech_config",
    "read_symbols",
    "save_recogniser",
    "write_symbols",
]

_BLANK = "<blank>"

_ADVICE = "train one with `train ctc`"


@dataclass
class Recogniser:
    """A CTC network with everything that belongs to it; an `Encoder`.

    `frozen` makes its features; None: log-Mel bins.
    """

    network: SpeechNetwork
    symbols: Symbols
    sampling_rate: int = 16_000
    normalizer: str = "librispeech"
    card: Mapping[str, Any] = field(default_factory=dict)
    frozen: FrozenEncoder | None = None

    @property
    def frame_samples(self) -> int:
        """Samples from one output frame to the next."""
        if self.frozen is not None:
            return self.frozen.frame_samples * self.network.config.subsampling
        return round(FRAME_SECONDS * self.sampling_rate) * SUBSAMPLING

    @property
    def min_samples(self) -> int:
        """The shortest audio that has a frame."""
        if self.frozen is not None:
            return self.frozen.min_samples
        hop = round(FRAME_SECONDS * self.sampling_rate)
        return hop * SHORTEST - hop // 2  # a frame begins with its first half

    @property
    def device(self) -> str:
        """The torch device of the network."""
        return str(self.network.head.weight.device)

    @cached_property
    def signature(self) -> str:
        """16 hex digits over weights, symbols and sampling rate."""
        whole = hashlib.blake2b(serialized_weights(self.network), digest_size=8)
        whole.update(f"{self.symbols.digest} {self.sampling_rate}".encode())
        if self.frozen is not None:
            whole.update(self.frozen.digest.encode())
        return whole.hexdigest()

    def features(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What the network is given of samples (n_i,): (T_i, bins) float32.

        Raises AudioError for audio that is too long for the frozen encoder.
        """
        if self.frozen is not None:
            return self.frozen.states(audios, self.device)
        return [fbank(audio, self.sampling_rate, self.network.config.bins) for audio in audios]

    @torch.no_grad()
    def log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Posteriors of a batch of samples (n_i,), each (L_i, V) float32; see `Encoder`."""
        config, device = self.network.config, self.network.head.weight.device
        features = self.features(audios)
        frames = torch.tensor([len(rows) for rows in features])
        padded = torch.zeros(len(features), int(frames.max()), config.bins)
        for row, rows in zip(padded, features, strict=True):
            row[: len(rows)] = torch.from_numpy(rows)
        log_probs, lengths = self.network(padded.to(device), frames)
        return [
            rows[:length].cpu().numpy()
            for rows, length in zip(log_probs, lengths.tolist(), strict=True)
        ]


def is_recogniser(directory: Path) -> bool:
    """Whether a directory holds a recogniser of ours."""
    return has_format(directory, RECOGNISER_FORMAT)


def save_recogniser(
    recogniser: Recogniser, directory: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write a recogniser; each file appears whole or not at all, config.json last."""
    make_folder(directory)
    config = {
        "format": RECOGNISER_FORMAT,
        "version": VERSION,
        "normalizer": recogniser.normalizer,
        "sampling_rate": recogniser.sampling_rate,
        "network": dataclasses.asdict(recogniser.network.config),
        **frozen_field(recogniser.frozen),
        "card": dict(recogniser.card),
    }
    replace_file(directory / "model.safetensors", serialized_weights(recogniser.network, dtype))
    write_symbols(recogniser.symbols, directory)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_recogniser(directory: Path) -> Recogniser:
    """Load a recogniser onto the CPU in float32, ready to evaluate.

    Raises ModelError, one line that names the file, if a file is missing or broken, or files of two
    models are mixed.
    """
    config = _read_config(directory / "config.json")
    symbols = read_symbols(directory)
    sizes: SpeechConfig = config["network"]
    if sizes.symbols != len(symbols):
        raise ModelError(
            f"{directory}: the network has {sizes.symbols} columns, its symbols are "
            f"{len(symbols)}; files of two models are mixed"
        )
    network = build_network(
        lambda: SpeechNetwork(sizes), speech_tensor_shapes(sizes), directory / "model.safetensors"
    )
    return Recogniser(
        network.eval(),
        symbols,
        config["sampling_rate"],
        config["normalizer"],
        config["card"],
        config["frozen"],
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_speech_config(path, _ADVICE, RECOGNISER_FORMAT)
    network = network_config(SpeechConfig, config, path)
    check_width(network, config["frozen"], path)
    return {**config, "network": network}


def read_speech_config(path: Path, advice: str, kind: str) -> dict[str, Any]:
    """The `config.json` of a model of audio: of what `kind`, with what all of them have checked.

    Raises ModelError that names the field; for a missing file it gives the `advice`.
    """
    config = read_config(path, advice, kind)
    checked_field(config, "sampling_rate", int, path)
    checked_field(config, "normalizer", str, path)
    if not 1000 <= config["sampling_rate"] <= 1_000_000:
        raise ModelError(
            f"{path}: the sampling rate is {short(str(config['sampling_rate']))}, expected samples "
            "a second, such as 16000; restore the file"
        )
    card = {} if config.get("card") is None else checked_field(config, "card", dict, path)
    frozen = None
    if config.get("frozen") is not None:
        frozen = network_config(FrozenEncoder, config, path, "frozen")
    return {**config, "card": card, "frozen": frozen}


def read_frozen(directory: Path) -> FrozenEncoder | None:
    """The frozen encoder of a model of audio: a recogniser, or one with a decoder or a prompt.

    Raises ModelError.
    """
    path = directory / "config.json"
    kinds = (RECOGNISER_FORMAT, PROMPTED_FORMAT, TRANSCRIBER_FORMAT)
    kind = next((kind for kind in kinds if has_format(directory, kind)), TRANSCRIBER_FORMAT)
    frozen: FrozenEncoder | None = read_speech_config(path, _ADVICE, kind)["frozen"]
    return frozen


def check_width(network: SpeechConfig, frozen: FrozenEncoder | None, path: Path) -> None:
    """Raise ModelError unless a network takes what its frozen encoder makes."""
    if frozen is not None and frozen.width != network.bins:
        raise ModelError(
            f"{path}: the network takes {network.bins} numbers a frame, {frozen.model} makes "
            f"{frozen.width}; files of two models are mixed"
        )


def frozen_field(frozen: FrozenEncoder | None) -> dict[str, Any]:
    """The field of `config.json` that names a frozen encoder; no field without one."""
    return {} if frozen is None else {"frozen": dataclasses.asdict(frozen)}


# --------------------------------------------------------------------------------------- symbols


def character_symbols(texts: Iterable[str]) -> Symbols:
    """The characters of normalised texts, in the order of their code points, after the blank."""
    characters = sorted({character for text in texts for character in text} - {" "})
    return Symbols((_BLANK, " ", *characters), blank=0, boundary=" ")


def piece_symbols(tokenizer: Tokenizer) -> Symbols:
    """The pieces of a SentencePiece vocabulary; its padding is the blank.

    So a language model of that vocabulary and the recogniser share their columns.
    """
    return Symbols(
        tuple(piece for piece, _ in tokenizer.scores()),
        blank=tokenizer.pad_id,
        word_rule="mark",
        special=frozenset(tokenizer.special) - {tokenizer.pad_id},
        segmenter=Segmenter("sentencepiece", tokenizer.serialized),
    )


def write_symbols(symbols: Symbols, directory: Path) -> None:
    """Write `symbols.json`, and `tokenizer.model` where pieces have a SentencePiece model."""
    values = {
        "pieces": symbols.pieces,
        "blank": symbols.blank,
        "word_rule": symbols.word_rule,
        "boundary": symbols.boundary,
        "special": sorted(symbols.special),
    }
    if symbols.segmenter is not None:
        replace_file(directory / "tokenizer.model", symbols.segmenter.serialized)
    text = json.dumps(values, ensure_ascii=False, indent=1)
    replace_file(directory / "symbols.json", (text + "\n").encode())


def read_symbols(directory: Path) -> Symbols:
    """Read what `write_symbols` wrote. Raises ModelError that names the file."""
    path, pieces = directory / "symbols.json", directory / "tokenizer.model"
    data = read_file(path, "the recogniser's symbols", "restore the file")
    with opening(path, "restore the file", "these are no symbols"):
        values = msgspec.convert(decode(data, str(path)), _StoredSymbols)
        segmenter = None
        if values.word_rule == "mark":
            serialized = read_file(pieces, "the tokenizer", "restore the file")
            segmenter = Segmenter("sentencepiece", serialized, str(pieces))
        return Symbols(
            values.pieces,
            values.blank,
            values.word_rule,
            values.boundary,
            values.special,
            segmenter,
        )


class _StoredSymbols(msgspec.Struct, forbid_unknown_fields=True):
    """symbols.json."""

    pieces: tuple[str, ...]
    blank: int
    word_rule: WordRule
    boundary: str | None
    special: frozenset[int]
