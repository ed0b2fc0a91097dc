"""Recognisers of our own: `dlmrescore train ctc` makes them, `posteriors --model` runs them.

A directory of data, no code: `config.json`, `model.safetensors`, `symbols.json` and, where symbols
are pieces of words, `tokenizer.model`. config.json:

    {"format": "dlmrescore-recogniser", "version": 1,
     "normalizer": "librispeech",     what the training texts went through
     "sampling_rate": 16000,
     "network": {...},                the fields of SpeechConfig
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

import numpy as np
import safetensors.torch
import torch

from rescore.acoustic.features import FRAME_SECONDS, fbank
from rescore.acoustic.symbols import Segmenter, Symbols
from rescore.errors import ModelError, RescoreError
from rescore.models.checkpoint import load_weights, replace_file
from rescore.models.speech_network import SHORTEST, SUBSAMPLING, SpeechConfig, SpeechNetwork
from rescore.models.tokenizer import Tokenizer

__all__ = [
    "Recogniser",
    "character_symbols",
    "is_recogniser",
    "load_recogniser",
    "piece_symbols",
    "read_symbols",
    "save_recogniser",
    "write_symbols",
]

FORMAT, _VERSION = "dlmrescore-recogniser", 1
_BLANK = "<blank>"


@dataclass
class Recogniser:
    """A CTC network with everything that belongs to it; an `Encoder`."""

    network: SpeechNetwork
    symbols: Symbols
    sampling_rate: int = 16_000
    normalizer: str = "librispeech"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frame_samples(self) -> int:
        """Samples from one output frame to the next."""
        return round(FRAME_SECONDS * self.sampling_rate) * SUBSAMPLING

    @property
    def min_samples(self) -> int:
        """The shortest audio that has a frame."""
        hop = round(FRAME_SECONDS * self.sampling_rate)
        return hop * SHORTEST - hop // 2  # a frame begins with its first half

    @property
    def device(self) -> str:
        """The torch device of the network."""
        return str(self.network.head.weight.device)

    @cached_property
    def signature(self) -> str:
        """16 hex digits over weights, symbols and sampling rate."""
        state = {
            name: weight.detach().cpu().contiguous()
            for name, weight in sorted(self.network.state_dict().items())
        }
        whole = hashlib.blake2b(safetensors.torch.save(state), digest_size=8)
        whole.update(f"{self.symbols.digest} {self.sampling_rate}".encode())
        return whole.hexdigest()

    @torch.no_grad()
    def log_probs(self, audios: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Posteriors of a batch of samples (n_i,), each (L_i, V) float32; see `Encoder`."""
        config, device = self.network.config, self.network.head.weight.device
        features = [fbank(audio, self.sampling_rate, config.bins) for audio in audios]
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
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def save_recogniser(
    recogniser: Recogniser, directory: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write a recogniser; each file appears whole or not at all, config.json last."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.detach().to(dtype).contiguous()
        for name, weight in recogniser.network.state_dict().items()
    }
    config = {
        "format": FORMAT,
        "version": _VERSION,
        "normalizer": recogniser.normalizer,
        "sampling_rate": recogniser.sampling_rate,
        "network": dataclasses.asdict(recogniser.network.config),
        "card": dict(recogniser.card),
    }
    replace_file(directory / "model.safetensors", safetensors.torch.save(weights))
    write_symbols(recogniser.symbols, directory)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_recogniser(directory: Path) -> Recogniser:
    """Load a recogniser onto the CPU in float32, ready to evaluate.

    Raises ModelError, one line that names the file, if a file is missing or broken, or files of two
    models are mixed.
    """
    config = _read_config(directory / "config.json")
    symbols = read_symbols(directory)
    network = SpeechNetwork(config["network"])
    load_weights(network, directory / "model.safetensors")
    if network.config.symbols != len(symbols):
        raise ModelError(
            f"{directory}: the network has {network.config.symbols} columns, its symbols are "
            f"{len(symbols)}; files of two models are mixed"
        )
    return Recogniser(
        network.eval(), symbols, config["sampling_rate"], config["normalizer"], config["card"]
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = _read_json(path, "the recogniser's configuration")
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelError(f"{path}: not a {FORMAT} configuration; train one with `train ctc`")
    if config.get("version") != _VERSION:
        raise ModelError(
            f"{path}: recogniser version {config.get('version')!r}, this release reads {_VERSION}; "
            "update dlmrescore"
        )
    try:
        return {
            "network": SpeechConfig(**config["network"]),
            "sampling_rate": int(config["sampling_rate"]),
            "normalizer": str(config["normalizer"]),
            "card": dict(config.get("card") or {}),
        }
    except (KeyError, TypeError, ValueError, RescoreError) as error:
        raise ModelError(
            f"{path}: the configuration does not fit ({error}); restore the file"
        ) from error


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
    values = _read_json(path, "the recogniser's symbols")
    try:
        segmenter = None
        if values["word_rule"] == "mark":
            segmenter = Segmenter("sentencepiece", pieces.read_bytes())
        return Symbols(
            tuple(values["pieces"]),
            values["blank"],
            values["word_rule"],
            values["boundary"],
            frozenset(values["special"]),
            segmenter,
        )
    except OSError as error:
        raise ModelError(
            f"{pieces}: cannot read the tokenizer ({error.strerror}); restore the file"
        ) from error
    except (KeyError, TypeError, RescoreError) as error:
        raise ModelError(f"{path}: these are no symbols ({error}); restore the file") from error


def _read_json(path: Path, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot read {what} ({error.strerror}); give the directory of a recogniser"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); restore the file") from error
