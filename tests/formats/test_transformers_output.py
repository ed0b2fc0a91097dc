"""`rescore.from_transformers` against transformers' own `generate`, on tiny random models."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import rescore
from rescore.errors import ArgumentError, FormatError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WORDS = ["<pad>", "<s>", "</s>", "the", "old", "house", "stood", "at", "a", "lane", "<sot>", "<en>"]


class Words:
    """Decodes as a tokenizer of transformers does."""

    eos_token_id = 2

    def batch_decode(self, rows, skip_special_tokens):
        assert skip_special_tokens
        special = {0, 1, 2, 10, 11}
        return [
            " " + " ".join(WORDS[token] for token in row if token not in special) for row in rows
        ]


def seq2seq():
    torch.manual_seed(0)
    config = transformers.BartConfig(
        vocab_size=12, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=None,
        max_position_embeddings=32, init_std=1.0,
    )  # fmt: skip
    model = transformers.BartForConditionalGeneration(config).eval()
    return model, {"input_ids": torch.tensor([[1, 3, 4, 2], [1, 9, 8, 2]])}


def whisper():
    torch.manual_seed(1)
    config = transformers.WhisperConfig(
        vocab_size=12, num_mel_bins=8, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=10, max_source_positions=20, max_target_positions=32,
        suppress_tokens=None, begin_suppress_tokens=None, init_std=1.0,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    model.generation_config.update(
        suppress_tokens=None, begin_suppress_tokens=None, forced_decoder_ids=None,
        no_timestamps_token_id=None, is_multilingual=False, decoder_start_token_id=10,
        pad_token_id=0, eos_token_id=2, return_timestamps=False,
    )  # fmt: skip
    return model, {"input_features": torch.randn(2, 8, 40)}


def generated(model, inputs, **options):
    return model.generate(
        **inputs,
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=9,
        return_dict_in_generate=True,
        output_scores=True,
        **options,
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("length_penalty", [1.0, 0.6, 2.0, 0.0])
@pytest.mark.parametrize("kind", [seq2seq, whisper])
def test_the_sums_are_those_of_the_transition_scores(kind, length_penalty):
    model, inputs = kind()
    output = generated(model, inputs, length_penalty=length_penalty)
    # Whisper's own generate has gathered the scores of each sequence from its beams already.
    beams = output.beam_indices if kind is seq2seq else None
    steps = model.compute_transition_scores(output.sequences, output.scores, beams)
    if kind is whisper:
        steps = steps * (output.beam_indices[:, : steps.shape[1]] >= 0)
    expected = steps.double().sum(1).tolist()
    lists = rescore.from_transformers(
        output.sequences,
        output.sequences_scores,
        Words(),
        ids=["u1", "u2"],
        refs=["the old house", None],
        beam_indices=output.beam_indices,
        length_penalty=length_penalty,
    )
    assert [(nbest.id, nbest.ref, len(nbest.hyps)) for nbest in lists] == [
        ("u1", "the old house", 4),
        ("u2", None, 4),
    ]
    values = [hyp.scores["am"] for nbest in lists for hyp in nbest.hyps]
    assert values == pytest.approx(expected, rel=1e-5)
    lengths = (output.beam_indices >= 0).sum(1)
    if 0 < length_penalty <= 1:  # a larger one prefers the longest, none the shortest
        assert len(set(lengths.tolist())) > 1
    prompt = output.sequences.shape[1] - int(lengths.max())
    again = rescore.from_transformers(
        output.sequences.numpy(),
        output.sequences_scores.numpy(),
        Words(),
        ids=["u1", "u2"],
        prompt_length=prompt,
        length_penalty=length_penalty,
    )
    assert [hyp.scores["am"] for nbest in again for hyp in nbest.hyps] == pytest.approx(values)
    assert [hyp.text for n in again for hyp in n.hyps] == [h.text for n in lists for h in n.hyps]


def test_without_scores_there_is_the_rank_and_texts_are_stripped():
    [nbest] = rescore.from_transformers([[1, 3, 4, 2], [1, 3, 5, 2]], None, Words(), ids=["u"])
    assert [(hyp.text, dict(hyp.scores)) for hyp in nbest.hyps] == [
        ("the old", {"rank": -0.0}),
        ("the house", {"rank": -1.0}),
    ]


def test_a_beam_that_was_never_filled_is_left_out(caplog):
    sequences, scores = [[1, 3, 2], [1, 4, 2]], [-0.5, -1e9 / 2]
    with caplog.at_level(logging.WARNING):
        [nbest] = rescore.from_transformers(
            sequences, np.array(scores), Words(), ids=["u"], prompt_length=1
        )
    assert [(hyp.text, hyp.scores["am"]) for hyp in nbest.hyps] == [("the", -1.0)]
    assert "hypothesis 2 has the score -1e+09: generate did not fill this beam" in caplog.text
    with pytest.raises(FormatError, match="utterance u: generate filled no beam"):
        rescore.from_transformers(sequences[1:], scores[1:], Words(), ids=["u"], prompt_length=1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([[1, 3, 2]], [-1.0]), {}, "the scores are divided by lengths, which are not known; give"),
        (([[1, 3, 2]], [-1.0, -2.0]), {"prompt_length": 1}, "there are 2 scores for 1 sequences"),
        (([[1, 3, 2]], None), {"ids": ["u", "v"]}, "there are 1 sequences for 2 ids, expected the"),
        (([[1, 3, 2]], None), {"ids": "u"}, "there are 1 sequences for 1 ids"),
        (
            ([[1, 3, 2]], None),
            {"refs": []},
            "there are 0 references for 1 ids, expected one fo",
        ),
        ((None, None), {}, "sequences are a NoneType, expected an array"),
        (
            ([[1, 3, 2]], [-1.0]),
            {"beam_indices": [[0], [0]]},
            "there are 2 rows of beam_indices for 1 sequences",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(arguments, options, message):
    with pytest.raises(ArgumentError, match=message):
        rescore.from_transformers(*arguments, Words(), **{"ids": ["u"], **options})
