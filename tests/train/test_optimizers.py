"""Optimisers, the learning-rate schedule, averaged weights, and the count of operations."""

from __future__ import annotations

import pytest
import torch
from small_runs import opinionated

from rescore.train.optimizers import Average, Muon, Optimizers, orthogonal, schedule
from rescore.train.speed import matmul_peak, multiplies_bfloat16, step_flops


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has none to compare with")
@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_muon_takes_the_steps_of_torchs_own(shape):
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    settings = {"lr": 1e-2, "weight_decay": 0.1, "momentum": 0.95}
    reference = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    muon = Muon([ours], 1e-2, 0.1)
    for _ in range(10):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        muon.step()
        reference.step()
    assert (ours - 1).norm() > 0.2
    assert (ours - theirs).norm() < 0.02 * (ours - 1).norm()  # theirs multiplies in bfloat16


def test_an_orthogonal_step_has_singular_values_near_one_and_no_other_directions():
    torch.manual_seed(0)
    matrix = torch.randn(24, 16)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    stretched = left.T @ orthogonal(matrix) @ right.T
    assert torch.allclose(stretched, stretched.diag().diag(), atol=1e-5)
    assert 0.5 < stretched.diag().min() <= stretched.diag().max() < 1.3


def test_muon_moves_the_matrices_inside_the_blocks_and_adamw_the_rest():
    network = opinionated(7, time_input=True)
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


@pytest.mark.parametrize(
    ("flags", "is_fast"),
    [
        ("fpu avx2", False),
        ("avx2 avx512_bf16", True),
        ("avx512f amx_bf16 amx_tile", True),
        (None, False),
    ],
)
def test_a_cpu_multiplies_bfloat16_if_it_has_instructions_for_it(flags, is_fast, tmp_path):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert multiplies_bfloat16("cpu", tmp_path / "cpuinfo") is is_fast
