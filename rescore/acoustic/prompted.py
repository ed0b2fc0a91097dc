"""Language models with a speech prompt: `dlmrescore train dllm` makes them.

A directory of data, no code: `config.json`, `model.safetensors`, `symbols.json` and, where symbols
are pieces of words, `tokenizer.model`, of the encoder; `text.model`, the language model's
SentencePiece vocabulary. config.json:

    {"format": "dlmrescore-prompted", "version": 1,
     "normalizer": "librispeech",     what the recogniser's training texts went through
     "text_normalizer": "librispeech",  what those of the language model went through
     "sampling_rate": 16000,
     "encoder": {...},                the fields of SpeechConfig
     "prompt": {...},                 the fields of PromptConfig
     "network": {...},                the fields of NetworkConfig; causal: the AR twin
     "card": {...}}                   free text and figures: training speech, quality
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rescore.acoustic.recogniser import (
    Recogniser,
    read_speech_config,
    read_symbols,
    write_symbols,
)
from rescore.acoustic.symbols import WORD_START, Symbols
from rescore.acoustic.transcription import until_end
from rescore.errors import ModelError
from rescore.formats.files import make_folder, replace_file
from rescore.models.checkpoint import build_network, serialized_weights
from rescore.models.network import Network, NetworkConfig
from rescore.models.opening import VERSION, checked_field, has_format, network_config
from rescore.models.prompted import (
    PromptConfig,
    PromptedNetwork,
    TextNetwork,
    projector_shapes,
    text_network_shapes,
)
from rescore.models.speech_network import SpeechConfig, SpeechNetwork, speech_tensor_shapes
from rescore.models.tokenizer import Tokenizer, read_tokenizer

__all__ = [
    "PROMPTED_FORMAT",
    "PromptedModel",
    "is_prompted",
    "load_prompted",
    "save_prompted",
    "text_network",
    "word_starts",
]

PROMPTED_FORMAT = "dlmrescore-prompted"


@dataclass
class PromptedModel:
    """An encoder with a language model behind its prompt, and everything that belongs to them."""

    network: PromptedNetwork
    symbols: Symbols
    tokenizer: Tokenizer
    sampling_rate: int = 16_000
    normalizer: str = "librispeech"
    text_normalizer: str = "librispeech"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_causal(self) -> bool:
        """Whether this is an autoregressive twin."""
        return self.network.language_model.is_causal

    @property
    def recogniser(self) -> Recogniser:
        """The encoder alone, with its CTC head."""
        return Recogniser(
            self.network.encoder, self.symbols, self.sampling_rate, self.normalizer, self.card
        )

    @cached_property
    def signature(self) -> str:
        """16 hex digits over weights, vocabularies and sampling rate."""
        whole = hashlib.blake2b(serialized_weights(self.network), digest_size=8)
        whole.update(self.tokenizer.serialized)
        config = dataclasses.asdict(self.network.config)
        meaning = (self.symbols.digest, self.sampling_rate, self.is_causal, sorted(config.items()))
        whole.update(repr(meaning).encode())
        return whole.hexdigest()

    def impossible(self, rows: int) -> Tensor:
        """(rows,) bool: rows of the output that no token of a text can be."""
        special, tokenizer = self.network.rows, self.tokenizer
        never = {special.padding, special.bos, special.mask, tokenizer.unk_id}
        is_impossible = torch.zeros(rows, dtype=torch.bool)
        is_impossible[[row for row in never if row < rows]] = True
        return is_impossible

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens before the first EOS."""
        text = self.tokenizer.decode(until_end(list(tokens), self.network.rows))
        return " ".join(text.split())


def word_starts(symbols: Symbols) -> tuple[list[int], int]:
    """The columns of symbols that begin a word, and how many words begin without one.

    Symbols without word boundaries all count.
    """
    if symbols.boundary is not None:
        return [symbols.columns[symbols.boundary]], 1
    marked = [column for piece, column in symbols.columns.items() if piece.startswith(WORD_START)]
    return marked or list(symbols.columns.values()), 0


def text_network(network: Network, tokenizer: Tokenizer) -> TextNetwork:
    """A network of this vocabulary as a language model that takes a prompt."""
    special = (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id)
    return TextNetwork(network, special, tokenizer.size)


def is_prompted(directory: Path) -> bool:
    """Whether a directory holds a language model with a speech prompt."""
    return has_format(directory, PROMPTED_FORMAT)


def save_prompted(
    model: PromptedModel, directory: Path, dtype: torch.dtype = torch.float32
) -> None:
    """Write a model; each file appears whole or not at all, config.json last."""
    make_folder(directory)
    network, language_model = model.network, model.network.language_model
    if not isinstance(language_model, TextNetwork):
        raise ModelError("only models with a language model of ours can be saved")
    config = {
        "format": PROMPTED_FORMAT,
        "version": VERSION,
        "normalizer": model.normalizer,
        "text_normalizer": model.text_normalizer,
        "sampling_rate": model.sampling_rate,
        "encoder": dataclasses.asdict(network.encoder.config),
        "prompt": dataclasses.asdict(network.config),
        "network": dataclasses.asdict(language_model.network.config),
        "card": dict(model.card),
    }
    replace_file(directory / "model.safetensors", serialized_weights(network, dtype))
    write_symbols(model.symbols, directory)
    replace_file(directory / "text.model", model.tokenizer.serialized)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load_prompted(directory: Path) -> PromptedModel:
    """Load a model onto the CPU in float32, ready to evaluate.

    Raises ModelError, one line that names the file, if a file is missing or broken, or files of two
    models are mixed.
    """
    config = _read_config(directory / "config.json")
    symbols, tokenizer = read_symbols(directory), read_tokenizer(directory / "text.model")
    encoder, prompt, sizes = config["encoder"], config["prompt"], config["network"]
    pieces = tokenizer.size + (not sizes.causal)
    actual = (encoder.symbols, sizes.vocab_size, prompt.memory_width, prompt.width)
    expected = (len(symbols), pieces, encoder.width, sizes.width)
    if actual != expected:
        raise ModelError(
            f"{directory}: columns of the encoder, rows of the language model and the two widths of"
            f" the prompt are {actual}, expected {expected}; files of two models are mixed"
        )
    network = build_network(
        lambda: PromptedNetwork(
            SpeechNetwork(encoder),
            prompt,
            text_network(Network(sizes), tokenizer),
            *word_starts(symbols),
        ),
        chain(
            (("encoder." + name, shape) for name, shape in speech_tensor_shapes(encoder)),
            projector_shapes(prompt),
            text_network_shapes(sizes),
        ),
        directory / "model.safetensors",
    )
    return PromptedModel(
        network.eval(),
        symbols,
        tokenizer,
        config["sampling_rate"],
        config["normalizer"],
        config["text_normalizer"],
        config["card"],
    )


def _read_config(path: Path) -> dict[str, Any]:
    config = read_speech_config(path, "train one with `train dllm`", PROMPTED_FORMAT)
    checked_field(config, "text_normalizer", str, path)
    encoder, prompt = (checked_field(config, name, dict, path) for name in ("encoder", "prompt"))
    return {
        **config,
        "encoder": network_config(SpeechConfig, {"network": encoder}, path),
        "prompt": network_config(PromptConfig, {"network": prompt}, path),
        "network": network_config(NetworkConfig, config, path),
    }
