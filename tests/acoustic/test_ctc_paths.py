"""Greedy paths and alignments against the enumeration of all paths."""

from __future__ import annotations

import numpy as np
import pytest
from all_paths import paths, random_log_probs

from rescore.acoustic import ctc_paths
from rescore.acoustic.ctc import collapse
from rescore.acoustic.ctc_paths import align, greedy_path
from rescore.errors import ScoreError


@pytest.mark.parametrize("blank", [0, 2])
def test_greedy_is_the_best_of_all_paths(blank):
    log_probs = random_log_probs(blank, 6, 3)
    best, value = max(paths(log_probs), key=lambda pair: pair[1])
    greedy = greedy_path(log_probs, blank)
    assert greedy.symbols.tolist() == list(best)
    assert greedy.labels.tolist() == collapse(best, blank)
    assert greedy.log_prob == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_alignment_is_the_best_path_of_the_text(seed):
    log_probs = random_log_probs(seed, 6, 3)
    best = {}
    for path, value in paths(log_probs):
        labels = tuple(collapse(path, 1))
        best[labels] = max(best.get(labels, (-np.inf, ())), (value, path))
    for labels, (value, path) in best.items():
        aligned = align(log_probs, labels, 1)
        assert aligned.log_prob == pytest.approx(value, abs=1e-12)
        assert aligned.symbols.tolist() == list(path)
        assert aligned.labels.tolist() == list(labels)


def test_spans_peaks_and_confidences_of_a_path():
    """Frame by frame: blank, 1, 1, 1, blank, 1, 2, 2 with these probabilities."""
    symbols = [0, 1, 1, 1, 0, 1, 2, 2]
    chances = [0.9, 0.6, 0.8, 0.7, 0.9, 0.5, 0.75, 0.75]
    log_probs = np.empty((8, 3))
    for frame, (symbol, chance) in enumerate(zip(symbols, chances, strict=True)):
        log_probs[frame] = np.log((1 - chance) / 2)
        log_probs[frame, symbol] = np.log(chance)
    for path in (greedy_path(log_probs, 0), align(log_probs, [1, 1, 2], 0)):
        assert path.labels.tolist() == [1, 1, 2]
        assert path.first.tolist() == [1, 5, 6]
        assert path.end.tolist() == [4, 6, 8]
        assert path.peak.tolist() == [2, 5, 6]
        assert path.confidence == pytest.approx([0.8, 0.5, 0.75], rel=1e-12)
        assert path.log_prob == pytest.approx(np.log(chances).sum(), rel=1e-12)


def test_a_path_of_blanks_has_no_labels():
    log_probs = np.log(np.full((3, 2), [0.9, 0.1]))
    for path in (greedy_path(log_probs, 0), align(log_probs, [], 0)):
        assert (path.symbols.tolist(), path.labels.tolist(), path.peak.tolist()) == (
            [0] * 3,
            [],
            [],
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_stored_dtypes_are_taken(dtype):
    log_probs = random_log_probs(3, 50, 7).astype(dtype)
    wide = log_probs.astype(np.float64)
    labels = greedy_path(log_probs, 0).labels
    assert align(log_probs, labels, 0).log_prob == align(wide, labels, 0).log_prob
    assert align(log_probs, labels, 0).log_prob == greedy_path(log_probs, 0).log_prob


def test_what_cannot_be_aligned_is_refused(monkeypatch):
    log_probs = random_log_probs(0, 3, 3)
    with pytest.raises(ScoreError, match="2 labels need 3 frames, got 2"):
        align(log_probs[:2], [1, 1], 0)
    log_probs[:, 2] = -np.inf
    with pytest.raises(ScoreError, match="probability 0"):
        align(log_probs, [2], 0)
    monkeypatch.setattr(ctc_paths, "_CELLS", 8)
    with pytest.raises(ScoreError, match="too long to align"):
        align(log_probs, [1], 0)


def test_long_texts_are_aligned():
    """More states than a byte counts."""
    log_probs = random_log_probs(4, 400, 9, sharpness=2)
    greedy = greedy_path(log_probs, 0)
    assert len(greedy.labels) > 200
    aligned = align(log_probs, greedy.labels.tolist(), 0)
    assert aligned.symbols.tolist() == greedy.symbols.tolist()
