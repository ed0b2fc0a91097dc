"""Totals and winners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_lists import nbest, record

from rescore.errors import FusionError
from rescore.fusion import ScoreTable
from rescore.fusion.totals import totals, winners


def test_totals_equal_totals_by_hand():
    table = ScoreTable.of([record(), nbest({"am": 1.0, "lm": 2.0}, name="v")], ["am", "lm"])
    assert totals(table, {"am": 1.0, "lm": 2.0}, 0.5).tolist() == [
        -10 - 4 + 1,
        -11 - 1 + 0.5,
        -10.5 - 3 + 1.5,
        1 + 4 + 0.5,
    ]
    assert totals(table, [0.0, 1.0]).tolist() == [-2, -0.5, -1.5, 2]


def test_a_list_alone_has_the_totals_it_has_among_others():
    random = np.random.default_rng(0)
    table = ScoreTable.from_arrays(
        [random.normal(size=(n, 5)) for n in (1, 17, 3)],
        [random.integers(0, 9, n) for n in (1, 17, 3)],
    )
    scales = random.normal(size=5).tolist()
    alone = [totals(table.take([u])[0], scales, 0.3) for u in range(3)]
    assert np.array_equal(np.concatenate(alone), totals(table, scales, 0.3))


@given(st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=6), min_size=1, max_size=8))
@settings(deadline=None)
def test_winners_are_the_first_of_the_highest(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    expected = [
        begin + values.index(max(values)) for begin, values in zip(offsets, lists, strict=False)
    ]
    assert winners(np.concatenate(lists).astype(float), offsets).tolist() == expected


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: totals(ScoreTable.from_arrays([[[1.0]]]), {"other": 1.0}),
            "do not fit the scores score_0",
        ),
        (
            lambda: totals(ScoreTable.from_arrays([[[1.0]]]), {"score_0": 1.0, "other": 1.0}),
            "do not fit",
        ),
        (lambda: totals(ScoreTable.from_arrays([[[1.0]]]), [1.0, 2.0]), "do not fit"),
        (lambda: totals(ScoreTable.from_arrays([[[1e300]]]), [1e300]), "too large for a float"),
        (
            lambda: totals(ScoreTable.from_arrays([[[1e300, 1e300]]]), [1e300, -1e300]),
            "too large for a float",
        ),
    ],
)
def test_scales_that_do_not_fit_and_totals_that_overflow_are_refused(build, message):
    with pytest.raises(FusionError, match=message):
        build()
