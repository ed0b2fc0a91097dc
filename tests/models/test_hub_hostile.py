"""Hugging Face directories that lie: every one is refused in one line, before memory is spent."""

from __future__ import annotations

import json
import os
import shutil
import time

import pytest
import torch
from hub_models import save_model
from safetensors.torch import load_file, save_file

from rescore.errors import ModelError
from rescore.scorers import ScorerOptions, load_scorer
from rescore.types import Hypothesis, NBest

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("bert"), "wordpiece")


@pytest.fixture
def model(bert, tmp_path):
    return shutil.copytree(bert, tmp_path / "model")


def refusal(directory, scorer="mlm"):
    started = time.process_time()
    with pytest.raises(ModelError) as caught:
        load_scorer(scorer, ScorerOptions(model=str(directory)))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(directory))
    assert time.process_time() - started < 10
    return str(caught.value)


def edit(path, **changes):
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**content, **changes}))


CONFIGS = [
    ("vocab_size", 10**9, "vocab_size is 1000000000, and the weights hold"),
    ("vocab_size", 3000, ""),
    ("vocab_size", "many", ""),
    ("num_hidden_layers", 10**6, "num_hidden_layers is 1000000, and the weights hold 42 tensors"),
    ("num_hidden_layers", 3, "its weights lack 16 tensors of the network"),
    ("num_hidden_layers", 2.5, ""),
    ("num_attention_heads", 0, ""),
    ("num_attention_heads", 5, ""),
    ("hidden_size", 10**5, "parameters, its weights hold"),
    ("hidden_size", None, ""),
    ("max_position_embeddings", 10**9, "max_position_embeddings is 1000000000, and"),
    ("max_position_embeddings", "64", ""),
    ("num_labels", 10**9, "num_labels is 1000000000"),
    ("hidden_act", ["gelu"], ""),
    ("layer_norm_eps", "small", ""),
    ("model_type", 5, ""),
    ("architectures", 5, None),
]


@pytest.mark.parametrize(("name", "value", "message"), CONFIGS)
def test_configurations_that_the_weights_cannot_fill(name, value, message, model):
    edit(model / "config.json", **{name: value})
    if message is None:
        load_scorer("mlm", ScorerOptions(model=str(model)))
    else:
        assert message in refusal(model)


def test_weights_without_the_head_are_refused_for_its_scores_would_be_random(model):
    weights = load_file(model / "model.safetensors")
    del weights["cls.predictions.transform.dense.weight"]
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    assert "its weights lack 1 tensors of the network, such as 'cls.pred" in refusal(model)


def test_a_vocabulary_smaller_than_the_ids_of_the_tokenizer_is_refused(model):
    tokenizer = json.loads((model / "tokenizer.json").read_bytes())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary[next(reversed(vocabulary))] = 10_000
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "its tokenizer has the id 10000, and the network" in refusal(model)


@pytest.mark.parametrize("content", ["[]", "null", "5", '"text"', "{}", '{"model": []}', "{", ""])
@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_tokenizers_and_configurations_of_another_form(name, content, model):
    (model / name).write_text(content)
    refusal(model)


def test_a_tokenizer_that_fails_once_it_is_used_is_one_line(model):
    edit(model / "tokenizer_config.json", model_max_length="many")
    scorer = load_scorer("mlm", ScorerOptions(model=str(model)))
    with pytest.raises(ModelError, match=r"cannot encode a text \(TypeError: '>' not") as e:
        list(scorer.score([NBest("u", (Hypothesis("the old house"),))]))
    assert str(e.value).startswith(f"{model}: ")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("size", [0, 4, 100, -100])
def test_weights_that_are_cut_off(size, model):
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(data[:size])
    refusal(model)


class Code:
    def __reduce__(self):
        return os.abort, ()


def test_a_pickle_with_code_is_refused_and_not_run(model):
    (model / "model.safetensors").unlink()
    torch.save({"cls.predictions.bias": Code()}, model / "pytorch_model.bin")
    assert "cannot load a Hugging Face model (" in refusal(model)


@pytest.mark.parametrize(
    "files", [["../../etc/passwd"], ["/dev/zero"], ["gone.safetensors"], [5], []]
)
def test_an_index_names_files_of_its_directory_only(files, model):
    (model / "model.safetensors").rename(model / "model-1.safetensors")
    (model / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": {str(i): name for i, name in enumerate(files)}})
    )
    refusal(model)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
)
def test_pipes_and_devices_are_refused(name, model):
    (model / name).unlink(missing_ok=True)
    os.mkfifo(model / name)
    assert f"{name}: is a named pipe, expected a regular file" in refusal(model)
    (model / name).unlink()
    (model / name).symlink_to("/dev/zero")
    assert f"{name}: is a device, expected a regular file" in refusal(model)
