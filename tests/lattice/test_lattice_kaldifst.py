"""Random lattices through OpenFst (kaldifst).

Shortest distance, n-best word sequences, the smallest deterministic lattice. OpenFst's weights are
float32 and its determinisation compares them to 1/1024: scores are multiples of 1/8 here, which
both add up exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
from small_lattices import random_lattice

from rescore.lattice import Lattice
from rescore.lattice.merge import merge
from rescore.lattice.paths import n_best
from rescore.lattice.posteriors import arc_totals, total_score

kaldifst = pytest.importorskip(
    "kaldifst", reason="kaldifst is not installed (pip install kaldifst)"
)

SEEDS = range(200)


def example(seed: int):
    """Return a random lattice of 2 to 25 states, its totals, and the same as a StdVectorFst.

    Scores are multiples of 1/8, all in am: with two scores OpenFst would keep states apart that
    have equal totals.
    """
    random = np.random.default_rng(seed)
    states = int(random.integers(2, 26))
    raw = random_lattice(random, states, int(random.integers(0, 3 * states)), span=5)
    lattice = Lattice.from_arcs(
        "r",
        raw.source,
        raw.target,
        raw.word,
        np.round(raw.am * 8) / 8,
        np.zeros(raw.arcs),
        raw.symbols,
        start=0,
        ends=np.array([states - 1]),
    )
    totals = arc_totals(lattice)
    rows = zip(
        lattice.source.tolist(),
        lattice.target.tolist(),
        lattice.word.tolist(),
        (-totals).tolist(),
        strict=True,
    )
    text = "\n".join(
        f"{source} {target} {word} {word} {cost}" for source, target, word, cost in rows
    )
    return lattice, totals, kaldifst.compile(s=f"{text}\n{lattice.states - 1} 0\n", acceptor=False)


def single_paths(fst) -> list[tuple[tuple[int, ...], float]]:
    """Return the word sequences and costs of an Fst whose paths part at the start."""
    sequences = []
    for linear in kaldifst.convert_nbest_to_vector(fst):
        _, words, _, weight = kaldifst.get_linear_symbol_sequence(linear)
        sequences.append((tuple(words), weight.value))
    return sorted(sequences, key=lambda pair: pair[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_shortest_path_equals_openfst(seed):
    lattice, totals, fst = example(seed)
    [(words, cost)] = single_paths(kaldifst.shortest_path(fst, n=1))
    assert total_score(lattice, totals, best=True) == -cost
    best = n_best(lattice, totals, 2)
    if len(best) == 1 or best[0].total > best[1].total:
        assert best[0].words == words


@pytest.mark.parametrize("seed", SEEDS)
def test_n_best_equals_openfst(seed):
    """OpenFst's n shortest paths of the determinised lattice are its n best word sequences."""
    lattice, totals, fst = example(seed)
    kaldifst.rmepsilon(fst)
    theirs = single_paths(kaldifst.shortest_path(kaldifst.determinize(fst), n=50))
    ours = n_best(lattice, totals, 50)
    assert [path.total for path in ours] == [-cost for _, cost in theirs]
    last = ours[-1].total
    assert {path.words for path in ours if path.total > last} == {
        words for words, cost in theirs if -cost > last
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_merging_is_as_small_as_openfst(seed):
    """After pushing, determinising and minimising, states and arcs are as many as OpenFst's.

    OpenFst's final states have weights, where ours have an arc without a word into the one end.
    """
    lattice, totals, fst = example(seed)
    kaldifst.rmepsilon(fst)
    smallest = kaldifst.determinize(fst)
    kaldifst.minimize(smallest)
    merged = merge(lattice, totals)
    finals = int((merged.word == 0).sum())
    theirs_end = sum(1 for state in range(smallest.num_states) if smallest.num_arcs(state) == 0)
    assert merged.states - (1 - theirs_end) == smallest.num_states
    assert merged.arcs - finals == sum(
        smallest.num_arcs(state) for state in range(smallest.num_states)
    )
