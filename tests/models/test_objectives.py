"""The table of objectives: every entry can be trained, checkpointed and named."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from small import small_checkpoint
from small_runs import TINY, prepared

from rescore.cli.train_command import command
from rescore.errors import ModelError
from rescore.models import objectives
from rescore.models.checkpoint import load, save
from rescore.models.objectives import OBJECTIVES, LossNames, Objective, objective_named
from rescore.registry import resolve
from rescore.train import losses
from rescore.train.trainer import train


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_loss_and_bound_that_the_table_names_exists(name):
    for prediction, names in OBJECTIVES[name].losses.items():
        loss, bound = losses.losses_of(name, prediction)
        assert (loss, bound) == (resolve(names.loss), resolve(names.bound))
        assert callable(loss)
        assert callable(bound)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_the_table_says_is_what_a_checkpoint_has(name, tmp_path):
    checkpoint, objective = small_checkpoint(name), OBJECTIVES[name]
    assert (checkpoint.mask_id is not None) == objective.has_mask_symbol
    assert checkpoint.network.config.vocab_size == objective.rows(checkpoint.tokenizer.size)
    save(checkpoint, tmp_path)
    assert load(tmp_path, name).digest == checkpoint.digest


def test_an_unknown_objective_names_the_known_ones():
    with pytest.raises(ModelError, match=r"objective 'magic' is unknown; known: mdlm, usdm, ar"):
        objective_named("magic")


def test_train_has_a_command_for_every_objective_that_text_alone_trains():
    assert list(command.commands) == [*OBJECTIVES, "ngram", "ctc", "mdm", "dllm"]
    parameters = {name: {p.name for p in command.commands[name].params} for name in OBJECTIVES}
    assert [name for name in OBJECTIVES if "prediction" in parameters[name]] == ["usdm"]
    assert [name for name in OBJECTIVES if "time_input" in parameters[name]] == ["mdlm", "usdm"]


def half_mdlm_loss(network, tokens, padding, generator):
    nats, read_out = losses.mdlm_loss(network, tokens, padding, generator)
    return nats / 2, read_out


def test_a_new_objective_is_one_entry_and_its_loss(monkeypatch, tmp_path):
    name = LossNames(f"{__name__}:half_mdlm_loss", "rescore.train.losses:mdlm_loss")
    entry = Objective(title="half", losses={"masked": name}, has_mask_symbol=True)
    monkeypatch.setitem(objectives.OBJECTIVES, "half", entry)
    corpus = prepared(tmp_path / "text")
    checkpoint = train(corpus, tmp_path / "run", replace(TINY, objective="half", steps=2), {})
    loaded = load(tmp_path / "run", "half")
    assert (loaded.prediction, loaded.mask_id) == ("masked", loaded.tokenizer.size)
    assert math.isfinite(checkpoint.card["training"]["valid_nats_per_token"])
