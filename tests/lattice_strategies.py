"""Small lattices, as strategies of the package hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st
from small_lattices import from_rows

from rescore.lattice import Lattice

#: Halves: sums are exact in any order, and equal totals are frequent.
halves = st.integers(-12, 4).map(lambda value: value / 2)
floats = st.floats(-1000, 1000, allow_subnormal=False)


@st.composite
def lattices(
    draw: st.DrawFn,
    values: st.SearchStrategy[float] = halves,
    most_arcs: int = 12,
    most_states: int = 6,
) -> Lattice:
    last = draw(st.integers(1, most_states - 1))
    ends = st.tuples(st.integers(0, last), st.integers(0, last)).filter(
        lambda pair: pair[0] < pair[1]
    )
    rows = draw(st.lists(st.tuples(ends, st.integers(0, 3), values, values), max_size=most_arcs))
    return from_rows(
        [(source, target, word, am, lm) for (source, target), word, am, lm in rows], last
    )
