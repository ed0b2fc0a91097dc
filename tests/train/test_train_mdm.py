"""Training decoders that listen: the losses, what the audio does, and runs that resume."""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, replace

import pytest
import torch
from click.testing import CliRunner
from small import small_tokenizer
from small_runs import killed_after_saving
from small_speech import TINY_CTC, speech_options
from small_transcriber import small_transcriber

from rescore.acoustic.recogniser import load_recogniser, read_symbols
from rescore.acoustic.transcriber import load_transcriber
from rescore.cli.train_mdm import mdm_command
from rescore.errors import ModelError, TrainError
from rescore.models.checkpoint import Checkpoint, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.tokenizer import character_tokenizer
from rescore.train.ctc import train_ctc
from rescore.train.mdm import mdm_learner, train_mdm
from rescore.train.mdm_losses import CausalText, MaskedText, canvases
from rescore.train.options import MdmOptions
from rescore.train.speech_corpus import SpeechBatches, open_speech, prepared_speech

TINY = MdmOptions(
    steps=8,
    learning_rate=5e-3,
    warmup=2,
    width=16,
    layers=1,
    heads=2,
    feed_forward=24,
    bf16=False,
    batch_seconds=6.0,
    evaluate_every=4,
    save_every=4,
    dropout=0.0,
    margin=2,
)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return speech_options(tmp_path_factory.mktemp("speech"), speeds=(1.0,))


@pytest.fixture(scope="module")
def recogniser(speech, tmp_path_factory):
    directory = tmp_path_factory.mktemp("ctc")
    train_ctc(speech, directory, replace(TINY_CTC, steps=20, evaluate_every=20), {})
    return directory


def batch_of(speech):
    symbols = read_symbols(speech.directory)
    corpus = open_speech(speech.directory / "train", speech.bins, 1, len(symbols))
    batches = SpeechBatches(corpus, 100_000)
    [rows] = batches.plain()
    return batches.batch(rows)


# ------------------------------------------------------------------------------------ the losses


@pytest.fixture(scope="module")
def heard():
    network = small_transcriber().network.double()
    features = torch.randn(1, 50, 80, generator=torch.Generator().manual_seed(3)).double()
    return network, network.hear(features, torch.tensor([50])).memory


def test_the_masked_loss_averages_to_the_exact_nelbo(heard):
    network, memory = heard
    targets, sizes = torch.tensor([[2, 3]]), torch.tensor([2])
    tokens, _ = canvases(targets, sizes, torch.tensor([0]), network.rows)
    expected = 0.0
    for count in (1, 2, 3):
        masks = list(itertools.combinations((1, 2, 3), count))
        for mask in masks:
            noisy = tokens.clone()
            noisy[0, list(mask)] = network.rows.mask
            logits = network.decoder.readout(network.decoder.encode(noisy, memory))
            log_probs = logits[..., : network.rows.predicted].log_softmax(-1)
            hit = sum(float(log_probs[0, k, tokens[0, k]].detach()) for k in mask)
            expected -= hit / count / len(masks)
    count = 1500
    memories = memory.rows(torch.zeros(count, dtype=torch.int64))
    nats, read_out = MaskedText()(
        network,
        memories,
        targets.expand(count, -1),
        sizes.expand(count),
        torch.Generator().manual_seed(0),
    )
    assert abs(float(nats.detach()) / count - expected) < 0.03 * expected
    assert read_out == 2 * count  # the mean of 1, 2, 3


def test_the_causal_loss_is_minus_the_log_probability(heard):
    network, memory = heard
    tokens = [network.rows.bos, 2, 3, network.rows.eos]
    network = small_transcriber(causal=True).network.double()
    nats, _ = CausalText()(
        network, memory, torch.tensor([[2, 3]]), torch.tensor([2]), torch.Generator()
    )
    logits = network.decoder.readout(network.decoder.encode(torch.tensor([tokens]), memory))
    log_probs = logits[0, :, : network.rows.predicted].log_softmax(-1)
    total = sum(float(log_probs[k, tokens[k + 1]].detach()) for k in range(3))
    assert math.isclose(float(nats.detach()), -total, rel_tol=1e-9)


def test_canvases_are_padded_with_eos_and_then_with_padding():
    rows = small_transcriber().rows
    tokens, padding = canvases(
        torch.tensor([[2, 3], [2, 0]]), torch.tensor([2, 1]), torch.tensor([1, 0]), rows
    )
    assert tokens.tolist() == [
        [rows.bos, 2, 3, rows.eos, rows.eos],
        [rows.bos, 2, rows.eos, rows.padding, rows.padding],
    ]
    assert padding.tolist() == [[False] * 5, [False] * 3 + [True] * 2]
    assert len({rows.padding, rows.eos, rows.bos, rows.mask}) == 4


def test_the_gradient_through_the_prediction_changes_gradients_but_not_the_loss(heard):
    network, memory = heard
    values, gradients = [], []
    for how in ("argmax", "gradient"):
        network.zero_grad()
        nats, _ = MaskedText(self_correction=how)(
            network,
            memory.rows(torch.zeros(4, dtype=torch.int64)).without_audio(torch.zeros(4).bool()),
            torch.tensor([[2, 3]] * 4),
            torch.tensor([2] * 4),
            torch.Generator().manual_seed(1),
        )
        gradients.append(
            torch.autograd.grad(nats, network.decoder.embedding.weight, retain_graph=True)[0]
        )
        values.append(float(nats.detach()))
    assert math.isclose(*values, rel_tol=1e-9)
    assert not torch.allclose(*gradients)


# --------------------------------------------------------------------------------- what is learnt


def test_shuffled_audio_raises_the_loss(speech, recogniser):
    options = replace(
        TINY,
        steps=120,
        start_from=str(recogniser),
        audio_dropout=0.0,
        learning_rate=1e-2,
        self_correction="off",
    )
    learner = mdm_learner(options, read_symbols(speech.directory))
    batch = batch_of(speech)
    before = float(bound_of(learner, batch.inputs))
    for step in range(options.steps):
        learner.update(batch, step)
    features, frames, targets, sizes = batch.inputs
    order = torch.arange(len(frames)).roll(1)
    heard = float(bound_of(learner, batch.inputs))
    shuffled = float(bound_of(learner, (features[order], frames[order], targets, sizes)))
    assert heard < 0.6 * before
    assert shuffled > 1.3 * heard


@torch.no_grad()
def bound_of(learner, inputs):
    learner.network.eval()
    nats = sum(
        learner.bound(learner.network, *inputs, torch.Generator().manual_seed(seed))[0]
        for seed in range(8)
    )
    learner.network.train()
    return nats


@pytest.mark.parametrize("encoder", ["frozen", "warm", "fresh"])
def test_the_encoder_is_frozen_learns_on_or_is_drawn_anew(speech, recogniser, encoder):
    options = replace(TINY, encoder=encoder, start_from=str(recogniser))
    learner = mdm_learner(options, read_symbols(speech.directory))
    trained = load_recogniser(recogniser).network.state_dict()["head.weight"]
    first = learner.network.encoder.head.weight.detach().clone()
    assert torch.equal(first, trained) == (encoder != "fresh")
    learner.update(batch_of(speech), 0)
    assert torch.equal(learner.network.encoder.head.weight, first) == (encoder == "frozen")


def test_the_decoder_starts_with_the_blocks_of_a_text_model(speech, recogniser, tmp_path):
    tokenizer = small_tokenizer()
    text = Network(NetworkConfig(tokenizer.size + 1, 16, 1, 2, 24))
    save(Checkpoint(text, tokenizer, "mdlm", "masked"), tmp_path / "text")
    options = replace(TINY, start_from=str(recogniser), decoder_from=str(tmp_path / "text"))
    symbols = read_symbols(speech.directory)
    learner = mdm_learner(options, symbols)
    copied = learner.network.decoder.blocks[0].block.qkv.weight
    assert torch.equal(copied, text.blocks[0].qkv.weight)
    with pytest.raises(ModelError, match="width is 16, expected 32"):
        mdm_learner(replace(options, width=32), symbols)


def test_the_decoder_starts_with_the_embeddings_of_the_same_characters(
    speech, recogniser, tmp_path
):
    tokenizer = character_tokenizer("\u2581azb")  # z is no symbol of the recogniser
    text = Network(NetworkConfig(tokenizer.size + 1, 16, 1, 2, 24))
    save(Checkpoint(text, tokenizer, "mdlm", "masked"), tmp_path / "text")
    symbols = read_symbols(speech.directory)
    options = replace(TINY, start_from=str(recogniser), decoder_from=str(tmp_path / "text"))
    network = mdm_learner(options, symbols).network
    rows, source = network.decoder.embedding.weight, text.embedding.weight
    for symbol, piece in ((" ", "\u2581"), ("a", "a"), ("b", "b")):
        [token] = [k for k in range(tokenizer.size) if tokenizer.pieces([k]) == [piece]]
        assert torch.equal(rows[symbols.columns[symbol]], source[token])
    assert torch.equal(rows[network.rows.eos], source[tokenizer.eos_id])
    assert torch.equal(rows[network.rows.bos], source[tokenizer.bos_id])
    assert torch.equal(rows[network.rows.mask], source[tokenizer.size])


# --------------------------------------------------------------------------------------- runs


def test_a_killed_run_continues_to_the_same_weights(speech, recogniser, tmp_path):
    options = replace(TINY, start_from=str(recogniser), self_correction="sample", dropout=0.2)
    whole = train_mdm(speech, tmp_path / "whole", options, {})
    with killed_after_saving():
        train_mdm(speech, tmp_path / "killed", options, {})
    resumed = train_mdm(speech, tmp_path / "killed", options, {})
    assert resumed.signature == whole.signature
    loaded = load_transcriber(tmp_path / "whole")
    assert not loaded.is_causal
    assert loaded.card["training"]["steps"] == 8


def test_the_command_trains_both_kinds_and_a_last_stage(speech, recogniser, tmp_path):
    sizes = [
        "--width",
        "16",
        "--layers",
        "1",
        "--heads",
        "2",
        "--feed-forward",
        "24",
        "--steps",
        "2",
        "--warmup",
        "1",
    ]
    start = ["--corpus", str(speech.directory), "--start-from", str(recogniser), "--float32"]
    runner = CliRunner()
    for name, more in (("mdm", []), ("ar", ["--causal"])):
        ran = runner.invoke(mdm_command, [*start, *sizes, *more, "-o", str(tmp_path / name)])
        assert ran.exit_code == 0, ran.output
        assert load_transcriber(tmp_path / name).is_causal == (name == "ar")
        assert ran.output.splitlines()[-1] == (
            f"use it: dlmrescore decode AUDIO --method mdm --model {tmp_path / name} -o lists.jsonl"
        )
        log = (tmp_path / name / "log.csv").read_text().splitlines()
        assert [line.split(",")[0] for line in log[1:]] == ["1", "2"]
    last = ["--corpus", str(speech.directory), "--start-from", str(tmp_path / "mdm"), "--float32"]
    last += ["--lowest-mask", "0.7", "--steps", "1", "-o", str(tmp_path / "last")]
    ran = runner.invoke(mdm_command, last)
    assert ran.exit_code == 0, ran.output
    assert load_transcriber(tmp_path / "last").network.decoder.config.width == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--causal", "--self-correction=off"], "--self-correction is not read with --causal"),
        (["--causal", "--margin=3"], "--margin is not read with --causal"),
        (["--encoder=frozen", "--ctc-weight=0.1"], "--ctc-weight is not read with --encoder froz"),
        (["--state-draws=2"], "--state-draws needs --encoder frozen, got warm"),
    ],
)
def test_options_that_nothing_reads_are_refused(options, message, speech, recogniser, tmp_path):
    start = [f"--corpus={speech.directory}", f"--start-from={recogniser}", "-o", str(tmp_path)]
    ran = CliRunner().invoke(mdm_command, [*start, *options])
    assert ran.exit_code == 2
    assert message in ran.output


def test_what_was_prepared_is_read_back(speech, tmp_path):
    assert prepared_speech(speech.directory) == speech
    with pytest.raises(TrainError, match="no prepared speech"):
        prepared_speech(tmp_path)


def test_symbols_of_another_corpus_are_refused(recogniser):
    other = small_transcriber().symbols
    other = replace(other, pieces=(*other.pieces, "c"))
    with pytest.raises(ModelError, match="its symbols are not those of the corpus"):
        mdm_learner(replace(TINY, start_from=str(recogniser)), other)


def test_options_are_plain_data():
    assert asdict(TINY)["self_correction"] == "argmax"
