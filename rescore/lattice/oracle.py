"""The word sequence of a lattice that is closest to a reference: the best rescoring could reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.errors import FormatError
from rescore.lattice.lattice import Lattice
from rescore.types import ErrorCounts

__all__ = ["Oracle", "oracle"]

IntArray: TypeAlias = NDArray[np.integer[Any]]

_MOST_CELLS = 1 << 28  # of the table of distances: 1 GB


@dataclass(frozen=True)
class Oracle:
    """A word sequence with the fewest errors, and these errors."""

    words: tuple[str, ...]
    errors: ErrorCounts


def oracle(lattice: Lattice, reference: Sequence[str]) -> Oracle:
    """Return the words of the lattice with the smallest edit distance to `reference`.

    Errors are counted in symbols of the lattice (pieces, where these are pieces). Exact:
    D[state, j] = fewest errors of a path to `state` against the first j words, in
    O(A * len(reference)) with numpy over j. A lattice without a path has the empty sequence. Raises
    FormatError for more than 2^28 cells of that table.
    Exact check: tests/lattice/test_lattice_oracle.py.
    """
    if lattice.states * (len(reference) + 1) > _MOST_CELLS:
        raise FormatError(
            f"{lattice.place()}: an oracle of {lattice.states} states and {len(reference)} "
            f"reference words needs more than {_MOST_CELLS} cells; prune first"
        )
    if not lattice.arcs:
        return Oracle((), ErrorCounts(0, 0, len(reference), len(reference)))
    words, number = _by_spelling(lattice)
    reference_words = np.array([number.get(word, -1) for word in reference], np.int64)
    return _trace_back(lattice, words, reference_words, _table(lattice, words, reference_words))


def _by_spelling(lattice: Lattice) -> tuple[IntArray, dict[str, int]]:
    """The word of every arc by the number of its spelling, (A,), 0 for none, and these numbers."""
    used, place = np.unique(np.append(lattice.word, 0), return_inverse=True)
    number = {"": 0}
    spellings = [number.setdefault(lattice.symbols[word], len(number)) for word in used.tolist()]
    return np.array(spellings, np.int64)[place[:-1]], number


def _table(lattice: Lattice, words: IntArray, reference_words: IntArray) -> IntArray:
    """D, (S, R + 1) int32."""
    places = np.arange(len(reference_words) + 1, dtype=np.int32)
    table = np.full((lattice.states, len(places)), np.iinfo(np.int32).max // 2, np.int32)
    table[0] = places
    closed = -1
    for source, target, word in zip(
        lattice.source.tolist(), lattice.target.tolist(), words.tolist(), strict=True
    ):
        if source != closed:  # all arcs into it came before: now deletions may follow
            table[source] = np.minimum.accumulate(table[source] - places) + places
            closed = source
        row, into = table[source], table[target]
        if not word:
            np.minimum(into, row, out=into)
        else:
            np.minimum(into, row + 1, out=into)
            np.minimum(into[1:], row[:-1] + (reference_words != word), out=into[1:])
    table[-1] = np.minimum.accumulate(table[-1] - places) + places
    return table


def _trace_back(
    lattice: Lattice, words: IntArray, reference_words: IntArray, table: IntArray
) -> Oracle:
    """Back from the end: at each state an arc, or a word left out, that explains its distance."""
    into: list[list[int]] = [[] for _ in range(lattice.states)]
    for arc, target in enumerate(lattice.target.tolist()):
        into[target].append(arc)
    state, place = lattice.states - 1, len(reference_words)
    spoken: list[int] = []
    counts = {"substitutions": 0, "insertions": 0, "deletions": 0}
    while state or place:
        errors = int(table[state, place])
        if place and table[state, place - 1] + 1 == errors:
            counts["deletions"] += 1
            place -= 1
            continue
        arc, kind = next(
            _explanations(table, lattice.source, words, reference_words, into[state], place, errors)
        )
        state = int(lattice.source[arc])
        if kind != "silent":
            spoken.append(int(lattice.word[arc]))
            place -= kind != "insertions"
        if kind in counts:
            counts[kind] += 1
    text = tuple(lattice.symbols[word] for word in reversed(spoken))
    return Oracle(text, ErrorCounts(**counts, reference_words=len(reference_words)))


def _explanations(
    table: IntArray,
    source: IntArray,
    words: IntArray,
    reference_words: IntArray,
    arcs: list[int],
    place: int,
    errors: int,
) -> Iterator[tuple[int, str]]:
    """Every arc whose source has the distance that is left, and what the arc does."""
    for arc in arcs:
        row = table[source[arc]]
        if not words[arc]:
            if row[place] == errors:
                yield arc, "silent"
        elif place and row[place - 1] + (words[arc] != reference_words[place - 1]) == errors:
            yield arc, "correct" if words[arc] == reference_words[place - 1] else "substitutions"
        elif row[place] + 1 == errors:
            yield arc, "insertions"
