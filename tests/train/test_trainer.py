"""The trainer: every objective learns, and the checkpoint is what was validated."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from small import LINES, small_tokenizer
from small_runs import TEXT, TINY, log_of, prepared, small_start

from rescore.diffusion import masked
from rescore.errors import TrainError
from rescore.models.adapters import NetworkDenoiser
from rescore.models.checkpoint import load
from rescore.models.tokenizer import read_tokenizer
from rescore.train import losses, text
from rescore.train.corpus import open_corpus
from rescore.train.text import text_learner
from rescore.train.trainer import train
from rescore.train.validation import Validator

OBJECTIVES = ["mdlm", "usdm", "ar"]


@pytest.mark.parametrize(("objective", "share"), [("mdlm", 0.8), ("usdm", 0.93), ("ar", 0.2)])
def test_each_objective_lowers_its_validation_loss(objective, share, tmp_path):
    corpus = prepared(tmp_path / "text", text=TEXT * 8, valid=TEXT * 4)
    options = replace(
        TINY,
        objective=objective,
        steps=150,
        batch_tokens=512,
        warmup=20,
        width=64,
        feed_forward=128,
        evaluate_every=50,
        save_every=150,
    )
    validator = Validator(open_corpus(corpus / "valid", small_tokenizer()), small_tokenizer())
    before = validator.whole(text_learner(options, small_tokenizer())).nats_per_token
    after = train(corpus, tmp_path, options, {}).card["training"]["valid_nats_per_token"]
    assert before == pytest.approx(
        math.log(64), rel=0.3 if objective == "usdm" else 0.02
    )  # knows nothing; few draws of a uniform bound are rough
    assert after < share * before
    assert float(log_of(tmp_path)[-1][3]) == pytest.approx(
        after, abs=1e-4
    )  # few enough batches that the last look sees them all


def test_bfloat16_learns_too(corpus, tmp_path):
    checkpoint = train(corpus, tmp_path, replace(TINY, bf16=True, steps=20, learning_rate=1e-2), {})
    assert checkpoint.card["training"]["valid_nats_per_token"] < math.log(64)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_checkpoint_is_fp16_on_disk_and_loads(objective, corpus, tmp_path):
    made = train(
        corpus, tmp_path, replace(TINY, objective=objective, steps=2), {"text": "six sentences"}
    )
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 - no mapping
    loaded = load(tmp_path, objective)
    for name, weight in made.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], weight.half().float()), name
    assert (loaded.objective, loaded.normalizer, loaded.card["text"]) == (
        objective,
        "librispeech",
        "six sentences",
    )
    assert loaded.network.config.causal == (objective == "ar")
    assert loaded.network.config.time_input == (objective == "usdm")
    assert json.loads((tmp_path / "config.json").read_text())["card"]["training"]["steps"] == 2


def test_every_step_has_noise_of_its_own(corpus, tmp_path, monkeypatch):
    seeds, loss = [], losses.mdlm_loss

    def spied(network, tokens, padding, generator):
        seeds.append(generator.initial_seed())
        return loss(network, tokens, padding, generator)

    monkeypatch.setattr(text, "losses_of", lambda *_: (spied, loss))
    train(corpus, tmp_path, replace(TINY, evaluate_every=100, seed=3), {})
    assert len(set(seeds[:12])) == 12


def test_an_exploding_loss_stops_the_run(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(
        text,
        "losses_of",
        lambda *_: [lambda *_: (torch.tensor(math.nan, requires_grad=True), 1)] * 2,
    )
    with pytest.raises(TrainError, match=r"the loss is nan at step 0; .* --learning-rate"):
        train(corpus, tmp_path, TINY, {})


def test_the_saved_weights_are_the_averaged_ones(corpus, tmp_path):
    train(corpus, tmp_path / "averaged", replace(TINY, average=0.9), {})
    state = torch.load(tmp_path / "averaged" / "state.pt", weights_only=True)
    saved = load(tmp_path / "averaged").network.state_dict()
    names = [name for name, _ in load(tmp_path / "averaged").network.named_parameters()]
    for name, value in zip(names, state["average"], strict=True):
        assert torch.equal(saved[name], value.half().float())
    assert not torch.equal(
        saved["blocks.0.qkv.weight"], state["network"]["blocks.0.qkv.weight"].half().float()
    )


def test_validation_counts_every_scored_token_and_word_once(tmp_path):
    lines = LINES[:7]
    corpus = prepared(tmp_path, valid="\n".join(lines))
    tokenizer = read_tokenizer(corpus / "tokenizer.model")
    validator = Validator(open_corpus(corpus / "valid", tokenizer), tokenizer)
    result = validator.whole(text_learner(replace(TINY, objective="ar"), tokenizer))
    assert result.words == sum(len(line.split()) for line in lines)
    assert result.tokens == sum(len(tokens) + 1 for tokens in tokenizer.encode(lines))
    assert result.nats_per_token == pytest.approx(result.nats / result.tokens)
    assert result.perplexity_per_word == pytest.approx(math.exp(result.nats / result.words))


def test_a_posterior_network_is_trained_by_cross_entropy_and_validated_by_its_bound(
    corpus, tmp_path
):
    options = replace(TINY, objective="usdm", prediction="posterior")
    made = train(corpus, tmp_path, options, {})
    assert (made.prediction, load(tmp_path).prediction) == ("posterior", "posterior")
    with pytest.raises(
        TrainError, match="objective mdlm cannot predict 'posterior'; choose from masked"
    ):
        train(corpus, tmp_path / "other", replace(TINY, prediction="posterior"), {})


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ("ar", "holds a checkpoint of objective mdlm, expected ar"),
        ("mdlm", "holds a checkpoint but no run to continue"),
    ],
)
def test_a_directory_that_holds_a_checkpoint_is_not_written_over(
    objective, message, corpus, tmp_path
):
    small_start(tmp_path / "made")
    before = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    with pytest.raises(TrainError, match=message):
        train(corpus, tmp_path / "made", replace(TINY, objective=objective), {})
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == before


def test_a_corpus_smaller_than_a_batch_is_refused(corpus, tmp_path):
    with pytest.raises(
        TrainError,
        match=r"the corpus has \d+ tokens, fewer than one batch of 100000; "
        "give more text or smaller batches",
    ):
        train(corpus, tmp_path, replace(TINY, batch_tokens=100_000), {})


def test_trained_checkpoints_score(corpus, tmp_path):
    train(corpus, tmp_path, TINY, {})
    checkpoint = load(tmp_path, "mdlm")
    tokens = np.array([2, *checkpoint.tokenizer.encode(["the old house"])[0], 3])
    assert -1000 < masked.pll(NetworkDenoiser(checkpoint), tokens).value < 0


def test_the_recipe_of_the_twins_runs(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT * 3)
    (tmp_path / "b.txt").write_text(TEXT * 3)
    size = "--width 16 --layers 1 --heads 2 --feed-forward 24"
    wanted = {
        "TEXT": "a.txt b.txt",
        "VALID": "a.txt",
        "DEVICE": "cpu",
        "STEPS": "2",
        "BATCH": "256",
        "SIZE": size,
        "OBJECTIVES": "ar mdlm",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        **wanted,
        "EXTRA": "--vocab-size 64 --optimizer adamw",
        "PATH": path,
    }
    recipe = Path(__file__).parents[2] / "recipes" / "train_twins.sh"
    done = subprocess.run(
        ["bash", recipe], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [load(tmp_path / "runs" / objective, objective) for objective in ("ar", "mdlm")]
    assert made[0].tokenizer.serialized == made[1].tokenizer.serialized
    assert [checkpoint.card["training"]["steps"] for checkpoint in made] == [2, 1]
    assert made[1].card["training"]["start_from"] == "runs/ar"
    assert (
        "name the training files"
        in subprocess.run(["bash", recipe], capture_output=True, text=True, check=False).stderr
    )
