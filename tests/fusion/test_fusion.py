"""Totals, reordered lists and the weights file."""

import json
import math
import os
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError, FusionError, RescoreError, ScoreError
from rescore.formats.record import from_dict, to_dict
from rescore.fusion import DevResult, Fusion, ScoreTable, digest, fuse, load, save
from rescore.fusion.table import signature
from rescore.fusion.totals import totals, winners
from rescore.types import Hypothesis, NBest
from rescore.wer import evaluate

RECORD = {
    "speaker": "s1",
    "hyps": [
        {"scores": {"am": -10, "lm": -2.0}, "text": "a b", "tokens": [1, 2]},
        {"scores": {"am": -11.0, "lm": -0.5}, "text": "a", "std_errors": {"lm": 0.1}},
        {"text": "a b c", "scores": {"am": -10.5, "lm": -1.5}},
    ],
    "meta": {
        "scores": {"lm": {"signature": "gpt:1", "kind": "log_prob", "evaluations": 3}},
        "by": "us",
    },
    "ref": "a b",
    "id": "u1",
}

DEV = DevResult(
    utterances=1, reference_words=2, first_pass_wer=0.5, wer=0.0, oracle_wer=0.0, plateaus={}
)


def record(**changes):
    return from_dict({**deepcopy(RECORD), **changes}, "dev.jsonl:12")


def nbest(*scores, name="u", texts=None):
    texts = texts or [f"w{i}" for i in range(len(scores))]
    return NBest(
        name,
        tuple(Hypothesis(text, one) for text, one in zip(texts, scores, strict=True)),
        where="dev.jsonl:12",
    )


# --- arrays ------------------------------------------------------------------------------------------------------------------------------


def test_gather_and_totals_by_hand():
    table = ScoreTable.of([record(), nbest({"am": 1.0, "lm": 2.0}, name="v")], ["am", "lm"])
    assert table.offsets.tolist() == [0, 3, 4]
    assert table.features.tolist() == [[-10, -2], [-11, -0.5], [-10.5, -1.5], [1, 2]]
    assert table.words.tolist() == [2, 1, 3, 1]
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


@given(st.lists(st.lists(st.integers(-2, 2), min_size=1, max_size=6), min_size=1, max_size=8))
@settings(deadline=None)
def test_winners_are_the_first_of_the_highest(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    expected = [begin + one.index(max(one)) for begin, one in zip(offsets, lists, strict=False)]
    assert winners(np.concatenate(lists).astype(float), offsets).tolist() == expected


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
    expected = 'dev.jsonl:12: utterance 84-121123-0001, hypothesis 3: score "mdlm" is missing; run `dlmrescore score` on this file again'
    assert str(caught.value) == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(value):
    with pytest.raises(
        ScoreError,
        match=r'utterance u, hypothesis 2: score "am" is (nan|inf|-inf), expected a finite number',
    ):
        ScoreTable.of([nbest({"am": 0.0}, {"am": value})], ["am"])


def test_no_lists():
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
def test_arrays_that_do_not_fit(build, message):
    with pytest.raises(FusionError, match=message):
        build()


# --- fuse --------------------------------------------------------------------------------------------------------------------------------


def test_fuse_puts_the_winner_first_and_keeps_everything_else():
    original = record()
    fusion = Fusion({"am": 1, "lm": 2.0}, 0.5)
    [fused] = fuse([original], fusion)
    made = {"signature": fusion.signature, "kind": "total", "evaluations": 0, "tuned_on": False}
    assert original == record()
    assert fused.raw == to_dict(fused) == {
        **RECORD,
        "hyps": [
            {**RECORD["hyps"][1], "scores": {"am": -11.0, "lm": -0.5, "total": -11.5}},
            {**RECORD["hyps"][2], "scores": {"am": -10.5, "lm": -1.5, "total": -12.0}},
            {**RECORD["hyps"][0], "scores": {"am": -10, "lm": -2.0, "total": -13.0}},
        ],
        "meta": {"scores": {**RECORD["meta"]["scores"], "total": made}, "by": "us"},
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
        list(fuse([nbest({"am": 1e300})], Fusion({"am": 1e300})))


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
    message = 'dev.jsonl:12: utterance u1: score "lm" was made by "gpt:1", the weights were tuned with "gpt:2"; score both sets of lists alike, or tune again'
    with pytest.raises(FusionError) as caught:
        list(fuse([record()], fusion))
    assert str(caught.value) == message
    with pytest.raises(
        FusionError,
        match='score "lm" does not say what made it, the weights were tuned with "gpt:2"',
    ):
        list(fuse([record(meta={})], fusion))
    assert list(fuse([record()], Fusion({"am": 1.0, "lm": 1.0}, signatures={"lm": "gpt:1"})))


@pytest.mark.parametrize(
    "meta",
    [
        None,
        {},
        {"scores": {}},
        {"scores": {"lm": {}}},
        {"scores": {"lm": 3}},
        {"scores": {"lm": {"signature": 3}}},
    ],
)
def test_a_record_may_not_say_what_made_a_score(meta):
    assert signature(NBest("u", (), raw={"meta": meta}), "lm") is None
    assert signature(record(), "lm") == "gpt:1"


def test_an_unknown_decision_and_a_missing_score():
    with pytest.raises(RescoreError, match="decision 'best' is unknown; known: map, mbr"):
        list(fuse([record()], Fusion({"am": 1.0}), "best"))
    with pytest.raises(ScoreError, match='hypothesis 1: score "mdlm" is missing'):
        list(fuse([record()], Fusion({"am": 1.0, "mdlm": 1.0})))
    with pytest.raises(FusionError, match="the temperature is 0"):
        list(fuse([record()], Fusion({"am": 1.0}), "mbr", temperature=0))


def test_a_score_that_tuning_could_not_name_is_refused_where_it_now_can():
    tuned = Fusion({"am": 1.0, "lm": 1.0}, dev=DEV)
    message = 'score "lm" was made by "gpt:1", the weights were tuned with one that does not say what made it; score both sets of lists alike, or tune again'
    with pytest.raises(FusionError, match=message):
        list(fuse([record()], tuned))
    assert list(fuse([record(meta={})], tuned))
    assert list(fuse([record()], replace(tuned, dev=None)))  # weights written by hand say nothing


# --- posteriors --------------------------------------------------------------------------------------------------------------------------


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


# --- the weights file --------------------------------------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False)
ends = st.none() | finite
results = st.builds(
    DevResult,
    utterances=st.integers(0, 10**6),
    reference_words=st.integers(0, 10**9),
    first_pass_wer=finite,
    wer=finite,
    oracle_wer=finite,
    plateaus=st.dictionaries(st.text(max_size=5), st.tuples(ends, ends), max_size=3),
    cross_validated_wer=ends,
    normalizer=st.text(max_size=5),
)
fusions = st.builds(
    Fusion,
    scales=st.dictionaries(st.text(max_size=5), finite, min_size=1, max_size=4),
    word_bonus=finite,
    signatures=st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3),
    dev=st.none() | results,
    tuned_on=st.just("") | st.just(f"{digest('a')} {digest('b')}"),
    temperature=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
)


@given(fusions)
@settings(max_examples=60, deadline=None)
def test_save_then_load_is_the_identity(tmp_path_factory, fusion):
    path = tmp_path_factory.getbasetemp() / "fusion.json"
    save(fusion, path)
    back = load(path)
    assert back == fusion
    assert list(back.scales) == list(fusion.scales)  # the order says which is first


def test_weights_written_by_hand(tmp_path):
    path = tmp_path / "fusion.json"
    path.write_text('{"scales": {"am": 1, "mdlm": 0.4}}')
    assert load(path) == Fusion({"am": 1.0, "mdlm": 0.4})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "broken JSON"),
        ("[]", "not weights as `dlmrescore tune` writes them: Expected `object`, got `array`"),
        ("{}", "missing required field `scales`"),
        ('{"scales": {}}', "there are no scales"),
        ('{"scales": {"am": "1"}}', "Expected `float`, got `str`"),
        (
            '{"scales": {"am": 1}, "word_bonu": 3}',
            'the field "word_bonu" is unknown; expected some of scales, word_bonus, signatures, dev, tuned_on, temperat',
        ),
        ('{"scales": {"am": 1}, "word_bonus": null}', "Expected `float`, got `null`"),
        (
            '{"scales": {"am": 1}, "temperature": 0}',
            "the temperature is 0.0, expected a positive number or null",
        ),
        ('{"scales": {"am": 1e999}}', "NaN, Infinity or a number too large"),
    ],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    path = tmp_path / "fusion.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=f"fusion.json: .*{message}") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_missing_folder(tmp_path):
    with pytest.raises(FormatError, match=r"none\.json: cannot be read"):
        load(tmp_path / "none.json")
    with pytest.raises(FormatError, match="cannot be written"):
        save(Fusion({"am": 1.0}), tmp_path / "none" / "fusion.json")


def test_saving_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "fusion.json"
    save(Fusion({"am": 1.0}), path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FormatError, match="cannot be written"):
        save(Fusion({"am": 2.0}), path)
    assert os.listdir(tmp_path) == ["fusion.json"]
    assert json.loads(path.read_text())["scales"] == {"am": 1.0}


@pytest.mark.parametrize(
    ("scales", "bonus"),
    [
        ({"am": math.nan}, 0.0),
        ({"am": 1.0, "lm": math.inf}, 0.0),
        ({"am": 1.0}, math.nan),
        ({}, 0.0),
    ],
)
def test_weights_are_finite(scales, bonus):
    with pytest.raises(FusionError, match=r"expected (a finite number|at least one)"):
        Fusion(scales, bonus)


def test_overlap_counts_the_utterances_tuned_on():
    fusion = Fusion(
        {"am": 1.0}, tuned_on=" ".join(sorted(digest(name) for name in ("a", "b", "c")))
    )
    assert fusion.overlap(["b", "x", "c"]) == 2
    assert Fusion({"am": 1.0}).overlap(["a"]) == 0
    lists = [nbest({"am": 1.0}, name=name) for name in "abx"]
    fused = [replace(one, ref="w0") for one in fuse(lists, fusion)]
    assert [one.raw["meta"]["scores"]["total"]["tuned_on"] for one in fused] == [True, True, False]
    assert (evaluate(fused).tuned_on, evaluate(fused[2:]).tuned_on) == (2, 0)
    assert evaluate([replace(one, ref="w0") for one in lists]).to_json()["tuned_on"] == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_tuned_temperature_is_positive(temperature):
    with pytest.raises(FusionError, match="expected a positive number"):
        Fusion({"am": 1.0}, temperature=temperature)


def test_totals_are_signed_by_what_makes_them():
    scales = {"am": 1.0, "lm": 0.5}
    made = [
        Fusion(scales),
        Fusion({"lm": 0.5, "am": 1.0}),
        Fusion(scales, 1.0),
        Fusion(scales, 0.0, {"lm": "m:1"}),
    ]
    assert len({fusion.signature for fusion in made}) == 4
    assert made[0].signature == Fusion(scales, tuned_on="x", temperature=3.0).signature


def test_digests():
    assert len(digest("é")) == 16
