"""Reordered lists, with totals and posteriors."""

import math
from dataclasses import replace
from itertools import islice

import pytest
from scored_lists import RECORD, nbest, record

from rescore.errors import FusionError, RescoreError, ScoreError
from rescore.formats.record import from_dict, to_dict
from rescore.fusion import DevResult, Fusion, fuse

DEV = DevResult(
    utterances=1, reference_words=2, first_pass_wer=0.5, wer=0.0, oracle_wer=0.0, plateaus={}
)


def test_fuse_puts_the_winner_first_and_keeps_everything_else():
    original = record()
    fusion = Fusion({"am": 1, "lm": 2.0}, 0.5)
    [fused] = fuse([original], fusion)
    total = {
        "signature": fusion.signature,
        "kind": "total",
        "evaluations": 0,
        "tuned_on": False,
        "first_pass": 2,
    }
    assert original == record()
    assert fused.raw == to_dict(fused) == {
        **RECORD,
        "hyps": [
            {**RECORD["hyps"][1], "scores": {"am": -11.0, "lm": -0.5, "total": -11.5}},
            {**RECORD["hyps"][2], "scores": {"am": -10.5, "lm": -1.5, "total": -12.0}},
            {**RECORD["hyps"][0], "scores": {"am": -10, "lm": -2.0, "total": -13.0}},
        ],
        "meta": {"scores": {**RECORD["meta"]["scores"], "total": total}, "by": "us"},
    }  # fmt: skip
    assert (list(fused.raw), list(fused.raw["hyps"][2])) == (list(RECORD), list(RECORD["hyps"][0]))
    assert isinstance(fused.raw["hyps"][2]["scores"]["am"], int)  # as it was read
    assert [hyp.raw for hyp in fused.hyps] == fused.raw["hyps"]
    assert (fused.where, fused.ref, fused.id) == (original.where, original.ref, original.id)


def test_lists_made_in_python_get_a_whole_record():
    [fused] = fuse([nbest({"am": 1.0}, {"am": 2.0})], Fusion({"am": 1.0}))
    assert fused.raw.pop("meta")["scores"].keys() == {"total"}
    assert fused.raw == {
        "id": "u",
        "hyps": [
            {"text": "w1", "scores": {"am": 2.0, "total": 2.0}},
            {"text": "w0", "scores": {"am": 1.0, "total": 1.0}},
        ],
    }


def test_a_total_that_overflows_names_the_list():
    with pytest.raises(
        FusionError,
        match=r"^dev\.jsonl:12: utterance u: a total is not finite, or too large for a float",
    ):
        list(fuse([nbest({"am": 1e300})], Fusion({"am": 1e12})))


def test_equal_totals_stay_as_they_were():
    lists = nbest(*({"am": value} for value in (0.0, 1.0, 0.0, 1.0, 0.0)))
    [fused] = fuse([lists], Fusion({"am": 1.0}))
    assert [hyp.text for hyp in fused.hyps] == ["w1", "w3", "w0", "w2", "w4"]


def test_scale_0_returns_the_first_pass():
    lists = [
        nbest(*({"first": -float(i), "lm": value} for i, value in enumerate(values)))
        for values in ([3.0, 9.0, 1.0], [0.0], [5.0, 5.0])
    ]
    for before, after in zip(lists, fuse(lists, Fusion({"first": 1.0, "lm": 0.0})), strict=True):
        assert [hyp.text for hyp in after.hyps] == [hyp.text for hyp in before.hyps]


def test_an_older_total_is_replaced():
    [once] = fuse([record()], Fusion({"am": 1.0}))
    [twice] = fuse([once], Fusion({"lm": 1.0}))
    assert [hyp.scores["total"] for hyp in twice.hyps] == [-0.5, -1.5, -2.0]


def test_mbr_moves_only_the_chosen_one():
    scores = [{"am": math.log(p)} for p in (0.4, 0.2, 0.21, 0.19)]
    lists = nbest(*scores, texts=["x y z", "a b c", "a b d", "a b e"])
    [by_map], [by_mbr] = (
        list(fuse([lists], Fusion({"am": 1.0}), decision)) for decision in ("map", "mbr")
    )
    assert [hyp.text for hyp in by_map.hyps] == ["x y z", "a b d", "a b c", "a b e"]
    assert [hyp.text for hyp in by_mbr.hyps] == ["a b d", "x y z", "a b c", "a b e"]
    [cold] = fuse([lists], Fusion({"am": 1.0}), "mbr", temperature=0.01)
    assert cold == by_map


def test_lists_are_read_one_at_a_time():
    def endless():
        while True:
            yield record()

    assert len(list(islice(fuse(endless(), Fusion({"am": 1.0})), 3))) == 3


def test_another_signature_than_tuning_saw_is_refused():
    fusion = Fusion({"am": 1.0, "lm": 1.0}, signatures={"lm": "gpt:2"})
    message = (
        'dev.jsonl:12: utterance u1: score "lm" was made by "gpt:1", the weights were tuned with'
        ' "gpt:2"; score both sets of lists alike, or tune again'
    )
    with pytest.raises(FusionError) as caught:
        list(fuse([record()], fusion))
    assert str(caught.value) == message
    with pytest.raises(
        FusionError,
        match='score "lm" does not say what made it, the weights were tuned with "gpt:2"',
    ):
        list(fuse([record(meta={})], fusion))
    assert list(fuse([record()], Fusion({"am": 1.0, "lm": 1.0}, signatures={"lm": "gpt:1"})))


def test_an_unknown_decision_and_a_missing_score_are_refused():
    with pytest.raises(RescoreError, match="decision 'best' is unknown; known: map, mbr"):
        list(fuse([record()], Fusion({"am": 1.0}), "best"))
    with pytest.raises(ScoreError, match='hypothesis 1: score "mdlm" is missing'):
        list(fuse([record()], Fusion({"am": 1.0, "mdlm": 1.0})))
    with pytest.raises(FusionError, match="the temperature is 0"):
        list(fuse([record()], Fusion({"am": 1.0}), "mbr", temperature=0))


def test_a_score_that_tuning_could_not_name_is_refused_where_it_now_can():
    tuned = Fusion({"am": 1.0, "lm": 1.0}, dev=DEV)
    message = (
        'score "lm" was made by "gpt:1", the weights were tuned with one that does not say what'
        " made it; score both sets of lists alike, or tune again"
    )
    with pytest.raises(FusionError, match=message):
        list(fuse([record()], tuned))
    assert list(fuse([record(meta={})], tuned))
    assert list(fuse([record()], replace(tuned, dev=None)))  # weights written by hand say nothing


def test_posteriors_sum_to_one_and_the_winner_has_word_confidences():
    scores = [{"am": math.log(p)} for p in (0.25, 0.45, 0.3)]
    lists = nbest(*scores, texts=["a b", "a c d", "a b"])
    [fused] = fuse([lists], Fusion({"am": 1.0}), posteriors=True)
    assert [hyp.text for hyp in fused.hyps] == ["a c d", "a b", "a b"]
    assert [hyp.raw["posterior"] for hyp in fused.hyps] == pytest.approx(
        [0.45, 0.3, 0.25]
    )  # each copy its own
    assert fused.hyps[0].raw["word_confidences"] == pytest.approx([1.0, 0.45, 0.45])
    assert all("word_confidences" not in hyp.raw for hyp in fused.hyps[1:])
    assert fused.raw["meta"]["scores"]["total"]["temperature"] == 1.0
    assert from_dict(to_dict(fused), "") == replace(fused, where="")
    [by_mbr] = fuse([lists], Fusion({"am": 1.0}), "mbr", posteriors=True)
    assert by_mbr.hyps[0].text == "a b"
    assert by_mbr.hyps[0].raw["word_confidences"] == pytest.approx([1.0, 0.55])
    assert sum(hyp.raw["posterior"] for hyp in by_mbr.hyps) == pytest.approx(1.0)


def test_the_temperature_is_the_given_one_or_the_tuned_one_or_one():
    lists = nbest({"am": 0.0}, {"am": -2.0})
    for tuned, asked, used in ((None, None, 1.0), (4.0, None, 4.0), (4.0, 0.5, 0.5)):
        [fused] = fuse(
            [lists], Fusion({"am": 1.0}, temperature=tuned), temperature=asked, posteriors=True
        )
        assert fused.hyps[0].raw["posterior"] == pytest.approx(1 / (1 + math.exp(-2.0 / used)))
        assert fused.raw["meta"]["scores"]["total"]["temperature"] == used
    three = nbest(
        *({"am": math.log(p)} for p in (0.4, 0.2, 0.21, 0.19)),
        texts=["x y z", "a b c", "a b d", "a b e"],
    )
    assert [
        next(fuse([three], Fusion({"am": 1.0}, temperature=t), "mbr")).hyps[0].text
        for t in (0.01, 1.0)
    ] == ["x y z", "a b d"]


def test_posteriors_of_an_older_total_go_and_fields_of_other_tools_stay():
    [once] = fuse([record()], Fusion({"am": 1.0}), posteriors=True)
    [twice] = fuse([once], Fusion({"lm": 1.0}), posteriors=True)
    assert [("word_confidences" in hyp.raw, hyp.text) for hyp in twice.hyps] == [
        (True, "a"),
        (False, "a b c"),
        (False, "a b"),
    ]
    assert [hyp.raw["posterior"] for hyp in twice.hyps] == sorted(
        (hyp.raw["posterior"] for hyp in twice.hyps), reverse=True
    )
    [plain], [never] = fuse([twice], Fusion({"am": 1.0})), fuse([record()], Fusion({"am": 1.0}))
    assert plain == never
    theirs = nbest({"am": 1.0})
    theirs = replace(
        theirs, hyps=(replace(theirs.hyps[0], raw={"posterior": "high", "word_confidences": 3}),)
    )
    [kept] = fuse([theirs], Fusion({"am": 1.0}))
    assert (kept.hyps[0].raw["posterior"], kept.hyps[0].raw["word_confidences"]) == ("high", 3)
