"""What changes between two systems, against `evaluate` and by hand."""

from collections import Counter

import numpy as np
import pytest
from command_line import TEXTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rescore.errors import FormatError
from rescore.fusion import Fusion, fuse
from rescore.types import Hypothesis, NBest
from rescore.wer import changes, evaluate
from rescore.wer.changes import Pair

LISTS = [
    NBest(
        name,
        tuple(Hypothesis(text, {"am": am, "ngram": ngram}) for text, am, ngram in hyps),
        ref,
    )
    for name, ref, hyps in TEXTS
]
WORDS = st.lists(st.sampled_from("abc"), max_size=6).map(" ".join)


def fused():
    return list(fuse(LISTS, Fusion({"am": 1.0, "ngram": 1.0})))


def system(texts, refs):
    return [
        NBest(str(number), (Hypothesis(text),), ref)
        for number, (text, ref) in enumerate(zip(texts, refs, strict=True))
    ]


def test_the_comparison_is_that_of_evaluate():
    for unit in ("word", "char"):
        result = changes(fused(), LISTS, unit=unit, seed=3)
        expected = evaluate(fused(), LISTS, unit=unit, seed=3)
        assert result.comparison == expected.comparison
        assert (result.ci95, result.oracle_wer) == (expected.ci95, expected.oracle_wer)
        assert result.errors == expected.errors


def test_without_a_baseline_it_is_the_first_pass():
    assert changes(fused()) == changes(fused(), LISTS)
    assert changes(LISTS).outcomes == Counter(unchanged=4)
    assert changes(fused()).comparison == evaluate(fused()).first_pass


def test_utterances_are_helped_hurt_or_unchanged():
    refs = ["a b", "a b", "a b", "a"]
    result = changes(
        system(["a b", "a c", "d b", ""], refs), system(["c b", "a b", "c b", ""], refs)
    )
    assert [change.outcome for change in result.utterances] == [
        "helped",
        "hurt",
        "unchanged",
        "unchanged",
    ]
    assert result.fixed == Counter({Pair("substitution", "a", "c"): 2})
    assert result.broken == Counter(
        {Pair("substitution", "b", "c"): 1, Pair("substitution", "a", "d"): 1}
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(WORDS, WORDS, WORDS), min_size=1, max_size=5))
def test_fixed_and_broken_errors_account_for_the_difference(rows):
    refs, before, after = zip(*[("a " + ref, *others) for ref, *others in rows], strict=True)
    result = changes(system(after, refs), system(before, refs))
    for kind in ("substitution", "insertion", "deletion"):
        fixed, broken = (
            sum(count for pair, count in pairs.items() if pair.kind == kind)
            for pairs in (result.fixed, result.broken)
        )
        counts = [getattr(c, f"{kind}s") for c in (result.baseline_errors, result.errors)]
        assert counts[1] == counts[0] - fixed + broken


def test_clusters_are_resampled_together():
    result = changes(fused(), LISTS, cluster=lambda nbest: "one")
    assert result.comparison.probability_better in (0.0, 0.5, 1.0)
    assert np.ptp(result.ci95) == 0


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (LISTS[1:], "utterance u1: it is missing from the baseline"),
        ([*LISTS, NBest("x", LISTS[0].hyps, "a")], "utterance x: it is in the baseline and not"),
        ([NBest("u1", LISTS[0].hyps, "other"), *LISTS[1:]], "the baseline's reference differs"),
    ],
)
def test_other_utterances_are_refused(baseline, message):
    with pytest.raises(FormatError, match=message):
        changes(LISTS, baseline)


def test_references_without_words_are_refused():
    with pytest.raises(FormatError, match="the reference holds no words"):
        changes([NBest("a", (Hypothesis("x"),), " ")])
    with pytest.raises(FormatError, match="there are no lists"):
        changes([])
