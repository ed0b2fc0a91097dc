"""Evaluations by hand, and what cannot be evaluated."""

import json
from dataclasses import fields, replace

import pytest
from wer_cases import nbest

from rescore.errors import FormatError, RescoreError
from rescore.types import ErrorCounts, NBest, Provenance
from rescore.wer import Comparison, bootstrap_ci, evaluate, probability_of_improvement

SYSTEM = [
    nbest("1", "a b c d", "a b c x", "a b c d"),
    nbest("2", "e f", "e f", "e"),
    nbest("3", "", "uh", ""),
]
BASELINE = [nbest("2", "e f", "e"), nbest("1", "a b c d", "a x"), nbest("3", "", "uh")]


def test_an_evaluation_equals_one_by_hand():
    """System: 1 substitution, 0, 1 insertion of 6 words; oracle 0. Baseline: 3, 1, 1."""
    result = evaluate(SYSTEM, BASELINE)
    assert result.errors == ErrorCounts(1, 1, 0, 6)
    assert (result.utterances, result.wer, result.oracle_wer, result.clusters) == (3, 2 / 6, 0.0, 3)
    assert result.ci95 == bootstrap_ci([1, 0, 1], [4, 2, 0])
    comparison = result.comparison
    assert (comparison.baseline_wer, comparison.baseline_ci95) == (
        5 / 6,
        bootstrap_ci([3, 1, 1], [4, 2, 0]),
    )
    assert comparison.absolute_reduction == pytest.approx(3 / 6)
    assert comparison.relative_reduction == pytest.approx(3 / 5)
    assert comparison.oracle_gap_closed == pytest.approx(3 / 5)
    assert comparison.reduction_ci95 == bootstrap_ci([2, 1, 0], [4, 2, 0])
    assert comparison.probability_better == probability_of_improvement([1, 0, 1], [3, 1, 1])


def fused(number, ref, *texts, first_pass):
    total = Provenance({"signature": "fusion:1", "kind": "total", "first_pass": first_pass})
    return replace(nbest(number, ref, *texts), provenance={"total": total})


def test_fused_lists_are_compared_with_the_first_pass():
    """First pass: 2, 0 and 1 errors of 6 words; the system makes 1, 0 and 1."""
    lists = [
        fused("1", "a b c d", "a b c x", "x b c x", first_pass=1),
        fused("2", "a b", "a b", "x b", first_pass=0),
        nbest("3", "", "x"),
    ]
    result = evaluate(lists)
    first_pass = result.first_pass
    assert first_pass.baseline_wer == 3 / 6
    assert first_pass.absolute_reduction == pytest.approx(1 / 6)
    assert first_pass.probability_better == probability_of_improvement([1, 0, 1], [2, 0, 1])
    assert result.to_json()["first_pass"]["baseline_wer"] == 3 / 6
    assert evaluate(SYSTEM).first_pass is None


@pytest.mark.parametrize("first_pass", ["1", -1, 5, None, True, 1.0])
def test_a_first_pass_that_is_no_index_counts_as_unknown(first_pass):
    assert evaluate([fused("1", "a b", "a b", "x b", first_pass=first_pass)]).first_pass is None


def test_the_json_is_flat_and_plain():
    alone, compared = evaluate(SYSTEM).to_json(), evaluate(SYSTEM, BASELINE).to_json()
    assert json.loads(json.dumps(compared)) == compared
    assert compared["errors"] == {
        "substitutions": 1,
        "insertions": 1,
        "deletions": 0,
        "reference_words": 6,
    }
    assert compared.keys() - alone.keys() == {field.name for field in fields(Comparison)}
    assert alone.keys() <= compared.keys()
    assert {
        name: compared[name] for name in alone
    } == alone  # a baseline changes no figure of the system
    assert isinstance(compared["ci95"], list)


def test_units_and_normalisers_change_what_is_counted():
    lists = [nbest("1", "It's ON.", "it's on", "it is on")]
    assert evaluate(lists).wer == 1.0
    assert evaluate(lists, normalizer="librispeech").wer == 0.0
    characters = evaluate(lists, unit="char", normalizer="librispeech")
    assert characters.errors == ErrorCounts(0, 0, 0, 7)
    assert (characters.unit, characters.normalizer) == ("char", "librispeech")
    with pytest.raises(
        RescoreError, match="known: librispeech, none, whisper-basic, whisper-english"
    ):
        evaluate(lists, normalizer="nobody's")


def test_clusters_come_from_the_caller():
    lists = [
        nbest(f"{speaker}{i}", "a b", "a b" if speaker == "s" else "x b", speaker=speaker)
        for speaker in "st"
        for i in range(10)
    ]
    result = evaluate(lists, cluster=lambda nbest: nbest.raw["speaker"])
    assert (result.clusters, result.ci95) == (2, (0.0, 0.5))


def test_a_perfect_baseline_leaves_nothing_to_gain():
    perfect = [nbest("1", "a b", "a b")]
    comparison = evaluate(perfect, perfect).comparison
    assert (
        comparison.oracle_gap_closed,
        comparison.relative_reduction,
        comparison.absolute_reduction,
    ) == (None, None, 0.0)
    assert comparison.probability_better == 0.5


def test_a_baseline_better_than_our_oracle_leaves_no_gap_to_close():
    comparison = evaluate([nbest("1", "a b", "x y", "a y")], [nbest("1", "a b", "a b")]).comparison
    assert (
        comparison.oracle_gap_closed,
        comparison.absolute_reduction,
        comparison.probability_better,
    ) == (None, -1.0, 0.0)


def test_a_baseline_without_references_is_counted_against_ours():
    stripped = [NBest(nbest.id, nbest.hyps) for nbest in BASELINE]
    assert evaluate(SYSTEM, stripped) == evaluate(SYSTEM, BASELINE)


NO_WORDS = "dev.jsonl:1: utterance 1: the reference holds no words"
NOT_DEFINED = "an error rate is not defined; give --refs with words"
BOTH = "both need the same"


@pytest.mark.parametrize(
    ("lists", "baseline", "message"),
    [
        (
            [nbest("1", None, "a")],
            None,
            (
                'dev.jsonl:1: utterance 1: the reference ("ref") is missing;'
                " errors can only be counted against one, give --refs"
            ),
        ),
        ([nbest("1", "", "a")], None, f"{NO_WORDS}: {NOT_DEFINED}"),
        (
            [nbest("1", "", "a"), nbest("2", " ", "b")],
            None,
            f"{NO_WORDS}, like those of the other 1 utterances: {NOT_DEFINED}",
        ),
        ([], None, "there are no lists: the input is empty"),
        (
            SYSTEM + SYSTEM[:1],
            None,
            "dev.jsonl:1: utterance 1: this id was counted before; every utterance needs its own",
        ),
        (
            SYSTEM,
            BASELINE[1:],
            f"utterance 2: it is missing from the baseline; {BOTH} utterances",
        ),
        (
            SYSTEM[1:],
            BASELINE,
            (
                "dev.jsonl:1: utterance 1: it is in the baseline and not among the evaluated lists;"
                f" {BOTH} utterances"
            ),
        ),
        (
            SYSTEM,
            [nbest("1", "a", "a")],
            (
                "dev.jsonl:1: utterance 1: the baseline's reference differs from"
                f" the evaluated list's; {BOTH} references"
            ),
        ),
    ],
)
def test_bad_input_is_named(lists, baseline, message):
    with pytest.raises(FormatError) as caught:
        evaluate(lists, baseline)
    assert str(caught.value) == message
