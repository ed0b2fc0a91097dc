"""References and hypotheses of opposite case are noticed where errors are counted."""

from __future__ import annotations

import logging

import pytest

import rescore


def lists(ref, hyp, count=4):
    return [
        rescore.nbest(f"u{i}", [(hyp, {"am": -1.0}), (f"{hyp} b", {"am": -2.0})], ref=ref)
        for i in range(count)
    ]


@pytest.mark.parametrize("count", [rescore.evaluate, lambda x, **k: rescore.tune(x, ["am"], **k)])
def test_opposite_cases_are_said_once_and_a_normaliser_mends_them(count, caplog):
    with caplog.at_level(logging.WARNING):
        count(lists("THE OLD HOUSE", "the old house"))
        count(lists("the old house", "THE OLD HOUSE"))
    messages = [record.message for record in caplog.records]
    words = "every word counts as an error; use --normalizer librispeech"
    assert messages == [
        f"4 of 4 references are in {ref} case and their hypotheses in {hyp} case: {words}"
        for ref, hyp in (("upper", "lower"), ("lower", "upper"))
    ]
    caplog.clear()
    count(lists("THE OLD HOUSE", "the old house"), normalizer="librispeech")
    count(lists("The old house.", "the old house"))
    count(lists("1 2", "3"))
    assert caplog.records == []
