"""What changes the weights: AdamW or Muon, the learning-rate schedule, the moving average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rescore.errors import TrainError
from rescore.train.options import OptimizerName

__all__ = ["Average", "Optimizers", "schedule"]


def schedule(step: int, steps: int, warmup: int, decay: float) -> float:
    """The share of the full learning rate at a step.

    Linear warm-up, constant, then linear decay to zero over the last `decay` of all steps. Until
    the decay begins the share does not depend on `steps`, so a run may be made longer or shorter.
    Source: Hägele et al. 2024, arXiv:2405.18392 (warm-up, constant, cool-down).
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    falling = min(1.0, (steps - step) / max(1.0, decay * steps))
    return rising * falling


class Optimizers:
    """One or two torch optimisers as one.

    `adamw`: matrices with weight decay, vectors without. `muon`: torch's Muon for the matrices
    inside the blocks, its steps scaled to AdamW's so that learning rates carry over; AdamW for the
    rest. Raises TrainError where torch has no Muon.
    Source: Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982.
    """

    def __init__(
        self, network: nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float
    ) -> None:
        inner, matrices, vectors = [], [], []
        for key, weight in network.named_parameters():
            if name == "muon" and weight.ndim == 2 and key.startswith("blocks."):
                inner.append(weight)
            elif weight.ndim > 1:
                matrices.append(weight)
            else:
                vectors.append(weight)
        groups = [
            {"params": matrices, "weight_decay": weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        # Given on GPUs only: torch 1.13 does not know the word.
        fused: dict[str, Any] = {"fused": True} if matrices[0].is_cuda else {}
        self._parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), eps=1e-8, **fused)
        ]
        if inner:
            self._parts.append(_muon(inner, learning_rate, weight_decay))
        self._learning_rate = learning_rate

    def step(self, share: float) -> None:
        """One update with `share` of the learning rate; gradients are cleared."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self._learning_rate * share
            part.step()
            part.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """The moments: tensors and integers only."""
        return [part.state_dict()["state"] for part in self._parts]

    def load(self, state: list[dict[str, Any]]) -> None:
        """Take back what `state` returned."""
        for part, moments in zip(self._parts, state, strict=True):
            part.load_state_dict(
                {"state": moments, "param_groups": part.state_dict()["param_groups"]}
            )


def _muon(
    weights: list[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    if not hasattr(torch.optim, "Muon"):
        raise TrainError(
            f"torch {torch.__version__} has no Muon optimiser; "
            "use --optimizer adamw or torch 2.9 or later"
        )
    return torch.optim.Muon(
        weights,
        lr=learning_rate,
        weight_decay=weight_decay,
        momentum=0.95,
        adjust_lr_fn="match_rms_adamw",
    )


class Average:
    """An exponential moving average of weights, in float32.

    At step n it keeps min(decay, (1 + n) / (10 + n)) of itself, so that the first weights are soon
    forgotten.
    """

    def __init__(self, weights: Iterable[Tensor], decay: float) -> None:
        self._weights = list(weights)
        self._decay, self.steps = decay, 0
        self.values = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the current weights."""
        kept = min(self._decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_mul_(self.values, kept)
        torch._foreach_add_(
            self.values, [weight.detach() for weight in self._weights], alpha=1 - kept
        )

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged and the current weights."""
        for weight, value in zip(self._weights, self.values, strict=True):
            current = weight.detach().clone()
            weight.copy_(value)
            value.copy_(current)
