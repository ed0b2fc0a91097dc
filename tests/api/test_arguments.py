"""The Python interface: what may stand for a list, and wrong arguments in one line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from small import save_small

import rescore
from rescore.errors import ArgumentError, FormatError, RescoreError, ScoreError
from rescore.experiment import Options
from rescore.experiment.options import OptionsKeywords
from rescore.fusion import SearchSettings, SweepSettings
from rescore.fusion.descent import SearchKeywords
from rescore.fusion.sweep import SweepKeywords
from rescore.scorers import ScorerKeywords, ScorerOptions

LISTS = [
    ("u1", [("the old horse", {"am": -1.0}), ("the old house", {"am": -2.0})], "the old house"),
    {"id": "u2", "ref": "a letter", "hyps": [{"text": "a letter", "scores": {"am": -1}}]},
    rescore.nbest("u3", [("no light", {"am": np.float32(-3.0)})], ref="no light"),
]


@pytest.mark.parametrize(
    ("keywords", "record"),
    [
        (ScorerKeywords, ScorerOptions),
        (SearchKeywords, SearchSettings),
        (SweepKeywords, SweepSettings),
        (OptionsKeywords, Options),
    ],
)
def test_typed_keywords_are_the_fields_of_their_record(keywords, record):
    assert list(keywords.__annotations__) == [field.name for field in fields(record)]


def test_dictionaries_and_tuples_stand_for_lists_everywhere(tmp_path):
    weights = rescore.tune(LISTS, ["am"], restarts=1)
    best = list(rescore.fuse(LISTS, weights))
    assert [nbest.id for nbest in best] == ["u1", "u2", "u3"]
    assert rescore.evaluate(LISTS, baseline=LISTS).utterances == 3
    assert rescore.sweep(LISTS, {"am": [1, 2]}, base={"rank": 1}, resamples=0).utterances == 3
    assert rescore.write(LISTS, tmp_path / "lists.jsonl") == 3
    again = list(rescore.read(tmp_path / "lists.jsonl"))
    assert [(n.id, n.ref, [(h.text, dict(h.scores)) for h in n.hyps]) for n in again] == [
        (
            "u1",
            "the old house",
            [("the old horse", {"am": -1.0}), ("the old house", {"am": -2.0})],
        ),
        ("u2", "a letter", [("a letter", {"am": -1.0})]),
        ("u3", "no light", [("no light", {"am": -3.0})]),
    ]


def test_hypotheses_may_be_texts_pairs_records_and_dictionaries():
    hyps = ["a", ("b", {"am": -1}), rescore.Hypothesis("c"), {"text": "d", "scores": {"am": 0.5}}]
    made = rescore.nbest("u", hyps)
    assert [(hyp.text, dict(hyp.scores)) for hyp in made.hyps] == [
        ("a", {}),
        ("b", {"am": -1.0}),
        ("c", {}),
        ("d", {"am": 0.5}),
    ]


WRONG = [
    (lambda: rescore.score("dev.jsonl"), r"score takes lists, got a str \('dev.jsonl'\); read th"),
    (lambda: rescore.evaluate(Path("x")), r"evaluate takes lists, .*rescore\.read\('x'\)"),
    (lambda: rescore.score(LISTS[2]), r"score takes many lists, got one; put it in brackets"),
    (lambda: rescore.evaluate(3), r"evaluate takes lists, got an int \(3\), expected an iterable"),
    (lambda: rescore.evaluate(["u"]), r"evaluate: list 1 is a str \('u'\), expected an NBest, a"),
    (lambda: rescore.tune(LISTS, "am"), r"tune: the score names are a str \('am'\), expected a"),
    (lambda: rescore.tune(LISTS, ["am"], restart=1), r"option of tune 'restart' .* \"restarts\"\?"),
    (lambda: rescore.fuse(LISTS, "w.json"), r"expected a Fusion; load them: rescore\.load_weights"),
    (lambda: rescore.run("a", "b", "c", seeds=1), r"option of run 'seeds' .* did you mean \"seed"),
    (lambda: rescore.sweep(LISTS, {}, resample=0), r"option of sweep 'resample' is unknown"),
    (lambda: rescore.score_texts("a b"), r"score_texts takes texts, got one: a str \('a b'\)"),
    (lambda: rescore.score_texts(["a", None]), r"text 1 is a NoneType, expected a string"),
    (lambda: rescore.score(LISTS, 3), r"the scorer is an int \(3\), expected a specification"),
    (lambda: rescore.load_scorer("mdlm", draws="8"), r"scorer option 'draws' is a str \('8'\), e"),
    (lambda: rescore.load_scorer("mdlm", draws=True), r"'draws' is a bool \(True\), expected a wh"),
    (lambda: rescore.load_scorer("usdm", t="x"), r"'t' is a str \('x'\), expected a number bet"),
    (lambda: rescore.load_scorer("mdlm", per_token=1), r"'per_token' is an int \(1\), expected Tr"),
    (lambda: rescore.load_scorer("mdlm", ScorerOptions(), t=0.1), r"as a record or as keywords"),
    (lambda: rescore.read(3), r"read takes the path of a file, got an int \(3\)"),
    (
        lambda: rescore.read("x", "trn", idz=1),
        r"option of the format trn 'idz' is unknown",
    ),
    (lambda: rescore.write(LISTS, "x", "trn", a=1), r"option of the format trn 'a' is unknown"),
    (lambda: rescore.nbest(1, ["a"]), r"nbest: the id is an int \(1\), expected a string"),
    (lambda: rescore.nbest("u", "a b"), r"utterance u: the hypotheses are a str \('a b'\), expect"),
    (
        lambda: rescore.nbest("u", [3]),
        r"utterance u, hypothesis 1 is an int \(3\), expected a",
    ),
    (lambda: rescore.nbest("u", [("a", -1.0)]), r"hypothesis 1 is a tuple, expected a text or a p"),
    (lambda: rescore.nbest("u", [("a", {"am": "1"})]), r'score "am" is a str .*, expected a numb'),
    (lambda: rescore.nbest("u", ["a"], ref=1), r"the reference is an int \(1\), expected a string"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message[:30] for _, message in WRONG])
def test_wrong_types_and_misspelt_options_are_one_line_at_the_call(call, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert "\n" not in str(caught.value)


def test_wrong_values_are_one_line_too():
    for call, error, message in (
        (lambda: rescore.nbest(" ", ["a"]), FormatError, "nbest: the id is empty"),
        (lambda: rescore.nbest("u", []), FormatError, "utterance u: there is no hypothesis"),
        (lambda: rescore.nbest("u", [("a", {"x": np.nan})]), FormatError, 'score "x" is nan'),
        (lambda: list(rescore.score([{"id": "u"}])), FormatError, 'score: list 1: .*"hyps" is m'),
        (lambda: rescore.load_scorer("x=mdlm"), RescoreError, "x would be the name of a score"),
        (lambda: rescore.load_scorer("mdlm nelbo"), RescoreError, "is not written as"),
        (lambda: rescore.load_scorer("mldm"), RescoreError, "scorer 'mldm' is unknown"),
        (lambda: rescore.score([], "mdlm", estmator="pll"), ScoreError, 'did you mean "estimator"'),
        (
            lambda: rescore.score([], "mdlm:pll", estimator="nelbo"),
            ScoreError,
            "specified with the estimator pll, and --estimator is nelbo; give it once",
        ),
    ):
        with pytest.raises(error, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_one_specification_for_python_and_the_command(tmp_path):
    model = save_small(tmp_path / "mdlm", "mdlm")
    spec = f"mdlm:nelbo@{model}"
    scorer = rescore.load_scorer(spec, draws=2)
    assert scorer.signature == rescore.load_scorer("mdlm:nelbo", model=model, draws=2).signature
    [scored] = rescore.score(LISTS[:1], f"big={spec}", draws=2)
    [loaded] = rescore.score(LISTS[:1], scorer, name="big")
    assert set(scored.hyps[0].scores) == {"am", "big"}
    command = scored.provenance["big"].get("command")
    assert command == f"dlmrescore score --scorer {spec} --draws 2"
    assert loaded.provenance["big"].get("command") is None
    assert scored.hyps == loaded.hyps


def test_texts_have_scores_of_their_own(tmp_path):
    for objective, spec in (("ar", "ar"), ("usdm", "usdm:nelbo"), ("mdlm", "mdlm")):
        model = save_small(tmp_path / objective, objective)
        scorer = rescore.load_scorer(spec, model=model)
        texts = ["the old house", "", "a letter", "the old house"]
        values = rescore.score_texts(texts, scorer)
        assert values[0] == values[3]
        alone = [rescore.score_texts([text], scorer)[0] for text in texts]
        assert values == pytest.approx(alone, rel=1e-5)
    assert rescore.score_texts([], scorer) == []
