"""Runs that start from a checkpoint: every shared weight is copied, other models are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import LINES, small_tokenizer
from small_runs import TINY, small_start

from rescore.errors import ModelError
from rescore.models.checkpoint import load
from rescore.models.tokenizer import train_tokenizer
from rescore.train.start import build_network, copy_weights
from rescore.train.trainer import train


@pytest.mark.parametrize(
    ("start", "objective"), [("mdlm", "usdm"), ("usdm", "mdlm"), ("ar", "mdlm")]
)
def test_start_from_copies_every_shared_weight(start, objective, corpus, tmp_path):
    options = replace(TINY, objective=objective)
    fresh = build_network(options, small_tokenizer()).state_dict()
    network = build_network(options, small_tokenizer())
    other = load(Path(small_start(tmp_path, start))).network.state_dict()
    copy_weights(network, tmp_path, small_tokenizer())
    found = network.state_dict()
    rows = 64  # a mask symbol's row stays out of the others' way
    assert torch.equal(found.pop("embedding.weight")[:rows], other["embedding.weight"][:rows])
    for name, weight in found.items():
        expected = other[name] if name in other else fresh[name]
        assert torch.equal(weight, expected), name
    assert any("modulation" in name for name in found) == (objective == "usdm")


def test_a_run_starts_with_the_copied_weights(corpus, tmp_path):
    start = small_start(tmp_path / "start")
    copied = train(
        corpus,
        tmp_path / "run",
        replace(TINY, objective="usdm", start_from=start, steps=1, learning_rate=1e-12),
        {},
    )
    name = "blocks.0.qkv.weight"
    assert torch.allclose(
        copied.network.state_dict()[name],
        load(tmp_path / "start").network.state_dict()[name],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("size", "value"), [("width", 32), ("layers", 2), ("heads", 1), ("feed_forward", 48)]
)
def test_start_from_refuses_other_sizes(size, value, corpus, tmp_path):
    start = small_start(tmp_path / "start", **{size: value})
    with pytest.raises(
        ModelError,
        match=f"start: its {size} is {value}, expected {getattr(TINY, size)}; start from a model of the same size",
    ):
        train(corpus, tmp_path / "run", replace(TINY, objective="usdm", start_from=start), {})


def test_start_from_refuses_another_vocabulary(corpus, tmp_path):
    other = train_tokenizer([line[::-1] for line in LINES], 64)
    start = small_start(tmp_path / "start", tokenizer=other)
    with pytest.raises(ModelError, match="its vocabulary is not the corpus's"):
        train(corpus, tmp_path / "run", replace(TINY, start_from=start), {})
