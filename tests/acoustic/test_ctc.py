"""log P(text | audio) against the enumeration of all paths."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from all_paths import random_log_probs, texts

from rescore.acoustic import ctc
from rescore.acoustic.ctc import collapse, frames_needed, text_log_probs

#: Sums of up to a few hundred float64 terms of at most 50 nats.
EXACT = 1e-11


@pytest.mark.parametrize(
    ("frames", "symbols", "blank"), [(1, 2, 0), (5, 3, 0), (5, 3, 2), (6, 3, 1)]
)
def test_log_probs_sum_over_all_paths(frames, symbols, blank):
    log_probs = random_log_probs(frames + blank, frames, symbols)
    totals = texts(log_probs, blank)
    values = text_log_probs(log_probs, list(totals), blank)
    assert values == pytest.approx(list(totals.values()), abs=EXACT)
    assert np.logaddexp.reduce(values) == pytest.approx(0, abs=EXACT)


def test_texts_that_no_path_spells_are_minus_infinity():
    log_probs = random_log_probs(0, 4, 3)
    spelled = texts(log_probs, 0)
    every = [labels for size in range(6) for labels in product((1, 2), repeat=size)]
    values = text_log_probs(log_probs, every, 0)
    assert [labels in spelled for labels in every] == np.isfinite(values).tolist()
    assert [frames_needed(labels) <= 4 for labels in every] == np.isfinite(values).tolist()
    log_probs[:, 2] = -np.inf
    assert text_log_probs(log_probs, [(1,), (1, 2)], 0).tolist()[1] == -np.inf


def test_long_texts_agree_with_ctc_loss(monkeypatch):
    """The path for texts too long for a table of all frames gives the same numbers."""
    rng = np.random.default_rng(1)
    log_probs = random_log_probs(1, 40, 5)
    every = [rng.integers(1, 5, size).tolist() for size in (0, 1, 2, 7, 15, 19, 25, 41)]
    table = text_log_probs(log_probs, every, 0)
    monkeypatch.setattr(ctc, "_CELLS", 0)
    assert text_log_probs(log_probs, every, 0) == pytest.approx(table, rel=1e-13)
    assert np.isfinite(table).sum() >= 6


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_value_does_not_depend_on_the_other_texts(dtype, monkeypatch):
    rng = np.random.default_rng(2)
    log_probs = random_log_probs(2, 60, 9).astype(dtype)
    every = [rng.integers(1, 9, rng.integers(0, 40)).tolist() for _ in range(30)]
    together = text_log_probs(log_probs, every, 0)
    assert together.dtype == np.float64
    alone = [text_log_probs(log_probs, [labels], 0)[0] for labels in every]
    monkeypatch.setattr(ctc, "_CELLS", 60 * 85)  # batches of one or two
    assert together.tolist() == alone == text_log_probs(log_probs, every, 0).tolist()


def test_no_texts_have_no_values():
    assert text_log_probs(random_log_probs(0, 3, 3), [], 0).tolist() == []


def test_collapse_merges_repetitions_before_it_removes_blanks():
    assert collapse([0, 1, 1, 0, 1, 2, 2, 0], 0) == [1, 1, 2]
