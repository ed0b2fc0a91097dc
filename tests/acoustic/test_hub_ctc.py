"""Hugging Face CTC models: their own log-probabilities, alone, in batches and in windows."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hub_ctc_models import LETTERS, save_letters, save_parakeet
from transformers import AutoFeatureExtractor, AutoModelForCTC, AutoTokenizer

from rescore.acoustic.hub import load_hub_encoder
from rescore.acoustic.windows import Windows, join
from rescore.errors import ModelError

MODELS = {
    "wav2vec2": ("wav2vec2", "layer"),
    "wav2vec2-base": ("wav2vec2", "group"),
    "hubert": ("hubert", "layer"),
    "wavlm": ("wavlm", "layer"),
    "wavlm-base": ("wavlm", "group"),
    "parakeet": None,
}
#: float32 logits of a few units: two orders of operations differ by a few of 2^-22.
ROUNDING = 2e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folders = {}
    for name, kind in MODELS.items():
        folder = tmp_path_factory.mktemp(name)
        folders[name] = save_parakeet(folder) if kind is None else save_letters(folder, *kind)
    return folders


@pytest.fixture(scope="module")
def encoders(folders):
    return {name: load_hub_encoder(str(folder)) for name, folder in folders.items()}


def noise(samples, seed=1):
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


@pytest.mark.filterwarnings("ignore:.*key_padding_mask")  # inside WavLM
@pytest.mark.parametrize("name", MODELS)
def test_log_probs_are_those_of_transformers_itself(name, folders, encoders):
    extractor = AutoFeatureExtractor.from_pretrained(folders[name])
    network = AutoModelForCTC.from_pretrained(folders[name]).eval()
    audio = noise(20000)
    with torch.no_grad():
        inputs = extractor(audio, sampling_rate=16000, return_tensors="pt")
        expected = torch.log_softmax(network(**inputs).logits[0], dim=-1).numpy()
    [rows] = encoders[name].log_probs([audio])
    np.testing.assert_allclose(rows, expected[: len(rows)], rtol=0, atol=ROUNDING)
    assert len(rows) == {320: 62, 1280: 16}[encoders[name].frame_samples]


@pytest.mark.parametrize("name", MODELS)
def test_the_company_in_a_batch_changes_nothing(name, encoders):
    encoder = encoders[name]
    audios = [noise(samples, samples) for samples in (16000, 4321, encoder.min_samples, 9999)]
    together = encoder.log_probs(audios)
    for audio, rows in zip(audios, together, strict=True):
        [alone] = encoder.log_probs([audio])
        np.testing.assert_allclose(rows, alone, rtol=0, atol=ROUNDING)


def test_only_group_normalisation_keeps_audio_out_of_batches(encoders):
    assert {name for name, encoder in encoders.items() if not encoder.is_batched} == {
        "wav2vec2-base",
        "wavlm-base",
    }


def test_padding_would_change_what_a_group_normalised_network_says(encoders):
    """Why those are evaluated one by one."""
    padded = encoders["wav2vec2-base"]._batch([noise(16000), noise(5000, 2)])[1]
    padded = padded.log_softmax(-1).numpy()
    [alone] = encoders["wav2vec2-base"].log_probs([noise(5000, 2)])
    assert np.abs(padded - alone).max() > 100 * ROUNDING


@pytest.mark.parametrize("name", MODELS)
def test_the_shortest_audio_has_a_frame_and_less_has_none(name, encoders):
    encoder = encoders[name]
    [rows] = encoder.log_probs([noise(encoder.min_samples)])
    assert len(rows) == 1
    assert np.isfinite(rows).all()
    assert encoder.min_samples == {320: 400, 1280: 320}[encoder.frame_samples]


def test_the_signature_depends_on_weights_symbols_and_features(tmp_path):
    save_letters(tmp_path / "a", "wav2vec2")
    save_letters(tmp_path / "b", "wav2vec2")
    save_letters(tmp_path / "c", "wav2vec2", do_normalize=False)
    save_letters(tmp_path / "d", "wav2vec2", layers=1)
    with_letters(save_letters(tmp_path / "e", "wav2vec2"), [*LETTERS[:5], *LETTERS[:4:-1]])
    signatures = [load_hub_encoder(str(tmp_path / name)).signature for name in "abcde"]
    assert signatures[0] == signatures[1]
    assert len(set(signatures)) == 4


def test_letters_are_mapped_as_the_tokenizer_spells_them(folders, encoders):
    symbols = encoders["wav2vec2"].symbols
    tokenizer = AutoTokenizer.from_pretrained(folders["wav2vec2"])
    assert symbols.pieces == tuple(LETTERS)
    assert (symbols.blank, symbols.boundary, symbols.special) == (0, "|", {1, 2, 3})
    assert symbols.encode("it's THE cat") == tokenizer("IT'S THE CAT").input_ids
    assert symbols.decode(symbols.encode("it's the cat")) == "IT'S THE CAT"


def test_pieces_are_those_of_the_tokenizer(folders, encoders):
    symbols = encoders["parakeet"].symbols
    tokenizer = AutoTokenizer.from_pretrained(folders["parakeet"])
    assert (symbols.pieces[symbols.blank], symbols.word_rule) == ("<pad>", "mark")
    for text in ("the beast", "tea  that's a"[:7], "a"):
        columns = symbols.encode(text)
        assert columns == tokenizer(" ".join(text.split()), add_special_tokens=False).input_ids
        assert symbols.decode(columns) == " ".join(text.split())


@pytest.mark.parametrize("name", ["wav2vec2", "parakeet"])
def test_greedy_text_is_that_of_the_tokenizer(name, folders, encoders):
    encoder = encoders[name]
    tokenizer = AutoTokenizer.from_pretrained(folders[name])
    [rows] = encoder.log_probs([noise(32000)])
    path = rows.argmax(axis=1)
    collapsed = path[np.insert(path[1:] != path[:-1], 0, True)]
    kept = [k for k in collapsed if k != encoder.symbols.blank]
    assert encoder.symbols.decode(kept) == tokenizer.decode(path).replace("  ", " ").strip()


def test_windows_equal_the_whole_on_a_model_of_bounded_context(tmp_path):
    """Without attention, a frame sees the convolutions' 400 samples and 16 frames of positions."""
    save_letters(tmp_path, "wav2vec2", "layer", layers=0, do_normalize=False)
    encoder = load_hub_encoder(str(tmp_path))
    audio = noise(80000)
    windows = Windows(length=1.5, overlap=0.5)
    first = windows.first_frames(len(audio), 16000, encoder.frame_samples)
    parts = encoder.log_probs(windows.cut(audio, 16000, encoder.frame_samples))
    [whole] = encoder.log_probs([audio])
    assert len(parts) == 5
    np.testing.assert_allclose(join(first, parts), whole, rtol=0, atol=ROUNDING)


def changed(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.json", {"pad_token_id": 3}, "the blank is padding, id 3 in config.json but 0"),
        ("preprocessor_config.json", {"sampling_rate": 16001}, "a whole number of samples"),
        (
            "preprocessor_config.json",
            {"padding_side": 0},
            "its parts do not work together (Invalid",
        ),
        ("config.json", {"model_type": "bert"}, "cannot load a Hugging Face model"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tmp_path, name, values, message):
    save_letters(tmp_path, "wav2vec2")
    changed(tmp_path, name, **values)
    with pytest.raises(ModelError) as error:
        load_hub_encoder(str(tmp_path))
    assert message in str(error.value)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    save_letters(tmp_path, "wav2vec2")
    with_letters(tmp_path, [*LETTERS, "ü"])
    with pytest.raises(ModelError, match="'ü' at 32, but the network has 32 columns"):
        load_hub_encoder(str(tmp_path))


def with_letters(folder, letters):
    vocabulary = json.dumps({piece: k for k, piece in enumerate(letters)})
    (folder / "vocab.json").write_text(vocabulary)
    changed(folder, "tokenizer_config.json", added_tokens_decoder={})


def test_a_delimiter_other_than_the_usual_one_is_read_from_the_file(tmp_path):
    save_letters(tmp_path, "wav2vec2")
    with_letters(tmp_path, ["/" if piece == "|" else piece for piece in LETTERS])
    changed(tmp_path, "tokenizer_config.json", word_delimiter_token="/")
    assert load_hub_encoder(str(tmp_path)).symbols.boundary == "/"


def test_a_tokenizer_without_words_is_refused(tmp_path):
    save_letters(tmp_path, "wav2vec2")
    with_letters(tmp_path, ["ə" if piece == "|" else piece for piece in LETTERS])
    with pytest.raises(ModelError, match="neither a symbol between words"):
        load_hub_encoder(str(tmp_path))
