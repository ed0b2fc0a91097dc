"""A DevSet counts errors as `evaluate` does, once, and tuning takes it in place of the lists."""

from dataclasses import replace

import numpy as np
import pytest
from tuning_problems import made_up_lists

import rescore
from rescore.errors import FormatError, FusionError, RescoreError, ScoreError
from rescore.formats.record import from_dict
from rescore.fusion import DevSet, dev_set, fuse, tune
from rescore.types import Hypothesis, NBest, Provenance
from rescore.wer import evaluate, list_errors


@pytest.mark.parametrize(
    ("unit", "normalizer"), [("word", "none"), ("char", "none"), ("word", "librispeech")]
)
def test_a_dev_set_counts_what_evaluate_counts(unit, normalizer):
    lists = [*made_up_lists(0), NBest("v", (Hypothesis("X, y"),), "x y")]
    dev = DevSet.of(iter(lists), unit=unit, normalizer=normalizer)
    expected = evaluate(lists, unit=unit, normalizer=normalizer)
    assert (dev.first_pass_wer, dev.oracle_wer) == (expected.wer, expected.oracle_wer)
    assert dev.reference_words == expected.errors.reference_words
    assert dev.offsets.tolist() == np.cumsum([0, *(len(nbest.hyps) for nbest in lists)]).tolist()
    assert (dev.unit, dev.normalizer) == (unit, normalizer)


def test_lists_are_aligned_while_they_are_read_and_each_once(monkeypatch):
    events = []

    def read(lists):
        for nbest in lists:
            events.append(f"read {nbest.id}")
            yield nbest

    def align(nbest, *options):
        events.append(f"align {nbest.id}")
        return list_errors(nbest, *options)

    monkeypatch.setattr(dev_set, "list_errors", align)
    dev = DevSet.of(read(made_up_lists(0, utterances=2)))
    tune(dev, ["am", "mdlm"], cross_validate=2)
    rescore.sweep(dev, {"mdlm": [0, 1]}, base=["am"], resamples=0)
    assert events == ["read u0", "align u0", "read u1", "align u1"]


def test_a_dev_set_gives_the_weights_and_the_sweep_of_its_lists():
    lists = made_up_lists(1, utterances=20)
    dev = DevSet.of(lists, unit="char")
    for names in (["am", "mdlm"], ["mdlm"], ["am", "ngram", "mdlm"]):
        assert tune(dev, names, seed=3) == tune(lists, names, seed=3, unit="char")
    ours = rescore.sweep(dev, {"mdlm": [0, 1, 2]}, base=["am"])
    theirs = rescore.sweep(lists, {"mdlm": [0, 1, 2]}, base=["am"], unit="char")
    assert ours.errors.tolist() == theirs.errors.tolist()
    assert ours.above_high.tolist() == theirs.above_high.tolist()
    assert (ours.unit, ours.held, ours.optimum) == ("char", theirs.held, theirs.optimum)


@pytest.mark.parametrize("options", [{"unit": "char"}, {"normalizer": "librispeech"}])
def test_a_dev_set_is_not_counted_otherwise(options):
    dev = DevSet.of(made_up_lists(0))
    [(name, value)] = options.items()
    message = f'the DevSet counts errors with {name} ".*", not "{value}"; make another'
    with pytest.raises(FusionError, match=message):
        tune(dev, ["am"], **options)
    with pytest.raises(FusionError, match=message):
        rescore.sweep(dev, {"mdlm": [0, 1]}, base=["am"], **options)
    assert tune(dev, ["am"], unit="word", normalizer="none") == tune(dev, ["am"])


def test_a_dev_set_leaves_the_lists_alone_and_keeps_no_other_fields():
    lists = [replace(nbest, raw={"speaker": "s"}) for nbest in made_up_lists(0)]
    dev = DevSet.of(lists)
    assert all(nbest.raw == {"speaker": "s"} for nbest in lists)
    assert all(nbest.raw == {} for nbest in dev.lists)
    weights = tune(dev, ["am", "mdlm"])
    assert [nbest.hyps[0].scores for nbest in fuse(dev.lists, weights)] == [
        nbest.hyps[0].scores for nbest in fuse(lists, weights)
    ]


def test_scores_are_checked_when_they_are_selected():
    [first, *others] = made_up_lists(0)
    other_model = replace(first, provenance={"mdlm": Provenance({"signature": "m:2"})})
    dev = DevSet.of([*others, other_model])
    assert tune(dev, ["am"]).scales == {"am": 1.0}
    with pytest.raises(FusionError, match='score "mdlm" was made by "m:2", earlier ones by "unkno'):
        tune(dev, ["am", "mdlm"])
    with pytest.raises(ScoreError, match='utterance u1, hypothesis 1: score "gone" is missing'):
        tune(dev, ["gone"])


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ([], "there are no lists"),
        ([NBest("u", (Hypothesis("a"),))], "utterance u: the reference .* is missing"),
        ([NBest("u", (Hypothesis("a"),), "")], "utterance u: the reference holds no words"),
    ],
)
def test_lists_without_reference_words_are_refused(lists, message):
    with pytest.raises(FormatError, match=message):
        DevSet.of(lists)


def test_an_unknown_normalizer_is_refused():
    with pytest.raises(RescoreError, match="normaliser 'nobodys' is unknown"):
        DevSet.of(made_up_lists(0), normalizer="nobodys")


def test_a_dev_set_still_says_that_score_is_misspelt():
    records = [{"id": "u", "ref": "a", "hyps": [{"text": "a", "score": -1.0}]}]
    lists = [from_dict(record, "dev.jsonl:1") for record in records]
    with pytest.raises(ScoreError, match='it has "score": named scores stand in "scores"'):
        DevSet.of(lists).table(["am"])
