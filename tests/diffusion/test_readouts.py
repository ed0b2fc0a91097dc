"""What is read of predictions: the true token, a choice, whole rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rescore.diffusion.readouts import Readings, read_choice, read_rows, read_token
from rescore.errors import ScoreError

PROBABILITIES = torch.tensor(
    [[0.5, 0.25, 0.25, 0.0], [0.1, 0.2, 0.7, 0.0], [0.4, 0.4, 0.2, 0.0], [0.0, 0.0, 1.0, 0.0]],
    dtype=torch.float64,
)
NOISY, NOISE = torch.tensor([3, 3, 3, 3]), torch.full((4,), 0.5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_choice_is_argmax_confidence_and_entropy(dtype):
    choice = read_choice(Readings(PROBABILITIES.log().to(dtype), NOISY, NOISE)).numpy()
    assert choice[:, 0].tolist() == [0, 2, 0, 2]  # ties go to the first
    expected = np.log([0.5, 0.7, 0.4, 1.0])
    assert choice[:, 1] == pytest.approx(expected, abs=1e-12 if dtype == torch.float64 else 1e-7)
    by_hand = [
        0.5 * math.log(2) + 2 * 0.25 * math.log(4),
        -0.1 * math.log(0.1) - 0.2 * math.log(0.2) - 0.7 * math.log(0.7),
        -0.8 * math.log(0.4) - 0.2 * math.log(0.2),
        0.0,
    ]
    assert choice[:, 2] == pytest.approx(by_hand, abs=1e-12 if dtype == torch.float64 else 1e-7)


def test_rows_are_whole_and_tokens_are_the_true_ones():
    log_probs = PROBABILITIES.log()
    clean = torch.tensor([1, 2, 0, 3])
    readings = Readings(log_probs, NOISY, NOISE, clean)
    assert torch.equal(read_rows(readings), log_probs)
    assert read_token(readings).exp().tolist() == pytest.approx([0.25, 0.7, 0.4, 0.0])


def test_a_read_out_of_the_true_token_needs_it():
    with pytest.raises(ScoreError, match="needs the clean tokens"):
        read_token(Readings(PROBABILITIES.log(), NOISY, NOISE))
