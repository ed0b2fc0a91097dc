"""The main loop of every training run, which resumes to the same curve.

Everything random is drawn from (seed, step) or (seed, epoch), so that a run that was killed
continues with the batches and the noise it would have had. The roles:

    Examples    batches to learn from: text, speech
    Learner     network, optimisers and averaged weights; one step on one batch     learner.py
    Validator   how good the network is on held-out examples
    state       what a resumed run needs, in one file                               state.py
    log         one line a validation                                               log.py

The run directory holds `state.pt`, `log.csv` and, at the end, the checkpoint; by default also the
prepared examples.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.errors import TrainError
from rescore.progress import progress_bar
from rescore.train.learner import Batch, Learner
from rescore.train.log import append_row, trim_log
from rescore.train.options import RunOptions
from rescore.train.speed import SpeedMeter
from rescore.train.state import Progress, load_state, save_state, writing_to

__all__ = ["Examples", "Figures", "QuickValidator", "Run"]

#: Steps between two checks of the loss: on a GPU every check waits for the device.
_CHECK_EVERY = 10

#: How much of the smoothed loss a new step replaces.
_SMOOTHING = 0.02


class Examples(Protocol):
    """What a run learns from."""

    def epoch(self, seed: int) -> list[np.ndarray]:
        """All examples once, in an order drawn from `seed`: the numbers of each batch."""

    def batch(self, rows: np.ndarray) -> Batch:
        """The examples of these numbers."""


class Figures(Protocol):
    """The outcome of a validation."""

    def figures(self) -> Mapping[str, object]:
        """Its columns of the log."""


class QuickValidator(Protocol):
    """What the main loop needs of a validator."""

    def quick(self, learner: Learner) -> Figures:
        """Evaluate the learner's current weights on some held-out examples, always the same."""


class Run:
    """One training run: a learner, the examples it learns from, and how far it has come."""

    def __init__(
        self, options: RunOptions, learner: Learner, examples: Examples, directory: Path
    ) -> None:
        self._options, self._examples, self._directory = options, examples, directory
        self._state_path, self._log_path = directory / "state.pt", directory / "log.csv"
        self.learner = learner
        self.progress = Progress()

    def resume(self) -> None:
        """Continue from the saved state, if there is one. Raises TrainError as `load_state`."""
        if self._state_path.exists():
            self.progress = load_state(self._state_path, self._options, self.learner)
        trim_log(self._log_path, self.progress.step)

    def main_loop(self, validator: QuickValidator) -> None:
        """Train to the last step; validate, log and save on the way."""
        options, progress = self._options, self.progress
        if progress.step == options.steps:
            return
        speed = SpeedMeter(options)
        unchecked: list[Tensor] = []
        next_save = self._next_save()
        with self._progress_bar() as bar:
            for rows in self.remaining_batches():
                update = self.learner.update(self._examples.batch(rows), progress.step)
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
        """The batches from the current step to the last, each an array of example numbers."""
        options, first_step, epoch = self._options, 0, 0
        while self.progress.step < options.steps:
            epoch_batches = self._examples.epoch(seed=options.seed * 1000 + epoch)
            done = max(0, self.progress.step - first_step)
            left = options.steps - self.progress.step
            yield from epoch_batches[done : done + left]
            first_step += len(epoch_batches)
            epoch += 1

    def _is_due(self, every: int) -> bool:
        """Whether something that is due every few steps, and after the last, is due now."""
        step = self.progress.step
        return step % every == 0 or step == self._options.steps

    def _next_save(self) -> float:
        """When the next state is due at the latest, by the monotonic clock in seconds."""
        minutes = self._options.save_minutes
        return math.inf if minutes is None else time.monotonic() + 60 * minutes

    def _progress_bar(self) -> Any:
        return progress_bar(
            total=self._options.steps,
            initial=self.progress.step,
            description="training",
            unit="steps",
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

    def _log(self, validation: Figures, tokens_per_second: float, matmul_share: float) -> None:
        row = {
            "step": self.progress.step,
            "tokens": self.progress.tokens,
            "train_nats_per_token": f"{self.progress.loss:.4f}",
            **validation.figures(),
            "tokens_per_second": f"{tokens_per_second:.0f}",
            "matmul_share": f"{matmul_share:.3f}",
        }
        with writing_to(self._directory):
            append_row(self._log_path, row)

    def _save(self) -> None:
        save_state(self._state_path, self._options, self.learner, self.progress)
