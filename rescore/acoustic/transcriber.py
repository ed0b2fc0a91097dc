"""Encoders with a decoder that listens: `dlmrescore train mdm` makes them.

A directory of data, no code: `config.json`, `model.safetensors`, `symbols.json` and, where symbols
are pieces of words, `tokenizer.model`. config.json:

    {"format": "dlmrescore-transcriber", "version": 1,
     "normalizer": "librispeech",     what the training texts went through
     "sampling_rate": 16000,
     "encoder": {...},                the fields of SpeechConfig
     "frozen": {...},                 the fields of FrozenEncoder, if its states are the features
     "network": {...},                the fields of ConditionedConfig; causal: the AR twin
     "card": {...}}                   free text and figures: training speech, quality
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from rescore.acoustic.frozen import FrozenEncoder
from rescore.acoustic.recogniser import (
    Recogniser,
    check_width,
    frozen_field,
    read_speech_config,
    read_symbols,
    write_symbols,
)
from rescore.acoustic.symbols import WORD_START, Symbols
from rescore.errors import ModelError
from rescore.formats.files import make_folder, replace_file
from rescore.models.audio_network import (
    SPECIAL_ROWS,
    AudioNetwork,
    SpecialRows,
    audio_network_shapes,
)
from rescore.models.checkpoint import build_network, serialized_weights
from rescore.models.conditioned import ConditionedConfig, ConditionedNetwork
from rescore.models.opening import (
    TRANSCRIBER_FORMAT,
    VERSION,
    has_format,
    network_config,
)
from rescore.models.speech_network import SpeechConfig, SpeechNetwork

__all__ = [
    "SymbolTokenizer",
    "Transcriber",
    "is_transcriber",
    "load_transcriber",
    "save_transcriber",
]


class SymbolTokenizer:
    """A recogniser's symbols as a `rescore.interfaces.TextTokenizer`."""

    unk_id = None

    def __init__(self, symbols: Symbols, rows: SpecialRows) -> None:
        self._symbols, self._special = symbols, {rows.eos: "</s>", rows.bos: "<s>"}
        self.bos_id, self.eos_id = rows.bos, rows.eos

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The symbols of each text. Raises ScoreError for what no symbol spells."""
        return [self._symbols.encode(text) for text in texts]

    def words(self, tokens: Sequence[int]) -> np.ndarray:
        """The word index of every token, (length,) int64; a boundary belongs to the word before."""
        symbols, starts, is_new = self._symbols, [], True
        for token in tokens:
            is_special = token in self._special
            piece = "" if is_special else symbols.pieces[token]
            begins = symbols.word_rule == "mark" and piece.startswith(WORD_START)
            starts.append(is_special or is_new or begins)
            is_new = is_special or (piece == symbols.boundary)
        index: np.ndarray = np.cumsum(np.array(starts, dtype=np.int64)) - 1
        return index

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token as the symbols spell it."""
        return [self._special.get(token) or self._symbols.pieces[token] for token in tokens]


@dataclass
class Transcriber:
    """An encoder with a decoder, and everything that belongs to them.

    `frozen` makes the features of the encoder; None: log-Mel bins.
    """

    network: AudioNetwork
    symbols: Symbols
    sampling_rate: int = 16_000
    normalizer: str = "librispeech"
    card: Mapping[str, Any] = field(default_factory=dict)
    frozen: FrozenEncoder | None = None

    @property
    def rows(self) -> SpecialRows:
        """The rows of the decoder that are no text."""
        return self.network.rows

    @property
    def is_causal(self) -> bool:
        """Whether this is an autoregressive twin."""
        return self.network.decoder.config.causal

    @property
    def tokenizer(self) -> SymbolTokenizer:
        """What turns texts into rows of the decoder."""
        return SymbolTokenizer(self.symbols, self.rows)

    @property
    def recogniser(self) -> Recogniser:
        """The encoder alone, with its CTC head."""
        return Recogniser(
            self.network.encoder,
            self.symbols,
            self.sampling_rate,
            self.normalizer,
            self.card,
            self.frozen,
        )

    @cached_property
    def signature(self) -> str:
        """16 hex digits over weights, symbols and sampling rate."""
        whole = hashlib.blake2b(serialized_weights(self.network), digest_size=8)
        whole.update(f"{self.symbols.digest} {self.sampling_rate} {self.is_causal}".encode())
        if self.frozen is not None:
            whole.update(self.frozen.digest.encode())
        return whole.hexdigest()


def is_transcriber(directory: Path) -> bool:
    """Whether a directory holds an encoder with a decoder."""
    return has_format(directory, TRANSCRIBER_FORMAT)


def save_transcriber(transcriber: Transcriber, directory: Path, dtype: Any = None) -> None:
    """Write a transcriber; each file appears whole or not at all, config.json last."""
    make_folder(directory)
    network = transcriber.network
    config = {
        "format": TRANSCRIBER_FORMAT,
        "version": VERSION,
        "normalizer": transcriber.normalizer,
        "sampling_rate": transcriber.sampling_rate,
        "encoder": dataclasses.asdict(network.encoder.config),
        "network": dataclasses.asdict(network.decoder.config),
        **frozen_field(transcriber.frozen),
        "card": dict(transcriber.card),
    }
    replace_file(directory / "model.safetensors", serialized_weights(network, dtype))
    write_symbols(transcriber.symbols, directory)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_transcriber(directory: Path) -> Transcriber:
    """Load a transcriber onto the CPU in float32, ready to evaluate.

    Raises ModelError, one line that names the file, if a file is missing or broken, or files of two
    models are mixed.
    """
    config = _read_config(directory / "config.json")
    symbols = read_symbols(directory)
    encoder: SpeechConfig = config["encoder"]
    decoder: ConditionedConfig = config["network"]
    expected = (len(symbols), len(symbols) + SPECIAL_ROWS, encoder.width)
    if (encoder.symbols, decoder.vocab_size, decoder.memory_width) != expected:
        raise ModelError(
            f"{directory}: the encoder has {encoder.symbols} columns, the decoder "
            f"{decoder.vocab_size} rows and a memory of width {decoder.memory_width}, expected "
            f"{expected[0]}, {expected[1]} and {expected[2]}; files of two models are mixed"
        )
    network = build_network(
        lambda: AudioNetwork(SpeechNetwork(encoder), ConditionedNetwork(decoder), symbols.blank),
        audio_network_shapes(encoder, decoder),
        directory / "model.safetensors",
    )
    return Transcriber(
        network.eval(),
        symbols,
        config["sampling_rate"],
        config["normalizer"],
        config["card"],
        config["frozen"],
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_speech_config(path, "train one with `train mdm`", TRANSCRIBER_FORMAT)
    encoder = network_config(SpeechConfig, config, path, "encoder")
    check_width(encoder, config["frozen"], path)
    return {
        **config,
        "encoder": encoder,
        "network": network_config(ConditionedConfig, config, path),
    }
