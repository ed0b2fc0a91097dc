"""Losses of the output layer by rows: the values and gradients of the whole at once."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from rescore.train.readout import by_rows, cross_entropy


@pytest.mark.parametrize("rows", [1, 7, 20, 256])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_cross_entropy_in_chunks_is_cross_entropy(rows, is_weighted):
    torch.manual_seed(0)
    hidden = torch.randn(20, 6, dtype=torch.float64) * 3
    weight = torch.randn(11, 6, dtype=torch.float64)
    targets = torch.randint(11, (20,))
    scale = torch.rand(20, dtype=torch.float64) if is_weighted else None
    ours = [x.clone().requires_grad_() for x in (hidden, weight)]
    whole = [x.clone().requires_grad_() for x in (hidden, weight)]
    loss = cross_entropy(*ours, targets, scale, rows)
    plain = functional.cross_entropy(whole[0] @ whole[1].T, targets, reduction="none")
    expected = (plain if scale is None else plain * scale).sum()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    (loss / 7).backward()
    (expected / 7).backward()
    for x, y in zip(ours, whole, strict=True):
        assert torch.allclose(x.grad, y.grad, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        untrained = cross_entropy(hidden, weight, targets, scale, rows)
    assert float(untrained) == pytest.approx(float(loss.detach()), rel=1e-12)


@pytest.mark.parametrize("rows", [1, 7, 20])
def test_any_loss_of_logits_in_chunks_has_the_same_gradients(rows):
    torch.manual_seed(0)
    hidden = torch.ones(20, 6, dtype=torch.float64) * 0.1
    weight = torch.eye(11, 6, dtype=torch.float64)
    ours, whole = ([x.clone().requires_grad_() for x in (hidden, weight)] for _ in range(2))
    targets = torch.rand(20, 11, dtype=torch.float64)

    def loss(logits, part):
        return ((logits.sigmoid() - targets[part]) ** 2).sum()

    value, expected = by_rows(*ours, loss, rows), loss(whole[0] @ whole[1].T, slice(None))
    (value * 3).backward()
    (expected * 3).backward()
    assert float(value.detach()) == pytest.approx(float(expected.detach()), rel=1e-12)
    for x, y in zip(ours, whole, strict=True):
        assert torch.allclose(x.grad, y.grad, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        untrained = by_rows(*ours, loss, rows)
    assert float(untrained) == pytest.approx(float(expected.detach()), rel=1e-12)


def test_products_are_in_the_type_of_autocast_and_gradients_in_that_of_the_weights():
    torch.manual_seed(0)
    hidden = torch.randn(20, 32, requires_grad=True)
    weight = torch.randn(11, 32, requires_grad=True)
    targets = torch.randint(11, (20,))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_entropy(hidden, weight, targets)
    loss.backward()
    logits = hidden.detach() @ weight.detach().T
    expected = functional.cross_entropy(logits, targets, reduction="sum")
    assert loss.dtype == hidden.grad.dtype == weight.grad.dtype == torch.float32
    assert float(loss.detach()) != float(expected)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=0.02)
