"""The best distinct word sequences of a PocketSphinx word lattice, exactly.

Implements: a reader of the HTK SLF files that PocketSphinx writes, and a best-first search over
word prefixes. A prefix carries every lattice node it can end in, with the best acoustic score into
each, so two paths that spell the same words are one prefix from the start: nothing is found twice
and nothing has to be thrown away. The potential of a node and the word before it is its exact best
completion under the trigram, so only prefixes of the answer are opened.

Leaves out: acoustic or language scales read from the file, links with words, n-gram orders above
three. Sources: Hart, Nilsson and Raphael 1968 (A*); Mohri and Riley 2002, "An efficient algorithm
for the n-best-strings problem" (search on the determinised graph).
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

SILENT = frozenset({"!NULL", "!SENT_START", "!SENT_END"})
START, END = "<s>", "</s>"

LogProb = Callable[[str, str, str], float]
"""log_prob(word, last, before_last): nats, at most 0; `before_last` is "" after the start alone."""


class LatticeError(Exception):
    """A lattice file that cannot be read, or a lattice without a path."""


@dataclass(frozen=True)
class Lattice:
    """An acyclic word graph with words on nodes.

    `words[node]` is "" for a filler; the start node has "<s>" and the end node "</s>". `arcs[node]`
    lists (target node, acoustic score in nats of the word of `node`, higher is better).
    """

    words: tuple[str, ...]
    arcs: tuple[tuple[tuple[int, float], ...], ...]
    start: int
    end: int


@dataclass(frozen=True)
class Weights:
    """The engine's total.

    Am + lm_scale * ngram + word_bonus * (words + 1), in nats, higher is better; the end of the
    sentence counts as a word.
    """

    lm_scale: float
    word_bonus: float


@dataclass(frozen=True)
class Path:
    """One word sequence.

    Its best acoustic score, its n-gram score with "<s>" and "</s>" (unscaled) and its total; nats,
    higher is better.
    """

    words: tuple[str, ...]
    am: float
    ngram: float
    total: float


def read_slf(lines: Iterable[str]) -> Lattice:
    """Read an HTK SLF lattice with words on nodes and `a=` (nats) on links.

    A file whose end node carries a word (no sentence end was found in the last frame) gets one more
    node, "</s>", after it. Raises LatticeError for a missing start or end, an unknown node, or a
    link without an acoustic score.
    """
    words: dict[int, str] = {}
    links: list[tuple[int, int, float]] = []
    ends: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        fields = dict(
            field.split("=", 1)
            for field in line.split()
            if "=" in field and not line.startswith("#")
        )
        try:
            if "I" in fields:
                words[int(fields["I"])] = fields["W"]
            elif "J" in fields:
                links.append((int(fields["S"]), int(fields["E"]), float(fields["a"])))
            else:
                ends.update({key: int(fields[key]) for key in ("start", "end") if key in fields})
        except (KeyError, ValueError) as error:
            raise LatticeError(f"line {number}: bad SLF field {error}") from error
    if "start" not in ends or "end" not in ends:
        raise LatticeError("the SLF header has no start= or no end=")
    return _build(words, links, ends["start"], ends["end"])


def _build(
    words: dict[int, str], links: list[tuple[int, int, float]], start: int, end: int
) -> Lattice:
    if sorted(words) != list(range(len(words))) or any(
        not 0 <= node < len(words) for node in (start, end)
    ):
        raise LatticeError(
            f"nodes are not numbered 0 to {len(words) - 1}, or start={start} or end={end} is not "
            "one of them"
        )
    spelled = ["" if words[node] in SILENT else words[node] for node in range(len(words))]
    arcs: list[list[tuple[int, float]]] = [[] for _ in spelled]
    for source, target, score in links:
        if not (0 <= source < len(words) and 0 <= target < len(words)):
            raise LatticeError(f"link {source} -> {target}: no such node")
        arcs[source].append((target, score))
    if spelled[end]:
        spelled.append("")
        arcs[end].append((len(arcs), 0.0))
        arcs.append([])
        end = len(spelled) - 1
    spelled[start], spelled[end] = START, END
    return Lattice(tuple(spelled), tuple(tuple(out) for out in arcs), start, end)


def backward_order(lattice: Lattice) -> list[int]:
    """Order the nodes that the start reaches so that every link goes from a later to an earlier
    one. Raises LatticeError for a cycle.
    """
    order: list[int] = []
    state = [0] * len(lattice.words)  # 1: on the stack, 2: done
    stack: list[tuple[int, Iterator[tuple[int, float]]]] = [
        (lattice.start, iter(lattice.arcs[lattice.start]))
    ]
    state[lattice.start] = 1
    while stack:
        node, rest = stack[-1]
        for target, _ in rest:
            if state[target] == 1:
                raise LatticeError(f"nodes {target} and {node} lie on a cycle")
            if state[target] == 0:
                state[target] = 1
                stack.append((target, iter(lattice.arcs[target])))
                break
        else:
            state[node] = 2
            order.append(node)
            stack.pop()
    return order


def word_arcs(lattice: Lattice, order: list[int]) -> list[dict[int, float]]:
    """Skip the fillers.

    For each node the next nodes with a word, and the best acoustic score (nats) to each, the
    fillers between included.
    """
    arcs: list[dict[int, float]] = [{} for _ in lattice.words]
    for node in order:
        best = arcs[node]
        for target, score in lattice.arcs[node]:
            onward = (
                [(target, score)]
                if lattice.words[target]
                else [(t, score + s) for t, s in arcs[target].items()]
            )
            for next_node, total in onward:
                if total > best.get(next_node, -math.inf):
                    best[next_node] = total
    return arcs


def completions(
    lattice: Lattice,
    order: list[int],
    arcs: list[dict[int, float]],
    log_prob: LogProb,
    weights: Weights,
) -> list[dict[str, float]]:
    """Compute for each node and each word that may come before it the best total (nats) from the
    node to the end; pairs that reach no end are left out.
    """
    before: list[set[str]] = [set() for _ in lattice.words]
    before[lattice.start].add("")
    for node in reversed(order):
        if lattice.words[node] and before[node]:
            for target in arcs[node]:
                before[target].add(lattice.words[node])
    best: list[dict[str, float]] = [{} for _ in lattice.words]
    for node in order:
        word = lattice.words[node]
        if node == lattice.end:
            best[node] = dict.fromkeys(before[node], 0.0)
            continue
        onward = [
            (lattice.words[t], s + best[t][word] + weights.word_bonus)
            for t, s in arcs[node].items()
            if word in best[t]
        ]
        if onward:
            best[node] = {
                prev: max(s + weights.lm_scale * log_prob(w, word, prev) for w, s in onward)
                for prev in before[node]
            }
    return best


@dataclass(frozen=True)
class _Prefix:
    words: tuple[str, ...]  # "<s>" first
    ngram: float
    nodes: dict[int, float]  # where it can end -> best acoustic score


def best_paths(lattice: Lattice, log_prob: LogProb, weights: Weights) -> Iterator[Path]:
    """Yield the word sequences of a lattice, each once, best total first.

    Ties keep the order in which the search meets them, which the file determines.

    Every total is exact (float64): the maximum over all paths of the lattice that spell the words,
    fillers and times being free. Raises LatticeError if no path leads from start to end.
    """
    order = backward_order(lattice)
    arcs = word_arcs(lattice, order)
    rest = completions(lattice, order, arcs, log_prob, weights)
    if "" not in rest[lattice.start]:
        raise LatticeError("no path leads from the start to the end")
    count = itertools.count()
    heap: list[tuple[float, int, _Prefix]] = [
        (-rest[lattice.start][""], next(count), _Prefix((START,), 0.0, {lattice.start: 0.0}))
    ]
    while heap:
        cost, _, prefix = heapq.heappop(heap)
        if prefix.words[-1] == END:
            yield Path(prefix.words[1:-1], prefix.nodes[lattice.end], prefix.ngram, -cost)
            continue
        for longer in _extend(prefix, lattice, arcs, rest, log_prob):
            fixed = weights.lm_scale * longer.ngram + weights.word_bonus * (len(longer.words) - 1)
            bound = fixed + max(
                am + rest[node][prefix.words[-1]] for node, am in longer.nodes.items()
            )
            heapq.heappush(heap, (-bound, next(count), longer))


def _extend(
    prefix: _Prefix,
    lattice: Lattice,
    arcs: list[dict[int, float]],
    rest: list[dict[str, float]],
    log_prob: LogProb,
) -> Iterator[_Prefix]:
    last = prefix.words[-1]
    grown: dict[str, dict[int, float]] = {}
    for node, am in prefix.nodes.items():
        for target, score in arcs[node].items():
            if last in rest[target]:
                nodes = grown.setdefault(lattice.words[target], {})
                nodes[target] = max(am + score, nodes.get(target, -math.inf))
    before_last = prefix.words[-2] if len(prefix.words) > 1 else ""
    for word, nodes in grown.items():
        yield _Prefix(
            (*prefix.words, word), prefix.ngram + log_prob(word, last, before_last), nodes
        )


def acoustic_score(lattice: Lattice, words: Iterable[str]) -> float | None:
    """Find the best acoustic score (nats) of a given word sequence, or None if no path of the
    lattice spells it.
    """
    arcs = word_arcs(lattice, backward_order(lattice))
    nodes = {lattice.start: 0.0}
    for word in (*words, END):
        grown: dict[int, float] = {}
        for node, am in nodes.items():
            for target, score in arcs[node].items():
                if lattice.words[target] == word:
                    grown[target] = max(am + score, grown.get(target, -math.inf))
        nodes = grown
    return nodes.get(lattice.end)
