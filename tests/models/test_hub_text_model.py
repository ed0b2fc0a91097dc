"""Masked diffusion LMs of Hugging Face behind a speech prompt: LLaDA's and Dream's layouts."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from hub_text_models import ROWS, save_text_model
from models.hub_models import save_model
from small_transcriber import SYMBOLS

from rescore.acoustic.prompted import PromptedModel, counted_symbols, load_prompted, save_prompted
from rescore.errors import ModelError
from rescore.models.hub.text_model import load_text_model
from rescore.models.opening import tensor_shapes
from rescore.models.prompted import PromptConfig, PromptedNetwork
from rescore.models.speech_network import SpeechConfig, SpeechNetwork

FRAMES = torch.tensor([60, 41])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    for kind in ("llada", "Dream"):
        save_text_model(folder / kind, kind)
    return folder


@pytest.fixture(scope="module")
def features():
    return torch.randn(2, 60, 80, generator=torch.Generator().manual_seed(1))


def prompted(directory) -> PromptedModel:
    """A random encoder and projector in front of a model."""
    text = load_text_model(str(directory), remote_code=True)
    torch.manual_seed(1)
    network = PromptedNetwork(
        SpeechNetwork(SpeechConfig(len(SYMBOLS), 16, 1, 2, 24, kernel=3)),
        PromptConfig(16, text.language_model.width, hidden=12, positions="sequence"),
        text.language_model,
        *counted_symbols(SYMBOLS, "words"),
    )
    with torch.no_grad():
        network.projector.project.weight.mul_(50)
    return PromptedModel(network.eval(), SYMBOLS, text.tokenizer)


@pytest.mark.parametrize(("kind", "shift"), [("llada", 0), ("Dream", 1)])
@torch.no_grad()
def test_a_token_is_predicted_where_the_published_model_predicts_it(folder, features, kind, shift):
    """Against the network itself, given prompt and text as embeddings, row by row."""
    model = prompted(folder / kind)
    model.network.double()
    language_model, rows = model.network.language_model, model.network.rows
    tokens = torch.tensor([[rows.bos, 6, rows.mask, rows.mask, 7, rows.eos]] * 2)
    padding = torch.zeros_like(tokens, dtype=torch.bool)
    padding[1, 4:] = True
    heard = model.network.hear(features.double(), FRAMES)
    states = model.network.encode(tokens, heard, padding)
    logits = language_model.readout(states)
    for row, length in ((0, 6), (1, 4)):
        count = int(heard.frames[row])
        text = language_model.embed(tokens[row : row + 1, :length])
        whole = torch.cat((heard.prompt[row : row + 1, :count], text), 1)
        direct = language_model.network(inputs_embeds=whole).logits[0]
        for place in range(1, length):
            expected = direct[count + place - shift]
            assert torch.allclose(logits[row, place], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["llada", "Dream"])
def test_rows_that_are_no_text_are_never_proposed(folder, kind):
    model = prompted(folder / kind)
    rows, special = model.network.rows, {"llada": 5, "Dream": 3}[kind]
    never = model.impossible.nonzero().flatten().tolist()
    assert never == sorted({*range(special), *range(special + 5, ROWS)} - {rows.eos})
    tokens = model.tokenizer.encode(["a b"])[0]
    assert rows.mask not in tokens
    assert model.decode([*tokens, rows.eos, *tokens]) == "a b"


@pytest.mark.parametrize("kind", ["llada", "Dream"])
@pytest.mark.parametrize("what", ["projector", "whole", "low_rank"])
def test_a_checkpoint_has_what_was_learned_and_the_name_of_the_rest(
    folder, features, tmp_path, kind, what
):
    if what == "low_rank":
        pytest.importorskip("peft")
    model = prompted(folder / kind)
    language_model = model.network.language_model
    language_model.learn(what, 2)
    with torch.no_grad():
        for weight in language_model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    save_prompted(model, tmp_path)
    names = [name for name in tensor_shapes(tmp_path / "model.safetensors") if "language" in name]
    whole = sum(1 for _ in language_model.network.parameters())
    assert len(names) == {"projector": 0, "whole": whole, "low_rank": 28}[what]
    assert all(("lora_" in name) == (what == "low_rank") for name in names)
    again = load_prompted(tmp_path, remote_code=True)
    assert again.signature == model.signature
    tokens = torch.full((2, 4), model.network.rows.mask)
    states = [
        one.network.encode(tokens, one.network.hear(features, FRAMES)) for one in (model, again)
    ]
    assert torch.equal(*states)
    plain = prompted(folder / kind).network
    is_same = torch.equal(states[0], plain.encode(tokens, plain.hear(features, FRAMES)))
    assert is_same == (what == "projector")


def test_what_was_learned_says_how_it_goes_on(folder):
    pytest.importorskip("peft")
    adapted, whole = (prompted(folder / "llada").network.language_model for _ in range(2))
    adapted.learn("low_rank", 2)
    whole.learn("whole", 2)
    with pytest.raises(ModelError, match="has adapters"):
        adapted.learn("whole", 2)
    with pytest.raises(ModelError, match="adapters of rank 2"):
        adapted.learn("low_rank", 4)
    with pytest.raises(ModelError, match="fine-tuned whole"):
        whole.learn("low_rank", 2)
    adapted.learn("projector", 2)
    assert not any(weight.requires_grad for weight in adapted.parameters())
    with pytest.raises(ModelError, match="no parameters of the names"):
        adapted.keep_named(["nothing"])


def test_code_of_a_repository_runs_only_if_it_is_asked_for(folder, tmp_path):
    with pytest.raises(ModelError, match="add --remote-code if you trust it"):
        load_text_model(str(folder / "llada"))
    save_prompted(prompted(folder / "Dream"), tmp_path)
    with pytest.raises(ModelError, match="add --remote-code if you trust it"):
        load_prompted(tmp_path)


def test_another_model_under_the_same_name_is_refused(folder, tmp_path):
    save_text_model(tmp_path / "lm", "Dream")
    save_prompted(prompted(tmp_path / "lm"), tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    config["language_model"]["digest"] = "0" * 16
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match="not those that"):
        load_prompted(tmp_path / "model", remote_code=True)


def test_masked_lms_of_transformers_take_a_prompt_and_causal_ones_do_not(tmp_path, features):
    save_model(tmp_path / "bert", "wordpiece")
    model = prompted(tmp_path / "bert")
    language_model = model.network.language_model
    assert (language_model.shift, language_model.hides_end) == (0, False)
    assert language_model.output_weight is None  # BERT's head is more than one layer
    tokens = torch.tensor([[2, 7, 4, 3]] * 2)
    with torch.no_grad():
        states = model.network.encode(tokens, model.network.hear(features, FRAMES))
    assert language_model.readout(states).shape[-1] == language_model.output_rows
    save_model(tmp_path / "gpt2", "byte-bpe", "GPT2")
    with pytest.raises(ModelError):
        load_text_model(str(tmp_path / "gpt2"))
    assert asdict(model.network.config)["positions"] == "sequence"
