"""Language models with a speech prompt: `dlmrescore train dllm` makes them.

A directory of data, no code: `config.json`, `model.safetensors`, `symbols.json` and, where symbols
are pieces of words, `tokenizer.model`, of the encoder; `text.model`, the language model's
SentencePiece vocabulary. config.json:

    {"format": "dlmrescore-prompted", "version": 1,
     "normalizer": "librispeech",     what the recogniser's training texts went through
     "text_normalizer": "librispeech",  what those of the language model went through
     "sampling_rate": 16000,
     "encoder": {...},                the fields of SpeechConfig
     "frozen": {...},                 the fields of FrozenEncoder, if its states are the features
     "prompt": {...},                 the fields of PromptConfig
     "network": {...},                the fields of NetworkConfig; causal: the AR twin
     "card": {...}}                   free text and figures: training speech, quality

A language model of Hugging Face has "language_model", the fields of `HubReference`, in place of
"network", and no `text.model`; `model.safetensors` has of its weights only what was learned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

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
from rescore.acoustic.transcription import until_end
from rescore.errors import ModelError
from rescore.formats.files import make_folder, replace_file
from rescore.models.checkpoint import build_network, serialized_weights
from rescore.models.hub.text_model import HubTextModel, load_text_model
from rescore.models.hub.tokenizer import HubTokenizer
from rescore.models.network import Network, NetworkConfig
from rescore.models.opening import (
    PROMPTED_FORMAT,
    VERSION,
    checked_field,
    has_format,
    network_config,
    tensor_shapes,
)
from rescore.models.prompted import (
    ClockName,
    PromptConfig,
    PromptedNetwork,
    SequenceModel,
    TextNetwork,
    projector_shapes,
    text_network_shapes,
)
from rescore.models.speech_network import SpeechConfig, SpeechNetwork, speech_tensor_shapes
from rescore.models.tokenizer import Tokenizer, read_tokenizer

__all__ = [
    "HubReference",
    "PromptedModel",
    "counted_symbols",
    "is_prompted",
    "load_prompted",
    "save_prompted",
    "text_network",
]

#: Where the learned weights of a language model of Hugging Face are among the tensors.
_LEARNED = "language_model.learned."


@dataclass(frozen=True)
class HubReference:
    """A language model by its Hub id or directory, what it is known by, and its adapters' rank."""

    model: str
    digest: str
    rank: int = 0


@dataclass
class PromptedModel:
    """An encoder with a language model behind its prompt, and everything that belongs to them.

    `frozen` makes the features of the encoder; None: log-Mel bins.
    """

    network: PromptedNetwork
    symbols: Symbols
    tokenizer: Tokenizer | HubTokenizer
    sampling_rate: int = 16_000
    normalizer: str = "librispeech"
    text_normalizer: str = "librispeech"
    card: Mapping[str, Any] = field(default_factory=dict)
    frozen: FrozenEncoder | None = None

    @property
    def is_causal(self) -> bool:
        """Whether this is an autoregressive twin."""
        return self.network.language_model.is_causal

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
        """16 hex digits over weights, vocabularies and sampling rate."""
        whole = hashlib.blake2b(serialized_weights(self.network), digest_size=8)
        language_model = self.network.language_model
        if isinstance(language_model, HubTextModel):
            whole.update(language_model.digest.encode())
        if isinstance(self.tokenizer, Tokenizer):
            whole.update(self.tokenizer.serialized)
        if self.frozen is not None:
            whole.update(self.frozen.digest.encode())
        config = dataclasses.asdict(self.network.config)
        meaning = (self.symbols.digest, self.sampling_rate, self.is_causal, sorted(config.items()))
        whole.update(repr(meaning).encode())
        return whole.hexdigest()

    @cached_property
    def impossible(self) -> Tensor:
        """(V,) bool: rows of the output that no token of a text can be."""
        special, tokenizer = self.network.rows, self.tokenizer
        never = {special.padding, special.bos, special.mask, *tokenizer.special} - {special.eos}
        is_impossible = torch.zeros(self.network.language_model.output_rows, dtype=torch.bool)
        is_impossible[tokenizer.size :] = True
        is_impossible[[row for row in never if row < len(is_impossible)]] = True
        return is_impossible

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens before the first EOS."""
        text = self.tokenizer.decode(until_end(list(tokens), self.network.rows))
        return " ".join(text.split())


def counted_symbols(symbols: Symbols, clock: ClockName) -> tuple[list[int], int]:
    """The columns of symbols that a clock counts, and where it begins.

    "words": symbols that begin a word; a first word without one is counted at the start. Symbols
    without word boundaries all count.
    """
    if clock == "symbols":
        return list(symbols.columns.values()), 0
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
    network = model.network
    config = {
        "format": PROMPTED_FORMAT,
        "version": VERSION,
        "normalizer": model.normalizer,
        "text_normalizer": model.text_normalizer,
        "sampling_rate": model.sampling_rate,
        "encoder": dataclasses.asdict(network.encoder.config),
        **frozen_field(model.frozen),
        "prompt": dataclasses.asdict(network.config),
        **_language_model_field(network.language_model),
        "card": dict(model.card),
    }
    replace_file(directory / "model.safetensors", serialized_weights(network, dtype))
    write_symbols(model.symbols, directory)
    if isinstance(model.tokenizer, Tokenizer):
        replace_file(directory / "text.model", model.tokenizer.serialized)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def _language_model_field(language_model: SequenceModel) -> dict[str, Any]:
    if isinstance(language_model, HubTextModel):
        reference = HubReference(language_model.model, language_model.digest, language_model.rank)
        return {"language_model": dataclasses.asdict(reference)}
    if isinstance(language_model, TextNetwork):
        return {"network": dataclasses.asdict(language_model.network.config)}
    raise ModelError("this kind of language model cannot be saved")


def load_prompted(directory: Path, remote_code: bool = False) -> PromptedModel:
    """Load a model onto the CPU in float32, ready to evaluate.

    `remote_code`: code that comes with its language model may run. Raises ModelError, one line that
    names the file, if a file is missing or broken, or files of two models are mixed.
    """
    path = directory / "config.json"
    config = _read_config(path)
    symbols, encoder, prompt = read_symbols(directory), config["encoder"], config["prompt"]
    check_width(encoder, config["frozen"], path)
    language = _language_part(directory, config, remote_code)
    actual = (encoder.symbols, prompt.memory_width, prompt.width)
    expected = (len(symbols), encoder.width, language.width)
    if actual != expected:
        raise ModelError(
            f"{directory}: columns of the encoder and the two widths of the prompt are {actual}, "
            f"expected {expected}; files of two models are mixed"
        )
    network = build_network(
        lambda: PromptedNetwork(
            SpeechNetwork(encoder),
            prompt,
            language.build(),
            *counted_symbols(symbols, prompt.clock),
        ),
        chain(
            (("encoder." + name, shape) for name, shape in speech_tensor_shapes(encoder)),
            projector_shapes(prompt),
            language.shapes,
        ),
        directory / "model.safetensors",
    )
    return PromptedModel(
        network.eval(),
        symbols,
        language.tokenizer,
        config["sampling_rate"],
        config["normalizer"],
        config["text_normalizer"],
        config["card"],
        config["frozen"],
    )


class _LanguagePart(NamedTuple):
    """A language model that is not built yet, with the shapes of its tensors in the weights."""

    tokenizer: Tokenizer | HubTokenizer
    build: Callable[[], SequenceModel]
    shapes: Iterable[tuple[str, tuple[int, ...]]]
    width: int


def _language_part(directory: Path, config: Mapping[str, Any], remote_code: bool) -> _LanguagePart:
    if config["language_model"] is not None:
        return _hub_part(directory, config["language_model"], remote_code)
    tokenizer, sizes = read_tokenizer(directory / "text.model"), config["network"]
    pieces = tokenizer.size + (not sizes.causal)
    if sizes.vocab_size != pieces:
        raise ModelError(
            f"{directory}: the language model has {sizes.vocab_size} rows, expected {pieces}; files"
            " of two models are mixed"
        )
    return _LanguagePart(
        tokenizer,
        lambda: text_network(Network(sizes), tokenizer),
        text_network_shapes(sizes),
        sizes.width,
    )


def _hub_part(directory: Path, reference: HubReference, remote_code: bool) -> _LanguagePart:
    language_model, tokenizer = load_text_model(reference.model, remote_code)
    if language_model.digest != reference.digest:
        raise ModelError(
            f"{reference.model}: its weights or vocabulary are not those that {directory} was "
            f"trained with ({language_model.digest}, expected {reference.digest}); restore them"
        )
    if reference.rank:
        language_model.add_adapters(reference.rank)
    names = tensor_shapes(directory / "model.safetensors")
    language_model.keep_named(
        name.removeprefix(_LEARNED) for name in names if name.startswith(_LEARNED)
    )
    learned = language_model.learned.items()
    shapes = [(_LEARNED + name, tuple(weight.shape)) for name, weight in learned]
    return _LanguagePart(tokenizer, lambda: language_model, shapes, language_model.width)


def _read_config(path: Path) -> dict[str, Any]:
    config = read_speech_config(path, "train one with `train dllm`", PROMPTED_FORMAT)
    checked_field(config, "text_normalizer", str, path)
    is_hub = config.get("language_model") is not None
    return {
        **config,
        "encoder": network_config(SpeechConfig, config, path, "encoder"),
        "prompt": network_config(PromptConfig, config, path, "prompt"),
        "language_model": network_config(HubReference, config, path, "language_model")
        if is_hub
        else None,
        "network": None if is_hub else network_config(NetworkConfig, config, path),
    }
