"""The trainer: it learns, it resumes to the same bits, its losses are the likelihoods of rescore.diffusion, and bad text is named."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from small import LINES, small_checkpoint, small_tokenizer

from rescore.diffusion import masked, uniform
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ModelError, RescoreError, TrainError
from rescore.models.adapters import NetworkCausalLM, NetworkDenoiser
from rescore.models.checkpoint import PREDICTIONS, Checkpoint, load, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.tokenizer import read_tokenizer
from rescore.scorers import Vocabulary
from rescore.scorers.ar import log_prob
from rescore.scorers.sequences import Sequencer
from rescore.text import identity
from rescore.train import objectives, trainer
from rescore.train.corpus import (
    Corpus,
    batches,
    collate,
    encode_corpus,
    joined,
    open_corpus,
    read_text,
)
from rescore.train.optimizers import Average, Optimizers, schedule
from rescore.train.speed import matmul_peak, step_flops
from rescore.train.trainer import TrainOptions, prepare, train
from rescore.types import Hypothesis, NBest

TINY = TrainOptions(
    "mdlm",
    steps=12,
    batch_tokens=256,
    learning_rate=5e-3,
    warmup=3,
    width=16,
    layers=1,
    heads=2,
    feed_forward=24,
    bf16=False,
    evaluate_every=4,
    save_every=4,
)
OBJECTIVES = ["mdlm", "usdm", "ar"]
TEXT = "\n".join(LINES)


def prepared(directory, *, text=TEXT, valid=TEXT, join=0.0, **options):
    """A corpus of these texts; returns its directory."""
    directory.mkdir(exist_ok=True)
    (directory / "text.txt").write_text(text)
    (directory / "valid.txt").write_text(valid)
    settings = {
        "vocab_size": 64,
        "tokenizer_path": None,
        "seed": 0,
        "normalize": "librispeech",
        **options,
    }
    prepare(
        [directory / "text.txt"],
        [directory / "valid.txt"],
        directory / "corpus",
        join=join,
        **settings,
    )
    return directory / "corpus"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("text"))


def log_of(directory):
    """The log without its last two columns, the speeds."""
    with (directory / "log.csv").open(newline="") as file:
        return [row[:-2] for row in csv.reader(file)]


def read_corpus(lines, directory):
    return encode_corpus(iter(lines), small_tokenizer(), directory)


# ---------------------------------------------------------------------------------------------------------------------------------- learning


@pytest.mark.parametrize(("objective", "share"), [("mdlm", 0.8), ("usdm", 0.93), ("ar", 0.2)])
def test_each_objective_lowers_its_validation_loss(objective, share, tmp_path):
    corpus = prepared(tmp_path / "text", text=TEXT * 8, valid=TEXT * 4)
    options = replace(
        TINY,
        objective=objective,
        steps=150,
        batch_tokens=512,
        warmup=20,
        width=64,
        feed_forward=128,
        evaluate_every=50,
        save_every=150,
    )
    parts = [open_corpus(corpus / part, small_tokenizer()) for part in ("train", "valid")]
    before = (
        trainer._Run(options, small_tokenizer(), *parts, tmp_path)
        .validate(whole=True)
        .nats_per_token
    )
    after = train(corpus, tmp_path, options, {}).card["training"]["valid_nats_per_token"]
    assert before == pytest.approx(
        math.log(64), rel=0.3 if objective == "usdm" else 0.02
    )  # knows nothing; few draws of a uniform bound are rough
    assert after < share * before
    assert float(log_of(tmp_path)[-1][3]) == pytest.approx(
        after, abs=1e-4
    )  # few enough batches that the last look sees them all


def test_bfloat16_learns_too(corpus, tmp_path):
    checkpoint = train(corpus, tmp_path, replace(TINY, bf16=True, steps=20, learning_rate=1e-2), {})
    assert checkpoint.card["training"]["valid_nats_per_token"] < math.log(64)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_checkpoint_is_fp16_on_disk_and_loads(objective, corpus, tmp_path):
    made = train(
        corpus, tmp_path, replace(TINY, objective=objective, steps=2), {"text": "six sentences"}
    )
    with safetensors.safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118 - no mapping
    loaded = load(tmp_path, objective)
    for name, weight in made.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], weight.half().float()), name
    assert (loaded.objective, loaded.normalizer, loaded.card["text"]) == (
        objective,
        "librispeech",
        "six sentences",
    )
    assert loaded.network.config.causal == (objective == "ar")
    assert loaded.network.config.time_input == (objective == "usdm")
    assert json.loads((tmp_path / "config.json").read_text())["card"]["training"]["steps"] == 2


# ---------------------------------------------------------------------------------------------------------------------------------- resuming


class Killed(BaseException):
    """Not an Exception: nothing may catch it on the way out."""


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    train(corpus, directory, TINY, {})
    return directory


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("_update", 2),  # before anything was saved
        ("_update", 7),  # between two saves
        ("_save", 2),  # after the log has the line of a state that is not saved
        ("_save", 3),  # after the last step
    ],
)
def test_a_killed_and_resumed_run_ends_with_the_same_bits_and_log(
    method, call, corpus, uninterrupted, tmp_path, monkeypatch
):
    calls, whole = [], getattr(trainer._Run, method)

    def killed(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return whole(*arguments)

    monkeypatch.setattr(trainer._Run, method, killed)
    with pytest.raises(Killed):
        train(corpus, tmp_path, TINY, {})
    monkeypatch.undo()
    assert not (tmp_path / "config.json").exists()
    train(corpus, tmp_path, TINY, {})
    assert (tmp_path / "model.safetensors").read_bytes() == (
        uninterrupted / "model.safetensors"
    ).read_bytes()
    assert (tmp_path / "config.json").read_bytes() == (uninterrupted / "config.json").read_bytes()
    assert log_of(tmp_path) == log_of(uninterrupted)
    assert [row[0] for row in log_of(tmp_path)] == ["step", "4", "8", "12"]


def test_a_log_line_cut_off_by_a_crash_is_written_again(corpus, uninterrupted, tmp_path):
    train(corpus, tmp_path, TINY, {})
    log = (tmp_path / "log.csv").read_bytes()
    (tmp_path / "log.csv").write_bytes(log + b"1")
    train(corpus, tmp_path, TINY, {})
    assert (tmp_path / "log.csv").read_bytes() == log


def test_a_finished_run_is_finished(corpus, uninterrupted, tmp_path, monkeypatch):
    before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
    monkeypatch.setattr(trainer._Run, "_update", lambda *_: pytest.fail("a step was done"))
    train(corpus, uninterrupted, TINY, {})
    assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before


def test_epochs_go_on_after_a_resume_where_they_were(corpus, tmp_path):
    tokenizer = small_tokenizer()
    parts = [open_corpus(corpus / part, tokenizer) for part in ("train", "valid")]
    run = trainer._Run(TINY, tokenizer, *parts, tmp_path)

    def following(step, count):
        run.step, found = step, []
        for rows in run._batches():
            found.append(rows.tolist())
            run.step += 1
            if len(found) == count:
                break
        return found

    whole = following(0, 12)
    assert (
        len(batches(parts[0], tokenizer, TINY.batch_tokens, 0)) < 5
    )  # so the run has several epochs
    for step in range(12):
        assert following(step, 12 - step) == whole[step:]


def test_every_step_has_noise_of_its_own(corpus, tmp_path, monkeypatch):
    seeds, loss = [], objectives.mdlm_loss

    def spied(network, tokens, padding, generator):
        seeds.append(generator.initial_seed())
        return loss(network, tokens, padding, generator)

    monkeypatch.setattr(trainer, "loss_of", lambda *_: (spied, loss))
    train(corpus, tmp_path, replace(TINY, evaluate_every=100, seed=3), {})
    assert len(set(seeds[:12])) == 12


@pytest.mark.parametrize(
    "change", [{"learning_rate": 1e-3}, {"seed": 1}, {"optimizer": "muon"}, {"steps": 20}]
)
def test_other_options_for_the_same_directory_are_refused_in_one_line(
    change, corpus, uninterrupted
):
    before = {path.name: path.read_bytes() for path in uninterrupted.iterdir()}
    with pytest.raises(
        TrainError,
        match=rf"state\.pt: the run was started with other options \({next(iter(change))}\)",
    ) as caught:
        train(corpus, uninterrupted, replace(TINY, **change), {})
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in uninterrupted.iterdir()} == before


def test_an_exploding_loss_stops_the_run(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(
        trainer,
        "loss_of",
        lambda *_: [lambda *_: (torch.tensor(math.nan, requires_grad=True), 1)] * 2,
    )
    with pytest.raises(TrainError, match=r"the loss is nan at step 0; .* --learning-rate"):
        train(corpus, tmp_path, TINY, {})


def test_a_run_whose_learning_rate_has_not_begun_to_fall_may_end_at_another_step(
    corpus, tmp_path, monkeypatch
):
    whole = trainer._Run._save

    def killed(run):
        whole(run)
        raise Killed

    options = replace(TINY, steps=40, decay=0.5)
    monkeypatch.setattr(trainer._Run, "_save", killed)
    with pytest.raises(Killed):
        train(
            corpus, tmp_path / "changed", options, {}
        )  # saved at step 4; the rate would fall from step 20 on
    monkeypatch.undo()
    train(corpus, tmp_path / "changed", replace(options, steps=12), {})
    train(corpus, tmp_path / "straight", replace(options, steps=12), {})
    assert (tmp_path / "changed" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()
    with pytest.raises(TrainError, match=r"started with other options \(steps\)"):  # now it has
        train(corpus, tmp_path / "changed", options, {})


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_muon_learns_and_resumes_to_the_same_bits(corpus, tmp_path, monkeypatch):
    options, whole = replace(TINY, optimizer="muon"), trainer._Run._save
    finished = train(corpus, tmp_path / "whole", options, {})
    assert finished.card["training"]["valid_nats_per_token"] < math.log(64)

    def killed(run):
        whole(run)
        raise Killed

    monkeypatch.setattr(trainer._Run, "_save", killed)
    with pytest.raises(Killed):
        train(corpus, tmp_path / "parts", options, {})
    monkeypatch.undo()
    train(corpus, tmp_path / "parts", options, {})
    assert (tmp_path / "parts" / "model.safetensors").read_bytes() == (
        tmp_path / "whole" / "model.safetensors"
    ).read_bytes()


def test_without_muon_one_line_says_so(corpus, tmp_path, monkeypatch):
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(TrainError, match="has no Muon optimiser; use --optimizer adamw"):
        train(corpus, tmp_path, replace(TINY, optimizer="muon"), {})


def test_muon_moves_the_matrices_inside_the_blocks_and_adamw_the_rest(corpus, tmp_path):
    network = opinionated(7, time_input=True)
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    adamw, muon = Optimizers(network, "muon", 1e-3, 0.1)._parts
    moved = {id(p) for group in muon.param_groups for p in group["params"]}
    assert {name for name, p in network.named_parameters() if id(p) in moved} == {
        name for name, p in network.named_parameters() if p.ndim == 2 and name.startswith("blocks.")
    }
    rest = {id(p) for group in adamw.param_groups for p in group["params"]}
    assert moved | rest == {id(p) for p in network.parameters()}
    assert not moved & rest


@pytest.mark.parametrize(
    ("step", "share"),
    [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 1.0), (61, 39 / 40), (80, 0.5), (99, 1 / 40)],
)  # 100 steps: 10 rising, the last 40 falling
def test_the_learning_rate_rises_stays_and_falls(step, share):
    assert schedule(step, 100, 10, 0.4) == pytest.approx(share)


def test_the_average_is_the_weighted_mean_of_all_weights():
    weight = torch.zeros(3)
    average = Average([weight], 0.75)
    expected, kept = torch.zeros(3), [min(0.75, (1 + n) / (10 + n)) for n in range(40)]
    for share in kept:
        weight.add_(torch.tensor([1.0, 2.0, -1.0]))
        expected = share * expected + (1 - share) * weight
        average.update()
    assert torch.allclose(average.values[0], expected, rtol=1e-6)
    assert kept[0] == 0.1  # the first weights, those before training, are forgotten soon
    assert kept[-1] == 0.75
    current = weight.clone()
    average.swap()
    assert torch.allclose(weight, expected, rtol=1e-6)
    assert torch.equal(average.values[0], current)


def test_the_saved_weights_are_the_averaged_ones(corpus, tmp_path):
    train(corpus, tmp_path / "averaged", replace(TINY, average=0.9), {})
    state = torch.load(tmp_path / "averaged" / "state.pt", weights_only=True)
    saved = load(tmp_path / "averaged").network.state_dict()
    names = [name for name, _ in load(tmp_path / "averaged").network.named_parameters()]
    for name, value in zip(names, state["average"], strict=True):
        assert torch.equal(saved[name], value.half().float())
    assert not torch.equal(
        saved["blocks.0.qkv.weight"], state["network"]["blocks.0.qkv.weight"].half().float()
    )


_FULL = """
import resource, signal, sys
from pathlib import Path
from rescore.train.trainer import TrainOptions, train
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
corpus, run = Path(sys.argv[1]), Path(sys.argv[2])
options = TrainOptions("ar", steps=8, batch_tokens=256, width=16, layers=1, heads=2, feed_forward=24, bf16=False, evaluate_every=4, save_every=4)
from rescore.train import trainer
save, calls = trainer._Run._save, []
def limited(run):
    calls.append(1)
    if len(calls) == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # as on a full disk: writing fails
    save(run)
trainer._Run._save = limited
train(corpus, run, options, {})
"""


def test_a_full_disk_is_one_line_and_the_last_state_stays(corpus, tmp_path):
    script = tmp_path / "full.py"
    script.write_text(_FULL)
    done = subprocess.run(
        [sys.executable, script, corpus, tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "run: cannot be written (" in last, last
    assert last.startswith("rescore.errors.TrainError: ")
    assert last.endswith("free some space and run this again, it goes on from the last state")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.csv", "state.pt"]
    assert (
        json.loads(torch.load(tmp_path / "run" / "state.pt", weights_only=True)["run"])["step"] == 4
    )
    options = replace(TINY, objective="ar", steps=8, learning_rate=2e-3, warmup=150)
    train(corpus, tmp_path / "run", options, {})
    train(corpus, tmp_path / "straight", options, {})
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        tmp_path / "straight" / "model.safetensors"
    ).read_bytes()


def test_validation_counts_every_scored_token_and_word_once(tmp_path):
    lines = LINES[:7]
    corpus, tokenizer = prepared(tmp_path, valid="\n".join(lines)), small_tokenizer()
    parts = [
        open_corpus(corpus / part, read_tokenizer(corpus / "tokenizer.model"))
        for part in ("train", "valid")
    ]
    found = trainer._Run(
        replace(TINY, objective="ar"), read_tokenizer(corpus / "tokenizer.model"), *parts, tmp_path
    ).validate(whole=True)
    assert found.words == sum(len(line.split()) for line in lines)
    assert found.tokens == sum(
        len(tokens) + 1 for tokens in read_tokenizer(corpus / "tokenizer.model").encode(lines)
    )
    assert found.nats_per_token == pytest.approx(found.nats / found.tokens)
    assert found.perplexity_per_word == pytest.approx(math.exp(found.nats / found.words))
    assert tokenizer.size == 64


def test_a_posterior_network_is_trained_by_cross_entropy_and_validated_by_its_bound(
    corpus, tmp_path
):
    options = replace(TINY, objective="usdm", prediction="posterior")
    made = train(corpus, tmp_path, options, {})
    assert (made.prediction, load(tmp_path).prediction) == ("posterior", "posterior")
    with pytest.raises(
        TrainError, match="objective mdlm cannot predict 'posterior'; choose from masked"
    ):
        train(corpus, tmp_path / "other", replace(TINY, prediction="posterior"), {})


def test_the_posterior_bound_equals_the_leave_one_out_bound_of_the_same_model(monkeypatch):
    network, (tokens, padding, _), moved = (
        opinionated(6, time_input=True),
        batch(6),
        objectives._moved,
    )

    def as_posterior(*arguments):
        """The same model as posterior: p(v | z) is proportional to p(v | z without z_i) q(z_i | v)."""
        u, t, noisy, where, logits = moved(*arguments)
        z, level = noisy.flatten()[where], t[:, None].expand_as(tokens).flatten()[where]
        return (
            u,
            t,
            noisy,
            where,
            logits.scatter_add(-1, z[:, None], torch.log1p(6 * (1 - level) / level)[:, None]),
        )

    for seed in range(5):
        expected, read_out = objectives.usdm_loss(
            network, tokens, padding, torch.Generator().manual_seed(seed)
        )
        with monkeypatch.context() as patch:
            patch.setattr(objectives, "_moved", as_posterior)
            found = objectives.posterior_nelbo(
                network, tokens, padding, torch.Generator().manual_seed(seed)
            )
        assert float(found[0].detach()) == pytest.approx(float(expected.detach()), rel=2e-4)
        assert found[1] == read_out == sum(LENGTHS)


def test_the_posterior_loss_is_cross_entropy_over_all_scored_tokens():
    network = opinionated(6, time_input=True)
    tokens, padding, _ = batch(6)
    loss, read_out = objectives.posterior_loss(
        network, tokens, padding, torch.Generator().manual_seed(1)
    )
    u, t, noisy, where, logits = objectives._moved(
        network, tokens, padding, torch.Generator().manual_seed(1)
    )
    clean = tokens.flatten()[where]
    expected = -logits.detach().log_softmax(-1)[torch.arange(len(clean)), clean].sum()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert read_out == sum(LENGTHS) == len(where)
    assert torch.allclose(t, u**2)
    assert ((noisy != tokens).flatten().nonzero().squeeze(1)[:, None] == where[None]).any(1).all()


def test_flops_are_those_of_the_matrix_products():
    network = opinionated(7)
    weights = sum(
        p.numel()
        for name, p in network.named_parameters()
        if p.ndim == 2 and name.startswith("blocks.")
    )
    attention = 2 * 10 * 16  # queries x keys and weights x values, ten keys each
    assert step_flops(network, 3, 10, 5) == 6 * (30 * (weights + attention) + 5 * 16 * 7)
    assert 1e8 < matmul_peak("cpu", torch.float32, 0.01) < 1e14


# ------------------------------------------------------------------------------------------------------------------- starting from a checkpoint


def small_start(directory, objective="mdlm", tokenizer=None, **sizes):
    made = small_checkpoint(objective)
    config = replace(
        made.network.config, **{"width": 16, "layers": 1, "heads": 2, "feed_forward": 24, **sizes}
    )
    tokenizer = tokenizer or made.tokenizer
    config = replace(config, vocab_size=tokenizer.size + (objective == "mdlm"))
    save(Checkpoint(Network(config), tokenizer, objective, made.prediction), directory)
    return str(directory)


@pytest.mark.parametrize(
    ("start", "objective"), [("mdlm", "usdm"), ("usdm", "mdlm"), ("ar", "mdlm")]
)
def test_start_from_copies_every_shared_weight(start, objective, corpus, tmp_path):
    options = replace(TINY, objective=objective)
    fresh = trainer.build_network(options, small_tokenizer()).state_dict()
    network = trainer.build_network(options, small_tokenizer())
    other = load(trainer.Path(small_start(tmp_path, start))).network.state_dict()
    trainer.start_from(network, tmp_path, small_tokenizer())
    found = network.state_dict()
    rows = 64  # a mask symbol's row stays out of the others' way
    assert torch.equal(found.pop("embedding.weight")[:rows], other["embedding.weight"][:rows])
    for name, weight in found.items():
        expected = other[name] if name in other else fresh[name]
        assert torch.equal(weight, expected), name
    assert any("modulation" in name for name in found) == (objective == "usdm")


def test_a_run_starts_with_the_copied_weights(corpus, tmp_path):
    start = small_start(tmp_path / "start")
    copied = train(
        corpus,
        tmp_path / "run",
        replace(TINY, objective="usdm", start_from=start, steps=1, learning_rate=1e-12),
        {},
    )
    name = "blocks.0.qkv.weight"
    assert torch.allclose(
        copied.network.state_dict()[name],
        load(tmp_path / "start").network.state_dict()[name],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    ("size", "value"), [("width", 32), ("layers", 2), ("heads", 1), ("feed_forward", 48)]
)
def test_start_from_refuses_other_sizes(size, value, corpus, tmp_path):
    start = small_start(tmp_path / "start", **{size: value})
    with pytest.raises(
        ModelError,
        match=f"start: its {size} is {value}, expected {getattr(TINY, size)}; start from a model of the same size",
    ):
        train(corpus, tmp_path / "run", replace(TINY, objective="usdm", start_from=start), {})


def test_start_from_refuses_another_vocabulary(corpus, tmp_path):
    other = trainer.train_tokenizer([line[::-1] for line in LINES], 64)
    start = small_start(tmp_path / "start", tokenizer=other)
    with pytest.raises(ModelError, match="its vocabulary is not the corpus's"):
        train(corpus, tmp_path / "run", replace(TINY, start_from=start), {})


# ------------------------------------------------------------------------------------------------------------------------------------ losses

LENGTHS = [3, 4, 2]  # scored tokens; the batch is padded


def batch(vocab, lengths=LENGTHS, copies=1):
    """Random sentences: tokens (B, L) with BOS first, padding (B, L), and the sentences alone."""
    rng = np.random.default_rng(0)
    sentences = [
        np.concatenate([[2], rng.integers(vocab, size=length)]) for length in lengths
    ] * copies
    padded = np.zeros((len(sentences), 1 + max(lengths)), dtype=np.int64)
    padding = np.ones(padded.shape, dtype=bool)
    for row, sentence in enumerate(sentences):
        padded[row, : len(sentence)], padding[row, : len(sentence)] = sentence, False
    return torch.from_numpy(padded), torch.from_numpy(padding), sentences


def opinionated(vocab, *, causal=False, time_input=False):
    torch.manual_seed(0)
    network = Network(NetworkConfig(vocab, 16, 1, 2, 24, causal, time_input))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return network.eval()


class Table:
    """A network as a denoiser, without the tokenizer a checkpoint needs."""

    def __init__(self, network, mask_id, prediction):
        self.network, self.mask_id, self.prediction = network, mask_id, prediction
        self.vocab_size = network.config.vocab_size

    def log_probs(self, noisy, noise, padding):
        logits = self.network(noisy, noise.float(), padding)
        if self.mask_id is not None:
            logits[..., self.mask_id] = -torch.inf
        return logits.log_softmax(-1)


@torch.no_grad()
def mean_of(loss, network, tokens, padding, count):
    """(mean, standard error) of a loss over generators."""
    values = np.array(
        [
            float(loss(network, tokens, padding, torch.Generator().manual_seed(seed))[0])
            for seed in range(count)
        ]
    )
    return values.mean(), values.std(ddof=1) / math.sqrt(count)


def test_the_ar_loss_is_minus_the_score():
    checkpoint = small_checkpoint("ar")
    nbest = NBest(
        "a",
        tuple(
            Hypothesis(text)
            for text in ("the old house", "", "no light in the window when they came")
        ),
    )
    sequences = [
        window
        for windows in Sequencer(Vocabulary(checkpoint.tokenizer, identity, 128))(nbest)
        for window in windows
    ]
    expected = -log_prob(NetworkCausalLM(checkpoint), sequences).sum()
    rows = np.arange(3)
    offsets = np.cumsum([0, *(len(s.tokens) - 2 for s in sequences)])
    corpus = Corpus(np.concatenate([s.tokens[1:-1] for s in sequences]), offsets, 0)
    loss, read_out = objectives.ar_loss(
        checkpoint.network, *collate(corpus, rows, checkpoint.tokenizer), torch.Generator()
    )
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert read_out == sum(int(s.scored.sum()) for s in sequences)


def after_bos(sentence):
    """Everything is scored but BOS, which stays outside the diffusion."""
    scored = np.arange(len(sentence)) > 0
    return scored_sequence(sentence, scored, fixed=~scored)


@pytest.mark.parametrize("time_input", [False, True])
def test_the_mdlm_loss_averages_to_the_exact_nelbo(time_input):
    network = opinionated(7, time_input=time_input)
    denoiser = Table(network, 6, "masked")
    tokens, padding, sentences = batch(6)
    with torch.no_grad():
        exact = sum(
            masked.nelbo_exact(denoiser, after_bos(sentence)).value for sentence in sentences
        )
    tokens, padding, _ = batch(6, copies=8)
    mean, error = mean_of(objectives.mdlm_loss, network, tokens, padding, 300)
    assert abs(mean / 8 - exact) < 4 * error / 8
    assert error / 8 < 0.02 * exact


def test_the_usdm_loss_averages_to_the_uniform_nelbo(monkeypatch):
    monkeypatch.setattr(objectives, "EPS", 1e-6)  # scoring has none
    network = opinionated(6, time_input=True)
    denoiser = Table(network, None, "leave_one_out")
    tokens, padding, sentences = batch(6)
    found = [uniform.nelbo(denoiser, after_bos(sentence), draws=8192) for sentence in sentences]
    expected, spread = (
        sum(one.value for one in found),
        math.sqrt(sum(one.std_error**2 for one in found)),
    )
    tokens, padding, _ = batch(6, copies=32)
    mean, error = mean_of(objectives.usdm_loss, network, tokens, padding, 300)
    assert abs(mean / 32 - expected) < 4 * math.hypot(error / 32, spread)
    assert math.hypot(error / 32, spread) < 0.02 * expected


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_and_company_change_no_loss_on_average_and_bos_is_never_scored(objective):
    network = opinionated(7, causal=objective == "ar", time_input=objective == "usdm")
    loss = objectives.loss_of(objective, PREDICTIONS[objective][0])[0]
    tokens, padding, sentences = batch(6, copies=16)
    together, error = mean_of(loss, network, tokens, padding, 60)
    garbage = tokens.masked_fill(padding, 5)
    assert mean_of(loss, network, garbage, padding, 60)[0] == pytest.approx(together, rel=1e-5)
    alone = [
        mean_of(
            loss,
            network,
            torch.from_numpy(np.tile(s, (16, 1))),
            torch.zeros(16, len(s), dtype=torch.bool),
            60,
        )
        for s in sentences[:3]
    ]
    difference = math.hypot(error, *(one[1] for one in alone))
    assert abs(together - sum(one[0] for one in alone)) < 4 * difference + 1e-4 * together
    if objective == "mdlm":  # one token: it is hidden, always
        single = torch.tensor([[2, 4]])
        values = {
            float(
                loss(network, single, single < 0, torch.Generator().manual_seed(seed))[0].detach()
            )
            for seed in range(5)
        }
        assert len(values) == 1


@pytest.mark.parametrize("objective", ["mdlm", "usdm"])
def test_bos_is_never_noised_and_everything_else_is_somewhere(objective, monkeypatch):
    network = opinionated(7, time_input=objective == "usdm")
    tokens, padding, _ = batch(6, copies=16)
    changed, encode = torch.zeros(tokens.shape[1]), network.encode

    def spied(noisy, noise, mask):
        changed.add_(((noisy != tokens) & ~mask).sum(0))
        return encode(noisy, noise, mask)

    monkeypatch.setattr(network, "encode", spied)
    for seed in range(10):
        objectives.loss_of(objective, PREDICTIONS[objective][0])[0](
            network, tokens, padding, torch.Generator().manual_seed(seed)
        )
    assert changed[0] == 0
    assert (changed[1:] > 20).all()


def test_a_batch_covers_the_noise_levels_evenly():
    for seed in range(20):
        levels = objectives._even(16, torch.Generator().manual_seed(seed))
        assert sorted((levels * 16).long().tolist()) == list(range(16))


# ------------------------------------------------------------------------------------------------------------------------------ text and batches


@pytest.mark.parametrize("budget", [40, 64, 101, 400])
def test_an_epoch_has_each_sentence_once_within_the_budget(budget, tmp_path):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(LINES[0].split(), size=rng.integers(1, 9))) for _ in range(300)]
    corpus, tokenizer = read_corpus(lines, tmp_path), small_tokenizer()
    assert corpus.lengths.max() <= 40
    for seed in range(3):
        epoch = batches(corpus, tokenizer, budget, seed)
        assert sorted(np.concatenate(epoch).tolist()) == list(range(300))
        sizes = [collate(corpus, rows, tokenizer)[0].numel() for rows in epoch]
        assert max(sizes) <= budget
    assert (
        sum(sizes) < 1.25 * corpus.lengths.sum()
    )  # sentences of nearly equal length: little padding
    assert [rows.tolist() for rows in batches(corpus, tokenizer, budget, 0)] != [
        rows.tolist() for rows in epoch
    ]


def test_a_sentence_beyond_the_budget_is_a_batch_of_its_own(tmp_path):
    corpus = read_corpus(["the old house", " ".join(LINES[:3]), "no light"], tmp_path)
    epoch = batches(corpus, small_tokenizer(), 32, 0)
    assert sorted(map(tuple, epoch)) in ([(0,), (1,), (2,)], [(0, 2), (1,)], [(1,), (2, 0)])


def test_a_collated_batch_is_the_sentences_between_bos_and_eos(tmp_path):
    tokenizer = small_tokenizer()
    corpus = read_corpus(LINES[:4], tmp_path)
    tokens, padding = collate(corpus, np.array([2, 0]), tokenizer)
    for row, line in zip(range(2), (LINES[2], LINES[0]), strict=True):
        kept = tokens[row][~padding[row]].tolist()
        assert kept == [tokenizer.bos_id, *tokenizer.encode([line])[0], tokenizer.eos_id]
    assert set(tokens[padding].tolist()) <= {tokenizer.pad_id}
    assert corpus.words == sum(len(line.split()) for line in LINES[:4])


def test_a_corpus_tokenised_in_chunks_is_the_same(tmp_path):
    whole = read_corpus(LINES, tmp_path / "a")
    pieces = encode_corpus(iter(LINES), small_tokenizer(), tmp_path / "b", chunk=4)
    assert np.array_equal(whole.tokens, pieces.tokens)
    assert np.array_equal(whole.offsets, pieces.offsets)


def test_empty_lines_hold_nothing_and_every_word_is_kept(tmp_path):
    (tmp_path / "text").write_bytes(b"\nThe old house.\r\n\n   \n...\nno light\n")
    assert list(read_text([tmp_path / "text"], trainer.normalizer("librispeech"))) == [
        "the old house",
        "no light",
    ]


@pytest.mark.parametrize("join", [0.0, 0.5, 1.0])
def test_joined_lines_keep_every_word_in_order_and_are_cut_at_60(join):
    lines = [
        " ".join(f"{line}_{word}" for word in range(count))
        for line, count in enumerate([3, 60, 61, 1, 150, 10, 50, 11, 120])
    ]
    found = list(joined(lines, join, seed=0))
    assert " ".join(found).split() == " ".join(lines).split()
    assert max(len(text.split()) for text in found) <= 60
    assert list(joined(lines, join, seed=0)) == found
    short = [f"word_{i}" for i in range(200)]
    count = len(list(joined(short, join, seed=0)))
    assert count == 200 if join == 0 else 80 < count < 120 if join == 0.5 else count == 4


def test_a_line_of_one_endless_word_is_cut_and_trained_on(tmp_path):
    corpus = prepared(tmp_path, text=TEXT + "\n" + "tonight" * 800 + "\n\n" + "\n".join(LINES))
    opened = open_corpus(corpus / "train", read_tokenizer(corpus / "tokenizer.model"))
    assert opened.lengths.max() == 258  # with BOS and EOS
    train(corpus, tmp_path / "run", replace(TINY, steps=30), {})
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("objective", "message"),
    [("ar", "a checkpoint of objective mdlm here, expected ar"), ("mdlm", "no run to go on with")],
)
def test_a_directory_that_holds_a_checkpoint_is_not_written_over(
    objective, message, corpus, tmp_path
):
    small_start(tmp_path / "made")
    before = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    with pytest.raises(TrainError, match=message):
        train(corpus, tmp_path / "made", replace(TINY, objective=objective), {})
    assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == before


def test_a_corpus_smaller_than_a_batch_is_refused(corpus, tmp_path):
    with pytest.raises(
        TrainError,
        match=r"the corpus has \d+ tokens, fewer than one batch of 100000; give more text or smaller batches",
    ):
        train(corpus, tmp_path, replace(TINY, batch_tokens=100_000), {})


@pytest.mark.parametrize("given", [True, False])
def test_text_that_is_not_utf_8_is_named_with_its_line(given, tmp_path):
    (tmp_path / "given.model").write_bytes(small_tokenizer().serialized)
    (tmp_path / "books.txt").write_bytes("fine\nalso fine\nd\u00e9j\u00e0 vu\n".encode("latin-1"))
    vocabulary = tmp_path / "given.model" if given else None
    with pytest.raises(
        TrainError, match=r"books\.txt:3: not UTF-8 \(.* at byte 1\); convert the text to UTF-8$"
    ):
        prepare(
            [tmp_path / "books.txt"],
            [],
            tmp_path / "corpus",
            vocab_size=64,
            tokenizer_path=vocabulary,
            join=0,
            seed=0,
            normalize="none",
        )
    assert not (tmp_path / "corpus" / "ready.json").exists()


def test_a_missing_text_is_named(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    for paths in (["gone.txt"], ["text.txt", "gone.txt"]):
        with pytest.raises(
            TrainError,
            match=r"gone\.txt: cannot read the training text \(No such file or directory\)",
        ):
            prepare(
                [tmp_path / path for path in paths],
                [],
                tmp_path / "corpus",
                vocab_size=64,
                tokenizer_path=None,
                join=0,
                seed=0,
                normalize="none",
            )


def test_an_interrupted_vocabulary_is_an_interruption(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr(
        trainer, "read_text", lambda *_: (line or interrupted(line) for line in [*LINES, ""])
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(
            [tmp_path / "text.txt"],
            [],
            tmp_path / "corpus",
            vocab_size=64,
            tokenizer_path=None,
            join=0,
            seed=0,
            normalize="none",
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid": "\n...\n"}, "the text holds no words"),
        ({"vocab_size": 5000}, "vocabulary of 5000 pieces cannot be trained on this text"),
        ({"text": "a\n"}, "vocabulary of 64 pieces cannot be trained"),
        ({"normalize": "magic"}, "normaliser 'magic' is unknown"),
    ],
)
def test_text_that_cannot_be_used_is_refused_in_one_line(options, message, tmp_path):
    with pytest.raises(RescoreError, match=message):
        prepared(tmp_path, **options)
    assert not (tmp_path / "corpus" / "ready.json").exists()


def test_a_corpus_is_prepared_once_and_an_unfinished_one_again(tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "encode_corpus", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        prepared(tmp_path)
    monkeypatch.undo()
    corpus = prepared(tmp_path)
    before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    monkeypatch.setattr(trainer, "encode_corpus", lambda *_: pytest.fail("tokenised again"))
    prepared(tmp_path)
    assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before


def test_a_given_vocabulary_is_used(tmp_path):
    serialized = small_tokenizer().serialized
    (tmp_path / "given.model").write_bytes(serialized)
    corpus = prepared(
        tmp_path,
        text="the old house\n",
        valid="no light\n",
        tokenizer_path=tmp_path / "given.model",
    )
    assert (corpus / "tokenizer.model").read_bytes() == serialized


def test_trained_checkpoints_score(corpus, uninterrupted):
    checkpoint = load(uninterrupted, "mdlm")
    value = masked.pll(
        NetworkDenoiser(checkpoint),
        np.array([2, *checkpoint.tokenizer.encode(["the old house"])[0], 3]),
    ).value
    assert -1000 < value < 0


def test_a_prepared_corpus_is_not_taken_for_another(tmp_path):
    text = tmp_path / "text"
    text.write_text("\n".join(LINES))
    settings = {
        "vocab_size": 64,
        "tokenizer_path": None,
        "join": 0.0,
        "seed": 0,
        "normalize": "librispeech",
    }
    prepare([text], [text], tmp_path / "corpus", **settings)
    prepare([text], [text], tmp_path / "corpus", **settings)
    with pytest.raises(TrainError, match="prepared from other text or settings"):
        prepare([text], [text], tmp_path / "corpus", **{**settings, "join": 0.5})


def test_a_damaged_state_is_one_line(tmp_path):
    text = tmp_path / "text"
    text.write_text("\n".join(LINES * 3))
    prepare(
        [text],
        [text],
        tmp_path / "corpus",
        vocab_size=64,
        tokenizer_path=None,
        join=0.0,
        seed=0,
        normalize="librispeech",
    )
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.pt").write_bytes(b"no state")
    with pytest.raises(TrainError, match="the saved state cannot be read") as caught:
        train(
            tmp_path / "corpus",
            tmp_path / "run",
            TrainOptions(
                "ar", steps=2, batch_tokens=64, width=16, layers=1, heads=2, feed_forward=16
            ),
            {},
        )
    assert "\n" not in str(caught.value)


def test_the_recipe_of_the_twins_runs(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT * 3)
    (tmp_path / "b.txt").write_text(TEXT * 3)
    size = "--width 16 --layers 1 --heads 2 --feed-forward 24"
    wanted = {
        "TEXT": "a.txt b.txt",
        "VALID": "a.txt",
        "DEVICE": "cpu",
        "STEPS": "2",
        "BATCH": "256",
        "SIZE": size,
        "OBJECTIVES": "ar mdlm",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {
        **os.environ,
        **wanted,
        "EXTRA": "--vocab-size 64 --optimizer adamw",
        "PATH": path,
    }
    recipe = Path(__file__).parents[2] / "recipes" / "train_twins.sh"
    done = subprocess.run(
        ["bash", recipe], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = [load(tmp_path / "runs" / objective, objective) for objective in ("ar", "mdlm")]
    assert made[0].tokenizer.serialized == made[1].tokenizer.serialized
    assert (
        "name the training files"
        in subprocess.run(["bash", recipe], capture_output=True, text=True, check=False).stderr
    )
