"""Alignments have the errors that are counted, and give both texts back."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rescore.wer import UNITS, Edit, align, count_errors, units
from rescore.wer.alignment import Error, counts_of, errors_of

SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
TEXTS = st.lists(st.sampled_from(["a", "b", "cd", "日本", "é"]), max_size=8).map(" ".join)


@SETTINGS
@given(TEXTS, TEXTS, st.sampled_from(UNITS))
def test_an_alignment_has_the_errors_that_are_counted(ref, hyp, unit):
    assert counts_of(align(ref, hyp, unit)) == count_errors(ref, hyp, unit)


@SETTINGS
@given(TEXTS, TEXTS, st.sampled_from(UNITS))
def test_an_alignment_gives_both_texts_back(ref, hyp, unit):
    edits = align(ref, hyp, unit)
    assert [edit.ref for edit in edits if edit.kind != "insertion"] == list(units(ref, unit))
    assert [edit.hyp for edit in edits if edit.kind != "deletion"] == list(units(hyp, unit))
    assert all((edit.ref == edit.hyp) == (edit.kind == "equal") for edit in edits)


def test_every_kind_of_edit():
    assert align("the old house stood", "an the cold stood") == (
        Edit("insertion", "", "an"),
        Edit("equal", "the", "the"),
        Edit("substitution", "old", "cold"),
        Edit("deletion", "house", ""),
        Edit("equal", "stood", "stood"),
    )


def test_errors_stand_at_their_places():
    edits = align("the old house stood", "an an the cold stood")
    assert errors_of(edits) == Counter(
        {
            Error(0, "insertion", "", "an"): 2,
            Error(1, "substitution", "old", "cold"): 1,
            Error(2, "deletion", "house", ""): 1,
        }
    )


@pytest.mark.parametrize(("ref", "hyp"), [("", ""), ("a", ""), ("", "a b")])
def test_empty_texts_align(ref, hyp):
    assert len(align(ref, hyp)) == max(len(ref.split()), len(hyp.split()))
