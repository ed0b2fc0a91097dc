"""New scores in the native record: values, provenance, standard errors, token scores."""

import json
import math
from dataclasses import replace

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats.jsonl import encode
from rescore.formats.record import from_dict, to_dict, with_score
from rescore.types import Score

GOOD = (
    '{"id": "u1", "ref": "a b", "hyps": [{"text": "a b", "scores": {"am": -1.5, "lm": -2.0}}, '
    '{"text": "a", "scores": {"am": -3.0, "lm": 0.5}}]}'
)


def score(*values, **options):
    return Score(values, "sig", "neg_nelbo", 8, **options)


def test_a_new_score_leaves_the_input_as_it_is():
    nbest = from_dict(json.loads(GOOD), "x.jsonl:1")
    new = with_score(nbest, "mdlm", score(-7.0, -8.0, std_errors=(0.25, math.nan)))
    assert to_dict(nbest) == nbest.raw == json.loads(GOOD)
    assert [hyp.scores for hyp in new.hyps] == [
        {"am": -1.5, "lm": -2.0, "mdlm": -7.0},
        {"am": -3.0, "lm": 0.5, "mdlm": -8.0},
    ]
    record = json.loads(encode(new))
    assert list(record) == ["id", "ref", "hyps", "meta"]
    assert record["meta"] == {
        "scores": {"mdlm": {"signature": "sig", "kind": "neg_nelbo", "evaluations": 8}}
    }
    assert [hyp["std_errors"] for hyp in record["hyps"]] == [{"mdlm": 0.25}, {"mdlm": None}]
    again = from_dict(record, "y")
    assert [hyp.scores for hyp in again.hyps] == [hyp.scores for hyp in new.hyps]


def test_scores_and_meta_accumulate():
    nbest = from_dict(
        {**json.loads(GOOD), "meta": {"tool": "t", "scores": {"am": {"signature": "x"}}}}, "x"
    )
    two = with_score(
        with_score(nbest, "a", score(1.0, 2.0, std_errors=(0.1, 0.2))),
        "b",
        score(3.0, 4.0, std_errors=(0.3, 0.4)),
    )
    meta = to_dict(two)["meta"]
    assert list(meta) == ["tool", "scores"]
    assert list(meta["scores"]) == list(two.provenance) == ["am", "a", "b"]
    assert [dict(hyp.raw["std_errors"]) for hyp in two.hyps] == [
        {"a": 0.1, "b": 0.3},
        {"a": 0.2, "b": 0.4},
    ]


def test_token_scores_stand_by_name_and_go_with_their_score():
    nbest = from_dict(json.loads(GOOD), "x")
    one = with_score(
        nbest,
        "a",
        score(-3.0, -1.0, token_scores=((("\u2581a", -1.0), ("</s>", -2.0)), (("</s>", -1.0),))),
    )
    two = with_score(one, "b", score(-2.0, -1.0, token_scores=((("a", -2.0),), (("b", -1.0),))))
    record = json.loads(encode(two))
    assert [hyp["token_scores"] for hyp in record["hyps"]] == [
        {"a": [["\u2581a", -1.0], ["</s>", -2.0]], "b": [["a", -2.0]]},
        {"a": [["</s>", -1.0]], "b": [["b", -1.0]]},
    ]
    assert encode(from_dict(record, "y")) == encode(two)
    assert "token_scores" not in json.loads(encode(nbest))["hyps"][0]
    plain = with_score(two, "a", score(5.0, 6.0), overwrite=True)
    assert [hyp.raw["token_scores"] for hyp in plain.hyps] == [
        {"b": [["a", -2.0]]},
        {"b": [["b", -1.0]]},
    ]
    with pytest.raises(
        FormatError,
        match=(
            r'hypothesis 1: "token_scores" is a list, '
            r"expected an object of names and lists of \[piece, number\]"
        ),
    ):
        from_dict({"id": "u", "hyps": [{"text": "a", "token_scores": []}]}, "x")


def test_an_existing_name_is_an_error_unless_overwritten():
    nbest = with_score(
        from_dict(json.loads(GOOD), "x.jsonl:1"), "mdlm", score(1.0, 2.0, std_errors=(0.1, 0.2))
    )
    for name in ("am", "mdlm"):
        with pytest.raises(
            ScoreError,
            match=f'^x.jsonl:1: utterance u1: score "{name}" is there already; use --overwrite ',
        ):
            with_score(nbest, name, score(1.0, 2.0))
    with pytest.raises(ScoreError, match="is there already"):
        with_score(
            replace(nbest, hyps=from_dict(json.loads(GOOD), "x").hyps), "mdlm", score(1.0, 2.0)
        )
    new = with_score(nbest, "mdlm", score(5.0, 6.0), overwrite=True)
    assert [hyp.scores["mdlm"] for hyp in new.hyps] == [5.0, 6.0]
    assert [hyp.raw["std_errors"] for hyp in new.hyps] == [{}, {}]


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (
            score(1.0),
            'x: utterance u1: score "m" has 1 values, expected one for each of 2 hypotheses',
        ),
        (
            score(1.0, 2.0, std_errors=(1.0,)),
            (
                'x: utterance u1: score "m" has 1 standard errors, '
                "expected one for each of 2 hypotheses"
            ),
        ),
        (
            score(1.0, math.nan),
            'x: utterance u1, hypothesis 2: score "m" is NaN, expected a finite number',
        ),
        (
            score(-math.inf, 1.0),
            'x: utterance u1, hypothesis 1: score "m" is infinite, expected a finite number',
        ),
        (
            score(1.0, 1.0, std_errors=(0.0, math.inf)),
            (
                'x: utterance u1, hypothesis 2: the standard error of "m" is infinite, '
                "expected a finite number"
            ),
        ),
        (
            score(1.0, 2.0, token_scores=((("a", 1.0),),)),
            'x: utterance u1: score "m" has 1 token scores, expected one for each of 2 hypotheses',
        ),
        (
            score(1.0, 2.0, token_scores=((("a", 1.0),), (("a", 3.0), ("b", -math.inf)))),
            (
                "x: utterance u1, hypothesis 2: score \"m\" of the token 'b' is infinite, "
                "expected a finite number"
            ),
        ),
    ],
)
def test_scores_that_do_not_fit_are_refused(new, expected):
    with pytest.raises(ScoreError) as caught:
        with_score(from_dict(json.loads(GOOD), "x"), "m", new)
    assert str(caught.value) == expected
