"""Training language models behind a speech prompt: the losses, what learns, runs that resume."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from small_prompted import TOKENIZER, small_prompted
from small_runs import killed_after_saving
from small_speech import TEXTS, TINY_CTC, speech_options

from rescore.acoustic.prompted import load_prompted
from rescore.acoustic.recogniser import read_symbols
from rescore.cli.train_dllm import dllm_command
from rescore.errors import ModelError
from rescore.models.checkpoint import Checkpoint, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.tokenizer import train_tokenizer
from rescore.train import prompted
from rescore.train.ctc import train_ctc
from rescore.train.options import DllmOptions
from rescore.train.prompted import TokenBatches, dllm_learner, train_dllm
from rescore.train.prompted_losses import PromptedLoss
from rescore.train.prompted_start import corpus_texts, start_model
from rescore.train.speech_corpus import open_parts

TINY = DllmOptions(
    steps=8,
    learning_rate=5e-3,
    warmup=2,
    bf16=False,
    batch_seconds=6.0,
    evaluate_every=4,
    save_every=4,
    margin=2,
)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return speech_options(tmp_path_factory.mktemp("speech"), speeds=(1.0,))


@pytest.fixture(scope="module")
def folder(speech, tmp_path_factory):
    """A recogniser and two text models."""
    folder = tmp_path_factory.mktemp("start")
    train_ctc(speech, folder / "ctc", replace(TINY_CTC, steps=20, evaluate_every=20), {})
    for name, causal, prediction in (("mdlm", False, "masked"), ("ar", True, "causal")):
        torch.manual_seed(0)
        config = NetworkConfig(TOKENIZER.size + (not causal), 16, 1, 2, 24, causal=causal)
        save(Checkpoint(Network(config), TOKENIZER, name, prediction), folder / name)
    return folder


def options_of(folder, kind="mdlm", **changes):
    return replace(
        TINY, start_from=str(folder / "ctc"), language_model=str(folder / kind), **changes
    )


def learner_of(speech, options):
    symbols = read_symbols(speech.directory)
    training, _ = open_parts(speech, len(symbols), options.batch_seconds)
    model = start_model(options, symbols, training.corpus)
    examples = TokenBatches(training, model)
    return dllm_learner(options, model), examples.batch(examples.epoch(0)[0])


def test_the_masked_loss_averages_to_the_exact_nelbo():
    network = small_prompted(scale=3.0).network.double()
    features = torch.randn(1, 50, 80, generator=torch.Generator().manual_seed(3)).double()
    rows, frames = network.rows, torch.tensor([50])
    tokens, expected = torch.tensor([[rows.bos, 5, 6, rows.eos]]), 0.0
    for count in (1, 2, 3):
        masks = list(itertools.combinations((1, 2, 3), count))
        for mask in masks:
            noisy = tokens.clone()
            noisy[0, list(mask)] = rows.mask
            hidden = network.encode(noisy, network.hear(features, frames))
            logits = network.language_model.readout(hidden)[..., : rows.mask]
            log_probs = logits.log_softmax(-1)
            hit = sum(float(log_probs[0, k, tokens[0, k]].detach()) for k in mask)
            expected -= hit / count / len(masks)
    count = 1500
    inputs = (features.expand(count, -1, -1), frames.expand(count))
    targets = (torch.tensor([[5, 6]]).expand(count, -1), torch.tensor([2]).expand(count))
    with torch.no_grad():
        nats, _ = PromptedLoss()(network, *inputs, *targets, torch.Generator().manual_seed(0))
        full, read_out = PromptedLoss(fully_masked=1.0)(
            network, *inputs, *targets, torch.Generator().manual_seed(0)
        )
    assert abs(float(nats) / count - expected) < 0.03 * expected
    assert read_out == 3 * count
    assert float(full) > 0


@pytest.mark.parametrize("learn", ["projector", "whole", "low_rank"])
def test_what_is_asked_for_learns_and_nothing_else(speech, folder, learn):
    if learn == "low_rank":
        pytest.importorskip("peft")
    learner, batch = learner_of(speech, options_of(folder, learn=learn, rank=2))
    before = {name: w.detach().clone() for name, w in learner.network.named_parameters()}
    for step in range(2):
        learner.update(batch, step)
    changed = {
        name for name, w in learner.network.named_parameters() if not torch.equal(w, before[name])
    }
    assert not [name for name in changed if name.startswith("encoder.")]
    assert "projector.project.weight" in changed
    language = [name for name in changed if name.startswith("language_model.")]
    assert bool(language) == (learn != "projector")
    assert all(("lora_" in name) == (learn == "low_rank") for name in language)


def test_low_rank_runs_end_as_plain_models(speech, folder, tmp_path):
    pytest.importorskip("peft")
    model = train_dllm(speech, tmp_path, options_of(folder, learn="low_rank", rank=2), {})
    assert load_prompted(tmp_path).signature != ""
    assert not [name for name in model.network.state_dict() if "lora" in name]


@pytest.mark.parametrize("kind", ["mdlm", "ar"])
def test_a_killed_run_continues_to_the_same_weights(speech, folder, tmp_path, kind):
    options = options_of(folder, kind)
    whole = train_dllm(speech, tmp_path / "whole", options, {})
    with killed_after_saving():
        train_dllm(speech, tmp_path / "killed", options, {})
    resumed = train_dllm(speech, tmp_path / "killed", options, {})
    assert resumed.signature == whole.signature
    loaded = load_prompted(tmp_path / "whole")
    assert loaded.is_causal == (kind == "ar")
    assert loaded.card["training"]["steps"] == 8


def test_the_clock_ticks_about_once_a_token(speech, folder):
    """Symbols are counted for a vocabulary of letters, words for one of larger pieces."""
    symbols = read_symbols(speech.directory)
    training, _ = open_parts(speech, len(symbols), TINY.batch_seconds)
    pieces = train_tokenizer(TEXTS * 50, 13)
    network = Network(NetworkConfig(pieces.size + 1, 16, 1, 2, 24))
    save(Checkpoint(network, pieces, "mdlm", "masked"), folder / "pieces")
    letters = start_model(options_of(folder), symbols, training.corpus).network.config
    assert (letters.clock, letters.tokens_per_count) == ("symbols", 1.0)
    larger = start_model(options_of(folder, "pieces"), symbols, training.corpus).network.config
    words = sum(len(text.split()) for text in TEXTS)
    assert larger.clock == "words"
    assert larger.tokens_per_count == sum(map(len, pieces.encode(TEXTS))) / words


def test_few_greedy_paths_are_found_while_a_twin_trains(speech, folder, monkeypatch):
    monkeypatch.setattr(prompted, "_FEW_PATHS", 3)
    symbols = read_symbols(speech.directory)
    training, held_out = open_parts(speech, len(symbols), TINY.batch_seconds)
    for kind, few in (("ar", 3), ("mdlm", len(held_out))):
        options = options_of(folder, kind)
        model = start_model(options, symbols, training.corpus)
        learner, validator = dllm_learner(options, model), prompted._Validator(held_out, model)
        texts = corpus_texts(held_out, symbols)
        words = [len(text.split()) for text in texts]
        order = [row for rows in validator._batches for row in rows]
        quick, whole = validator.quick(learner), validator.whole(learner)
        assert whole.errors.reference_words == sum(words)
        assert quick.errors.reference_words == sum(words[row] for row in order[:few])
        assert (quick.nats, quick.tokens) == (whole.nats, whole.tokens)


def test_the_commands_train_both_stages(speech, folder, tmp_path):
    common = ["--corpus", str(speech.directory), "--float32", "--steps", "2", "--warmup", "1"]
    first = ["--start-from", str(folder / "ctc"), "--language-model", str(folder / "mdlm")]
    runner = CliRunner()
    for start, learn, name in (
        (first, "projector", "one"),
        (["--start-from", str(tmp_path / "one")], "whole", "two"),
    ):
        command = [*common, *start, "--learn", learn, "-o", str(tmp_path / name)]
        ran = runner.invoke(dllm_command, command)
        assert ran.exit_code == 0, ran.output
        use = f"decode AUDIO --method prior_guided --model {tmp_path / name} -o lists.jsonl"
        assert ran.output.endswith(f"use it: dlmrescore {use}\n")
    one, two = (load_prompted(tmp_path / name) for name in ("one", "two"))
    weights = [model.network.language_model.network.blocks[0].qkv.weight for model in (one, two)]
    assert not torch.equal(*weights)


def test_unusable_starts_are_refused(speech, folder, tmp_path):
    train_dllm(speech, tmp_path, options_of(folder, steps=1), {})
    again = replace(options_of(folder), start_from=str(tmp_path))
    with pytest.raises(ModelError, match="has its language model"):
        learner_of(speech, again)
    with pytest.raises(ModelError, match="--start-from is missing"):
        learner_of(speech, replace(TINY, language_model="mdlm"))
    with pytest.raises(ModelError, match="expected mdlm or ar"):
        learner_of(speech, replace(options_of(folder), language_model="usdm"))
