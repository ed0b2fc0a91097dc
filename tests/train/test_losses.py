"""The losses: each averages to the likelihood, or the bound, that rescore.diffusion computes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import small_checkpoint
from small_runs import opinionated

from rescore.diffusion import masked, uniform
from rescore.diffusion.sequence import scored_sequence
from rescore.models.adapters import NetworkCausalLM
from rescore.models.objectives import OBJECTIVES
from rescore.scorers import Vocabulary
from rescore.scorers.ar import log_prob
from rescore.scorers.sequences import Sequencer
from rescore.text import identity
from rescore.train import losses
from rescore.train.corpus import Corpus, collate
from rescore.train.masking import even_levels
from rescore.train.readout import by_rows
from rescore.types import Hypothesis, NBest

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


def test_the_posterior_bound_equals_the_leave_one_out_bound_of_the_same_model(monkeypatch):
    network, (tokens, padding, _) = opinionated(6, time_input=True), batch(6)
    for seed in range(5):
        expected, read_out = losses.usdm_loss(
            network, tokens, padding, torch.Generator().manual_seed(seed)
        )
        sample = losses._corrupted(network, tokens, padding, torch.Generator().manual_seed(seed))
        ratio = torch.log1p(6 * (1 - sample.levels) / sample.levels)[:, None]
        likelihood = torch.zeros(len(ratio), 6).scatter(-1, sample.noisy[:, None], ratio)

        def as_posterior(hidden, weight, loss, added=likelihood):
            """The same model as posterior: p(v | z) ~ p(v | z without z_i) q(z_i | v)."""
            return by_rows(hidden, weight, lambda logits, part: loss(logits + added[part], part))

        with monkeypatch.context() as patch:
            patch.setattr(losses, "by_rows", as_posterior)
            bound, count = losses.posterior_nelbo(
                network, tokens, padding, torch.Generator().manual_seed(seed)
            )
        assert float(bound.detach()) == pytest.approx(float(expected.detach()), rel=2e-4)
        assert count == read_out == sum(LENGTHS)


def test_the_posterior_loss_is_cross_entropy_over_all_scored_tokens(monkeypatch):
    network = opinionated(6, time_input=True)
    tokens, padding, _ = batch(6)
    loss, read_out = losses.posterior_loss(
        network, tokens, padding, torch.Generator().manual_seed(1)
    )
    seen, encode = [], network.encode
    monkeypatch.setattr(network, "encode", lambda *args: (seen.append(args[0]), encode(*args))[1])
    sample = losses._corrupted(network, tokens, padding, torch.Generator().manual_seed(1))
    log_probs = network.readout(sample.hidden).detach().log_softmax(-1)
    expected = -log_probs.gather(-1, sample.clean[:, None]).sum()
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-6)
    assert read_out == sum(LENGTHS) == len(sample.clean)
    assert torch.allclose(sample.levels, (sample.weight / 2) ** 2)  # t = u^2, weighed by 2u
    scored = ~padding
    scored[:, 0] = False
    assert torch.equal(sample.clean, tokens[scored])
    assert torch.equal(sample.noisy, seen[0][scored])
    assert torch.equal(seen[0][~scored], tokens[~scored])


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
    loss, read_out = losses.ar_loss(
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
    mean, error = mean_of(losses.mdlm_loss, network, tokens, padding, 300)
    assert abs(mean / 8 - exact) < 4 * error / 8
    assert error / 8 < 0.02 * exact


def test_the_usdm_loss_averages_to_the_uniform_nelbo(monkeypatch):
    monkeypatch.setattr(losses, "EPS", 1e-6)  # scoring has none
    network = opinionated(6, time_input=True)
    denoiser = Table(network, None, "leave_one_out")
    tokens, padding, sentences = batch(6)
    found = [uniform.nelbo(denoiser, after_bos(sentence), draws=8192) for sentence in sentences]
    expected, spread = (
        sum(one.value for one in found),
        math.sqrt(sum(one.std_error**2 for one in found)),
    )
    tokens, padding, _ = batch(6, copies=32)
    mean, error = mean_of(losses.usdm_loss, network, tokens, padding, 300)
    assert abs(mean / 32 - expected) < 4 * math.hypot(error / 32, spread)
    assert math.hypot(error / 32, spread) < 0.02 * expected


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_and_company_change_no_loss_on_average_and_bos_is_never_scored(objective):
    network = opinionated(7, causal=objective == "ar", time_input=objective == "usdm")
    loss = losses.losses_of(objective, OBJECTIVES[objective].predictions[0])[0]
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
        losses.losses_of(objective, OBJECTIVES[objective].predictions[0])[0](
            network, tokens, padding, torch.Generator().manual_seed(seed)
        )
    assert changed[0] == 0
    assert (changed[1:] > 20).all()


def test_a_batch_covers_the_noise_levels_evenly():
    for seed in range(20):
        levels = even_levels(16, torch.Generator().manual_seed(seed))
        assert sorted((levels * 16).long().tolist()) == list(range(16))
