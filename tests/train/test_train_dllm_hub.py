"""`train dllm` with language models of Hugging Face, and on a frozen encoder of theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from hub_audio_encoders import ENCODERS
from hub_text_models import save_text_model
from small_runs import killed_after_saving
from small_speech import TEXTS, TINY_CTC, manifest, speech_options

from rescore.acoustic.prompted import load_prompted
from rescore.acoustic.recogniser import read_symbols
from rescore.cli import cli
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.errors import ModelError
from rescore.models.prompted import PromptedNetwork
from rescore.pipeline.decoding import decode
from rescore.train.ctc import train_ctc
from rescore.train.options import DllmOptions
from rescore.train.prompted import TokenBatches, dllm_learner, train_dllm
from rescore.train.prompted_start import start_model
from rescore.train.speech_corpus import open_parts

TINY = DllmOptions(
    steps=4,
    learning_rate=5e-3,
    warmup=2,
    bf16=False,
    batch_seconds=6.0,
    evaluate_every=4,
    save_every=2,
    margin=2,
    remote_code=True,
)
RANK = 2


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return speech_options(tmp_path_factory.mktemp("speech"), speeds=(1.0,))


@pytest.fixture(scope="module")
def folder(speech, tmp_path_factory):
    """A recogniser and two language models."""
    folder = tmp_path_factory.mktemp("start")
    train_ctc(speech, folder / "ctc", replace(TINY_CTC, steps=20, evaluate_every=20), {})
    for kind in ("llada", "Dream"):
        save_text_model(folder / kind, kind)
    return folder


def options_of(folder, kind, **changes):
    start = {"start_from": str(folder / "ctc"), "language_model": str(folder / kind)}
    return replace(TINY, **start, **changes)


def learner_of(speech, options):
    symbols = read_symbols(speech.directory)
    training, _ = open_parts(speech, len(symbols), options.batch_seconds)
    model = start_model(options, symbols, training.corpus)
    examples = TokenBatches(training, model)
    return dllm_learner(options, model), examples.batch(examples.epoch(0)[0])


@pytest.mark.parametrize(("kind", "ends"), [("llada", True), ("Dream", False)])
def test_bos_and_eos_are_hidden_only_where_the_model_is_trained_for_it(
    speech, folder, monkeypatch, kind, ends
):
    learner, batch = learner_of(speech, options_of(folder, kind, fully_masked=1.0))
    rows, targets = learner.network.rows, batch.inputs[2]
    seen = []
    encode = PromptedNetwork.encode

    def recorded(network, tokens, heard, padding=None):
        seen.append((tokens, padding))
        return encode(network, tokens, heard, padding)

    monkeypatch.setattr(PromptedNetwork, "encode", recorded)
    learner.update(batch, 0)
    [(tokens, padding)] = seen
    assert (tokens[:, 0] == rows.bos).all()
    hidden = (tokens == rows.mask).sum(1)
    sizes = batch.inputs[3]
    if ends:
        assert (hidden > sizes).all()  # every place, EOS and spare ones too
        assert batch.scored == int(sizes.sum()) + len(targets)
    else:
        assert (hidden == sizes).all()
        assert ((tokens == rows.eos) & ~padding).sum(1).tolist() == [1] * len(tokens)
        assert batch.scored == int(sizes.sum())


@pytest.mark.parametrize(
    ("kind", "learn"), [("llada", None), ("Dream", None), ("Dream", "low_rank"), ("llada", "whole")]
)
def test_what_is_asked_for_learns_and_a_killed_run_ends_in_the_same_weights(
    speech, folder, tmp_path, kind, learn
):
    """By default the projector alone; the state of a run has nothing of the frozen weights."""
    if learn == "low_rank":
        pytest.importorskip("peft")
    options = options_of(folder, kind, learn=learn, rank=RANK)
    whole = train_dllm(speech, tmp_path / "whole", options, {})
    with killed_after_saving():
        train_dllm(speech, tmp_path / "killed", options, {})
    resumed = train_dllm(speech, tmp_path / "killed", options, {})
    assert resumed.signature == whole.signature
    state = torch.load(tmp_path / "whole" / "state.pt", weights_only=True)
    language = [name for name in state["network"] if name.startswith("language_model.")]
    assert bool(language) == (learn is not None)
    loaded = load_prompted(tmp_path / "whole", remote_code=True)
    assert loaded.network.language_model.rank == (RANK if learn == "low_rank" else 0)
    audio = manifest(tmp_path, "dev", TEXTS[:2])
    settings = DecoderOptions(model=str(tmp_path / "whole"), remote_code=True, draft="mask")
    for nbest in decode(load_decoder("prior_guided", str(audio), settings)):
        assert nbest.raw["evaluations"] >= nbest.raw["rounds"] > 0
        margin = 1 + 4 if kind == "llada" else 0  # Dream's EOS is decided from the start
        assert nbest.raw["opened"] == nbest.raw["canvas"] - 1 - (kind == "Dream")
        assert nbest.raw["canvas"] >= 1 + margin


def test_adapters_go_on_from_a_first_stage(speech, folder, tmp_path):
    pytest.importorskip("peft")
    train_dllm(speech, tmp_path / "one", options_of(folder, "llada"), {})
    second = replace(TINY, start_from=str(tmp_path / "one"), learn="low_rank", rank=RANK)
    train_dllm(speech, tmp_path / "two", second, {})
    third = replace(second, start_from=str(tmp_path / "two"))
    model = train_dllm(speech, tmp_path / "three", third, {})
    assert model.network.language_model.rank == RANK
    with pytest.raises(ModelError, match="has adapters"):
        learner_of(speech, replace(third, learn="whole"))


def test_the_commands_run_other_code_only_if_it_is_asked_for(speech, folder, tmp_path):
    train = ["train", "dllm", "--corpus", str(speech.directory), "--start-from"]
    train += [str(folder / "ctc"), "--language-model", str(folder / "Dream")]
    train += ["--float32", "--steps", "1", "--warmup", "1", "-o", str(tmp_path / "model")]
    audio = manifest(tmp_path, "dev", TEXTS[:1])
    use = ["decode", str(audio), "--method", "prior_guided", "--model", str(tmp_path / "model")]
    use += ["-o", str(tmp_path / "dev.jsonl")]
    for command in (train, use):
        refused = CliRunner().invoke(cli, command)
        assert refused.exit_code != 0
        assert "add --remote-code if you trust it" in f"{refused.output}{refused.exception}"
        done = CliRunner().invoke(cli, [*command, "--remote-code"])
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": "emitted"}, "counts its positions itself"),
        ({"from_scratch": True}, "only ours start anew"),
    ],
)
def test_what_does_not_go_with_other_models_is_refused(speech, folder, changes, message):
    with pytest.raises(ModelError, match=message):
        learner_of(speech, options_of(folder, "llada", **changes))


def test_a_prompt_hears_through_a_frozen_encoder(tmp_path, monkeypatch):
    """From the audio to a list, by the commands; a corpus of other features is refused."""
    monkeypatch.chdir(tmp_path)
    ENCODERS["wav2vec2"](tmp_path / "wav2vec2")
    train, valid = manifest(tmp_path, "train", TEXTS), manifest(tmp_path, "valid", TEXTS[:2])
    speech = [f"--audio={train}", f"--valid={valid}", "--speeds=1"]
    steps = ["--steps=1", "--warmup=1", "--float32"]
    sizes = ["--width=16", "--layers=1", "--heads=2", "--feed-forward=24"]
    for command in (
        ["train", "ctc", *speech, "--encoder-from=wav2vec2", *sizes, *steps, "-o", "ctc"],
        ["train", "dllm", "--corpus=ctc/corpus", "--start-from=ctc", *steps, "-o", "dllm"],
        ["decode", str(valid), "--method=prior_guided", "--model=dllm", "-o", "dev.jsonl"],
    ):
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == 0, done.output
    model = load_prompted(tmp_path / "dllm")
    assert model.frozen is not None
    assert model.recogniser.frozen == model.frozen
    other = speech_options(tmp_path / "mel", speeds=(1.0,))
    for start in ("ctc", "dllm"):
        with pytest.raises(ModelError, match="has log-Mel bins"):
            train_dllm(other, tmp_path / "x", replace(TINY, start_from=start), {})
