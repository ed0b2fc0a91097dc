"""The longest sequence that a configuration promises is the longest one that the network takes."""

from __future__ import annotations

import math

import pytest
import torch
from hub_models import network_of, save_model
from small import LINES, nbest

from rescore.models.hub.limits import max_length
from rescore.scorers import ScorerOptions, load_scorer

LENGTH = 40
MPT = {
    "d_model": 32,
    "n_heads": 4,
    "n_layers": 1,
    "max_seq_len": LENGTH,
    "no_bias": True,
}

#: (architecture, its own sizes, positions that it never uses)
ARCHITECTURES = [
    ("Bert", {}, 0),
    ("Roberta", {}, 2),
    ("Roberta", {"pad_token_id": 0}, 1),
    ("Camembert", {}, 2),
    ("XLMRoberta", {}, 2),
    ("XLMRobertaXL", {}, 2),
    ("RobertaPreLayerNorm", {}, 2),
    ("Data2VecText", {}, 2),
    ("IBert", {}, 2),
    ("Longformer", {"attention_window": 8}, 2),
    ("Esm", {"mask_token_id": 4, "position_embedding_type": "absolute"}, 2),
    ("MPNet", {}, 2),
    ("MPNet", {"pad_token_id": 0}, 2),
    ("Mpt", MPT, 0),
]


@pytest.mark.parametrize(("architecture", "sizes", "unused"), ARCHITECTURES)
def test_the_longest_sequence_is_the_longest_that_runs(architecture, sizes, unused):
    network = network_of(architecture, length=LENGTH, **sizes)
    longest = max_length(network.config)
    assert longest == LENGTH - unused

    def run(length: int) -> torch.Tensor:
        tokens = torch.arange(length)[None] % 80 + 5
        with torch.no_grad():
            return network(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits

    assert run(longest).isfinite().all()
    with pytest.raises((IndexError, RuntimeError, ValueError)):
        run(longest + 1)


@pytest.mark.parametrize("architecture", ["MPNet", "Esm", "Data2VecText", "RobertaPreLayerNorm"])
def test_a_long_text_is_scored_in_windows_of_what_the_positions_allow(architecture, tmp_path):
    sizes = {"mask_token_id": 4} if architecture == "Esm" else {}
    save_model(tmp_path, "byte-bpe", architecture, length=LENGTH, **sizes)
    scorer = load_scorer("mlm", ScorerOptions(model=str(tmp_path)))
    (score,) = scorer.score([nbest(" ".join(LINES[:6]), "the old house")])
    assert scorer.sequencer.vocabulary.window == LENGTH - 2
    assert all(math.isfinite(value) for value in score.values)


def test_a_long_text_is_scored_in_windows_of_a_causal_lm_without_positions(tmp_path):
    save_model(tmp_path, "byte-bpe", "Mpt", **MPT)
    scorer = load_scorer("ar", ScorerOptions(model=str(tmp_path)))
    (score,) = scorer.score([nbest(" ".join(LINES[:6]))])
    assert scorer.sequencer.vocabulary.window == LENGTH
    assert math.isfinite(score.values[0])
