"""The in-memory form of a lattice: order, trimming, one end, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from rescore.errors import FormatError
from rescore.lattice import Lattice

SYMBOLS = ["", "a", "b", "c"]


def lattice(
    arcs: list[tuple[int, int, int, float, float]],
    start: int = 0,
    ends: tuple[int, ...] = (3,),
    times: list[float] | None = None,
) -> Lattice:
    columns = np.array(arcs, dtype=float).reshape(-1, 5).T
    source, target, word = columns[:3].astype(int)
    return Lattice.from_arcs(
        "u",
        source,
        target,
        word,
        columns[3],
        columns[4],
        SYMBOLS,
        start=start,
        ends=np.array(ends, int),
        times=None if times is None else np.array(times),
    )


#     a/-1        c/-3
#  7 ------> 2 ------> 0        state 5 leads nowhere, state 9 comes from nowhere
#   \__b/-2__/\__a/-9_5
DIAMOND = [
    (2, 0, 3, -3.0, -0.5),
    (7, 2, 1, -1.0, 0.0),
    (7, 2, 2, -2.0, 0.0),
    (2, 5, 1, -9.0, 0.0),
    (9, 2, 1, -1.0, 0.0),
]


def test_states_are_in_topological_order_and_dead_ones_are_removed() -> None:
    trimmed = lattice(DIAMOND, start=7, ends=(0,), times=[3.0, 0, 1.5, 0, 0, 9, 0, 0.25, 0, 9])
    assert trimmed.states == 3
    assert (trimmed.source.tolist(), trimmed.target.tolist(), trimmed.word.tolist()) == (
        [0, 0, 1],
        [1, 1, 2],
        [1, 2, 3],
    )
    assert (trimmed.am.tolist(), trimmed.lm.tolist()) == ([-1.0, -2.0, -3.0], [0.0, 0.0, -0.5])
    assert trimmed.times is not None
    assert trimmed.times.tolist() == [0.25, 1.5, 3.0]


def test_several_ends_become_one() -> None:
    trimmed = lattice(
        [(0, 1, 1, -1.0, 0.0), (1, 2, 2, -1.0, 0.0), (0, 2, 3, -1.0, 0.0)],
        ends=(1, 2),
        times=[0.0, 1.0, 2.0],
    )
    assert list(
        zip(trimmed.source.tolist(), trimmed.target.tolist(), trimmed.word.tolist(), strict=True)
    ) == [(0, 1, 1), (0, 2, 3), (1, 2, 2), (1, 3, 0), (2, 3, 0)]
    assert trimmed.times is not None
    assert trimmed.times.tolist() == [0.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize("arcs", [[], [(0, 1, 1, -1.0, 0.0)]])
def test_without_a_path_there_are_no_states(arcs: list[tuple[int, int, int, float, float]]) -> None:
    trimmed = lattice(arcs)
    assert (trimmed.arcs, trimmed.states) == (0, 0)


@pytest.mark.parametrize(
    ("arcs", "message"),
    [
        (
            [(0, 1, 0, 0.0, 0.0), (1, 2, 0, 0.0, 0.0), (2, 1, 0, 0.0, 0.0), (2, 3, 1, 0.0, 0.0)],
            "u: has a cycle through state 1; a lattice must be acyclic",
        ),
        ([(0, 0, 0, 0.0, 0.0), (0, 3, 1, 0.0, 0.0)], "cycle through state 0"),
        ([(0, 3, 4, 0.0, 0.0)], r"label 4 is not in the word table, which has 0\.\.3"),
        ([(0, 3, -2, 0.0, 0.0)], "label -2 is not in the word table"),
        (
            [(0, 3, 1, -np.inf, 0.0)],
            'score "am" of the arc from state 0 to state 3 is -inf, expected a finite number',
        ),
        ([(0, 3, 1, 0.0, np.nan)], 'score "lm" of the arc from state 0 to state 3 is nan'),
    ],
)
def test_refusals_name_the_lattice_and_the_place(
    arcs: list[tuple[int, int, int, float, float]], message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        lattice(arcs)
