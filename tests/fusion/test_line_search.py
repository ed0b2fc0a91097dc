"""The staircase against exact arithmetic."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tuning_problems import arrays, crossings, exact_count, lists_of, small

from rescore.fusion.line_search import Staircase, staircase


@given(lists_of(small, small, st.integers(0, 3)))
@settings(max_examples=200, deadline=None)
def test_staircase_equals_every_interval_of_a_brute_force_sweep(lists):
    offsets, intercept, slope, errors = arrays(lists)
    stairs = staircase(intercept.astype(float), slope.astype(float), errors, offsets)
    corners = crossings(lists)
    edges = [corners[0] - 1, *corners, corners[-1] + 1] if corners else [Fraction(-1), Fraction(1)]
    for low, high in pairwise(edges):
        middle = (low + high) / 2
        assert stairs.plateau(float(middle))[2] == exact_count(lists, middle)
    assert np.all(np.diff(stairs.corners) > 0)
    assert np.all(np.diff(stairs.counts) != 0)
    assert set(stairs.corners) <= {float(corner) for corner in corners}


@given(lists_of(small, small, st.integers(0, 3)), st.tuples(small, small))
@settings(max_examples=200, deadline=None)
def test_a_bounded_staircase_is_a_part_of_the_whole(lists, ends):
    low, high = float(min(ends)), float(max(ends))
    assume(low < high)
    offsets, intercept, slope, errors = arrays(lists)
    whole = staircase(intercept.astype(float), slope.astype(float), errors, offsets)
    part = staircase(
        intercept.astype(float), slope.astype(float), errors, offsets, low=low, high=high
    )
    inside = whole.corners[(whole.corners > low) & (whole.corners < high)]
    assert part.corners.tolist() == inside.tolist()
    for a, b in pairwise([low, *inside, high]):
        assert part.plateau((a + b) / 2)[2] == whole.plateau((a + b) / 2)[2]
    assert (part.low, part.high) == (low, high)


def test_a_staircase_equals_one_by_hand():
    """Lines 0, s - 1, 3s - 7 with 2, 0 and 1 errors: corners at 1 and 3.

    There the second line meets the others. A copy of the second adds nothing.
    """
    stairs = staircase(
        np.array([-7.0, 0, -1, -1]),
        np.array([3.0, 0, 1, 1]),
        np.array([1, 2, 0, 5]),
        np.array([0, 4]),
    )
    assert (stairs.corners.tolist(), stairs.counts.tolist()) == ([1.0, 3.0], [2, 0, 1])
    assert stairs.plateau(2.5) == (1.0, 3.0, 0)
    assert stairs.plateau(-9.0) == (-math.inf, 1.0, 2)
    assert stairs.best() == (2.0, 0)


def test_corners_of_two_lists_that_cancel_are_no_corner():
    stairs = staircase(
        np.zeros(4), np.array([0.0, 1, 0, 1]), np.array([0, 1, 1, 0]), np.array([0, 2, 4])
    )
    assert (stairs.corners.tolist(), stairs.counts.tolist()) == ([], [1])
    assert stairs.best() == (0.0, 1)


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [(-math.inf, math.inf, 0.0), (-2.0, math.inf, -1.0), (-math.inf, 9.0, 8.0), (-2.0, 9.0, 3.5)],
)
def test_without_steps_the_middle_of_the_bounds_is_best(low, high, step):
    assert Staircase(low, high, np.array([]), np.array([7])).best() == (step, 7)


@pytest.mark.parametrize(
    ("corners", "counts", "low", "high", "expected"),
    [
        (
            [1, 3, 4, 8],
            [5, 2, 3, 2, 5],
            -math.inf,
            math.inf,
            (6.0, 2),
        ),  # of equal plateaus the widest
        (
            [1, 3],
            [5, 3, 2],
            -math.inf,
            math.inf,
            (3.5, 2),
        ),  # no end: `reach` beyond the last corner
        ([1, 3], [2, 3, 4], -math.inf, math.inf, (0.5, 2)),
        ([1, 3], [2, 3, 4], 0.0, 9.0, (0.5, 2)),  # a bound is an end
        ([1, 3], [4, 3, 2], 0.0, 9.0, (6.0, 2)),
        ([1, 1 + 1e-12, 3], [4, 0, 2, 5], 0.0, 9.0, (2.0, 2)),  # a sliver is rounding
    ],
)
def test_the_best_step_is_the_middle_of_the_best_plateau(corners, counts, low, high, expected):
    stairs = Staircase(low, high, np.array(corners, dtype=float), np.array(counts))
    assert stairs.best(reach=0.5) == pytest.approx(expected)
