"""Pseudo-log-likelihoods against their definition."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from tabular import Inconsistent, MaskedTable, mean_log_prob, random_joint

from rescore.diffusion import masked
from rescore.diffusion.sequence import scored_sequence

JOINT = random_joint(3, 4, seed=1)
TABLE = MaskedTable(JOINT)


@pytest.mark.parametrize("table", [TABLE, Inconsistent(JOINT)])
def test_pll_equals_its_definition(table):
    for tokens in [(0, 1, 2, 0), (2, 2, 1, 0), (1, 1, 1, 1)]:
        expected = 0.0
        for i in range(4):
            noisy = torch.tensor([[table.mask_id if j == i else t for j, t in enumerate(tokens)]])
            expected += float(
                table.log_probs(noisy, torch.tensor([0.25]), torch.zeros(1, 4, dtype=torch.bool))[
                    0, i, tokens[i]
                ]
            )
        estimate = masked.pll(table, tokens)
        assert estimate.value == pytest.approx(expected, abs=1e-12)
        assert estimate.value == pytest.approx(4 * mean_log_prob(table, tokens, 1), abs=1e-12)
        assert (estimate.evaluations, estimate.std_error) == (4, 0)


def test_pll_is_no_probability_for_a_consistent_network():
    assert (
        sum(
            math.exp(masked.pll(TABLE, tokens).value)
            for tokens in itertools.product(range(3), repeat=4)
        )
        >= 1
    )


def test_within_word_pll_hides_the_rest_of_the_word():
    tokens, words = (0, 1, 2, 0), np.array([0, 1, 1, 2])
    hidden = [{0}, {1, 2}, {2}, {3}]
    expected = 0.0
    for i, sets in enumerate(hidden):
        noisy = torch.tensor([[TABLE.mask_id if j in sets else t for j, t in enumerate(tokens)]])
        expected += float(
            TABLE.log_probs(noisy, torch.tensor([0.25]), torch.zeros(1, 4, dtype=torch.bool))[
                0, i, tokens[i]
            ]
        )
    assert masked.pll(TABLE, tokens, words=words).value == pytest.approx(expected, abs=1e-12)
    assert masked.pll(TABLE, tokens, words=np.arange(4)).value == pytest.approx(
        masked.pll(TABLE, tokens).value, abs=1e-12
    )


def test_later_pieces_of_a_word_are_hidden_even_if_another_window_scores_them():
    words, scored = np.array([0, 1, 1, 1]), np.array([False, False, True, False])
    plan = masked.plan_pll(scored_sequence((2, 0, 1, 1), scored), TABLE.mask_id, words)
    [query] = plan.queries
    assert query.noisy.tolist() == [2, 0, TABLE.mask_id, TABLE.mask_id]
    assert query.positions.tolist() == [2]
    conditional = JOINT[2, 0, 1, :].sum() / JOINT[2, 0, :, :].sum()
    estimate = masked.pll(TABLE, (2, 0, 1, 1), scored=scored, words=words)
    assert estimate.value == pytest.approx(math.log(conditional), abs=1e-12)
