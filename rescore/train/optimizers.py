"""What changes the weights: AdamW or Muon, the learning-rate schedule, the moving average."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rescore.train.options import OptimizerName

__all__ = ["Average", "Muon", "Optimizers", "orthogonal", "schedule"]

#: The polynomial of Newton and Schulz with the greatest slope at 0, and how often it is applied.
_QUINTIC, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5


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

    `adamw`: matrices with weight decay, vectors without. `muon`: Muon for the matrices inside the
    blocks, its steps scaled to AdamW's so that learning rates carry over; AdamW for the rest.
    """

    def __init__(
        self, network: nn.Module, name: OptimizerName, learning_rate: float, weight_decay: float
    ) -> None:
        inner, matrices, vectors = [], [], []
        for key, weight in network.named_parameters():
            if name == "muon" and weight.ndim == 2 and "blocks." in key:
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
            self._parts.append(Muon(inner, learning_rate, weight_decay))
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
        """Take back what `state` returned. Raises ValueError for moments of other weights."""
        for part, moments in zip(self._parts, state, strict=True):
            _check_moments(part, moments)
            part.load_state_dict(
                {"state": moments, "param_groups": part.state_dict()["param_groups"]}
            )


def _check_moments(part: torch.optim.Optimizer, moments: Mapping[Any, dict[str, Tensor]]) -> None:
    """Raise ValueError unless each weight has all its moments, of its shape; torch does not."""
    weights = [weight for group in part.param_groups for weight in group["params"]]
    for number, tensors in moments.items():
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        shape = tuple(weights[number].shape)
        expected = {"step": (), "exp_avg": shape, "exp_avg_sq": shape}
        if isinstance(part, Muon):
            expected = {"momentum_buffer": shape}
        if shapes != expected:
            raise ValueError(f"the moments of weight {number} are {shapes}, expected {expected}")


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, with steps of AdamW's size.

    torch.optim.Muon with `adjust_lr_fn="match_rms_adamw"`, except for the type of the products:
    torch's are bfloat16 everywhere, which on a CPU without instructions for it is 10 to 100 times
    slower than float32. Here they are bfloat16 on accelerators and float32 on CPUs.
    Source: Jordan et al. 2024; Liu et al. 2025, arXiv:2502.16982.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(
            weights, {"lr": learning_rate, "weight_decay": weight_decay, "momentum": momentum}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient once."""
        del closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, group)

    def _update(self, weight: Tensor, group: dict[str, Any]) -> None:
        gradient, state = weight.grad, self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(mean, group["momentum"]))  # type: ignore[union-attr]
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update, alpha=-0.2 * math.sqrt(max(weight.shape)) * group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly U V^T of a matrix U S V^T: singular values between about 0.7 and 1.2.

    Source: Jordan et al. 2024, Newton-Schulz iterations of degree five.
    """
    dtype = matrix.dtype if matrix.device.type == "cpu" else torch.bfloat16
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).to(dtype)
    x = x / x.norm().clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if is_tall else x).to(matrix.dtype)


class Average:
    """An exponential moving average of weights, in float32.

    At step n it keeps min(decay, (1 + n) / (10 + n)) of itself, so that the first weights are soon
    forgotten.
    """

    def __init__(self, weights: Iterable[Tensor], decay: float) -> None:
        self._weights = list(weights)
        self._decay, self.steps = decay, 0
        self.values = [weight.detach().clone() for weight in self._weights]

    def load(self, values: list[Tensor], steps: int) -> None:
        """Take back values and steps. Raises ValueError for those of other weights."""
        shapes = [(value.shape, value.dtype) for value in values]
        if shapes != [(value.shape, value.dtype) for value in self.values]:
            raise ValueError("the averaged weights are those of another network")
        self.values = [
            value.to(weight.device) for value, weight in zip(values, self.values, strict=True)
        ]
        self.steps = steps

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
