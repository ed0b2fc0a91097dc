"""Recognisers of our own: files, symbols, and posteriors of audio."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from small import LINES, small_checkpoint, small_tokenizer
from small_speech import RATE, spoken

from rescore.acoustic.features import fbank
from rescore.acoustic.loading import EncoderOptions, load_encoder
from rescore.acoustic.recogniser import (
    Recogniser,
    character_symbols,
    is_recogniser,
    load_recogniser,
    piece_symbols,
    read_symbols,
    save_recogniser,
    write_symbols,
)
from rescore.errors import ModelError
from rescore.models.checkpoint import load, save
from rescore.models.speech_network import SpeechConfig, SpeechNetwork


def small_recogniser(symbols=None):
    symbols = symbols or character_symbols(["ab", "b a"])
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 1, "heads": 2, "feed_forward": 24, "kernel": 3}
    network = SpeechNetwork(SpeechConfig(len(symbols), **sizes)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.2)
    return Recogniser(network, symbols, card={"speech": "tones"})


@pytest.mark.parametrize("kind", ["characters", "pieces"])
def test_a_recogniser_is_what_was_saved(tmp_path, kind):
    symbols = piece_symbols(small_tokenizer()) if kind == "pieces" else None
    saved = small_recogniser(symbols)
    save_recogniser(saved, tmp_path)
    loaded = load_recogniser(tmp_path)
    assert loaded.symbols == saved.symbols
    assert loaded.signature == saved.signature
    assert (loaded.card, loaded.sampling_rate) == ({"speech": "tones"}, RATE)
    assert is_recogniser(tmp_path)
    audio = spoken("ab")
    np.testing.assert_array_equal(loaded.log_probs([audio])[0], saved.log_probs([audio])[0])


def test_the_signature_changes_with_weights_and_symbols():
    first, other = small_recogniser(), small_recogniser()
    assert first.signature == other.signature
    with torch.no_grad():
        other.network.head.bias[0] += 1
    renamed = small_recogniser(character_symbols(["ac", "c a"]))
    assert (
        len(
            {first.signature, Recogniser(other.network, other.symbols).signature, renamed.signature}
        )
        == 3
    )


def test_posteriors_are_those_of_the_network_whatever_the_batch():
    recogniser = small_recogniser()
    audios = [spoken(text) for text in ("abba", "a", "ba b")]
    together = recogniser.log_probs(audios)
    for audio, rows in zip(audios, together, strict=True):
        features = torch.from_numpy(fbank(audio, RATE))[None]
        expected, _ = recogniser.network(features, torch.tensor([features.shape[1]]))
        np.testing.assert_allclose(rows, expected[0].detach().numpy(), atol=1e-4)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.exp(rows).sum(1), 1, atol=1e-5)


def test_the_shortest_audio_has_one_frame_and_no_shorter_has_any():
    recogniser = small_recogniser()
    audio = spoken("ab")
    assert len(recogniser.log_probs([audio[: recogniser.min_samples]])[0]) == 1
    assert len(fbank(audio[: recogniser.min_samples - 1])) == 6
    more = audio[: recogniser.min_samples + recogniser.frame_samples]
    assert len(recogniser.log_probs([more])[0]) == 2


def test_characters_spell_the_texts_they_are_of():
    symbols = character_symbols(["go on", "yes"])
    assert symbols.pieces == ("<blank>", " ", "e", "g", "n", "o", "s", "y")
    assert symbols.decode(symbols.encode("go yes")) == "go yes"


def test_pieces_share_their_columns_with_the_vocabulary():
    tokenizer = small_tokenizer()
    symbols = piece_symbols(tokenizer)
    assert len(symbols) == tokenizer.size
    for line in LINES[:5]:
        assert symbols.encode(line) == tokenizer.encode([line])[0]
        assert symbols.decode(symbols.encode(line)) == line
    assert not {symbols.blank, *symbols.special} & set(symbols.columns.values())


@pytest.mark.parametrize("kind", ["characters", "pieces"])
def test_symbols_are_read_as_they_were_written(tmp_path, kind):
    symbols = character_symbols(["größe"]) if kind == "characters" else None
    symbols = symbols or piece_symbols(small_tokenizer())
    write_symbols(symbols, tmp_path)
    assert read_symbols(tmp_path) == symbols
    assert read_symbols(tmp_path).digest == symbols.digest


def spoil(folder, name, change):
    values = json.loads((folder / name).read_text())
    change(values)
    (folder / name).write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("spoilt", "complaint"),
    [
        (
            lambda f: (f / "config.json").unlink(),
            "config.json: the model's configuration cannot be read: .*; train one",
        ),
        (lambda f: (f / "config.json").write_text("{"), "config.json: broken JSON"),
        (
            lambda f: spoil(f, "config.json", lambda c: c.update(format="x")),
            "not a dlmrescore-recogniser configuration",
        ),
        (
            lambda f: spoil(f, "config.json", lambda c: c.update(version=9)),
            r"version a number \(9\), this",
        ),
        (
            lambda f: spoil(f, "config.json", lambda c: c["network"].update(width=7)),
            "does not fit .*width 7",
        ),
        (
            lambda f: spoil(f, "config.json", lambda c: c["network"].update(magic=7)),
            "does not fit .*magic",
        ),
        (
            lambda f: (f / "symbols.json").unlink(),
            "symbols.json: the recogniser's symbols cannot be read",
        ),
        (
            lambda f: spoil(f, "symbols.json", lambda c: c.update(blank=9)),
            "symbols.json: these are no symbols: .*blank is column 9",
        ),
        (
            lambda f: spoil(f, "symbols.json", lambda c: c["pieces"].append("z")),
            "4 columns, its symbols are 5; files of two models",
        ),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"x"),
            "the header has 120 bytes and the file 1",
        ),
    ],
)
def test_a_broken_recogniser_is_one_line(tmp_path, spoilt, complaint):
    save_recogniser(small_recogniser(), tmp_path)
    spoilt(tmp_path)
    with pytest.raises(ModelError, match=complaint) as caught:
        load_recogniser(tmp_path)
    assert "\n" not in str(caught.value)


def test_pieces_without_their_model_are_one_line(tmp_path):
    save_recogniser(small_recogniser(piece_symbols(small_tokenizer())), tmp_path)
    (tmp_path / "tokenizer.model").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.model: the tokenizer cannot be read"):
        load_recogniser(tmp_path)


def test_language_models_and_recognisers_are_not_taken_for_each_other(tmp_path):
    save_recogniser(small_recogniser(), tmp_path / "ctc")
    save(small_checkpoint("ar"), tmp_path / "ar")
    with pytest.raises(ModelError, match="a CTC recogniser, expected a language model"):
        load(tmp_path / "ctc")
    with pytest.raises(ModelError, match="not a dlmrescore-recogniser configuration"):
        load_recogniser(tmp_path / "ar")
    assert not is_recogniser(tmp_path / "ar")
    assert not is_recogniser(tmp_path)


def test_posteriors_are_made_by_a_recogniser_of_ours(tmp_path):
    save_recogniser(small_recogniser(), tmp_path)
    encoder = load_encoder(EncoderOptions(str(tmp_path)))
    audio = spoken("ab a")
    np.testing.assert_array_equal(
        encoder.log_probs([audio])[0], small_recogniser().log_probs([audio])[0]
    )
    with pytest.raises(ModelError, match="our recognisers compute in float32"):
        load_encoder(EncoderOptions(str(tmp_path), dtype="bfloat16"))
