"""What a run of `train dllm` starts with: two models and a fresh projector, or a model of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from rescore.acoustic.prompted import (
    PromptedModel,
    counted_symbols,
    is_prompted,
    load_prompted,
    text_network,
)
from rescore.acoustic.recogniser import Recogniser, load_recogniser
from rescore.acoustic.symbols import Symbols
from rescore.errors import ModelError
from rescore.models.checkpoint import load
from rescore.models.embedded import embedded_directory
from rescore.models.hub.text_model import load_text_model
from rescore.models.hub.tokenizer import HubTokenizer
from rescore.models.network import Network
from rescore.models.opening import FORMAT, has_format
from rescore.models.prompted import (
    CLOCKS,
    ClockName,
    PositionName,
    PromptConfig,
    PromptedNetwork,
    SequenceModel,
)
from rescore.models.tokenizer import Tokenizer
from rescore.text import normalizer
from rescore.train.options import DllmOptions
from rescore.train.speech_corpus import SpeechCorpus
from rescore.train.speech_run import check_symbols

__all__ = ["corpus_texts", "start_model"]


class _Language(NamedTuple):
    """A language model, its tokenizer, and what its texts go through."""

    model: SequenceModel
    tokenizer: Tokenizer | HubTokenizer
    normalizer: str


def start_model(options: DllmOptions, symbols: Symbols, corpus: SpeechCorpus) -> PromptedModel:
    """The model that a run begins with. Raises ModelError for an unusable start."""
    if options.start_from is None:
        raise ModelError("--start-from is missing; give the recogniser whose encoder is taken")
    torch.manual_seed(options.seed)
    directory = Path(options.start_from)
    if is_prompted(directory):
        if options.language_model is not None or options.from_scratch:
            raise ModelError(
                f"{directory}: has its language model; leave --language-model and --from-scratch "
                "out, or start from a recogniser"
            )
        model = load_prompted(directory, options.remote_code)
    else:
        model = _new_model(options, load_recogniser(directory), corpus)
    check_symbols(directory, model.symbols, symbols)
    return model


def corpus_texts(corpus: SpeechCorpus, symbols: Symbols) -> list[str]:
    """The text of every utterance of a corpus."""
    rows = np.split(corpus.targets, corpus.target_offsets[1:-1])
    return [symbols.decode(row.tolist()) for row in rows]


def _new_model(options: DllmOptions, recogniser: Recogniser, corpus: SpeechCorpus) -> PromptedModel:
    """A fresh projector between a recogniser and a language model."""
    language = _language(options, recogniser)
    clock, tokens_per_count = _clock(corpus, recogniser.symbols, language)
    encoder = recogniser.network
    config = PromptConfig(
        encoder.config.width,
        language.model.width,
        options.stride,
        positions=_positions(options, language.model),
        clock=clock,
        tokens_per_count=tokens_per_count,
    )
    return PromptedModel(
        PromptedNetwork(
            encoder, config, language.model, *counted_symbols(recogniser.symbols, clock)
        ),
        recogniser.symbols,
        language.tokenizer,
        recogniser.sampling_rate,
        recogniser.normalizer,
        language.normalizer,
        frozen=recogniser.frozen,
    )


def _language(options: DllmOptions, recogniser: Recogniser) -> _Language:
    """The language model that the options name: one of ours, else one of Hugging Face.

    Texts of the latter are those of the recogniser.
    """
    name = options.language_model or "mdlm"
    directory = embedded_directory(name) or Path(name)
    if not has_format(directory, FORMAT):
        if options.from_scratch:
            raise ModelError(f"--from-scratch: {name} is of Hugging Face, only ours start anew")
        model, pieces = load_text_model(name, options.remote_code)
        return _Language(model, pieces, recogniser.normalizer)
    checkpoint = load(directory)
    if checkpoint.prediction not in ("masked", "causal"):
        raise ModelError(
            f"--language-model {name}: its objective is {checkpoint.objective!r}, expected mdlm or "
            "ar"
        )
    if options.from_scratch:
        checkpoint.network = Network(checkpoint.network.config)
    return _Language(
        text_network(checkpoint.network, checkpoint.tokenizer),
        checkpoint.tokenizer,
        checkpoint.normalizer,
    )


def _positions(options: DllmOptions, model: SequenceModel) -> PositionName:
    if model.follows_places:
        return options.positions or "emitted"
    if options.positions == "emitted":
        raise ModelError(
            "--positions emitted: a model of Hugging Face counts its positions itself; leave it out"
        )
    return "sequence"


def _clock(corpus: SpeechCorpus, symbols: Symbols, language: _Language) -> tuple[ClockName, float]:
    """What the places of a prompt count, and the tokens of the training texts to one count.

    The clock is the one that ticks most nearly once a token: words for pieces of words, symbols for
    characters.
    """
    normalize = normalizer(language.normalizer)
    texts = [normalize(text) for text in corpus_texts(corpus, symbols)]
    tokens: Sequence[Sequence[int]] = language.tokenizer.encode(texts)
    ratios: dict[ClockName, float] = {}
    for clock in CLOCKS:
        counted, first = counted_symbols(symbols, clock)
        counts = int(np.isin(corpus.targets, counted).sum()) + first * len(corpus)
        ratios[clock] = max(1, sum(map(len, tokens))) / max(1, counts)
    nearest = min(CLOCKS, key=lambda clock: abs(math.log(ratios[clock])))
    return nearest, ratios[nearest]
