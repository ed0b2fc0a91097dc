"""Masked LMs are read out at chosen positions only, with the values of the whole network."""

from __future__ import annotations

import logging
import pickle

import pytest
import torch

from rescore.models.hub import HubMaskedLM

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}
SHORT = SIZES | {"max_position_embeddings": 64, "pad_token_id": 0}

#: (architecture, its configuration, whether the head can be taken alone)
ARCHITECTURES = {
    "Bert": (SHORT, True),
    "Roberta": (SHORT, True),
    "XLMRoberta": (SHORT, True),
    "Electra": (SHORT | {"embedding_size": 32}, True),
    "Albert": (SHORT | {"embedding_size": 16}, True),
    "ModernBert": (
        SHORT | dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 1),
        True,
    ),
    "Deberta": (SHORT, True),
    "DebertaV2": (SHORT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, True),
    "DistilBert": (
        {
            "vocab_size": 97,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
        },
        True,
    ),
    "MPNet": (SHORT, True),
    "Longformer": (
        SHORT | {"attention_window": 8},
        False,
    ),  # its base model pads to whole windows, the head alone does not
}


class Tokenizer:
    mask_token_id = 4


def build(name: str, sizes: dict, dtype: torch.dtype = torch.float32) -> HubMaskedLM:
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes)
    return HubMaskedLM(
        getattr(transformers, f"{name}ForMaskedLM")(config), Tokenizer(), "x", "cpu", dtype
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens (3, 11) and their padding."""
    padding = torch.zeros(3, 11, dtype=torch.bool)
    padding[1, 7:] = True
    return torch.randint(5, 97, (3, 11), generator=torch.Generator().manual_seed(1)), padding


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_chosen_positions_have_the_values_of_the_whole_network(name, caplog):
    sizes, alone = ARCHITECTURES[name]
    with caplog.at_level(logging.DEBUG, logger="rescore"):
        model = build(name, sizes)
    assert (model._head is not None) == alone
    assert ("computed at every position" in caplog.text) != alone
    tokens, padding = batch()
    rows, positions = torch.tensor([2, 0, 1, 0]), torch.tensor([10, 0, 5, 2])
    with torch.no_grad():
        expected = model.network(
            input_ids=tokens, attention_mask=(~padding).long()
        ).logits.log_softmax(-1)
    hidden = model.encode(tokens, torch.zeros(3), padding)
    assert hidden.shape[-1] == (32 if alone else 97)
    assert (model.readout(hidden[rows, positions]) - expected[rows, positions]).abs().max() < 1e-4
    assert (model.log_probs(tokens, torch.zeros(3), padding) - expected)[
        ~padding
    ].abs().max() < 1e-4


def test_a_head_is_taken_alone_in_every_dtype():
    for dtype in (torch.float64, torch.bfloat16):
        assert build("Bert", SHORT, dtype)._head is not None


def test_the_network_is_left_as_it_was():
    model = build("Bert", SHORT)
    assert type(model.network.bert).__name__ == "BertModel"
    assert model.network.base_model is model.network.bert


def test_a_worker_gets_the_network_and_its_head_once():
    model = build("Bert", SHORT)
    whole = pickle.dumps(model)
    assert len(whole) < 1.2 * len(pickle.dumps(model.network))
    tokens, padding = batch()
    unpickled = pickle.loads(whole)  # noqa: S301 - bytes of this test
    assert torch.equal(
        unpickled.log_probs(tokens, torch.zeros(3), padding),
        model.log_probs(tokens, torch.zeros(3), padding),
    )


def test_a_head_that_looks_at_other_positions_is_not_taken_alone():
    torch.manual_seed(0)
    network = transformers.BertForMaskedLM(transformers.BertConfig(**SHORT))
    whole = network.cls.forward
    network.cls.forward = lambda hidden: whole(hidden.cumsum(1))
    assert HubMaskedLM(network, Tokenizer(), "x", "cpu", torch.float32)._head is None
