"""What training changes, and the step that changes it: network, optimisers, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rescore.errors import TrainError
from rescore.models.objectives import ModelPrediction, objective_named
from rescore.models.tokenizer import Tokenizer
from rescore.train.losses import Loss, losses_of
from rescore.train.optimizers import Average, Optimizers, schedule
from rescore.train.options import TrainOptions
from rescore.train.speed import step_flops
from rescore.train.start import build_network, copy_weights

__all__ = ["Learner", "Update", "scored_tokens"]


class Update(NamedTuple):
    """One optimiser step: nats per scored token (still on the device), scored tokens, FLOPs."""

    loss: Tensor
    tokens: int
    flops: float


class Learner:
    """A network, the moments of its optimisers, and the moving average of its weights."""

    def __init__(self, options: TrainOptions, tokenizer: Tokenizer) -> None:
        """Build the network that the options ask for.

        Raises TrainError for a prediction that the objective cannot make, ModelError for an unknown
        objective or an unusable checkpoint to start from.
        """
        self._options = options
        self.prediction = _prediction(options)
        self.loss, self.bound = losses_of(options.objective, self.prediction)
        self.network = build_network(options, tokenizer)
        if options.start_from is not None:
            copy_weights(self.network, Path(options.start_from), tokenizer)
        self.network.to(options.device)
        if options.compile:
            for block in self.network.blocks:
                block.compile()
        self._optimizers = Optimizers(
            self.network, options.optimizer, options.learning_rate, options.weight_decay
        )
        self._average = Average(self.network.parameters(), options.average)

    def update(self, tokens: Tensor, padding: Tensor, step: int) -> Update:
        """Do optimiser step number `step` on a batch: tokens (B, L) int64, padding (B, L) bool."""
        options = self._options
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        nats, read_out = self.evaluate(self.loss, tokens, padding, generator)
        count = scored_tokens(padding)
        loss = nats / count
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        self._optimizers.step(schedule(step, options.steps, options.warmup, options.decay))
        self._average.update()
        flops = step_flops(self.network, len(tokens), tokens.shape[1], read_out)
        return Update(loss.detach(), count, flops)

    def evaluate(
        self, loss: Loss, tokens: Tensor, padding: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """A loss of the current weights, in the arithmetic that the options ask for."""
        device = torch.device(self._options.device).type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._options.bf16):
            return loss(self.network, tokens, padding, generator)

    @contextlib.contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Put the averaged weights into the network, for the time of a `with` block."""
        self._average.swap()
        try:
            yield
        finally:
            self._average.swap()

    def keep_average(self) -> None:
        """Put the averaged weights into the network for good: training has ended."""
        self._average.swap()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs of this object; tensors are not copied."""
        return {
            "network": self.network.state_dict(),
            "average": self._average.values,
            "averaged": self._average.steps,
            "optimizers": self._optimizers.state(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self.network.load_state_dict(state["network"])
        self._optimizers.load(state["optimizers"])
        self._average.values = [value.to(self._options.device) for value in state["average"]]
        self._average.steps = state["averaged"]


def scored_tokens(padding: Tensor) -> int:
    """The number of scored tokens of a batch, padding (B, L) bool: all but BOS and padding."""
    return int((~padding).sum()) - len(padding)


def _prediction(options: TrainOptions) -> ModelPrediction:
    predictions = objective_named(options.objective).predictions
    if options.prediction is None:
        return predictions[0]
    if options.prediction not in predictions:
        raise TrainError(
            f"objective {options.objective} cannot predict {options.prediction!r}; "
            f"choose from {', '.join(predictions)}"
        )
    return options.prediction
