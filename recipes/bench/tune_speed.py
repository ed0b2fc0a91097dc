"""Time exact line search against a grid of weights, on made-up lists of the size of LibriSpeech's dev sets (5,567 lists of 100).

    python recipes/bench/tune_speed.py --utterances 5567 --hypotheses 100 --repeats 3

The grid is 24 x 24 x 24 = 13,824 settings (two scales and a word bonus), as icefall sweeps them, written as well as numpy allows: partial sums
are kept, and a setting costs one addition, one argmax and one look-up. Its values are spread around the weights the lists were made with, so
it is centred where no real grid can know to be centred. Both count word errors on the same lists; times are CPU seconds, and both run on one
core, so that other work on the machine matters less.
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


def make_lists(utterances: int, hypotheses: int, seed: int) -> tuple[ScoreTable, NDArray[np.int64]]:
    """Lists whose three scores each see the errors through their own noise: am about 1 nat, ngram 12 times smaller, mdlm 4 times smaller."""
    random = np.random.default_rng(seed)
    shape = (utterances, hypotheses)
    errors = random.poisson(random.gamma(2.0, 1.0, (utterances, 1)) + np.arange(hypotheses) / 30.0)
    noise = random.normal(0, 1, (3, *shape))
    am, ngram, mdlm = (
        -20 * errors + 40 * noise[0],
        -1.5 * errors + 4 * noise[1],
        -5 * errors + 9 * noise[2],
    )
    words = 20 + random.integers(-2, 3, shape)
    features = np.stack([am - 3.0 * words, ngram, mdlm], axis=-1).reshape(-1, 3)
    table = ScoreTable(
        np.arange(utterances + 1) * hypotheses, features, ("am", "ngram", "mdlm"), words.ravel()
    )
    return table, errors.ravel()


def grid(table: ScoreTable, errors: NDArray[np.int64]) -> int:
    """The fewest errors of 13,824 settings."""
    shape = (len(table.offsets) - 1, -1)
    am, ngram, mdlm = (np.ascontiguousarray(table.features[:, k]).reshape(shape) for k in range(3))
    words, counts, rows = (
        table.words.reshape(shape).astype(float),
        errors.reshape(shape),
        np.arange(shape[0]),
    )
    best = int(errors.sum())
    for ngram_scale, mdlm_scale in product(np.linspace(0, 23, STEPS), np.linspace(0, 11.5, STEPS)):
        fixed = am + ngram_scale * ngram + mdlm_scale * mdlm
        for word_bonus in np.linspace(-23, 23, STEPS):
            best = min(best, int(counts[rows, (fixed + word_bonus * words).argmax(axis=1)].sum()))
    return best


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
    table, errors = make_lists(options.utterances, options.hypotheses, options.seed)
    search_time, found = timed(
        lambda: minimize_errors(table, errors, SearchSettings(seed=options.seed)).errors,
        options.repeats,
    )
    grid_time, swept = timed(lambda: grid(table, errors), options.repeats)
    print(
        f"lists: {options.utterances} x {options.hypotheses}, 3 scores and a word bonus; medians of {options.repeats}"
    )
    print(f"line search: {search_time:8.2f} s of CPU, {found} errors")
    print(f"grid:        {grid_time:8.2f} s of CPU, {swept} errors ({STEPS**3} settings)")
    print(f"ratio:       {grid_time / search_time:8.1f}")


if __name__ == "__main__":
    main()
