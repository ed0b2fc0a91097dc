"""Which tokens are scored and which are fixed, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError


@pytest.mark.parametrize("tokens", [(0, 1, 2), np.array([0, 1, 2]), torch.tensor([0, 1, 2])])
def test_by_default_all_tokens_are_scored_and_take_part(tokens):
    sequence = scored_sequence(tokens)
    assert sequence.tokens.dtype == np.int64
    assert sequence.positions.tolist() == [0, 1, 2]
    assert sequence.diffused == 3


def test_fixed_tokens_do_not_count():
    scored, fixed = np.array([False, True, False]), np.array([True, False, False])
    sequence = scored_sequence((0, 1, 2), scored, fixed=fixed)
    assert sequence.positions.tolist() == [1]
    assert sequence.diffused == 2
    again = scored_sequence(sequence, vocab_size=3)
    assert (again.positions.tolist(), again.diffused) == ([1], 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scored_sequence((0.5, 1.0)), r"tokens must be integers of shape \(length,\)"),
        (lambda: scored_sequence(np.zeros((2, 2), int)), r"of shape \(2, 2\)"),
        (lambda: scored_sequence(np.zeros(0, int)), "no token is scored"),
        (lambda: scored_sequence((0, 1), np.ones(3, bool)), r"scored must be bool of shape \(2,\)"),
        (lambda: scored_sequence((0, 1), np.ones(2)), "got float64"),
        (lambda: scored_sequence((0, 1), fixed=np.zeros(3, bool)), "fixed must be bool"),
        (lambda: scored_sequence((0, 1), fixed=np.array([True, False])), "cannot be scored"),
        (lambda: scored_sequence((0, 5), vocab_size=5), r"ids must lie in 0\.\.4, got 0\.\.5"),
        (lambda: scored_sequence((-1, 2), vocab_size=5), r"got -1\.\.2"),
    ],
)
def test_what_cannot_be_scored_is_refused(call, message):
    with pytest.raises(ScoreError, match=message):
        call()
