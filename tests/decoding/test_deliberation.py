"""Deliberation: what is opened, what fills it, and the lists that come out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import nbest, save_small
from small_posteriors import save_posteriors
from tabular import MaskedTable, UniformTable, random_joint

from rescore.acoustic.ctc import text_log_probs
from rescore.acoustic.posterior_file import read_posteriors
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.commit import top_k
from rescore.decoding.deliberation import Reconsidered, Renoising, deliberate, disagreement
from rescore.decoding.driver import run_samplers
from rescore.decoding.joint import Filling, UniformSteps
from rescore.diffusion.draws import SamplingDraws
from rescore.diffusion.reverse import reverse_step
from rescore.errors import ModelError, ScoreError
from rescore.formats import jsonl
from rescore.pipeline.decoding import decode
from rescore.pipeline.shards import Shard

BOS, EOS = 2, 3


def reconsidered(*texts):
    first, *others = (np.array([BOS, *map(ord, text), EOS]) for text in texts)
    return Reconsidered(first, others)


def opened(*texts):
    return "".join(
        text if not open_ else "_"
        for text, open_ in zip(texts[0], disagreement(reconsidered(*texts))[1:-1], strict=True)
    )


def test_hypotheses_disagree_where_they_differ():
    assert opened("abcde", "abXde") == "ab_de"
    assert opened("abcde", "abde") == "ab_de"
    assert opened("abcde", "abcXde") == "abcde"  # what is put in has no place in the draft
    assert opened("abcde", "Xbcde", "abcdX", "abcde") == "_bcd_"
    assert opened("abcde") == "abcde"
    assert opened("abc", "") == "___"


N, LENGTH = 4, 5
TABLE = MaskedTable(random_joint(N, LENGTH, seed=3))
PROPOSABLE = np.array([True] * N + [False])
FIRST = np.array([0, 1, 2, 3, 0])


def proposal(opening, candidate=0, others=(), rule=None, proposable=PROPOSABLE):
    sampler = deliberate(
        Reconsidered(FIRST, others),
        opening,
        proposable,
        Filling(N, rule or top_k(1)),
        SamplingDraws(0, 1, candidate),
    )
    [canvas] = run_samplers(TABLE, [sampler])
    return canvas.tokens


@pytest.mark.parametrize("opening", ["disagree", "random", "unsure", "block"])
@pytest.mark.parametrize("candidate", [0, 1, 2])
def test_whatever_is_opened_the_ends_stay_and_all_is_filled(opening, candidate):
    tokens = proposal(opening, candidate, [np.array([0, 3, 2, 1, 0])])
    assert tokens[[0, -1]].tolist() == FIRST[[0, -1]].tolist()
    assert tokens.max() < N
    assert proposal(opening, candidate, [np.array([0, 3, 2, 1, 0])]).tolist() == tokens.tolist()


def test_one_open_token_gets_what_the_network_finds_likeliest():
    tokens = proposal("disagree", others=[np.array([0, 1, 0, 3, 0])])
    noisy = torch.tensor([[0, 1, N, 3, 0]])
    [rows] = TABLE.log_probs(noisy, torch.tensor([0.25]), torch.zeros_like(noisy, dtype=torch.bool))
    assert tokens.tolist() == [0, 1, int(rows[2].argmax()), 3, 0]


def test_only_proposable_tokens_are_put_in():
    few = np.array([False, True, True, False, False])
    for candidate in range(20):
        tokens = proposal("random", candidate, proposable=few)
        changed = tokens != FIRST
        assert set(tokens[changed]) <= {1, 2}


def test_hypotheses_that_agree_cost_nothing():
    before = TABLE.evaluations
    assert proposal("disagree", others=[FIRST]).tolist() == FIRST.tolist()
    assert TABLE.evaluations == before


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
def test_uniform_states_are_drawn_anew(prediction):
    """One open token: noised by the forward process, then drawn by the reverse step."""
    table = UniformTable(random_joint(3, 3, seed=5), prediction)
    redraw = Renoising(table, UniformSteps(0.6, 1, "ancestral", start="noised"))
    these = Reconsidered(np.array([0, 2, 1]), [np.array([0, 1, 1])])
    count, everything = 4000, np.ones(3, bool)
    samplers = [
        deliberate(these, "disagree", everything, redraw, SamplingDraws(0, 1, 1 + candidate))
        for candidate in range(count)
    ]
    tokens = np.array([canvas.tokens for canvas in run_samplers(table, samplers)])
    assert (tokens[:, [0, 2]] == [0, 1]).all()
    expected = np.zeros(3)
    for noisy in range(3):
        rows = torch.tensor([[0, noisy, 1]])
        level = torch.tensor([0.6], dtype=torch.float64)
        [log_probs] = table.log_probs(rows, level, torch.zeros_like(rows, dtype=torch.bool))
        step = reverse_step(
            prediction, log_probs[[1]], torch.tensor([noisy]), level, torch.zeros_like(level)
        )
        expected += (0.4 * (noisy == 2) + 0.6 / 3) * step[0].numpy()
    shares = np.bincount(tokens[:, 1], minlength=3) / count
    assert (np.abs(shares - expected) <= 5 * np.sqrt(expected * (1 - expected) / count)).all()


@pytest.mark.parametrize("opening", ["disagree", "random", "unsure", "block"])
def test_uniform_states_keep_the_ends_and_put_in_what_may_be(opening):
    table = UniformTable(random_joint(N, LENGTH, seed=3), "leave_one_out")
    few = np.array([False, True, True, False])
    redraw = Renoising(table, UniformSteps(1.0, 2, "ancestral", start="noised"))
    for candidate in range(10):
        these = Reconsidered(FIRST, [np.array([0, 3, 2, 1, 0])])
        sampler = deliberate(these, opening, few, redraw, SamplingDraws(0, 1, candidate))
        [canvas] = run_samplers(table, [sampler])
        assert canvas.tokens[[0, -1]].tolist() == [0, 0]
        assert set(canvas.tokens[canvas.tokens != FIRST]) <= {1, 2}


@pytest.fixture
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_small(tmp_path / "mdlm", "mdlm")
    save_small(tmp_path / "usdm", "usdm")
    save_small(tmp_path / "ar", "ar")
    lists = [
        nbest(
            "the old house", "the odd house", "the old horse", id="u1", ref="the old house", am=-3.0
        ),
        nbest("we walk along", "we walked along", id="u2", am=-1.0),
        nbest("", id="u3", am=-1.0),
    ]
    jsonl.write(lists, tmp_path / "n.jsonl")
    return lists


def decoded(shard=None, **options):
    options = {"model": "mdlm", **options}
    return list(
        decode(load_decoder("deliberate", "n.jsonl", DecoderOptions(**options)), shard=shard)
    )


@pytest.mark.parametrize("model", ["mdlm", "usdm"])
def test_proposals_join_the_list_which_loses_its_scores(inside, model):
    options = {"model": model, "open": "random", "candidates": 5}
    lists = decoded(**options)
    for ours, before in zip(lists, inside, strict=True):
        texts = [hyp.text for hyp in ours.hyps]
        assert texts[: len(before.hyps)] == [hyp.text for hyp in before.hyps]
        assert len(set(texts)) == len(texts)
        assert all(hyp.scores == {} for hyp in ours.hyps)
        assert ours.ref == before.ref
        assert {hyp.raw["origin"] for hyp in ours.hyps[len(before.hyps) :]} <= {"deliberate"}
    assert len(lists[0].hyps) > 3
    assert len(lists[2].hyps) == 1  # nothing can be opened in an empty text
    assert lists[0].raw["evaluations"] > 5
    assert lists[2].raw["evaluations"] == 0
    assert decoded(**options) == lists
    parts = [each for k in range(2) for each in decoded(Shard(k, 2), **options)]
    assert sorted(parts, key=lambda each: each.id) == lists


def test_only_words_that_the_list_has_seen(inside):
    for ours, before in zip(decoded(open="random", seen_words=True), inside, strict=True):
        seen = {word for hyp in before.hyps for word in hyp.words}
        assert all(seen.issuperset(hyp.words) for hyp in ours.hyps)


def test_posteriors_give_every_hypothesis_its_am(inside, tmp_path):
    texts = {"u1": "the old house", "u2": "we walk along", "u3": "no light"}
    save_posteriors(tmp_path / "p.safetensors", texts)
    file = read_posteriors("p.safetensors")
    symbols = file.symbols
    lists = decoded(posteriors="p.safetensors", open="random", seen_words=True)
    for ours in lists:
        labels = [symbols.encode(hyp.text) for hyp in ours.hyps]
        exact = text_log_probs(file[ours.id].log_probs, labels, symbols.blank)
        assert [hyp.scores["am"] for hyp in ours.hyps] == exact.tolist()


def test_what_does_not_belong_together_is_refused(inside):
    with pytest.raises(ScoreError, match="--bpe belongs to --posteriors"):
        decoded(bpe="x")
    with pytest.raises(ScoreError, match="deliberate does not read --lm-scale"):
        decoded(lm_scale=0.5)
    with pytest.raises(ScoreError, match="with a MDLM does not read --steps"):
        decoded(steps=3)
    with pytest.raises(ScoreError, match="with a USDM does not read --commit"):
        decoded(model="usdm", commit="top_k")
    with pytest.raises(ModelError, match="holds objective 'ar'"):
        decoded(model="ar")
