"""Prefix trees on Hugging Face causal LMs have the values of single rows."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from rescore.batching import Budget
from rescore.models.hub import HubCausalLM
from rescore.scorers.ar import token_log_probs
from rescore.scorers.sequences import TokenSequence

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
SHORT = SIZES | {"max_position_embeddings": 96}
GROUPED = SHORT | {"num_key_value_heads": 2}
BLOOM = {"vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}

#: (architecture, its configuration, whether it follows a mask of ancestors, whether its output
#: layer can be taken alone; None: not the same in all versions)
ARCHITECTURES = {
    "GPT2LMHead": (
        {
            "vocab_size": 97,
            "n_positions": 96,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "initializer_range": 0.3,
        },
        None,
        True,
    ),
    "LlamaForCausal": (GROUPED, True, True),
    "Qwen2ForCausal": (GROUPED, True, True),
    "MistralForCausal": (
        GROUPED | {"sliding_window": 6},
        False,
        True,
    ),  # local attention, shorter than the lists
    "GPTNeoXForCausal": (SHORT, None, True),
    "OPTForCausal": (
        {
            "vocab_size": 97,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 48,
            "init_std": 0.3,
        },
        None,
        True,
    ),
    "CohereForCausal": (GROUPED, True, False),  # logits are scaled
    "BloomForCausal": (BLOOM, False, True),  # ALiBi
}


def sequence(row) -> TokenSequence:
    row = np.array(row, dtype=np.int64)
    scored = np.arange(len(row)) > 0
    return TokenSequence(row, scored, ~scored, row, row, row)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_hub_models_give_the_values_of_single_rows(name, dtype, caplog):
    sizes, trees, alone = ARCHITECTURES[name]
    torch.manual_seed(0)
    config = getattr(
        transformers, name.removesuffix("LMHead").removesuffix("ForCausal") + "Config"
    )(**sizes)
    network = getattr(transformers, name + ("Model" if name.endswith("LMHead") else "LM"))(config)
    with caplog.at_level(logging.DEBUG, logger="rescore"):
        model = HubCausalLM(network, "cpu", dtype)
    assert trees is None or model.sees_trees == trees
    assert ("row by row" in caplog.text) == (not model.sees_trees)
    assert alone is None or (model._head is not None) == alone
    generator = np.random.default_rng(0)
    stem = generator.integers(3, 97, 40)
    rows = [
        [2, *stem[:size], *generator.integers(3, 97, extra)]
        for size in (0, 3, 3, 17, 40)
        for extra in (0, 1, 1, 5)
    ]
    sequences = [sequence(row) for row in rows if len(row) > 1]
    within = (
        1e-9 if dtype == torch.float64 and name != "BloomForCausal" else 1e-4
    )  # transformers' Bloom takes its softmax in float32
    for batch_tokens in (4096, 30):
        for s, values in zip(
            sequences, token_log_probs(model, sequences, budget=Budget(batch_tokens)), strict=True
        ):
            with torch.no_grad():
                logits = network(input_ids=torch.from_numpy(s.tokens)[None]).logits[0]
            expected = (
                logits.log_softmax(-1)[:-1]
                .gather(-1, torch.from_numpy(s.tokens)[1:, None])
                .squeeze(-1)
            )
            assert np.abs(values - expected.double().numpy()).max() < within
