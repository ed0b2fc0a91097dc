"""The prefix beam search against the enumeration of all paths."""

from __future__ import annotations

import numpy as np
import pytest
from all_paths import random_log_probs, texts

from rescore.acoustic import prefix_tree
from rescore.acoustic.ctc import text_log_probs
from rescore.acoustic.ctc_paths import greedy_path
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search
from rescore.errors import ScoreError

ALL = BeamOptions(beam=300, min_log_prob=-np.inf)

#: Sums of a few hundred float64 terms of at most 50 nats.
EXACT = 1e-11


def searched(log_probs, blank=0, options=ALL, **keywords):
    return prefix_beam_search([log_probs], blank, options, **keywords)[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("frames", "symbols", "blank"), [(1, 3, 0), (6, 3, 1), (5, 4, 3)])
def test_a_wide_beam_is_the_exact_list(seed, frames, symbols, blank):
    log_probs = random_log_probs(seed, frames, symbols)
    totals = texts(log_probs, blank)
    prefixes = searched(log_probs, blank)
    assert {prefix.labels: prefix.log_prob for prefix in prefixes} == pytest.approx(
        totals, abs=EXACT
    )
    assert len(prefixes) == len(totals)
    values = [prefix.log_prob for prefix in prefixes]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("beam", [1, 2, 5, 20])
def test_a_narrow_beam_gives_lower_bounds(seed, beam):
    log_probs = random_log_probs(seed, 30, 6)
    prefixes = searched(log_probs, options=BeamOptions(beam, -np.inf))
    assert len({prefix.labels for prefix in prefixes}) == len(prefixes) == beam
    exact = text_log_probs(log_probs, [prefix.labels for prefix in prefixes], 0)
    assert (exact >= [prefix.log_prob - EXACT for prefix in prefixes]).all()


@pytest.mark.parametrize("seed", [5, 91, 114, 137, 192])
def test_a_prefix_that_left_the_beam_and_comes_again_is_the_same_prefix(seed):
    """In these the parent of a prefix leaves and comes again: the same prefix is appended anew."""
    log_probs = random_log_probs(seed, 25, 3, sharpness=1)
    prefixes = searched(log_probs, options=BeamOptions(6, -np.inf))
    assert len({prefix.labels for prefix in prefixes}) == 6


def test_an_utterance_does_not_depend_on_its_batch():
    rng = np.random.default_rng(1)
    utterances = [
        random_log_probs(seed, int(rng.integers(1, 40)), 8, sharpness=rng.uniform(0.5, 4))
        for seed in range(37)
    ]
    options = BeamOptions(10, -4.0)
    together = prefix_beam_search(utterances, 0, options)
    assert together == [prefix_beam_search([each], 0, options)[0] for each in utterances]


def test_equal_ranks_do_not_depend_on_the_batch_either():
    flat = np.full((6, 5), -np.log(5))
    options = BeamOptions(7, -3.0)
    together = prefix_beam_search([random_log_probs(0, 9, 5), flat], 0, options)
    assert together[1] == prefix_beam_search([flat], 0, options)[0]


def test_the_beam_beats_the_greedy_transcript():
    """0.6 blank twice: the best path spells nothing, with 0.36; the best text is one label."""
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy_path(log_probs, 0).labels.tolist() == []
    assert searched(log_probs)[0].labels == (1,)
    assert searched(log_probs)[0].log_prob == pytest.approx(np.log(0.64))


def test_pruned_and_excluded_symbols_are_not_appended():
    log_probs = np.log([[0.2, 0.7, 0.06, 0.04], [0.2, 0.04, 0.06, 0.7]])
    labels = {prefix.labels for prefix in searched(log_probs, options=BeamOptions(99, -2.9))}
    assert labels == {(), (1,), (2,), (3,), (1, 2), (1, 3), (2, 3)}
    labels = {prefix.labels for prefix in searched(log_probs, never=[1, 3])}
    assert labels == {(), (2,)}


def test_pruned_symbols_still_add_to_prefixes_of_the_beam():
    """The last label goes on, whatever its probability."""
    log_probs = np.log([[0.5, 0.5], [0.99, 0.01]])
    [first, second] = searched(log_probs, options=BeamOptions(9, -1.0))
    assert (first.labels, second.labels) == ((1,), ())
    assert [first.log_prob, second.log_prob] == pytest.approx(np.log([0.505, 0.495]))


def test_impossible_symbols_and_float16_are_taken():
    log_probs = random_log_probs(0, 12, 5)
    log_probs[:, 2] = -np.inf
    assert all(2 not in prefix.labels for prefix in searched(log_probs))
    half = log_probs.astype(np.float16)
    assert searched(half) == searched(half.astype(np.float64))


def test_a_beam_needs_room():
    with pytest.raises(ScoreError, match="beam is 0"):
        BeamOptions(0)


def test_a_frame_may_make_any_number_of_prefixes():
    """More than the room for prefixes doubled: 16 utterances with 400 new ones each."""
    utterances = [random_log_probs(seed, 3, 40, sharpness=0.2) for seed in range(16)]
    beams = prefix_beam_search(utterances, 0, BeamOptions(400, -np.inf))
    assert [len(beam) for beam in beams] == [400] * 16


class Numbered:
    """Scores that add nothing, and count prefixes: all, and the most at a time."""

    def __init__(self, utterances):
        self.all = self.now = self.most = utterances

    def gains(self, prefixes, symbols):
        return None

    def append(self, parents, symbols):
        self.all += len(parents)
        self.now += len(parents)
        self.most = max(self.most, self.now)

    def keep(self, prefixes):
        self.now = len(prefixes)

    def ends(self, prefixes):
        return np.zeros(len(prefixes))


def test_dropping_prefixes_changes_no_result(monkeypatch):
    utterances = [random_log_probs(seed, 20 + 9 * seed, 8, sharpness=1) for seed in range(9)]
    options = BeamOptions(12, -6.0)
    expected = prefix_beam_search(utterances, 0, options)
    monkeypatch.setattr(prefix_tree, "_ROOM", 64)
    assert prefix_beam_search(utterances, 0, options) == expected


def test_prefixes_in_memory_are_bounded_by_the_text(monkeypatch):
    """Twice what the beam descends from; not all that there ever were."""
    monkeypatch.setattr(prefix_tree, "_ROOM", 64)
    logits = np.random.default_rng(0).normal(size=(1000, 8))
    logits[:, 0] += 3  # mostly blanks: a text of 137 labels
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    scores = Numbered(1)
    [best, *_] = searched(log_probs, options=BeamOptions(12, -6.0), new_scores=lambda _: scores)
    assert scores.most < 2 * len(best.labels) + 64
    assert scores.all > 4 * scores.most
