"""Frozen encoders: the states that transformers itself gives, and a chain that hears by them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from small_speech import manifest

pytest.importorskip("transformers")

from hub_audio_encoders import ENCODERS
from transformers import (
    AutoFeatureExtractor,
    ParakeetForCTC,
    Wav2Vec2Model,
    WhisperModel,
)

from rescore.acoustic.audio import read_audio
from rescore.acoustic.frozen import FrozenEncoder, open_frozen_encoder
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.recogniser import load_recogniser
from rescore.acoustic.transcriber import load_transcriber
from rescore.cli import cli
from rescore.errors import AudioError, ModelError, RescoreError
from rescore.formats import jsonl

#: float32 states of a few units: two orders of operations differ by a few of 2^-22.
ROUNDING = 2e-5
SIZES = ["--width=16", "--heads=2", "--feed-forward=24", "--steps=2", "--warmup=1", "--float32"]
TEXTS = ["ab", "ba", "a b"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: save(tmp_path_factory.mktemp(name)) for name, save in ENCODERS.items()}


@pytest.fixture(scope="module")
def encoders(folders):
    return {name: open_frozen_encoder(str(folder)) for name, folder in folders.items()}


def noise(samples, seed=1):
    return 0.1 * np.random.default_rng(seed).standard_normal(samples, np.float32)


@torch.no_grad()
def expected_states(name, folder, audio):
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    inputs = extractor(audio, sampling_rate=16_000, return_tensors="pt")
    if name == "whisper":
        network = WhisperModel.from_pretrained(folder).eval().encoder
        return network(inputs.input_features).last_hidden_state[0]
    if name == "parakeet":
        network = ParakeetForCTC.from_pretrained(folder).eval().encoder
        return network(**inputs).last_hidden_state[0]
    network = Wav2Vec2Model.from_pretrained(folder).eval()
    return network(inputs.input_values).last_hidden_state[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_states_are_those_of_transformers_itself(name, folders, encoders):
    audio = noise(20_000)
    encoder = encoders[name]
    [states] = encoder.states([audio])
    expected = expected_states(name, folders[name], audio).numpy()
    np.testing.assert_allclose(states, expected[: len(states)], rtol=0, atol=ROUNDING)
    assert states.shape == ({"parakeet": 16, "whisper": 63}.get(name, 62), encoder.width)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_company_in_a_batch_changes_no_state(name, encoders):
    encoder = encoders[name]
    audios = [noise(samples, samples) for samples in (16_000, 4321, encoder.min_samples)]
    for audio, together in zip(audios, encoder.states(audios), strict=True):
        [alone] = encoder.states([audio])
        np.testing.assert_allclose(together, alone, rtol=0, atol=ROUNDING)


def test_whisper_hears_as_long_as_its_positions_and_no_longer(encoders):
    whisper = encoders["whisper"]
    assert whisper.max_samples == 64_000
    assert len(whisper.states([noise(64_000)])[0]) == 200
    with pytest.raises(AudioError, match=r"hears at most 4 s; cut it"):
        whisper.states([noise(64_001)])
    assert encoders["parakeet"].max_samples is None


def test_a_reloaded_encoder_has_the_same_states_and_another_one_is_refused(folders, encoders):
    encoder = encoders["wav2vec2"]
    stored = FrozenEncoder(**json.loads(json.dumps(asdict(encoder))))
    assert stored == encoder
    audio = noise(9000)
    np.testing.assert_array_equal(stored.states([audio])[0], encoder.states([audio])[0])
    with pytest.raises(ModelError, match="not those that the model was trained with"):
        replace(stored, model=str(folders["wav2vec2-base"])).states([audio])


def test_code_of_a_repository_is_not_run(tmp_path):
    save = ENCODERS["wav2vec2"](tmp_path / "model")
    config = json.loads((save / "config.json").read_text())
    config["model_type"] = "foreign"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModel": "code.Model"}
    (save / "config.json").write_text(json.dumps(config))
    (save / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match=str(save)):
        open_frozen_encoder(str(save))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["whisper", "wav2vec2", "parakeet"])
def test_a_decoder_listens_to_a_frozen_encoder(name, folders, tmp_path, monkeypatch):
    """Recogniser, decoder, posteriors, transcripts and scores, all from audio."""
    monkeypatch.chdir(tmp_path)
    audio = manifest(tmp_path, "train", TEXTS)
    speech = [f"--audio={audio}", f"--valid={audio}", "--speeds=1,1.1", "-o", "ctc"]
    run("train", "ctc", *speech, f"--encoder-from={folders[name]}", *SIZES)
    recogniser = load_recogniser(Path("ctc"))
    assert recogniser.frozen.model == str(folders[name])
    assert recogniser.network.config.layers == 1
    start = ["--corpus=ctc/corpus", "--start-from=ctc"]
    for folder, more in (("mdm", []), ("twin", ["--causal"])):
        run("train", "mdm", *start, "-o", folder, "--layers=1", *more, *SIZES)
        assert load_transcriber(Path(folder)).frozen == recogniser.frozen
        run("decode", audio, "--method=mdm", "--model", folder, "-o", f"{folder}.jsonl")
    scorer = ["--scorer=mdm:pll", "--model=mdm", f"--audio={audio}"]
    run("score", "mdm.jsonl", *scorer, "-o", "scored.jsonl")
    assert [nbest.ref for nbest in jsonl.read("scored.jsonl")] == TEXTS
    run("posteriors", audio, "--model=mdm", "--window=4", "-o", "posteriors.safetensors")
    # What was learnt from is what is heard now: the corpus has the states in float16.
    stored = np.memmap("ctc/corpus/valid/features.bin", np.float16)
    [utterance, *_] = read_utterances(audio)
    [states] = recogniser.features([read_audio(utterance, recogniser.sampling_rate)])
    stored = stored[: states.size].reshape(states.shape)
    np.testing.assert_allclose(stored, states, rtol=1e-3, atol=1e-4)


def test_a_corpus_of_other_features_is_refused(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audio = manifest(tmp_path, "train", TEXTS)
    speech = [f"--audio={audio}", f"--valid={audio}", "--speeds=1", "--corpus=corpus"]
    run("train", "ctc", *speech, "-o", "ctc", "--layers=1", *SIZES)
    more = [f"--encoder-from={folders['wav2vec2']}", *SIZES]
    assert "prepared from other speech or settings" in refused("train", "ctc", *speech, *more)
    speech[-1] = "--corpus=states"
    run("train", "ctc", *speech, *more, "-o", "on_states")
    assert "it was trained on log-Mel bins, the corpus states has" in refused(
        "train", "mdm", "--corpus=states", "--start-from=ctc", "--layers=1", *SIZES
    )


def run(*arguments):
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments):
    done = CliRunner().invoke(cli, [*map(str, arguments), "-o", "refused"])
    assert isinstance(done.exception, RescoreError), done.output
    return str(done.exception)
