"""Keyed random numbers: uniform, independent over every part of the key, shared where needed."""

import numpy as np
from scipy import stats

from rescore.diffusion.draws import Draws, SamplingDraws, Stream, utterance_key


def test_numbers_are_uniform():
    u = Draws(seed=3, utterance=utterance_key("a")).tokens(100, 500, Stream.HIDE).ravel()
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3


def test_neighbouring_keys_are_independent():
    base = Draws(seed=0, utterance=1)
    u = base.tokens(2000, 8, Stream.HIDE)
    others = [
        u[:, 1:],
        np.roll(u, 1, axis=0),
        base.tokens(2000, 8, Stream.MOVE),
        Draws(seed=1, utterance=1).tokens(2000, 8, Stream.HIDE),
        Draws(seed=0, utterance=2).tokens(2000, 8, Stream.HIDE),
        Draws(
            seed=0, utterance=1, anchors=np.arange(2000), offsets=np.ones(2000, dtype=int)
        ).tokens(2000, 8, Stream.HIDE),
    ]
    for other in others:
        first = u[:, : other.shape[1]]
        correlation = np.corrcoef(first.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / np.sqrt(first.size)


def test_aligned_tokens_share_their_numbers_and_inserted_ones_have_their_own():
    first = Draws(seed=5, utterance=7)
    other = Draws(
        seed=5, utterance=7, anchors=np.array([0, 1, 1, 2]), offsets=np.array([0, 0, 1, 0])
    )
    a, b = first.tokens(3, 4, Stream.HIDE), other.tokens(4, 4, Stream.HIDE)
    assert np.array_equal(a, b[:, [0, 1, 3]])
    assert not np.isin(b[:, 2], a).any()
    assert np.array_equal(first.shared(4, Stream.LEVEL), other.shared(4, Stream.LEVEL))


def test_numbers_do_not_depend_on_how_many_are_drawn():
    draws = Draws(seed=2, utterance=9)
    assert np.array_equal(draws.tokens(10, 8, Stream.HIDE)[:3, :4], draws.tokens(4, 3, Stream.HIDE))


def test_the_numbers_are_the_same_on_every_machine():
    assert utterance_key("84-121123-0001") == utterance_key("84-121123-0001")
    numbers = Draws(seed=1, utterance=utterance_key("84-121123-0001")).tokens(2, 1, Stream.HIDE)[0]
    assert numbers.tolist() == [0.08374612689756084, 0.7525054330208221]


def test_sampling_numbers_are_independent():
    def drawn(seed=0, utterance=1, candidate=0, step=0, stream=Stream.STATE, length=4000):
        draws = SamplingDraws(seed, utterance, candidate)
        return draws.positions(length, step, stream)

    u = drawn()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    others = [
        drawn(seed=1),
        drawn(utterance=2),
        drawn(candidate=1),
        drawn(step=1),
        drawn(stream=Stream.START),
        drawn(candidate=1, step=1),
        np.roll(u, 1),
    ]
    for other in others:
        assert abs(np.corrcoef(u, other)[0, 1]) < 4 / np.sqrt(len(u))
    assert np.array_equal(drawn(length=9), u[:9])
