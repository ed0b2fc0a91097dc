"""Samplers together: nobody notices the others, nor how long a canvas is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import small_checkpoint
from tabular import MaskedTable, random_joint

from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import entropy_bound, top_k
from rescore.decoding.driver import run_samplers
from rescore.decoding.joint import (
    Draft,
    Filling,
    JointScales,
    UniformSteps,
    joint_masked,
    joint_uniform,
)
from rescore.diffusion.draws import SamplingDraws
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkDenoiser


def draft_of(length, size, seed, allowed=60):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(length, size))
    logits[:, allowed:] = -np.inf
    ctc = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    tokens = np.array([2, *logits.argmax(axis=1), 3])
    editable = np.array([False, *[True] * length, False])
    return Draft(Canvas.of(tokens, editable), ctc, rng.uniform(size=length))


def padded(draft, length):
    return Draft(draft.canvas.padded(length, 0), draft.ctc, draft.confidence)


def masked_samplers(drafts, mask_id):
    filling = Filling(mask_id, entropy_bound(3.0), (0.5,))
    return [
        joint_masked(draft, JointScales(1, 1), filling, 0.7, SamplingDraws(3, number))
        for number, draft in enumerate(drafts)
    ]


def uniform_samplers(drafts, denoiser, candidates=2):
    steps = UniformSteps(0.5, 3, "ancestral", "sample", "noised")
    return [
        joint_uniform(draft, denoiser, JointScales(0.5, 1), steps, SamplingDraws(3, number, k))
        for number, draft in enumerate(drafts)
        for k in range(candidates)
    ]


@pytest.mark.parametrize("objective", ["mdlm", "usdm"])
def test_company_changes_nothing(objective):
    denoiser = NetworkDenoiser(small_checkpoint(objective), "cpu", torch.float64)
    lengths = [5, 9, 1, 14, 9]
    drafts = [draft_of(length, denoiser.vocab_size, k) for k, length in enumerate(lengths)]

    def tokens(of):
        if objective == "mdlm":
            samplers = masked_samplers(of, denoiser.mask_id)
        else:
            samplers = uniform_samplers(of, denoiser)
        return samplers

    together = [canvas.tokens for canvas in run_samplers(denoiser, tokens(drafts))]
    alone = [run_samplers(denoiser, [sampler])[0].tokens for sampler in tokens(drafts)]
    longer = run_samplers(denoiser, tokens([padded(draft, 20) for draft in drafts]))
    for ours, single, canvas in zip(together, alone, longer, strict=True):
        assert ours.tolist() == single.tolist() == canvas.tokens[: len(ours)].tolist()
        assert (canvas.tokens[len(ours) :] == 0).all()


def test_a_long_canvas_is_read_in_windows():
    denoiser = NetworkDenoiser(small_checkpoint("usdm"), "cpu", torch.float64)
    draft = draft_of(30, denoiser.vocab_size, 0)
    queries = draft.canvas.queries(0.3, draft.canvas.editable, 12)
    assert all(len(query.noisy) == 12 for query in queries)
    starts = [0, 6, 12, 18, 20]
    read = [start + query.positions for start, query in zip(starts, queries, strict=True)]
    assert np.concatenate(read).tolist() == list(range(1, 31))
    steps = UniformSteps(0.3, 2, final="sample")
    sampler = joint_uniform(draft, denoiser, JointScales(), steps, SamplingDraws(0, 1), 12)
    [canvas] = run_samplers(denoiser, [sampler])
    assert len(canvas.tokens) == 32
    assert canvas.tokens[[0, -1]].tolist() == [2, 3]


def test_an_empty_draft_stays_empty():
    table = MaskedTable(random_joint(3, 2, seed=0))
    empty = draft_of(0, 4, 0)
    samplers = [
        joint_masked(empty, JointScales(), Filling(3, top_k(1)), 0.9, SamplingDraws(0, 1)),
        *uniform_samplers([empty], table, candidates=1),
    ]
    for canvas in run_samplers(table, samplers):
        assert canvas.tokens.tolist() == [2, 3]


def test_equal_queries_are_evaluated_once():
    denoiser = NetworkDenoiser(small_checkpoint("usdm"), "cpu", torch.float32)
    rows = []
    encode = denoiser.encode

    def counting(noisy, noise, padding):
        rows.append(len(noisy))
        return encode(noisy, noise, padding)

    denoiser.encode = counting
    draft = draft_of(8, denoiser.vocab_size, 0)
    grid = [JointScales(1, lm) for lm in (0.1, 0.3, 1.0)]
    steps = UniformSteps(0.3, 1)
    samplers = [
        joint_uniform(draft, denoiser, scales, steps, SamplingDraws(0, 1)) for scales in grid
    ]
    assert len(run_samplers(denoiser, samplers)) == 3
    assert rows == [1]


def test_a_canvas_keeps_its_promises():
    canvas = Canvas.of(np.array([2, 7, 8, 3]), np.array([False, True, True, False]))
    masked = canvas.opened(np.array([False, True, False, False]), 9)
    assert masked.tokens.tolist() == [2, 9, 8, 3]
    assert masked.committed(np.array([1]), np.array([5])).tokens.tolist() == [2, 5, 8, 3]
    assert canvas.tokens.tolist() == [2, 7, 8, 3]  # frozen
    with pytest.raises(ScoreError, match="only open positions"):
        masked.committed(np.array([2]), np.array([5]))
    with pytest.raises(ScoreError, match="editable"):
        canvas.opened(np.array([True, False, False, False]), 9)
    with pytest.raises(ScoreError, match="cannot have 3"):
        canvas.padded(3, 0)
    with pytest.raises(ScoreError, match="shapes"):
        Canvas.of(np.array([1, 2]), np.array([True]))
