"""What training changes, and the step that changes it: network, optimisers, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from rescore.train.optimizers import Average, Optimizers, schedule
from rescore.train.options import RunOptions
from rescore.train.speed import step_flops

__all__ = ["AnyLoss", "Batch", "Learner", "Update"]

#: (network, inputs of a batch ..., generator) -> (nats summed over the batch, positions read out)
AnyLoss: TypeAlias = Callable[..., tuple[Tensor, int]]


class Batch(NamedTuple):
    """What one step learns from.

    `inputs` go to the loss between network and generator; `scored` tokens are what it sums over;
    `shape` is (sequences, positions) of what the network encodes.
    """

    inputs: tuple[Tensor, ...]
    scored: int
    shape: tuple[int, int]


class Update(NamedTuple):
    """One optimiser step: nats per scored token (still on the device), scored tokens, FLOPs."""

    loss: Tensor
    tokens: int
    flops: float


class Learner:
    """A network, the moments of its optimisers, and the moving average of its weights."""

    def __init__(
        self,
        options: RunOptions,
        network: nn.Module,
        loss: AnyLoss,
        bound: AnyLoss,
        flops: Callable[[nn.Module, int, int, int], float] = step_flops,
    ) -> None:
        """`loss` is what the network is trained with, `bound` what it is validated with.

        `flops` counts those of a step, from sequences, their length and positions read out.
        """
        self._options, self._flops = options, flops
        self.network, self.loss, self.bound = network.to(options.device), loss, bound
        if options.compile:
            for block in self.network.blocks:  # type: ignore[union-attr]
                block.compile()
        self._optimizers = Optimizers(
            self.network, options.optimizer, options.learning_rate, options.weight_decay
        )
        self._average = Average(self.network.parameters(), options.average)

    def update(self, batch: Batch, step: int) -> Update:
        """Do optimiser step number `step` on a batch."""
        options = self._options
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        nats, read_out = self.evaluate(self.loss, batch, generator)
        loss = nats / batch.scored
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), options.clip)
        self._optimizers.step(schedule(step, options.steps, options.warmup, options.decay))
        self._average.update()
        flops = self._flops(self.network, *batch.shape, read_out)
        return Update(loss.detach(), batch.scored, flops)

    def evaluate(
        self, loss: AnyLoss, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, int]:
        """A loss of the current weights, in the arithmetic that the options ask for."""
        device = torch.device(self._options.device).type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._options.bf16):
            return loss(self.network, *batch.inputs, generator)

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
        """Take back what `state` returned. Raises ValueError or what torch does for another."""
        self.network.load_state_dict(state["network"])
        self._optimizers.load(state["optimizers"])
        self._average.load(state["average"], state["averaged"])
