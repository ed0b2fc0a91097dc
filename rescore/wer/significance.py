"""How sure error counts are: the bootstrap over utterances, intervals, probability of improvement.

Source: Bisani and Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP. Shapes: U utterances, C columns of counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rescore.errors import FormatError

__all__ = ["Interval", "bootstrap_ci", "bootstrap_sums", "probability_of_improvement"]

Interval: TypeAlias = tuple[float, float]
IntArray: TypeAlias = NDArray[np.int64]

_CHUNK = 1 << 21  # numbers held at once by the bootstrap: 16 MB


def bootstrap_sums(
    counts: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> IntArray:
    """Resample utterances with replacement; return the column sums, (resamples, C) int64.

    `counts` is (U, C) integers. `clusters` names the cluster of each utterance, such as its
    speaker: whole clusters are resampled. The result does not depend on the order of the
    utterances. Raises FormatError if there is nothing to resample.

    Utterances with equal counts are interchangeable. So a multinomial draws how often each distinct
    row occurs: the same distribution as drawing utterances one by one, at a cost that follows the
    number of distinct rows.
    """
    table = np.asarray(counts, dtype=np.int64)
    if not len(table) or resamples < 1:
        raise FormatError(
            f"a bootstrap needs utterances and resamples; got {len(table)} and {resamples}"
        )
    rows, times = np.unique(_by_cluster(table, clusters), axis=0, return_counts=True)
    total = int(times.sum())
    random = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(rows))
    sums: list[IntArray] = []
    for begin in range(0, resamples, step):
        size = min(step, resamples - begin)
        sums.append(random.multinomial(total, times / total, size=size) @ rows)
    return np.concatenate(sums)


def _by_cluster(table: IntArray, clusters: Sequence[Hashable] | None) -> IntArray:
    """The counts of each cluster, summed over its utterances."""
    if clusters is None:
        return table
    if len(clusters) != len(table):
        raise FormatError(
            f"got {len(clusters)} cluster names for {len(table)} utterances, expected one for each"
        )
    number: dict[Hashable, int] = {}
    index = [number.setdefault(cluster, len(number)) for cluster in clusters]
    sums = np.zeros((len(number), table.shape[1]), dtype=np.int64)
    np.add.at(sums, index, table)
    return sums


def bootstrap_ci(
    errors: ArrayLike,
    reference_words: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the 95 % percentile interval of sum(errors) / sum(reference_words), as fractions.

    Both are (U,) integers; `errors` may be a difference of two systems, and then negative.
    Resamples that happen to hold no reference word have no error rate and are left out.
    Raises FormatError if no utterance has a reference word.
    Exact check: tests/wer/test_significance.py::test_the_interval_of_a_binomial_is_its_quantiles.
    """
    if not np.any(reference_words):
        raise FormatError("the references hold no words: an error rate is not defined")
    sums = bootstrap_sums(np.column_stack([errors, reference_words]), clusters, resamples, seed)
    sums = sums[sums[:, 1] > 0]
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    return float(low), float(high)


def probability_of_improvement(
    errors_system: ArrayLike,
    errors_baseline: ArrayLike,
    clusters: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """Return the share of paired resamples in which the system beats the baseline.

    To beat it is to make fewer errors. Both arguments are (U,) integers. Ties count half, so two
    equal systems get 0.5, which means no difference. Both systems see the same utterances in each
    resample, so the reference words cancel.
    Source: Bisani and Ney 2004, section 4 (there ties count for the baseline).
    """
    sums = bootstrap_sums(
        np.column_stack([errors_system, errors_baseline]), clusters, resamples, seed
    )
    better, equal = sums[:, 0] < sums[:, 1], sums[:, 0] == sums[:, 1]
    return float(better.mean() + equal.mean() / 2)
