"""Optimisers, the learning-rate schedule, averaged weights, and the count of operations."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_runs import TINY, opinionated

from rescore.errors import TrainError
from rescore.train.optimizers import Average, Optimizers, schedule
from rescore.train.speed import matmul_peak, step_flops
from rescore.train.trainer import train


def test_without_muon_one_line_says_so(corpus, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(TrainError, match="has no Muon optimiser; use --optimizer adamw"):
        train(corpus, tmp_path, replace(TINY, optimizer="muon"), {})


def test_muon_moves_the_matrices_inside_the_blocks_and_adamw_the_rest(corpus, tmp_path):
    network = opinionated(7, time_input=True)
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    adamw, muon = Optimizers(network, "muon", 1e-3, 0.1)._parts
    moved = {id(p) for group in muon.param_groups for p in group["params"]}
    assert {name for name, p in network.named_parameters() if id(p) in moved} == {
        name for name, p in network.named_parameters() if p.ndim == 2 and name.startswith("blocks.")
    }
    rest = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert moved | rest == {id(p) for p in network.parameters()}
    assert not moved & rest


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 1.0), (61, 39 / 40), (80, 0.5), (99, 1 / 40)],
)  # 100 steps: 10 rising, the last 40 falling
def test_the_learning_rate_rises_stays_and_falls(step, share):
    assert schedule(step, 100, 10, 0.4) == pytest.approx(share)


def test_the_average_is_the_weighted_mean_of_all_weights():
    weight = torch.zeros(3)
    average = Average([weight], 0.75)
    expected, kept = torch.zeros(3), [min(0.75, (1 + n) / (10 + n)) for n in range(40)]
    for share in kept:
        weight.add_(torch.tensor([1.0, 2.0, -1.0]))
        expected = share * expected + (1 - share) * weight
        average.update()
    assert torch.allclose(average.values[0], expected, rtol=1e-6)
    assert kept[0] == 0.1  # the first weights, those before training, are forgotten soon
    assert kept[-1] == 0.75
    current = weight.clone()
    average.swap()
    assert torch.allclose(weight, expected, rtol=1e-6)
    assert torch.equal(average.values[0], current)


def test_flops_are_those_of_the_matrix_products():
    network = opinionated(7)
    weights = sum(
        p.numel()
        for name, p in network.named_parameters()
        if p.ndim == 2 and name.startswith("blocks.")
    )
    attention = 2 * 10 * 16  # queries x keys and weights x values, ten keys each
    assert step_flops(network, 3, 10, 5) == 6 * (30 * (weights + attention) + 5 * 16 * 7)
    assert 1e8 < matmul_peak("cpu", torch.float32, 0.01) < 1e14
