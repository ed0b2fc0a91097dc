"""Validation text that is training text too."""

from __future__ import annotations

import logging

from rescore.train.overlap import Overlap

LINES = [f"this is line number {number} of a text" for number in range(200)]


def test_shared_lines_are_counted_once_and_short_ones_are_not(caplog):
    with caplog.at_level(logging.WARNING):
        lines = [*LINES[:10], "yes sir", LINES[0]]
        assert list(Overlap([*LINES[:4], *LINES[100:], "yes sir"]).watched(lines)) == lines
    [record] = caplog.records
    assert record.message.startswith(
        "4 of 104 different validation lines of at least 5 words (4 %) are in the training text too"
    )


def test_a_stray_line_is_no_overlap(caplog):
    with caplog.at_level(logging.WARNING):
        list(Overlap(LINES[:100]).watched(LINES[99:]))
        list(Overlap([]).watched(LINES))
        list(Overlap(["yes sir"]).watched(["yes sir"]))
    assert caplog.records == []
