"""Alignments for reading: what a hypothesis has in place of each word of the reference.

The edit operations are those that `rescore.wer.counts` counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from rapidfuzz.distance import Levenshtein

from rescore.types import ErrorCounts
from rescore.wer.counts import Unit, units

__all__ = ["Edit", "EditKind", "Error", "align", "counts_of", "errors_of"]

EditKind: TypeAlias = Literal["equal", "substitution", "insertion", "deletion"]

_KINDS: dict[str, EditKind] = {
    "equal": "equal",
    "replace": "substitution",
    "insert": "insertion",
    "delete": "deletion",
}


class Edit(NamedTuple):
    """One step of an alignment: a word of the reference, one of the hypothesis, or both.

    `ref` is empty for an insertion, `hyp` for a deletion.
    """

    kind: EditKind
    ref: str
    hyp: str


class Error(NamedTuple):
    """An error and its place: the number of reference words before it."""

    place: int
    kind: EditKind
    ref: str
    hyp: str


def align(ref: str, hyp: str, unit: Unit = "word") -> tuple[Edit, ...]:
    """Align two texts in the units that are counted, with the fewest errors.

    Exact check: tests/wer/test_alignment.py::test_an_alignment_has_the_errors_that_are_counted.
    """
    expected, actual = units(ref, unit), units(hyp, unit)
    edits = []
    for block in Levenshtein.opcodes(expected, actual):
        refs = expected[block.src_start : block.src_end]
        hyps = actual[block.dest_start : block.dest_end]
        for step in range(max(len(refs), len(hyps))):  # equally many, or one of them has none
            edits.append(
                Edit(
                    _KINDS[block.tag],
                    refs[step] if step < len(refs) else "",
                    hyps[step] if step < len(hyps) else "",
                )
            )
    return tuple(edits)


def counts_of(edits: Iterable[Edit]) -> ErrorCounts:
    """Count the errors of an alignment."""
    kinds = Counter(edit.kind for edit in edits)
    return ErrorCounts(
        kinds["substitution"],
        kinds["insertion"],
        kinds["deletion"],
        kinds["equal"] + kinds["substitution"] + kinds["deletion"],
    )


def errors_of(edits: Iterable[Edit]) -> Counter[Error]:
    """The errors of an alignment at their places."""
    errors: Counter[Error] = Counter()
    place = 0
    for edit in edits:
        if edit.kind != "equal":
            errors[Error(place, *edit)] += 1
        place += edit.kind != "insertion"
    return errors
