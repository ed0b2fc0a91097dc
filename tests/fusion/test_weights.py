"""The weights and their file."""

import json
import math
import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scored_lists import nbest

from rescore.errors import FormatError, FusionError
from rescore.fusion import DevResult, Fusion, digest, fuse, load, save
from rescore.wer import evaluate

finite = st.floats(-1e15, 1e15)
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


def test_scales_alone_are_weights(tmp_path):
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
            (
                'the field "word_bonu" is unknown; expected some of scales, word_bonus, signatures,'
                " dev, tuned_on, temperature, kind"
            ),
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


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path):
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
def test_weights_that_are_not_finite_are_refused(scales, bonus):
    with pytest.raises(FusionError, match=r"expected (a finite number|at least one)"):
        Fusion(scales, bonus)


def test_overlap_counts_the_utterances_tuned_on():
    fusion = Fusion(
        {"am": 1.0}, tuned_on=" ".join(sorted(digest(name) for name in ("a", "b", "c")))
    )
    assert fusion.overlap(["b", "x", "c"]) == 2
    assert Fusion({"am": 1.0}).overlap(["a"]) == 0
    lists = [nbest({"am": 1.0}, name=name) for name in "abx"]
    fused = [replace(each, ref="w0") for each in fuse(lists, fusion)]
    assert [each.raw["meta"]["scores"]["total"]["tuned_on"] for each in fused] == [
        True,
        True,
        False,
    ]
    assert (evaluate(fused).tuned_on, evaluate(fused[2:]).tuned_on) == (2, 0)
    assert evaluate([replace(each, ref="w0") for each in lists]).to_json()["tuned_on"] == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_tuned_temperature_is_positive(temperature):
    with pytest.raises(FusionError, match="expected a positive number"):
        Fusion({"am": 1.0}, temperature=temperature)


def test_totals_are_signed_by_what_makes_them():
    scales = {"am": 1.0, "lm": 0.5}
    variants = [
        Fusion(scales),
        Fusion({"lm": 0.5, "am": 1.0}),
        Fusion(scales, 1.0),
        Fusion(scales, 0.0, {"lm": "m:1"}),
    ]
    assert len({fusion.signature for fusion in variants}) == 4
    assert variants[0].signature == Fusion(scales, tuned_on="x", temperature=3.0).signature


def test_a_digest_has_16_digits():
    assert len(digest("é")) == 16
