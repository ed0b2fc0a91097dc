"""Random lattices through real k2: total scores, best paths, arc posteriors, pruning.

Runs where k2 is installed (`make test-k2`). k2 keeps arc scores in float32 and sums them in float64
when asked: our totals are rounded to float32 first, so that both sum the same numbers.
"""

from __future__ import annotations

import numpy as np
import pytest
from small_lattices import random_lattice

from rescore.lattice.paths import n_best, sample
from rescore.lattice.posteriors import (
    arc_posteriors,
    arc_totals,
    best_through,
    prune,
    slack,
    total_score,
)

k2 = pytest.importorskip("k2", reason="k2 is not installed (Python 3.10 has a wheel: make test-k2)")
torch = pytest.importorskip("torch")

SEEDS = range(200)


def example(seed):
    """Return a random lattice of 2 to 60 states, its totals in float32, and the same as a k2.Fsa.

    The arcs of the Fsa begin with ours, in our order.
    """
    random = np.random.default_rng(seed)
    states = int(random.integers(2, 61))
    lattice = random_lattice(random, states, int(random.integers(0, 4 * states)), span=8)
    totals = arc_totals(lattice, 0.1, 1.0, 0.5).astype(np.float32).astype(np.float64)
    end = lattice.states - 1
    columns = [
        np.append(lattice.source, end),
        np.append(lattice.target, end + 1),
        np.append(lattice.word, -1),
    ]
    arcs = np.column_stack(
        [*columns, np.append(totals, 0).astype(np.float32).view(np.int32)]
    ).astype(np.int32)
    return lattice, totals, k2.Fsa(torch.from_numpy(arcs))


def rounding(lattice, totals):
    """Bound the rounding of path sums, and of logs of sums with a term for every arc."""
    return slack(lattice, totals) + 16 * np.finfo(np.float64).eps * (1 + lattice.arcs)


@pytest.mark.parametrize("seed", SEEDS)
def test_scores_and_posteriors_equal_k2(seed, record_property):
    lattice, totals, fsa = example(seed)
    vector, tolerance = k2.create_fsa_vec([fsa]), rounding(lattice, totals)
    whole = vector.get_tot_scores(use_double_scores=True, log_semiring=True).item()
    best = vector.get_tot_scores(use_double_scores=True, log_semiring=False).item()
    differences = [
        abs(total_score(lattice, totals) - whole),
        abs(total_score(lattice, totals, best=True) - best),
        np.abs(
            arc_posteriors(lattice, totals)
            - vector.get_arc_post(use_double_scores=True, log_semiring=True).numpy()[:-1]
        ).max(),
        np.abs(
            best_through(lattice, totals)
            - best
            - vector.get_arc_post(use_double_scores=True, log_semiring=False).numpy()[:-1]
        ).max(),
    ]
    record_property("largest_difference", max(differences))
    assert max(differences[:2]) <= tolerance
    assert max(differences[2:]) <= 4 * tolerance


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_path_equals_k2(seed):
    lattice, totals, fsa = example(seed)
    shortest = k2.shortest_path(k2.create_fsa_vec([fsa]), use_double_scores=True)
    (best,) = n_best(lattice, totals, 1)
    assert best.words == tuple(label for label in shortest.labels.tolist() if label > 0)
    assert abs(best.total - shortest.scores.double().sum().item()) <= rounding(lattice, totals)


@pytest.mark.parametrize("seed", SEEDS)
def test_pruning_equals_k2(seed):
    lattice, totals, fsa = example(seed)
    posteriors = np.exp(arc_posteriors(lattice, totals))
    threshold = 0.05
    if (
        np.abs(posteriors - threshold).min() < 1e-6
        or posteriors[list(n_best(lattice, totals, 1)[0].arcs)].min() < threshold
    ):
        pytest.skip(
            "an arc at the threshold, or a best path below it, which k2 cuts and ours keeps"
        )
    theirs = k2.connect(k2.prune_on_arc_post(k2.create_fsa_vec([fsa]), threshold, True))
    ours = prune(lattice, totals, posterior=threshold)
    assert sorted(theirs.scores.tolist()) == sorted(
        [*arc_totals(ours, 0.1, 1.0, 0.5).astype(np.float32).tolist(), 0.0]
    )


@pytest.mark.parametrize("seed", range(20))
def test_sampling_finds_what_k2_samples(seed):
    """Both draw from one distribution: sequences of 5 % or more are in both lists of 500 draws."""
    lattice, totals, fsa = example(seed)
    vector = k2.create_fsa_vec([fsa])
    paths = k2.random_paths(vector, use_double_scores=True, num_paths=500).tolist()[0]
    labels = vector.labels.numpy()
    theirs = {tuple(label for label in labels[arcs].tolist() if label > 0) for arcs in paths}
    ours = {path.words for path in sample(lattice, totals, 500)}
    whole = total_score(lattice, totals)
    likely = {
        path.words for path in n_best(lattice, totals, 20) if path.total - whole > np.log(0.05)
    }
    assert likely <= ours
    assert likely <= theirs
