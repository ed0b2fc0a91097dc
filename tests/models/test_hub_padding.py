"""A score does not depend on who shares a batch, for networks that do not mask padding either."""

from __future__ import annotations

import logging

import pytest
import torch
from hub_models import network_of, save_model
from small import nbest

from rescore.models.hub import HubMaskedLM
from rescore.scorers import ScorerOptions, load_scorer

#: ConvBERT and FNet mix padding into every token, whatever the attention mask says.
ARCHITECTURES = {
    "Bert": ({}, True),
    "Roberta": ({}, True),
    "ConvBert": ({"embedding_size": 32, "conv_kernel_size": 3, "head_ratio": 2}, False),
    "FNet": ({}, False),
}
TEXTS = ["the old house stood at the end of the lane", "she wrote", "no light in the window", ""]


class Tokenizer:
    mask_token_id = 4


@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_row_of_a_padded_batch_has_the_values_it_has_alone(name, caplog):
    sizes, masks_padding = ARCHITECTURES[name]
    with caplog.at_level(logging.DEBUG, logger="rescore"):
        model = HubMaskedLM(network_of(name, **sizes), Tokenizer(), "x", "cpu", torch.float32)
    assert model.masks_padding == masks_padding
    assert ("only equal lengths share a batch" in caplog.text) != masks_padding
    tokens = torch.randint(5, 97, (5, 12), generator=torch.Generator().manual_seed(1))
    lengths = [12, 7, 3, 7, 12]
    padding = torch.arange(12)[None] >= torch.tensor(lengths)[:, None]
    together = model.log_probs(tokens.masked_fill(padding, 0), torch.zeros(5), padding)
    for row, length in enumerate(lengths):
        alone = tokens[row : row + 1, :length]
        expected = model.log_probs(alone, torch.zeros(1), torch.zeros_like(alone, dtype=torch.bool))
        assert (together[row, :length] - expected[0]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["ConvBert", "FNet"])
def test_the_score_of_a_text_is_the_same_in_every_company(name, tmp_path):
    save_model(tmp_path, "byte-bpe", name, **ARCHITECTURES[name][0])
    scorer = load_scorer("mlm", ScorerOptions(model=str(tmp_path)))
    (together,) = scorer.score([nbest(*TEXTS)])
    for text, value in zip(TEXTS, together.values, strict=True):
        (alone,) = scorer.score([nbest(text)])
        assert alone.values[0] == pytest.approx(value, abs=1e-4)
