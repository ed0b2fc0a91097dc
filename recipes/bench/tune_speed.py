"""Time exact line search against a grid of weights.

    python recipes/bench/tune_speed.py --utterances 5567 --hypotheses 100 --repeats 3

The lists are simulated and as large as LibriSpeech's dev sets (5,567 lists of 100). The grid is
24 x 24 x 24 = 13,824 settings (two scales and a word bonus), as icefall sweeps them, counted as
fast as numpy allows: partial sums are kept, and a setting costs one addition, one argmax and one
look-up. Its values are spread around the weights that the lists were made with, which no real grid
can know. Both count word errors on the same lists. Times are CPU seconds, and both run on one core,
so that other work on the machine matters less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rescore.fusion import ScoreTable, SearchSettings
from rescore.fusion.descent import minimize_errors

STEPS = 24


def simulate(utterances: int, hypotheses: int, seed: int) -> tuple[ScoreTable, NDArray[np.int64]]:
    """Lists with three scores that each see the errors through their own noise, and the errors.

    The unit of `am` is about 1 nat; `ngram` is 12 times smaller, `mdlm` 4 times smaller.
    """
    random = np.random.default_rng(seed)
    shape = (utterances, hypotheses)
    errors = random.poisson(random.gamma(2.0, 1.0, (utterances, 1)) + np.arange(hypotheses) / 30.0)
    noise = random.normal(0, 1, (3, *shape))
    am = -20 * errors + 40 * noise[0]
    ngram = -1.5 * errors + 4 * noise[1]
    mdlm = -5 * errors + 9 * noise[2]
    words = 20 + random.integers(-2, 3, shape)
    features = np.stack([am - 3.0 * words, ngram, mdlm], axis=-1).reshape(-1, 3)
    offsets = np.arange(utterances + 1) * hypotheses
    table = ScoreTable(offsets, features, ("am", "ngram", "mdlm"), words.ravel())
    return table, errors.ravel()


def fewest_errors_on_grid(table: ScoreTable, errors: NDArray[np.int64]) -> int:
    """The fewest errors of 13,824 settings."""
    utterances = len(table.offsets) - 1
    rows = np.arange(utterances)
    am, ngram, mdlm = (
        np.ascontiguousarray(column).reshape(utterances, -1) for column in table.features.T
    )
    words = table.words.reshape(utterances, -1).astype(float)
    counts = errors.reshape(utterances, -1)
    fewest = int(errors.sum())
    for ngram_scale, mdlm_scale in product(np.linspace(0, 23, STEPS), np.linspace(0, 11.5, STEPS)):
        partial = am + ngram_scale * ngram + mdlm_scale * mdlm
        for word_bonus in np.linspace(-23, 23, STEPS):
            best = (partial + word_bonus * words).argmax(axis=1)
            fewest = min(fewest, int(counts[rows, best].sum()))
    return fewest


def timed(work: Callable[[], int], repeats: int) -> tuple[float, int]:
    """Median CPU seconds, and the result."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds), result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, default=5567)
    parser.add_argument("--hypotheses", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    table, errors = simulate(options.utterances, options.hypotheses, options.seed)
    settings = SearchSettings(seed=options.seed)
    search_seconds, search_errors = timed(
        lambda: minimize_errors(table, errors, settings).errors, options.repeats
    )
    grid_seconds, grid_errors = timed(lambda: fewest_errors_on_grid(table, errors), options.repeats)
    print(
        f"lists: {options.utterances} x {options.hypotheses}, 3 scores and a word bonus;"
        f" medians of {options.repeats}"
    )
    print(f"line search: {search_seconds:8.2f} s of CPU, {search_errors} errors")
    print(f"grid:        {grid_seconds:8.2f} s of CPU, {grid_errors} errors ({STEPS**3} settings)")
    print(f"ratio:       {grid_seconds / search_seconds:8.1f}")


if __name__ == "__main__":
    main()
