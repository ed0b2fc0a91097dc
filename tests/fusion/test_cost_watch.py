"""Scores that look like costs are named by `tune` and `fuse`."""

from __future__ import annotations

import pytest

import rescore
from rescore.fusion import ScoreTable, fuse
from rescore.fusion.cost_watch import CostWatch
from rescore.types import Hypothesis, NBest

ADVICE = "higher is better here; negate it if it is a cost"


def lists(name, values, count=25):
    """Lists of three whose first hypothesis is right."""
    texts = ("a b", "a x", "x y")
    return [
        NBest(
            f"utterance-{number}",
            tuple(Hypothesis(t, {name: v}) for t, v in zip(texts, values, strict=True)),
            "a b",
        )
        for number in range(count)
    ]


def warnings(name, values, count=25):
    watch = CostWatch([name])
    for nbest in lists(name, values, count):
        watch.add(ScoreTable.of([nbest], [name]))
    return watch.warnings()


def test_a_positive_score_is_a_cost_unless_its_name_says_otherwise():
    assert warnings("am", (9.0, 8.0, 7.0)) == [
        f'score "am" is positive on 100 % of the hypotheses: {ADVICE}'
    ]
    assert warnings("confidence", (0.9, 0.8, 0.7)) == []
    assert warnings("am", (-7.0, -8.0, -9.0)) == []


def test_a_score_that_is_lowest_on_the_first_hypothesis_is_a_cost():
    assert warnings("am", (-9.0, -8.0, -7.0)) == [
        f'score "am" is lowest on the first hypothesis in 100 % of the lists: {ADVICE}'
    ]
    assert warnings("am", (-9.0, -8.0, -7.0), count=19) == []  # too few to tell
    assert warnings("am", (-7.0, -7.0, -7.0)) == []


def test_tune_and_fuse_warn_of_costs(caplog):
    costs = lists("am", (7.0, 8.0, 9.0))
    expected = f'score "am" is positive on 100 % of the hypotheses: {ADVICE}'
    weights = rescore.tune(costs, ["am"])
    assert caplog.messages == [expected]
    caplog.clear()
    list(fuse(costs, weights))
    assert caplog.messages == [expected]


@pytest.mark.parametrize(
    ("scores", "raw", "advice"),
    [
        ({"AM": -1.0}, {}, 'it has AM; did you mean "AM"?'),
        ({"ngrm": -1.0, "lm": -2.0}, {}, "it has ngrm, lm; `dlmrescore score` adds"),
        ({}, {"score": -1.0}, 'it has no score; it has "score": named scores stand in "scores"'),
    ],
)
def test_a_missing_score_is_named_with_what_is_there(scores, raw, advice):
    nbest = NBest("u", (Hypothesis("a", scores, raw),), "a")
    with pytest.raises(rescore.errors.ScoreError) as stopped:
        ScoreTable.of([nbest], ["am"])
    assert advice in str(stopped.value)
