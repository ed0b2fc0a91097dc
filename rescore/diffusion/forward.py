"""Forward corruption: clean tokens to noisy ones, from keyed random numbers.

Masked: each token becomes the mask symbol with probability `noise` = 1 - alpha. Uniform: with that
probability it moves to a token that is uniform over the whole vocabulary, so it may stay:
q(z | x) = alpha [z = x] + (1 - alpha) / N. Fixed tokens (BOS) are never corrupted.

Letters in shapes: K draws, L length.
"""

from __future__ import annotations

import numpy as np

from rescore.diffusion.draws import Draws, Stream

__all__ = ["corrupt_masked", "corrupt_uniform", "hide_tokens", "uniform_tokens"]


def hide_tokens(tokens: np.ndarray, hidden: np.ndarray, mask_id: int) -> np.ndarray:
    """A copy of tokens (L,) int64 with the mask symbol at `hidden`, indices or bool (L,)."""
    noisy: np.ndarray = tokens.copy()
    noisy[hidden] = mask_id
    return noisy


def uniform_tokens(u: np.ndarray, vocab_size: int) -> np.ndarray:
    """Tokens uniform over 0..vocab_size - 1, int64, from numbers u uniform on (0, 1)."""
    tokens: np.ndarray = np.minimum((u * vocab_size).astype(np.int64), vocab_size - 1)
    return tokens


def corrupt_masked(
    tokens: np.ndarray, noise: np.ndarray, random: Draws, mask_id: int, fixed: np.ndarray
) -> np.ndarray:
    """Noisy tokens (K, L) int64 of tokens (L,), at one noise level 1 - alpha a draw, noise (K,).

    Exact check: tests/diffusion/test_forward.py::test_a_share_of_noise_of_the_numbers_hides.
    """
    u = random.tokens(len(tokens), len(noise), Stream.HIDE)
    return np.where((u < noise[:, None]) & ~fixed, mask_id, tokens)


def corrupt_uniform(
    tokens: np.ndarray, noise: np.ndarray, random: Draws, vocab_size: int, fixed: np.ndarray
) -> np.ndarray:
    """Noisy tokens (K, L) int64 of tokens (L,), at one noise level 1 - alpha a draw, noise (K,).

    Exact check: tests/diffusion/test_forward.py::test_a_moved_token_is_uniform_and_may_stay.
    """
    u = random.tokens(len(tokens), len(noise), Stream.HIDE)
    targets = uniform_tokens(random.tokens(len(tokens), len(noise), Stream.MOVE), vocab_size)
    return np.where((u < noise[:, None]) & ~fixed, targets, tokens)
