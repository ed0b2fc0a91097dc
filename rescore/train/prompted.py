"""Training language models that listen by a speech prompt, masked or AR (arXiv:2601.17902).

The main loop, its optimisers, averaging and resuming are those of the text trainer
(`rescore.train.run`), the features those of `train ctc`, whose recogniser is the encoder. It is
frozen. A first run teaches the projector alone, a second one that starts from it the language model
too, whole or by low-rank adapters. Those in a model of ours are merged into its weights when the
run ends; of a model of Hugging Face, only what was learned is saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rescore.acoustic.prompted import PromptedModel, save_prompted
from rescore.acoustic.recogniser import read_symbols
from rescore.acoustic.transcription import masked_canvas
from rescore.decoding.prompted_search import search_texts
from rescore.errors import ModelError
from rescore.models.hub.text_model import HubTextModel
from rescore.models.low_rank import add_adapters, merge_adapters
from rescore.models.prompted import HeardPrompt, PromptedNetwork, SequenceModel, TextNetwork
from rescore.text import normalizer
from rescore.train.ctc import SpecAugment
from rescore.train.learner import Batch, Learner
from rescore.train.options import DllmOptions, SpeechOptions
from rescore.train.prompted_losses import PromptedLoss
from rescore.train.prompted_start import corpus_texts, start_model
from rescore.train.run import Run
from rescore.train.speech_corpus import SpeechBatches, SpeechCorpus, open_parts
from rescore.train.speech_run import card_of_run, check_features, check_run_directory
from rescore.train.speed import step_flops
from rescore.train.state import writing_to
from rescore.types import ErrorCounts
from rescore.wer.counts import count_errors

__all__ = ["TokenBatches", "dllm_learner", "train_dllm"]

#: Validation while training reads the first batches of this size; the last one reads all.
_FEW_BATCHES, _BATCH_FRAMES = 4, 24_000

#: Greedy paths of a causal network are found one by one, so few of them while it trains.
_FEW_PATHS = 16

#: Places of a canvas beyond what CTC expects, when training validates.
_MARGIN = 4


def train_dllm(
    speech: SpeechOptions, directory: Path, options: DllmOptions, card: dict[str, Any]
) -> PromptedModel:
    """Train on prepared speech and write the model into `directory`.

    A run that was stopped is resumed from `directory/state.pt`. Raises TrainError as `train` does.
    """
    check_run_directory(directory)
    symbols = read_symbols(speech.directory)
    training, held_out = open_parts(speech, len(symbols), options.batch_seconds)
    model = start_model(options, symbols, training.corpus)
    validator = _Validator(held_out, model)
    examples = TokenBatches(training, model)
    check_features(options.start_from, speech)
    run = Run(options, dllm_learner(options, model), examples, directory)
    run.resume()
    run.main_loop(validator)
    run.learner.keep_average()
    validation = validator.whole(run.learner)
    model.network = run.learner.network.to("cpu").eval()  # type: ignore[assignment]
    language_model = model.network.language_model
    if options.learn == "low_rank" and isinstance(language_model, TextNetwork):
        merge_adapters(language_model)
    model.card = card_of_run(card, run, options, speech, validation.summary())
    with writing_to(directory):
        save_prompted(model, directory, torch.float16)
    return model


def dllm_learner(options: DllmOptions, model: PromptedModel) -> Learner:
    """The learner that the options ask for. Raises ModelError where peft is missing."""
    network = model.network
    network.encoder.requires_grad_(False)
    _choose_what_learns(options, network.language_model)
    masks = SpecAugment.of(options)
    loss = PromptedLoss(options.ctc_weight, options.fully_masked, options.margin, masks)
    return Learner(options, network.train(), loss, PromptedLoss(), _flops)


def _choose_what_learns(options: DllmOptions, language_model: SequenceModel) -> None:
    torch.manual_seed(options.seed)
    if isinstance(language_model, HubTextModel):
        if options.ctc_weight and language_model.output_weight is None:
            raise ModelError(
                f"{language_model.model}: its output layer cannot be taken alone, so it reads no "
                "CTC on the prompt; give --ctc-weight 0"
            )
        language_model.learn(options.learn or "projector", options.rank)
        return
    network: nn.Module = language_model  # type: ignore[assignment]
    network.requires_grad_((options.learn or "whole") == "whole")
    if options.learn == "low_rank":
        add_adapters(network, options.rank)


def _flops(network: nn.Module, batch: int, frames: int, read_out: int) -> float:
    """FLOPs of a step: a third of the encoder's, which has no gradient, and the language model's.

    Its text counts as if half of it were read out, the mean share of masked positions.
    """
    encoder: Any = network.encoder
    config: Any = network.config
    model: Any = network.language_model
    positions = read_out if model.is_causal else 2 * read_out
    length = frames // config.stride + positions // batch
    heard = step_flops(encoder, batch, frames, 0) / 3
    if isinstance(model, HubTextModel):  # two products forward, two back, two for what learns
        parameters = sum(weight.numel() for weight in model.network.parameters())
        return heard + float((6 if model.learned else 4) * parameters * batch * length)
    return heard + step_flops(model.network, batch, length, read_out)


class TokenBatches:
    """`Examples` of speech whose texts are tokens of the language model."""

    def __init__(self, speech: SpeechBatches, model: PromptedModel) -> None:
        self._speech = speech
        normalize = normalizer(model.text_normalizer)
        texts = [normalize(text) for text in corpus_texts(speech.corpus, model.symbols)]
        self.texts = texts
        self._ends = model.is_causal or model.network.language_model.hides_end
        self._tokens = [np.array(tokens) for tokens in model.tokenizer.encode(texts)]

    def epoch(self, seed: int) -> list[np.ndarray]:
        """See Examples."""
        return self._speech.epoch(seed)

    def plain(self) -> list[np.ndarray]:
        """All utterances in their first version."""
        return self._speech.plain()

    def utterances(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the utterances of these rows."""
        return rows // self._speech.corpus.versions

    def batch(self, rows: np.ndarray) -> Batch:
        """Features (B, T, F), frames (B,), tokens (B, S) and their numbers (B,); see Examples."""
        batch = self._speech.batch(rows)
        tokens = [self._tokens[number] for number in self.utterances(rows)]
        sizes = np.array([len(row) for row in tokens])
        targets = np.zeros((len(rows), max(1, sizes.max())), np.int64)
        for target, row in zip(targets, tokens, strict=True):
            target[: len(row)] = row
        features, frames, _, _ = batch.inputs
        inputs = (features, frames, torch.from_numpy(targets), torch.from_numpy(sizes))
        scored = int(sizes.sum()) + self._ends * len(rows)
        return Batch(inputs, max(1, scored), batch.shape)


# ----------------------------------------------------------------------------------- validation


@dataclass(frozen=True)
class _Validation:
    """Sums over validation speech: `nats` of the texts, their `tokens` with EOS, word errors.

    `nats` are a bound for a masked model; `errors` those of one evaluation of masks, or of the
    greedy path of a causal one.
    """

    nats: float
    tokens: int
    errors: ErrorCounts

    def summary(self) -> dict[str, float]:
        """What the card keeps."""
        return {"valid_nats_per_token": self.nats / self.tokens, "valid_wer": self.errors.wer}

    def figures(self) -> dict[str, str]:
        """Its columns of the log."""
        return {name: f"{value:.4f}" for name, value in self.summary().items()}


class _Validator:
    """Evaluates a learner on the same utterances every time, with the same masks."""

    def __init__(self, corpus: SpeechCorpus, model: PromptedModel) -> None:
        self._speech = TokenBatches(SpeechBatches(corpus, _BATCH_FRAMES), model)
        self._model, self._batches = model, self._speech.plain()

    def quick(self, learner: Learner) -> _Validation:
        """Loss and word errors on the first few batches; a causal network's of few utterances."""
        spelled = _FEW_PATHS if self._model.is_causal else len(self._speech.texts)
        return self._evaluate(learner, _FEW_BATCHES, spelled)

    def whole(self, learner: Learner) -> _Validation:
        """Loss and word errors on all utterances."""
        return self._evaluate(learner, len(self._batches), len(self._speech.texts))

    @torch.no_grad()
    def _evaluate(self, learner: Learner, count: int, spelled: int) -> _Validation:
        """The loss on `count` batches, and the word errors of their first `spelled` utterances."""
        network: PromptedNetwork = learner.network.eval()  # type: ignore[assignment]
        nats, tokens, errors = 0.0, 0, ErrorCounts()
        for number, rows in enumerate(self._batches[:count]):
            batch = self._speech.batch(rows)
            generator = torch.Generator().manual_seed(number)
            nats += float(learner.evaluate(learner.bound, batch, generator)[0])
            tokens += batch.scored
            features, frames = batch.inputs[:2]
            heard = network.hear(features.to(network.encoder.head.weight.device), frames)
            spell = self._greedy if self._model.is_causal else self._one_pass
            utterances = self._speech.utterances(rows)[:spelled]
            spelled -= len(utterances)
            heard = HeardPrompt(*(part[: len(utterances)] for part in heard))
            for row, text in zip(utterances, spell(heard), strict=True):
                errors += count_errors(self._speech.texts[row], text)
        network.train()
        return _Validation(nats, tokens, errors)

    def _one_pass(self, heard: HeardPrompt) -> list[str]:
        """The likeliest tokens of a canvas of masks, all at once."""
        network, rows = self._model.network, self._model.network.rows
        hides_end = network.language_model.hides_end
        sizes = heard.tokens.round().long().cpu() + 1 + _MARGIN * hides_end
        tokens, padding = masked_canvas(sizes, rows)
        never = self._model.impossible.clone()
        if not hides_end:
            tokens[torch.arange(len(sizes)), sizes] = rows.eos
            never[rows.eos] = True
        device = heard.prompt.device
        hidden = network.encode(tokens.to(device), heard, padding.to(device))
        logits = network.language_model.readout(hidden[:, 1:])
        best = logits.masked_fill(never.to(device), -torch.inf).argmax(-1).cpu()
        best = torch.where(tokens[:, 1:] == rows.mask, best, rows.eos)
        return [self._model.decode(row) for row in best.tolist()]

    def _greedy(self, heard: HeardPrompt) -> list[str]:
        """The greedy path of a causal model, one utterance after the other."""
        network = self._model.network
        texts = []
        for row, expected in enumerate(heard.tokens.tolist()):
            one = HeardPrompt(*(part[row : row + 1] for part in heard))
            longest = 2 * round(expected) + _MARGIN
            best = search_texts(network, one, 1, longest, self._model.impossible).texts[0]
            texts.append(self._model.decode(best[1]))
        return texts
