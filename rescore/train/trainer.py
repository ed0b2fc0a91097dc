"""A plain trainer that resumes to the same curve.

AdamW or Muon; warm-up, constant and decay; averaged weights; gradient clipping. Everything random
is drawn from (seed, step) or (seed, epoch), so that a run that was killed continues with the
batches and the noise it would have had. The roles:

    Learner     network, optimisers and averaged weights; one step on one batch     learner.py
    Validator   the bound on validation text                                        validation.py
    state       what a resumed run needs, in one file                               state.py
    log         one line a validation                                               log.py
    Run         the main loop

The run directory holds `state.pt`, `log.csv` and, at the end, the checkpoint; by default also the
corpus.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from rescore.errors import TrainError
from rescore.models.checkpoint import Checkpoint, load, save
from rescore.models.tokenizer import Tokenizer, read_tokenizer
from rescore.train.corpus import Corpus, batches, collate, open_corpus
from rescore.train.learner import Learner
from rescore.train.log import append_row, trim_log
from rescore.train.options import CorpusOptions, TrainOptions
from rescore.train.prepare import prepare
from rescore.train.speed import SpeedMeter
from rescore.train.state import Progress, load_state, save_state, writing_to
from rescore.train.validation import Validation, Validator

__all__ = ["CorpusOptions", "TrainOptions", "prepare", "train"]

#: Steps between two checks of the loss: on a GPU every check waits for the device.
_CHECK_EVERY = 10

#: How much of the smoothed loss a new step replaces.
_SMOOTHING = 0.02


def train(corpus: Path, directory: Path, options: TrainOptions, card: dict[str, Any]) -> Checkpoint:
    """Train on a prepared corpus and write the checkpoint into `directory`.

    A run that was stopped is resumed from `directory/state.pt`. Raises TrainError if the corpus is
    too small, the state belongs to other options or the disk is full (the last state stays).
    """
    _check_directory(directory, options.objective)
    tokenizer = read_tokenizer(corpus / "tokenizer.model")
    run = Run(options, tokenizer, open_corpus(corpus / "train", tokenizer), directory)
    validator = Validator(open_corpus(corpus / "valid", tokenizer), tokenizer)
    run.resume()
    run.main_loop(validator)
    run.learner.keep_average()
    checkpoint = run.checkpoint(validator.whole(run.learner), card)
    with writing_to(directory):
        save(checkpoint, directory, torch.float16)
    return checkpoint


def _check_directory(directory: Path, objective: str) -> None:
    """Make the run directory.

    Raises TrainError if it holds a checkpoint of another objective, or one without its run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "config.json").exists():
        return
    existing = load(directory).objective
    if existing != objective:
        raise TrainError(
            f"{directory}: holds a checkpoint of objective {existing}, expected {objective}; "
            "give another --output"
        )
    if not (directory / "state.pt").exists():
        raise TrainError(
            f"{directory}: holds a checkpoint but no run to continue; give another --output, "
            "or fine-tune it with --start-from"
        )


class Run:
    """One training run: a learner, the batches it learns from, and how far it has come."""

    def __init__(
        self, options: TrainOptions, tokenizer: Tokenizer, corpus: Corpus, directory: Path
    ) -> None:
        self._options, self._tokenizer, self._corpus = options, tokenizer, corpus
        self._directory = directory
        self._state_path, self._log_path = directory / "state.pt", directory / "log.csv"
        self.learner = Learner(options, tokenizer)
        self.progress = Progress()

    def resume(self) -> None:
        """Continue from the saved state, if there is one. Raises TrainError as `load_state`."""
        if self._state_path.exists():
            self.progress = load_state(self._state_path, self._options, self.learner)
        trim_log(self._log_path, self.progress.step)

    def main_loop(self, validator: Validator) -> None:
        """Train to the last step; validate, log and save on the way."""
        options, progress = self._options, self.progress
        if progress.step == options.steps:
            return
        speed = SpeedMeter(options)
        unchecked: list[Tensor] = []
        next_save = self._next_save()
        with self._progress_bar() as bar:
            for rows in self.remaining_batches():
                tokens, padding = collate(self._corpus, rows, self._tokenizer)
                update = self.learner.update(tokens, padding, progress.step)
                progress.step += 1
                progress.tokens += update.tokens
                speed.add(update.tokens, update.flops)
                unchecked.append(update.loss)
                bar.update()

                is_validated = self._is_due(options.evaluate_every)
                is_saved = self._is_due(options.save_every) or time.monotonic() >= next_save
                if is_validated or is_saved or progress.step % _CHECK_EVERY == 0:
                    self._check_losses(torch.stack(unchecked).tolist())
                    unchecked = []
                    bar.set_postfix_str(f"{progress.loss:.3f} nats/token", refresh=False)
                if is_validated:
                    rates = speed.read()
                    with self.learner.averaged_weights():
                        self._log(validator.quick(self.learner), *rates)
                    speed.restart()  # the time of validation does not count
                if is_saved:
                    self._save()
                    next_save = self._next_save()

    def remaining_batches(self) -> Iterator[np.ndarray]:
        """The batches from the current step to the last, each an array of sentence numbers."""
        options, first_step, epoch = self._options, 0, 0
        while self.progress.step < options.steps:
            epoch_batches = batches(
                self._corpus, options.batch_tokens, seed=options.seed * 1000 + epoch
            )
            done = max(0, self.progress.step - first_step)
            left = options.steps - self.progress.step
            yield from epoch_batches[done : done + left]
            first_step += len(epoch_batches)
            epoch += 1

    def checkpoint(self, validation: Validation, card: dict[str, Any]) -> Checkpoint:
        """The current weights, on the CPU, with a card that says how they were trained."""
        network = self.learner.network.to("cpu").eval()
        training = {
            **asdict(self._options),
            "tokens": self.progress.tokens,
            "valid_nats_per_token": validation.nats_per_token,
            "valid_perplexity_per_word": validation.perplexity_per_word,
        }
        parameters = sum(weight.numel() for weight in network.parameters())
        return Checkpoint(
            network,
            self._tokenizer,
            self._options.objective,
            self.learner.prediction,
            self._options.normalizer,
            {**card, "parameters": parameters, "training": training},
        )

    def _is_due(self, every: int) -> bool:
        """Whether something that is due every few steps, and after the last, is due now."""
        step = self.progress.step
        return step % every == 0 or step == self._options.steps

    def _next_save(self) -> float:
        """When the next state is due at the latest, by the monotonic clock in seconds."""
        minutes = self._options.save_minutes
        return math.inf if minutes is None else time.monotonic() + 60 * minutes

    def _progress_bar(self) -> Any:
        return tqdm(
            total=self._options.steps,
            initial=self.progress.step,
            desc=f"train {self._options.objective}",
            unit="step",
            mininterval=5,
        )

    def _check_losses(self, losses: list[float]) -> None:
        """Add the last steps' losses to the smoothed one.

        Raises TrainError if one is not finite.
        """
        progress = self.progress
        for step, loss in enumerate(losses, progress.step - len(losses)):
            if not math.isfinite(loss):
                raise TrainError(
                    f"{self._directory}: the loss is {loss} at step {step}; "
                    "start again in another directory with a lower --learning-rate"
                )
            is_first = progress.loss == 0
            smoothed = (1 - _SMOOTHING) * progress.loss + _SMOOTHING * loss
            progress.loss = loss if is_first else smoothed

    def _log(self, validation: Validation, tokens_per_second: float, matmul_share: float) -> None:
        row = [
            self.progress.step,
            self.progress.tokens,
            f"{self.progress.loss:.4f}",
            f"{validation.nats_per_token:.4f}",
            f"{validation.perplexity_per_word:.2f}",
            f"{tokens_per_second:.0f}",
            f"{matmul_share:.3f}",
        ]
        with writing_to(self._directory):
            append_row(self._log_path, row)

    def _save(self) -> None:
        save_state(self._state_path, self._options, self.learner, self.progress)
