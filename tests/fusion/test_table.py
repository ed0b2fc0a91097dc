"""Scores of lists as arrays, and what records say of a score."""

import math

import numpy as np
import pytest
from scored_lists import nbest, record

from rescore.errors import FormatError, FusionError, ScoreError
from rescore.fusion import ScoreTable, recogniser_scores
from rescore.fusion.table import signature
from rescore.types import Hypothesis, NBest, Provenance


def test_a_table_equals_one_by_hand():
    table = ScoreTable.of([record(), nbest({"am": 1.0, "lm": 2.0}, name="v")], ["am", "lm"])
    assert table.offsets.tolist() == [0, 3, 4]
    assert table.features.tolist() == [[-10, -2], [-11, -0.5], [-10.5, -1.5], [1, 2]]
    assert table.words.tolist() == [2, 1, 3, 1]


def test_take_gives_lists_and_where_they_were():
    table = ScoreTable.from_arrays(
        [[[1.0], [2.0]], [[3.0]], [[4.0], [5.0], [6.0]]], [[1, 2], [3], [4, 5, 6]], ["x"]
    )
    some, rows = table.take([2, 0])
    assert (some.offsets.tolist(), some.features.ravel().tolist(), some.words.tolist()) == (
        [0, 3, 5],
        [4, 5, 6, 1, 2],
        [4, 5, 6, 1, 2],
    )
    assert (rows.tolist(), some.names) == ([3, 4, 5, 0, 1], ("x",))


def test_rank_is_minus_the_index_unless_it_is_given():
    assert ScoreTable.of([nbest({}, {}, {})], ["rank"]).features.ravel().tolist() == [0, -1, -2]
    assert ScoreTable.of(
        [nbest({"rank": 0.0}, {"rank": -3.0})], ["rank"]
    ).features.ravel().tolist() == [
        0,
        -3,
    ]


def test_a_missing_score_is_named_word_for_word():
    lists = NBest(
        "84-121123-0001",
        tuple(Hypothesis("a", scores) for scores in ({"mdlm": -1.0}, {"mdlm": -1.0}, {"am": 0.0})),
        where="dev.jsonl:12",
    )
    with pytest.raises(ScoreError) as caught:
        ScoreTable.of([lists], ["mdlm"])
    expected = (
        'dev.jsonl:12: utterance 84-121123-0001, hypothesis 3: score "mdlm" is missing, it has am;'
        " `dlmrescore score` adds the scores of models, a recogniser brings its own"
    )
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(value):
    with pytest.raises(
        ScoreError,
        match=r'utterance u, hypothesis 2: score "am" is (nan|inf|-inf), expected a finite number',
    ):
        ScoreTable.of([nbest({"am": 0.0}, {"am": value})], ["am"])


def test_a_table_needs_lists():
    with pytest.raises(FormatError, match="there are no lists"):
        ScoreTable.of([], ["am"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: ScoreTable.from_arrays([]),
            "expected \\(hypotheses, scores\\) for each utterance",
        ),
        (
            lambda: ScoreTable.from_arrays([[1.0, 2.0]]),
            "expected \\(hypotheses, scores\\) for each utterance",
        ),
        (
            lambda: ScoreTable.from_arrays([[[1.0, 2.0]], [[1.0]]]),
            "expected \\(hypotheses, scores\\) for each utterance",
        ),
        (
            lambda: ScoreTable.from_arrays([np.zeros((0, 2)), np.zeros((1, 2))]),
            "do not cut the hypotheses into lists of at least one",
        ),
        (
            lambda: ScoreTable.from_arrays([[[1.0]]], words=[[1, 2]]),
            "the word counts do not have the lengths of the features",
        ),
        (
            lambda: ScoreTable.from_arrays([[[1.0, 2.0]]], names=["a"]),
            r"shape \(1, 2\), expected \(1, 1\)",
        ),
        (
            lambda: ScoreTable.from_arrays([[[1.0, 2.0]]], names=["a", "a"]),
            "expected different ones",
        ),
        (lambda: ScoreTable.of([nbest({})], []), "the score names are missing"),
        (lambda: ScoreTable.from_arrays([[[math.nan]]]), "a feature is not finite"),
        (
            lambda: ScoreTable(np.array([1, 2]), np.zeros((2, 1)), ("a",), np.zeros(2, dtype=int)),
            "the offsets",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(build, message):
    with pytest.raises(FusionError, match=message):
        build()


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"scores": {}},
        {"scores": {"lm": {}}},
        {"scores": {"lm": 3}},
        {"scores": {"lm": {"signature": 3}}},
    ],
)
def test_a_record_may_not_say_what_made_a_score(meta):
    assert signature(record(meta=meta), "lm") is None
    assert signature(NBest("u", ()), "lm") is None
    assert signature(record(), "lm") == "gpt:1"


def test_the_recogniser_s_scores_are_those_that_all_have_and_nobody_made():
    def scored(*scores, ours=()):
        return NBest(
            "u",
            tuple(Hypothesis("x", dict.fromkeys(names, 0.0)) for names in scores),
            provenance={name: Provenance({}) for name in ours},
        )

    assert recogniser_scores(
        [scored(("am", "ngram", "x"), ("ngram", "am")), scored(("am", "ngram"))]
    ) == ("am", "ngram")
    assert recogniser_scores([scored(("am", "mdlm_nelbo", "rank"), ours=["mdlm_nelbo"])]) == ("am",)
    assert recogniser_scores([scored(("rank",)), scored(("rank",))]) == ("rank",)
    assert recogniser_scores([scored(("am",)), scored(())]) == ("rank",)
