"""Put the scores of a word n-gram on the arcs of a lattice, for lattices that come without any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rescore.errors import FormatError
from rescore.lattice.lattice import Lattice

__all__ = ["expand"]


def expand(
    lattice: Lattice,
    order: int,
    log_prob: Callable[[tuple[str, ...], str], float],
    *,
    limit: int = 1_000_000,
) -> Lattice:
    """Return the lattice in which `lm` is increased by log p(word | words before it), </s> included on the arcs into the end.

    States are split until each knows the `order` - 1 words before it ("<s>" first). `log_prob(history, word)` gives nats and is asked once for each
    history and word. Exact: every path of arcs is there once. Raises FormatError for more than `limit` arcs: prune first.
    Exact check: tests/lattice/test_lattice_expand.py, all paths.
    """
    if not lattice.arcs:
        return lattice
    cached: dict[tuple[tuple[str, ...], str], float] = {}

    def ask(history: tuple[str, ...], word: str) -> float:
        if (history, word) not in cached:
            cached[history, word] = log_prob(history, word)
        return cached[history, word]

    end, numbers = lattice.states - 1, [dict[tuple[str, ...], int]() for _ in range(lattice.states)]
    first = ("<s>",)[: order - 1]
    numbers[0][first] = 0
    made = 1
    rows: list[tuple[int, int, int]] = []
    scores: list[float] = []
    for arc, (source, target, word) in enumerate(
        zip(lattice.source.tolist(), lattice.target.tolist(), lattice.word.tolist(), strict=True)
    ):
        for history, number in numbers[source].items():
            symbol = lattice.symbols[word]
            longer = ((*history, symbol) if word else history)[
                max(0, len(history) + bool(word) - order + 1) :
            ]
            score = ask(history, symbol) if word else 0.0
            if target == end:
                score, longer = score + ask(longer, "</s>"), ()
            if longer not in numbers[target]:
                numbers[target][longer] = made
                made += 1
            rows.append((number, numbers[target][longer], arc))
            scores.append(score)
        if len(rows) > limit:
            raise FormatError(
                f"{lattice.place()}: with histories of {order - 1} words it needs more than {limit} arcs; prune first, or raise the limit"
            )
    return _split(
        lattice,
        rows,
        scores,
        [number for of_state in numbers for number in of_state.values()],
        numbers,
    )


def _split(
    lattice: Lattice,
    rows: list[tuple[int, int, int]],
    scores: list[float],
    made: list[int],
    numbers: list[dict[tuple[str, ...], int]],
) -> Lattice:
    """The lattice of (from, to, old arc)."""
    source, target, arc = np.array(rows, np.int64).T
    times = None
    if lattice.times is not None:
        times = np.zeros(len(made))
        times[made] = np.repeat(lattice.times, [len(of_state) for of_state in numbers])
    (end,) = numbers[-1].values()
    return Lattice.from_arcs(
        lattice.id,
        source,
        target,
        lattice.word[arc],
        lattice.am[arc],
        lattice.lm[arc] + np.array(scores),
        lattice.symbols,
        start=0,
        ends=np.array([end]),
        label=lattice.label[arc],
        scores={name: values[arc] for name, values in lattice.scores.items()},
        times=times,
        where=lattice.where,
    )
