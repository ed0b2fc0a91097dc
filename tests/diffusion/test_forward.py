"""Forward corruption by enumeration: random numbers on a grid give exact probabilities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rescore.diffusion.draws import Draws, Stream
from rescore.diffusion.forward import corrupt_masked, corrupt_uniform, hide_tokens, uniform_tokens

MASK = 3


class Grid:
    """Draws whose numbers for one token are the midpoints of a grid, every pair once."""

    def __init__(self, size: int) -> None:
        self.midpoints = (np.arange(size) + 0.5) / size
        self.pairs = np.array(list(itertools.product(self.midpoints, repeat=2)))

    def tokens(self, length: int, draws: int, stream: Stream) -> np.ndarray:
        assert draws == len(self.pairs)
        return np.repeat(self.pairs[:, [int(stream == Stream.MOVE)]], length, axis=1)


@pytest.mark.parametrize("noise", [0.0, 0.25, 0.5, 1.0])
def test_a_share_of_noise_of_the_numbers_hides(noise):
    grid, tokens = Grid(12), np.array([2])
    levels = np.full(len(grid.pairs), noise)
    noisy = corrupt_masked(tokens, levels, grid, MASK, np.array([False]))
    assert noisy.shape == (144, 1)
    assert (noisy == MASK).mean() == noise
    assert np.all(noisy[noisy != MASK] == 2)


@pytest.mark.parametrize("noise", [0.0, 0.25, 0.5, 1.0])
def test_a_moved_token_is_uniform_and_may_stay(noise):
    """q(z | x) = alpha [z = x] + (1 - alpha) / N for every z and x."""
    grid, size = Grid(12), 3
    levels = np.full(len(grid.pairs), noise)
    for clean in range(size):
        noisy = corrupt_uniform(np.array([clean]), levels, grid, size, np.array([False]))
        shares = np.bincount(noisy[:, 0], minlength=size) / len(noisy)
        expected = (1 - noise) * (np.arange(size) == clean) + noise / size
        assert shares == pytest.approx(expected, abs=1e-15)


def test_each_draw_has_its_own_level_and_fixed_tokens_stay():
    tokens, levels = np.array([0, 1, 2, 0]), np.array([0.0, 1.0])
    fixed = np.array([True, False, False, True])
    hidden = corrupt_masked(tokens, levels, Draws(1), MASK, fixed)
    assert hidden.tolist() == [[0, 1, 2, 0], [0, MASK, MASK, 0]]
    moved = corrupt_uniform(tokens, np.repeat(levels, 50), Draws(1), 3, fixed)
    assert np.all(moved[:50] == tokens)
    assert np.all(moved[:, fixed] == 0)
    assert set(moved[50:, 1]) == {0, 1, 2}


def test_aligned_tokens_of_two_hypotheses_are_corrupted_alike():
    first, second = np.array([0, 1, 2]), np.array([0, 2])
    fixed, levels = np.zeros(3, bool), np.full(40, 0.5)
    aligned = Draws(7, anchors=np.array([0, 2]), offsets=np.zeros(2, dtype=np.int64))
    hidden = corrupt_masked(first, levels, Draws(7), MASK, fixed)
    assert np.array_equal(
        corrupt_masked(second, levels, aligned, MASK, fixed[:2]), hidden[:, [0, 2]]
    )
    moved = corrupt_uniform(first, levels, Draws(7), 3, fixed)
    assert np.array_equal(corrupt_uniform(second, levels, aligned, 3, fixed[:2]), moved[:, [0, 2]])


def test_hiding_leaves_the_tokens_alone():
    tokens = np.array([0, 1, 2])
    assert hide_tokens(tokens, np.array([0, 2]), MASK).tolist() == [MASK, 1, MASK]
    assert hide_tokens(tokens, np.array([False, True, False]), MASK).tolist() == [0, MASK, 2]
    assert tokens.tolist() == [0, 1, 2]


def test_uniform_tokens_stay_in_the_vocabulary():
    u = np.array([0.0, 0.34, 0.5, 0.99, 1.0])
    assert uniform_tokens(u, 3).tolist() == [0, 1, 1, 2, 2]
