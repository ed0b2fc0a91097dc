"""Edits of the length, against all texts one edit away and all CTC paths."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from small import save_small

from rescore.acoustic.ctc import collapse
from rescore.acoustic.posterior_file import write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Symbols
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.ctc import greedy_transcript
from rescore.decoding.driver import run_samplers
from rescore.decoding.edits import EditSearch, PseudoLikelihood, neighbours
from rescore.decoding.joint import JointScales
from rescore.errors import ScoreError
from rescore.pipeline.decoding import decode
from rescore.scorers.loading import load_scorer
from rescore.scorers.options import ScorerOptions
from rescore.train.tokenizers import tokenizer_of
from rescore.types import Hypothesis, NBest

SYMBOLS = Symbols(("_", "|", "a", "b"), 0, "boundary", "|")
FRAMES = 5


def rows_of(seed):
    logits = np.random.default_rng(seed).normal(scale=1.5, size=(FRAMES, len(SYMBOLS)))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def one_edit_away(labels, allowed):
    deleted = {labels[:k] + labels[k + 1 :] for k in range(len(labels))}
    inserted = {
        (*labels[:k], label, *labels[k:]) for k in range(len(labels) + 1) for label in allowed
    }
    return deleted | inserted


@pytest.mark.parametrize("seed", range(8))
def test_an_open_gate_allows_every_edit(seed):
    log_probs = rows_of(seed)
    for labels in [(), (2,), (2, 3), (2, 2), (3, 1, 2)]:
        near = neighbours(log_probs, labels, 0, [], 1.1, 9)
        assert len(set(near)) == len(near)
        assert set(near) == one_edit_away(labels, (1, 2, 3))
        without = neighbours(log_probs, labels, 0, [1], 1.1, 9)
        assert set(without) == one_edit_away(labels, (2, 3))


def test_a_gate_allows_edits_only_where_ctc_is_unsure():
    p = np.array([[0.02, 0.9, 0.08], [0.9, 0.05, 0.05], [0.6, 0.1, 0.3], [0.1, 0.3, 0.6]])
    log_probs = np.log(p)  # 1 for sure, a blank for sure, a doubtful blank, a doubtful 2
    assert set(neighbours(log_probs, [1, 2], 0, [], 0.7, 1)) == {(1,), (1, 2, 2)}
    near = neighbours(log_probs, [1, 2], 0, [], 0.7, 2)
    assert set(near) == {(1,), (1, 2, 2), (1, 1, 2), (1, 2, 1)}
    assert neighbours(log_probs, [1, 2], 0, [], 0.5, 1) == []


def exact(log_probs, text):
    """log P(text | audio) by all paths of the frames."""
    labels, paths = SYMBOLS.encode(text), itertools.product(range(4), repeat=len(log_probs))
    values = [
        log_probs[np.arange(len(path)), path].astype(float).sum()
        for path in paths
        if collapse(path, 0) == labels
    ]
    return np.logaddexp.reduce(values) if values else -np.inf


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    posteriors = [Posteriors(f"u{k}", rows_of(k), SYMBOLS, 0.04) for k in range(6)]
    write_posteriors(posteriors, "p.safetensors")
    letters = tokenizer_of(tmp_path / "p.safetensors")
    for objective in ("usdm", "mdlm"):
        save_small(tmp_path / objective, objective, tokenizer=letters)
    return posteriors


def likelihood(objective):
    folds = 2 if objective == "mdlm" else None
    return load_scorer(objective, ScorerOptions(model=objective, estimator="pll", folds=folds))


@pytest.mark.parametrize("objective", ["usdm", "mdlm"])
def test_each_edit_is_the_best_of_all_by_enumeration(models, objective):
    scorer, scales = likelihood(objective), JointScales(1.0, 0.7)
    edited = 0
    for posteriors in models:
        text = SYMBOLS.decode(greedy_transcript(posteriors).labels)
        search = EditSearch(
            SYMBOLS, PseudoLikelihood(scorer.sequencer, scorer.estimator), scales, 2, 1.1, 3, 99
        )
        sampler = search(posteriors, text)
        [visited] = run_samplers(scorer.denoiser, [sampler], read_clean=scorer.estimator.readout)
        expected = []
        for _ in range(2):
            near = one_edit_away(tuple(SYMBOLS.encode(text)), (1, 2, 3))
            texts = [text, *sorted({SYMBOLS.decode(labels) for labels in near} - {text})]
            [score] = scorer.score([NBest(posteriors.id, tuple(map(Hypothesis, texts)))])
            totals = [
                exact(posteriors.log_probs, each) + 0.7 * value
                for each, value in zip(texts, score.values, strict=True)
            ]
            if int(np.argmax(totals)) == 0:
                break
            text = texts[int(np.argmax(totals))]
            expected.append(text)
        assert [SYMBOLS.decode(labels) for labels in visited] == expected
        edited += len(expected)
    assert edited > 2


@pytest.mark.parametrize("method", ["joint", "joint_mdlm"])
def test_edits_come_first_in_a_list_and_change_the_length(models, method):
    model = "usdm" if method == "joint" else "mdlm"

    def lists(**options):
        settings = DecoderOptions(model=model, **options)
        return list(decode(load_decoder(method, "p.safetensors", settings)))

    plain, closed, edited = lists(), lists(edits=3, gate=0.0), lists(edits=3, gate=1.1)
    assert [nbest.hyps for nbest in closed] == [nbest.hyps for nbest in plain]
    changed = 0
    for before, after in zip(plain, edited, strict=True):
        texts = [hyp.text for hyp in after.hyps]
        assert {hyp.text for hyp in before.hyps} <= set(texts)
        assert after.raw["evaluations"] > before.raw["evaluations"]
        if after.hyps[0].raw["origin"] == "edits":
            changed += len(texts[0]) != len(before.hyps[0].text)
    assert changed
    with pytest.raises(ScoreError, match="--gate belongs to --edits"):
        lists(gate=0.5)


def test_edits_by_posteriors_alone_never_make_a_text_less_likely(models):
    settings = DecoderOptions(model="usdm", lm_scale=0.0, edits=5, gate=1.1)
    for nbest in decode(load_decoder("joint", "p.safetensors", settings)):
        scores = [hyp.scores["am"] for hyp in nbest.hyps]
        assert scores == sorted(scores, reverse=True)
        torch.testing.assert_close(scores[0], max(scores))
