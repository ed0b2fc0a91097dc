"""Losses of the output layer that never hold the logits of a whole batch.

4,096 positions x 8,192 pieces are 134 MB of float32 logits, which autograd keeps, with what is
computed from them, until the backward pass. Here a loss is computed some rows at a time, and its
gradients while the logits of these rows are still there: the same three products, and no logit is
computed twice. Shapes: n positions, D width, V rows of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["by_rows", "cross_entropy"]

#: Rows whose logits exist at once: what fits a CPU's cache; elsewhere, enough for fast products.
_CPU_ROWS, _ROWS = 256, 4096

#: (logits (rows, V), which rows, whether gradients are needed) -> the loss, summed, and its
#: gradient in the logits. May write over the logits.
_Head: TypeAlias = Callable[[Tensor, slice, bool], tuple[Tensor, Tensor | None]]


class _ByRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, head: _Head, rows: int) -> Tensor:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), device=hidden.device, dtype=dtype)
        is_trained = any(ctx.needs_input_grad)
        d_hidden = torch.empty_like(hidden) if is_trained else None
        d_weight = torch.zeros_like(weight, dtype=dtype) if is_trained else None
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            loss, slope = head((hidden[part] @ weight.T).to(dtype), part, is_trained)
            total += loss
            if slope is not None and d_hidden is not None and d_weight is not None:
                slope = slope.to(hidden.dtype)
                torch.mm(slope, weight, out=d_hidden[part])
                if slope.dtype == d_weight.dtype:
                    d_weight.addmm_(slope.T, hidden[part])
                else:
                    d_weight.add_(slope.T @ hidden[part])
        ctx.save_for_backward(d_hidden, d_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * outer[0], d_weight * outer[0], None, None


def _apply(hidden: Tensor, weight: Tensor, head: _Head, rows: int | None) -> Tensor:
    dtype = torch.nn.functional.linear(hidden[:0], weight).dtype  # what autocast would choose
    rows = rows or (_CPU_ROWS if hidden.device.type == "cpu" else _ROWS)
    parts = hidden.to(dtype), weight.to(dtype), head, rows
    loss: Tensor = _ByRows.apply(*parts)  # type: ignore[no-untyped-call]
    return loss


def by_rows(
    hidden: Tensor,
    weight: Tensor,
    loss: Callable[[Tensor, slice], Tensor],
    rows: int | None = None,
) -> Tensor:
    """The sum of `loss(logits of these rows, which rows)` over parts of the rows.

    hidden (n, D), weight (V, D); logits (rows, V) are float32 or wider. `loss` must be a sum over
    rows, and only the logits in it may need gradients. Differentiable once, in `hidden` and
    `weight`. Exact check: tests/train/test_readout.py::
    test_any_loss_of_logits_in_chunks_has_the_same_gradients.
    """

    def head(logits: Tensor, part: slice, is_trained: bool) -> tuple[Tensor, Tensor | None]:
        with torch.set_grad_enabled(is_trained):
            value = loss(logits.requires_grad_(is_trained), part)
            slope = torch.autograd.grad(value, logits)[0] if is_trained else None
        return value.detach(), slope

    return _apply(hidden, weight, head, rows)


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    scale: Tensor | None = None,
    rows: int | None = None,
) -> Tensor:
    """The sum over i of scale_i times -log softmax(hidden_i weight^T)[target_i].

    hidden (n, D), weight (V, D), targets (n,) int64, scale (n,) or None (ones). Products are in the
    dtype that autocast would choose, sums in float32 or wider. Differentiable once, in `hidden` and
    `weight`. Exact check:
    tests/train/test_readout.py::test_cross_entropy_in_chunks_is_cross_entropy.
    """

    def head(logits: Tensor, part: slice, is_trained: bool) -> tuple[Tensor, Tensor | None]:
        target = targets[part, None]
        if scale is None:
            share = torch.ones_like(target, dtype=logits.dtype)
        else:
            share = scale[part, None].to(logits.dtype)
        largest = logits.amax(-1, keepdim=True)
        target_logit = logits.gather(-1, target) - largest
        exps = logits.sub_(largest).exp_()  # in place: `logits` is not needed any more
        mass = exps.sum(-1, keepdim=True)
        loss = ((mass.log() - target_logit) * share).sum()
        if not is_trained:
            return loss, None
        return loss, exps.mul_(share / mass).scatter_add_(-1, target, -share)

    return _apply(hidden, weight, head, rows)
