"""Small lattices, made at random, and all their paths."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rescore.lattice import Lattice

SYMBOLS = ["", "a", "b", "c", "d"]


def from_rows(
    rows: list[tuple[int, int, int, float, float]], last: int, symbols: list[str] | None = None
) -> Lattice:
    """Arcs (source, target, word, am, lm); state 0 starts, state `last` ends."""
    columns = np.array(rows, dtype=float).reshape(-1, 5).T
    source, target, word = columns[:3].astype(int)
    extra = {"seconds": np.arange(len(rows), dtype=float)}
    return Lattice.from_arcs(
        "u",
        source,
        target,
        word,
        columns[3],
        columns[4],
        symbols or SYMBOLS,
        start=0,
        ends=np.array([last]),
        scores=extra,
        times=np.arange(last + 1) / 10,
    )


def random_lattice(
    random: np.random.Generator, states: int, arcs: int, words: int = 4, span: int = 1_000_000
) -> Lattice:
    """A chain from start to end and `arcs` more arcs; a third of the arcs have no word.

    The chain keeps every state. No arc but the chain's is longer than `span` states.
    """
    source = np.concatenate([np.arange(states - 1), random.integers(0, states - 1, arcs)])
    jumps = random.integers(1, np.minimum(span, states - 1 - source[states - 1 :]) + 1)
    target = np.concatenate([np.arange(1, states), source[states - 1 :] + jumps])
    word = random.integers(0, words + 1, len(source)) * (random.random(len(source)) < 0.67)
    am, lm = random.normal(-20, 8, len(source)), random.normal(-3, 2, len(source))
    symbols = ["", *(f"w{i}" for i in range(1, words + 1))]
    return Lattice.from_arcs(
        "r", source, target, word, am, lm, symbols, start=0, ends=np.array([states - 1])
    )


def arc_paths(lattice: Lattice) -> Iterator[tuple[int, ...]]:
    """Every path, as its arcs."""

    def onward(state: int) -> Iterator[tuple[int, ...]]:
        if state == lattice.states - 1:
            yield ()
            return
        for arc in np.flatnonzero(lattice.source == state).tolist():
            for rest in onward(int(lattice.target[arc])):
                yield (arc, *rest)

    if lattice.arcs:
        yield from onward(0)


def words_of(lattice: Lattice, arcs: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(word for word in lattice.word[list(arcs)].tolist() if word)


def best_by_words(
    lattice: Lattice, totals: np.ndarray
) -> dict[tuple[int, ...], tuple[float, tuple[int, ...]]]:
    """The best total of every word sequence and the arcs that have it."""
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for arcs in arc_paths(lattice):
        total, words = float(totals[list(arcs)].sum()), words_of(lattice, arcs)
        if words not in best or best[words][0] < total:
            best[words] = (total, arcs)
    return best
