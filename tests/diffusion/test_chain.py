"""Exact chains of masked diffusion against exact enumeration."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from tabular import Inconsistent, MaskedTable, random_joint

from rescore.diffusion import masked

JOINT = random_joint(3, 4, seed=1)
TABLE = MaskedTable(JOINT)


def test_a_chain_of_a_known_joint_is_log_p_in_every_order():
    tokens = (2, 1, 0, 1)
    for order in itertools.permutations(range(4)):
        estimate = masked.chain(TABLE, tokens, order=order)
        assert estimate.value == pytest.approx(math.log(JOINT[tokens]), abs=1e-12)
    assert masked.chain(TABLE, tokens, order="random", seed=3).value == pytest.approx(
        math.log(JOINT[tokens]), abs=1e-12
    )


@pytest.mark.parametrize("block", [1, 2, 3, 4])
def test_a_chain_in_blocks_is_normalised_and_below_log_p_on_average(block):
    sequences = list(itertools.product(range(3), repeat=4))
    scores = np.array([masked.chain(TABLE, tokens, block=block).value for tokens in sequences])
    assert np.exp(scores).sum() == pytest.approx(1, abs=1e-10)
    log_p = np.log([JOINT[tokens] for tokens in sequences])
    assert (np.exp(log_p) * (scores - log_p)).sum() <= 1e-12
    assert masked.chain(TABLE, sequences[5], block=block).evaluations == math.ceil(4 / block)


def test_the_mean_over_all_orders_is_minus_nelbo():
    table, tokens = Inconsistent(JOINT), (1, 2, 0, 0)
    chains = [
        masked.chain(table, tokens, order=order).value for order in itertools.permutations(range(4))
    ]
    assert -masked.nelbo_exact(table, tokens).value == pytest.approx(np.mean(chains), abs=1e-10)
