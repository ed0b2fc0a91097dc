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
from rescore.train.vocabulary import spelling, transplanted


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
        match=f"start: its {size} is {value}, expected {getattr(TINY, size)}; "
        "start from a model of the same size",
    ):
        train(corpus, tmp_path / "run", replace(TINY, objective="usdm", start_from=start), {})


@pytest.mark.parametrize(
    ("start", "objective"), [("ar", "ar"), ("mdlm", "mdlm"), ("ar", "mdlm"), ("mdlm", "ar")]
)
def test_start_from_another_vocabulary_moves_the_embeddings(start, objective, tmp_path):
    old, new = train_tokenizer(LINES, 48), small_tokenizer()
    before = load(Path(small_start(tmp_path, start, old))).network
    network = build_network(replace(TINY, objective=objective), new)
    fresh = network.embedding.weight.detach().clone()
    copy_weights(network, tmp_path, new)
    rows, old_rows = network.embedding.weight, before.embedding.weight
    assert torch.equal(rows[:4], old_rows[:4])
    old_names, new_names = ([piece for piece, _ in tokenizer.scores()] for tokenizer in (old, new))
    assert any(name not in old_names for name in new_names)
    for number, (name, spelt) in enumerate(zip(new_names, spelling(old, new), strict=True)):
        if name in old_names:
            assert torch.equal(rows[number], old_rows[old_names.index(name)])
        elif number >= 4:
            assert "".join(old_names[token] for token in spelt) == name
            assert torch.allclose(rows[number], old_rows[spelt].mean(0))
    if objective == "mdlm":
        mask_row = old_rows[old.size] if start == "mdlm" else fresh[new.size]
        assert torch.equal(rows[new.size], mask_row)
    name = "blocks.0.qkv.weight"
    assert torch.equal(network.state_dict()[name], before.state_dict()[name])


def test_a_piece_that_cannot_be_spelt_gets_the_mean_row():
    old = train_tokenizer(["a bad cab", "dab a cad"] * 8, 12)
    new = train_tokenizer(["a bad cab", "dab a z"] * 8, 12)
    rows = torch.randn(old.size + 1, 5)
    number = [piece for piece, _ in new.scores()].index("z")
    assert torch.allclose(transplanted(rows, old, new)[number], rows[:-1].mean(0))
