"""The network, its checkpoint and its tokenizer."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from small import LINES, save_small, small_checkpoint, small_tokenizer

from rescore.errors import ModelError
from rescore.models import network as network_module
from rescore.models.adapters import NetworkCausalLM, NetworkDenoiser
from rescore.models.checkpoint import load, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.tokenizer import Tokenizer, train_tokenizer


@pytest.mark.parametrize("objective", ["mdlm", "usdm", "ar"])
def test_padding_changes_nothing(objective):
    network = small_checkpoint(objective).network.double()
    tokens = torch.randint(4, 60, (2, 7))
    noise = torch.tensor([0.3, 0.3], dtype=torch.float64) if objective == "usdm" else None
    alone = network(tokens, noise)
    padded = torch.cat((tokens, torch.zeros(2, 5, dtype=torch.long)), 1)
    padding = torch.arange(12).expand(2, 12) >= 7
    assert torch.allclose(network(padded, noise, padding)[:, :7], alone, atol=1e-12)


def test_a_causal_network_does_not_look_ahead_and_a_bidirectional_one_does():
    tokens = torch.randint(4, 60, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 60
    for objective, sees in (("ar", False), ("mdlm", True)):
        network = small_checkpoint(objective).network.double()
        difference = (network(tokens) - network(changed)).abs().amax(-1)[0]
        assert bool((difference[:5] > 1e-9).any()) is sees
        assert difference[5:].max() > 1e-9


def test_attention_without_the_fused_kernel_is_the_same(monkeypatch):
    """torch 1.13 has no scaled_dot_product_attention."""
    tokens = torch.randint(4, 60, (2, 9))
    padding = torch.arange(9).expand(2, 9) >= torch.tensor([[9], [6]])
    for objective in ("ar", "mdlm"):
        network = small_checkpoint(objective).network.double()
        fused = [network(tokens), network(tokens, None, padding)]
        with monkeypatch.context() as patch:
            patch.delattr(network_module.functional, "scaled_dot_product_attention", raising=False)
            plain = [network(tokens), network(tokens, None, padding)]
        for a, b in zip(fused, plain, strict=True):
            assert torch.allclose(a[~padding], b[~padding], atol=1e-12)


def test_the_noise_level_matters_only_with_a_time_input():
    tokens, padding = torch.randint(4, 60, (1, 6)), torch.zeros(1, 6, dtype=torch.bool)
    low, high = torch.tensor([0.1]), torch.tensor([0.9])
    timed = NetworkDenoiser(small_checkpoint("usdm"))
    assert not torch.allclose(
        timed.log_probs(tokens, low, padding), timed.log_probs(tokens, high, padding)
    )
    untimed = NetworkDenoiser(small_checkpoint("mdlm"))
    assert torch.equal(
        untimed.log_probs(tokens, low, padding), untimed.log_probs(tokens, high, padding)
    )
    with pytest.raises(ModelError, match="pass the noise level"):
        small_checkpoint("usdm").network(tokens)


def test_log_probs_are_normalised_and_the_mask_is_impossible():
    denoiser = NetworkDenoiser(small_checkpoint("mdlm"))
    log_probs = denoiser.log_probs(
        torch.randint(4, 60, (2, 6)), torch.ones(2), torch.zeros(2, 6, dtype=torch.bool)
    )
    assert torch.allclose(log_probs.exp().sum(-1), torch.ones(2, 6), atol=1e-5)
    assert torch.all(log_probs[..., denoiser.mask_id] == -torch.inf)
    assert log_probs.dtype == torch.float32
    half = NetworkDenoiser(small_checkpoint("mdlm"), dtype=torch.bfloat16)
    assert (
        half.log_probs(
            torch.randint(4, 60, (2, 6)), torch.ones(2), torch.zeros(2, 6, dtype=torch.bool)
        ).dtype
        == torch.float32
    )


def test_an_adapter_refuses_the_other_family():
    with pytest.raises(ModelError, match="--scorer ar"):
        NetworkDenoiser(small_checkpoint("ar"))
    with pytest.raises(ModelError, match="--scorer mdlm"):
        NetworkCausalLM(small_checkpoint("mdlm"))


@pytest.mark.parametrize("objective", ["mdlm", "usdm", "ar"])
def test_a_checkpoint_survives_its_round_trip(objective, tmp_path):
    checkpoint = small_checkpoint(objective)
    save(checkpoint, tmp_path)
    loaded = load(tmp_path, objective)
    assert loaded.digest == checkpoint.digest
    assert (loaded.objective, loaded.prediction, loaded.normalizer) == (
        checkpoint.objective,
        checkpoint.prediction,
        checkpoint.normalizer,
    )
    assert loaded.tokenizer.encode(LINES[:2]) == checkpoint.tokenizer.encode(LINES[:2])
    assert not list(tmp_path.glob("*.tmp"))
    other = small_checkpoint(objective, seed=1)
    assert other.digest != checkpoint.digest


def _edit(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _drop_tensor(directory):
    weights = safetensors.torch.load_file(directory / "model.safetensors")
    weights.pop("final_norm.weight")
    safetensors.torch.save_file(weights, directory / "model.safetensors")


def _misshape(directory):
    weights = safetensors.torch.load_file(directory / "model.safetensors")
    weights["final_norm.weight"] = torch.ones(3)
    safetensors.torch.save_file(weights, directory / "model.safetensors")


def _spare(directory):
    weights = safetensors.torch.load_file(directory / "model.safetensors")
    safetensors.torch.save_file(
        {**weights, "extra": torch.ones(3)}, directory / "model.safetensors"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_drop_tensor, r"model.safetensors: tensor 'final_norm.weight' is missing"),
        (_misshape, r"has shape \(3,\), expected \(32,\)"),
        (_spare, "tensor 'extra' belongs to no part"),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"no"),
            "the header has 28526 bytes and the file 2",
        ),
        (lambda d: (d / "model.safetensors").unlink(), "model.safetensors: cannot be read"),
        (lambda d: (d / "tokenizer.model").write_bytes(b"no"), "not a SentencePiece model"),
        (
            lambda d: (d / "tokenizer.model").unlink(),
            "tokenizer.model: the tokenizer cannot be read",
        ),
        (lambda d: (d / "config.json").write_text("{"), "config.json: broken JSON"),
        (
            lambda d: (d / "config.json").write_text('{"model_type": "bert"}'),
            "use --scorer mlm or ar",
        ),
        (lambda d: (d / "config.json").unlink(), "the model's configuration cannot be read"),
        (lambda d: _edit(d, version=99), r"version a number \(99\), this release reads 1"),
        (lambda d: _edit(d, prediction="posterior"), "prediction 'posterior' is unknown"),
        (lambda d: _edit(d, normalizer="magic"), "normaliser 'magic' is unknown"),
        (
            lambda d: _edit(d, network={"vocab_size": 9, "depth": 3}),
            "the configuration does not fit",
        ),
    ],
)
def test_a_broken_checkpoint_is_named_in_one_line(damage, message, tmp_path):
    save_small(tmp_path, "mdlm")
    damage(tmp_path)
    with pytest.raises(ModelError, match=message) as caught:
        load(tmp_path, "mdlm")
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_objective_is_refused(tmp_path):
    save_small(tmp_path, "usdm")
    with pytest.raises(ModelError, match="holds objective 'usdm', expected 'mdlm'"):
        load(tmp_path, "mdlm")


def test_impossible_sizes_are_refused():
    with pytest.raises(ModelError, match="must be heads"):
        NetworkConfig(10, width=30, heads=4)
    with pytest.raises(ModelError, match="must be positive"):
        NetworkConfig(0)


def test_words_are_numbered_by_their_pieces():
    tokenizer = small_tokenizer()
    tokens = [tokenizer.bos_id, *tokenizer.encode(["the old house"])[0], tokenizer.eos_id]
    words = tokenizer.words(tokens)
    assert words[0] == 0
    assert words[-1] == words.max() == 4
    assert np.all(np.diff(words) >= 0)
    starts = [tokens[i] for i in range(1, len(tokens) - 1) if words[i] != words[i - 1]]
    assert len(starts) == 3


def test_a_tokenizer_travels_to_another_process():
    tokenizer = small_tokenizer()
    again = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301 - our own bytes
    assert again.encode(LINES) == tokenizer.encode(LINES)
    assert tokenizer.decode(tokenizer.encode([LINES[0]])[0]) == LINES[0]


def test_a_vocabulary_larger_than_its_text_is_refused():
    with pytest.raises(ModelError, match="give more text or a smaller --vocab-size"):
        train_tokenizer(LINES, 10_000)
    with pytest.raises(ModelError, match="not a SentencePiece model"):
        Tokenizer(b"nonsense")


def test_network_parameters_are_tied_and_counted():
    network = Network(NetworkConfig(100, 32, 2, 2, 48))
    assert (
        sum(p.numel() for p in network.parameters())
        == 100 * 32 + 2 * (3 * 32 * 32 + 32 * 32 + 3 * 32 * 48 + 2 * 32) + 32
    )


@pytest.mark.parametrize("objective", ["usdm", "ar"])
def test_what_is_compiled_is_the_body_and_a_pickle_does_not_hold_it(objective, monkeypatch):
    calls = []

    def compiled(body, dynamic):
        assert dynamic
        return lambda *arguments: calls.append(1) or body(*arguments)

    monkeypatch.setattr(torch, "compile", compiled, raising=False)
    adapter = NetworkCausalLM if objective == "ar" else NetworkDenoiser
    plain, faster = (
        adapter(small_checkpoint(objective)),
        adapter(small_checkpoint(objective), compiled=True),
    )
    tokens = torch.randint(4, 60, (2, 7))
    inputs = (
        (tokens[0], np.arange(-1, 6))
        if objective == "ar"
        else (tokens, torch.tensor([0.3, 0.3]), torch.zeros(2, 7, dtype=torch.bool))
    )
    again = pickle.loads(pickle.dumps(faster))  # noqa: S301 - made a moment ago
    with torch.no_grad():
        assert torch.equal(plain.encode(*inputs), faster.encode(*inputs))
        assert calls == [1]
        assert torch.equal(plain.encode(*inputs), again.encode(*inputs))
    assert calls == [1]
    monkeypatch.delattr(torch, "compile")
    with pytest.raises(ModelError, match="cannot compile; leave --compile out, or use torch 2"):
        adapter(small_checkpoint(objective), compiled=True)
