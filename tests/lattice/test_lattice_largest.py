"""Scores that would swallow all others on a path are refused, whatever format they come from."""

from __future__ import annotations

import numpy as np
import pytest

from rescore.errors import FormatError
from rescore.lattice import Lattice


@pytest.mark.parametrize("score", [-1e38, 1e38, -3.4e38, 1.1e15, np.nan, -np.inf])
def test_a_score_that_swallows_the_others_is_refused(score):
    for am, lm in ((score, 0.0), (0.0, score)):
        with pytest.raises(FormatError, match=r"expected a finite number of at most 1e\+15"):
            one_arc(am, lm)


def test_the_log_of_zero_of_htk_is_read():
    assert one_arc(-1e10, -1e15).am.tolist() == [-1e10]


def one_arc(am, lm):
    arrays = [np.array([0]), np.array([1]), np.array([1]), np.array([am]), np.array([lm])]
    return Lattice.from_arcs("u", *arrays, ["", "a"], start=0, ends=np.array([1]))
