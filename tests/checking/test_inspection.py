"""Every figure, by hand or against the scorers."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
from checked_lists import BARE, LETTERS, nbest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import LINES, save_small, small_tokenizer

from rescore.checking import check, counts
from rescore.checking.findings import findings
from rescore.checking.summary import summary_json, summary_lines
from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.scorers import ScorerFamily, ScorerOptions, load_scorer, load_vocabulary
from rescore.text import identity, librispeech
from rescore.types import Hypothesis, NBest
from rescore.wer import evaluate


def test_figures_by_hand():
    lists = [
        nbest(
            1,
            "The OLD house",
            "THE OLD HOUSE",
            "the 3 <unk>",
            ref="the old house",
            am=[-1.0, -2.0, -6.0],
        ),
        nbest(2, "我们 no", "", ref="我们 no"),
        nbest(3, "no light.", ref=None, am=[-3.0]),
    ]
    inspection = check(lists, LETTERS)
    assert (inspection.utterances, inspection.hypotheses, dict(inspection.sizes)) == (
        3,
        6,
        {3: 1, 2: 1, 1: 1},
    )
    assert dict(inspection.cases) == {"mixed": 1, "upper": 1, "lower": 3, "none": 1}
    assert (inspection.words, inspection.longest_words) == (3 + 3 + 3 + 3 + 0 + 2, 3)
    counts = {name: tally.count for name, tally in inspection.tallies.items()}
    assert counts == {
        "rewritten": 4,
        "alike": 1,
        "digit": 1,
        "punctuation": 2,
        "tag": 1,
        "unspaced": 1,
        "empty": 1,
        "one_hypothesis": 1,
        "no_reference": 1,
        "unknown": 2,
    }
    seen = [librispeech(hyp.text) for one in lists for hyp in one.hyps]
    tokens = small_tokenizer().encode(seen)
    assert inspection.tokens == sum(map(len, tokens))
    assert inspection.longest_tokens == max(map(len, tokens))
    assert inspection.unknown_tokens == sum(row.count(1) for row in tokens) == 2
    assert dict(inspection.unknown_characters) == {"3": 1, "我": 1, "们": 1}
    raw = small_tokenizer().encode([identity(hyp.text) for one in lists for hyp in one.hyps])
    assert (inspection.raw_tokens, inspection.raw_unknown_tokens) == (
        sum(map(len, raw)),
        sum(row.count(1) for row in raw),
    )
    assert (
        inspection.as_written.first,
        inspection.as_written.oracle,
        inspection.as_written.reference_length,
    ) == (
        2,
        2,
        5,
    )
    assert (inspection.normalized.first, inspection.normalized.oracle, inspection.references) == (
        0,
        0,
        2,
    )
    am = inspection.scores["am"]
    assert (
        am.count,
        am.low,
        am.median,
        am.high,
        am.missing.count,
        am.lists,
        am.varied,
        am.first_highest,
    ) == (4, -6.0, -3.0, -1.0, 2, 1, 1, 1)


@pytest.mark.parametrize("unit", ["word", "char", "char_nospace", "mixed"])
@pytest.mark.parametrize("vocabulary", [LETTERS, BARE])
def test_errors_are_those_of_eval(unit, vocabulary):
    lists = [
        nbest(1, "The old", "the old house"),
        nbest(2, "no light!", "no light", "", ref="No light"),
        nbest(3, "我 想 book", ref="我想 book"),
    ]
    inspection = check(lists, vocabulary, unit=unit)
    for rates, normalizer in (
        (inspection.as_written, "none"),
        (inspection.normalized, "librispeech"),
    ):
        result = evaluate(lists, unit=unit, normalizer=normalizer)
        assert (rates.wer, rates.oracle_wer, rates.reference_length) == (
            result.wer,
            result.oracle_wer,
            result.errors.reference_words,
        )


@pytest.mark.parametrize(
    ("scorer", "estimator", "price"),
    [
        ("mdlm", "nelbo", "nelbo"),
        ("mdlm", "pll", "pll"),
        ("usdm", "pll", "one_pass"),
        ("ar", None, "one_pass"),
    ],
)
def test_the_price_is_what_the_scorer_pays(scorer, estimator, price, tmp_path):
    lists = [nbest(1, *LINES[:3], "", "nobody"), nbest(2, " ".join(LINES[:4]))]
    options = ScorerOptions(
        model=str(save_small(tmp_path / scorer, scorer)),
        estimator=estimator,
        draws=3 if estimator == "nelbo" else None,
        window=16,
    )
    paid = sum(score.evaluations for score in load_scorer(scorer, options).score(lists))
    inspection = check(lists, load_vocabulary(scorer, options))
    assert inspection.tally("over_long").count > 1
    assert summary_json(inspection, "small", draws=3)["evaluations"][price] == paid


def test_folds_cost_at_most_one_evaluation_each(tmp_path):
    lists = [nbest(1, *LINES[:3], "nobody")]
    options = ScorerOptions(model=str(save_small(tmp_path / "mdlm", "mdlm")))
    (score,) = load_scorer("mdlm", options).score(lists)
    inspection = check(lists, load_vocabulary("mdlm", options))
    assert score.evaluations == summary_json(inspection, "small")["evaluations"]["folds"] == 2 * 4


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_medians_and_correlations_are_numpys_or_those_of_a_sample(monkeypatch, size):
    monkeypatch.setattr(counts, "_SAMPLE", min(size, 500))
    random = np.random.default_rng(0)
    values, words = random.normal(-50, 20, 6_000), random.integers(1, 30, 6_000)
    score = counts.ScoreSummary()
    for k, (value, count) in enumerate(zip(values.tolist(), words.tolist(), strict=True)):
        if size > 10 or k < 10:
            score.add(nbest(k, "x", am=[value - 3.0 * count]), "am", [count])
    exact = (values - 3.0 * words)[: score.count]
    if size == 10:
        assert score.median == sorted(exact)[4]
        assert score.length_correlation == pytest.approx(np.corrcoef(exact, words[:10])[0, 1])
    else:
        assert len(score.sample) == len(score.words) == 500
        assert score.median == pytest.approx(
            np.median(exact), abs=6
        )  # standard error of the median of 500: 1.25 x 33 / 22 = 1.9
        assert score.length_correlation == pytest.approx(np.corrcoef(exact, words)[0, 1], abs=0.1)
    assert (score.low, score.high) == (exact.min(), exact.max())


def test_no_list_is_kept():
    seen: list[weakref.ref[NBest]] = []

    def watched():
        for one in (
            nbest(k, "the old", "The new <unk>", "", am=[-1.0, 0.0, None]) for k in range(10)
        ):
            seen.append(weakref.ref(one))
            yield one
            del one
            assert [ref() for ref in seen[:-1]] == [None] * (len(seen) - 1)

    assert check(watched(), LETTERS).utterances == 10


hypotheses = st.builds(
    Hypothesis,
    st.one_of(st.text(max_size=8), st.sampled_from(["", "the old", "The Old.", "我 们", "<unk>"])),
    st.dictionaries(
        st.sampled_from(["am", "lm", "rank"]),
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -1.0])),
    ),
)


any_list = st.builds(
    NBest,
    st.text(min_size=1, max_size=3),
    st.lists(hypotheses, min_size=1, max_size=4).map(tuple),
    st.none() | st.text(max_size=9),
)


@given(st.lists(any_list, max_size=6), st.sampled_from([LETTERS, BARE]))
@settings(max_examples=300, deadline=None)
def test_any_lists_have_a_summary_and_a_json(lists, vocabulary):
    inspection = check(lists, vocabulary)
    assert all(isinstance(line, str) for line in summary_lines(inspection, "small"))
    assert json.loads(json.dumps(summary_json(inspection, "small"), allow_nan=False))[
        "hypotheses"
    ] == sum(len(one.hyps) for one in lists)


@pytest.mark.parametrize("scorer", ["mdlm", "usdm", "ar"])
@pytest.mark.parametrize("changes", [{}, {"window": 32, "normalizer": "none"}])
def test_the_vocabulary_is_the_scorers(scorer, changes, tmp_path):
    for model in (None, str(save_small(tmp_path / scorer, scorer))):
        options = ScorerOptions(model=model, **changes)
        of_scorer = load_scorer(scorer, options).sequencer.vocabulary
        vocabulary = load_vocabulary(scorer, options)
        assert (vocabulary.normalize, vocabulary.window) == (of_scorer.normalize, of_scorer.window)
        assert vocabulary.tokenizer.serialized == of_scorer.tokenizer.serialized


def test_a_vocabulary_needs_no_weights(tmp_path):
    directory = save_small(tmp_path / "small", "mdlm")
    (directory / "model.safetensors").unlink()
    assert load_vocabulary("mdlm", ScorerOptions(model=str(directory))).window == 128
    with pytest.raises(ModelError, match=r"holds objective 'mdlm', expected 'usdm'"):
        load_vocabulary("usdm", ScorerOptions(model=str(directory)))


def test_a_family_of_another_package_brings_its_vocabulary_and_a_function_has_none(monkeypatch):
    family = ScorerFamily("theirs", build, frozenset({"model"}), vocabulary=lambda _: LETTERS)
    monkeypatch.setattr("rescore.scorers.loading.lookup", lambda *_: family)
    assert load_vocabulary("theirs") is LETTERS
    with pytest.raises(ScoreError, match="--scorer theirs does not read --window; leave it out"):
        load_vocabulary("theirs", ScorerOptions(window=16))
    monkeypatch.setattr("rescore.scorers.loading.lookup", lambda *_: build)
    with pytest.raises(ScoreError, match="--scorer theirs has no tokenizer"):
        load_vocabulary("theirs")


def build(options):
    raise AssertionError("built")


def test_an_unknown_scorer_is_named():
    with pytest.raises(RescoreError, match="scorer 'magic' is unknown"):
        load_vocabulary("magic")


def test_lists_of_no_references_or_scores_have_a_summary():
    [bare] = [nbest(1, "", ref=None)]
    lines = list(summary_lines(check([bare], LETTERS), "small"))
    assert [line for line in lines if line.startswith(("errors", "score"))] == []
    assert summary_json(check([bare], LETTERS), "small")["errors"]["as_written"]["wer"] is None


def test_unknown_characters_are_ranked_by_count_and_then_by_character():
    lists = [nbest(1, "θη φκλ μπξ ζ", "the ζ", "π θ")]
    inspection = check(lists, LETTERS)
    expected = [("ζ", 2), ("θ", 2), ("π", 2), *((char, 1) for char in "ηκλμξφ")]
    assert inspection.ranked_unknown_characters == expected
    assert list(summary_json(inspection, "small")["unknown_characters"].items()) == expected
    [message] = [finding.message for finding in findings(inspection) if "tokens" in finding.code]
    assert message.endswith("; unknown characters: ζ θ π η κ λ μ ξ φ")
