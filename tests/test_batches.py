"""Batches: the least padding, within the budget, smaller when memory runs out."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rescore
from rescore.batching import BATCH_TOKENS, Budget, in_batches, is_out_of_memory, length_batches, pad
from rescore.errors import ScoreError
from rescore.models.embedded import open_vocabulary
from rescore.scorers.networks import budget, cost

DEMO = Path(__file__).resolve().parents[1] / "recipes" / "demo_data" / "dev.jsonl"


def price(batches, lengths, limit):
    """What batches cost: padded tokens, and the tokens that a call is worth."""
    return sum(max(lengths[i] for i in batch) * len(batch) + limit.call_tokens for batch in batches)


@given(st.lists(st.integers(1, 30), max_size=60), st.integers(1, 100), st.integers(0, 50))
def test_every_sequence_is_in_one_batch_within_the_budget(lengths, tokens, call):
    batches = list(length_batches(lengths, Budget(tokens, call)))
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= tokens


@given(st.lists(st.integers(1, 12), min_size=1, max_size=9), st.integers(0, 20))
def test_no_partition_of_the_sorted_lengths_is_cheaper(lengths, call):
    limit = Budget(sum(lengths) * 12, call)
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    cheapest = min(
        price(split(order, cuts), lengths, limit)
        for cuts in itertools.product([False, True], repeat=len(lengths) - 1)
    )
    assert price(length_batches(lengths, limit), lengths, limit) == cheapest


def split(order, cuts):
    edges = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(order)]
    return [order[a:b] for a, b in itertools.pairwise(edges)]


def test_padding_of_real_lists_is_below_a_tenth():
    tokenizer, _ = open_vocabulary(None, "usdm")
    lengths = [
        len(tokens) + 2
        for nbest in rescore.read(DEMO)
        for tokens in tokenizer.encode([hyp.text for hyp in nbest.hyps[:5]])
    ]
    total = cost(lengths, Budget())
    assert total.evaluations == len(lengths)
    assert total.padding == total.tokens - sum(lengths)
    assert 0 < total.padding < 0.1 * total.tokens


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] can't allocate memory"),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(error, caplog):
    limit, sizes = Budget(400, 0), []

    def evaluate(rows):
        sizes.append(sum(10 for _ in rows))
        if sizes[-1] > 120:
            raise error
        return [row * row for row in rows]

    assert in_batches([10] * 100, evaluate, limit) == [row * row for row in range(100)]
    assert (sizes[:3], limit.tokens) == ([400, 200, 100], 100)
    assert caplog.messages == [
        f"out of memory in a batch of {size} tokens; continuing with at most {size // 2}"
        for size in (400, 200)
    ]


def test_a_sequence_that_does_not_fit_alone_is_an_error_and_others_are_not_swallowed():
    def full(rows):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def broken(rows):
        raise RuntimeError("size mismatch")

    with pytest.raises(ScoreError, match="out of memory in a sequence of 7 tokens alone"):
        in_batches([7], full, Budget())
    with pytest.raises(RuntimeError, match="size mismatch"):
        in_batches([7], broken, Budget())
    assert not is_out_of_memory(ValueError("x"))


def test_the_budget_of_a_gpu_follows_from_a_trial(monkeypatch):
    assert Budget.of_gpu(8192 * 10_000, 8192, 10**9).tokens == 60_000
    assert Budget.of_gpu(8192, 8192, 10**12).tokens == 262_144
    assert Budget.of_gpu(10**12, 8192, 10**9).tokens == BATCH_TOKENS
    assert budget("cpu", pytest.fail) == Budget()
    calls = []
    monkeypatch.setattr(
        torch, "zeros", lambda *shape, dtype, device: torch.empty(shape, dtype=dtype).zero_()
    )
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**10))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5000)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5000 + 8192 * 20_000)
    assert (
        budget("cuda:0", lambda tokens, padding: calls.append((tokens.shape, padding.any()))).tokens
        == 30_000
    )
    assert calls == [((128, 64), torch.tensor(True))]


def test_rows_are_padded_at_their_ends_with_zeros():
    rows, padding = pad([np.array([3, 4]), np.array([5]), np.array([6, 7, 8])])
    assert rows.tolist() == [[3, 4, 0], [5, 0, 0], [6, 7, 8]]
    assert padding.tolist() == [[False, False, True], [False, True, True], [False] * 3]
