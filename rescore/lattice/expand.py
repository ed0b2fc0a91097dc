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
    """Return the lattice with log p(word | words before it) added to `lm`.

    `</s>` is added on the arcs into the end. States are split until each has one history of
    `order` - 1 words ("<s>" first). `log_prob(history, word)` returns nats and is called once for
    each history and word. Exact: every path of arcs occurs once. Raises FormatError for more than
    `limit` arcs: prune first. Exact check: tests/lattice/test_lattice_expand.py, all paths.
    """
    if not lattice.arcs:
        return lattice
    cached: dict[tuple[tuple[str, ...], str], float] = {}

    def cached_log_prob(history: tuple[str, ...], word: str) -> float:
        if (history, word) not in cached:
            cached[history, word] = log_prob(history, word)
        return cached[history, word]

    end = lattice.states - 1
    numbers: list[dict[tuple[str, ...], int]] = [{} for _ in range(lattice.states)]
    numbers[0][("<s>",)[: order - 1]] = 0  # of each state and history, its new state
    states = 1
    arcs: list[tuple[int, int, int]] = []  # new source, new target, old arc
    scores: list[float] = []
    columns = (lattice.source.tolist(), lattice.target.tolist(), lattice.word.tolist())
    for arc, (source, target, word) in enumerate(zip(*columns, strict=True)):
        for history, new_source in numbers[source].items():
            score, next_history = 0.0, history
            if word:
                symbol = lattice.symbols[word]
                score = cached_log_prob(history, symbol)
                next_history = (*history, symbol)
                next_history = next_history[max(0, len(next_history) - order + 1) :]
            if target == end:
                score, next_history = score + cached_log_prob(next_history, "</s>"), ()
            if next_history not in numbers[target]:
                numbers[target][next_history] = states
                states += 1
            arcs.append((new_source, numbers[target][next_history], arc))
            scores.append(score)
        if len(arcs) > limit:
            raise FormatError(
                f"{lattice.place()}: with histories of {order - 1} words it needs more than "
                f"{limit} arcs; prune first, or raise the limit"
            )
    return _split(lattice, arcs, scores, numbers)


def _split(
    lattice: Lattice,
    arcs: list[tuple[int, int, int]],
    scores: list[float],
    numbers: list[dict[tuple[str, ...], int]],
) -> Lattice:
    """The lattice of arcs (new source, new target, old arc) with scores added to `lm`."""
    source, target, arc = np.array(arcs, np.int64).T
    times = None
    if lattice.times is not None:
        times = np.zeros(sum(map(len, numbers)))
        for new_states, time in zip(numbers, lattice.times.tolist(), strict=True):
            times[list(new_states.values())] = time
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
