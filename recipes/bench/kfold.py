"""Time every score of the embedded MDLM and USDM against the published estimator with 256 draws.

    python recipes/bench/kfold.py lists.jsonl.gz

Both sides use the same tokens, score [EOS] and run in one thread, in turns, in one process. The
published estimator (`nelbo.py` describes it) is timed for one draw of a whole list; 256 draws cost
256 times that. The figures are CPU seconds of whole lists; `curve.py` says what error rates they
buy.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from nelbo import Baseline, timed

import rescore
from rescore import NBest
from rescore.interfaces import Scorer
from rescore.scorers import ScorerOptions, load_scorer
from rescore.types import Score

#: Draws of the paper.
DRAWS = 256
PUBLISHED = f"published estimator, {DRAWS} draws"

SCORERS: dict[str, tuple[str, ScorerOptions]] = {
    **{
        f"mdlm pll, {folds} folds": ("mdlm", ScorerOptions(estimator="pll", folds=folds))
        for folds in (2, 3, 4, 8)
    },
    "mdlm pll, one token at a time": ("mdlm", ScorerOptions(estimator="pll")),
    "mdlm nelbo, 8 draws": ("mdlm", ScorerOptions(estimator="nelbo")),
    "usdm pll": ("usdm", ScorerOptions(estimator="pll")),
    "usdm nelbo, 8 draws": ("usdm", ScorerOptions(estimator="nelbo")),
}


def seconds_of(scorers: Mapping[str, Scorer], nbest: NBest, repeats: int) -> dict[str, float]:
    """Median CPU seconds of a list: every scorer, and the published estimator."""
    baseline = Baseline(scorers["mdlm nelbo, 8 draws"], nbest)
    sides = {PUBLISHED: partial(baseline.draw, torch.Generator().manual_seed(0))}
    for name, scorer in scorers.items():
        sides[name] = partial(score, scorer, nbest)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            times[name].append(timed(work).cpu)
    medians = {name: statistics.median(values) for name, values in times.items()}
    medians[PUBLISHED] *= DRAWS
    return medians


def evaluations_of(scorer: Scorer, lists: Sequence[NBest]) -> float:
    """Mean evaluations a hypothesis."""
    hypotheses = sum(len(nbest.hyps) for nbest in lists)
    return scorer.cost(scorer.prepare(lists)).evaluations / hypotheses


def score(scorer: Scorer, nbest: NBest) -> list[Score]:
    return list(scorer.score([nbest]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="N-best lists in any format that its content identifies")
    parser.add_argument("--lists", type=int, default=4, help="evenly spaced over the file")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lists = list(rescore.read(options.path))
    numbers = np.unique(np.linspace(0, len(lists) - 1, options.lists).astype(int))
    chosen = [
        lists[number].only(range(min(options.depth, len(lists[number].hyps)))) for number in numbers
    ]
    scorers = {name: load_scorer(*scorer) for name, scorer in SCORERS.items()}
    seconds = [seconds_of(scorers, nbest, options.repeats) for nbest in chosen]
    hypotheses = sum(len(nbest.hyps) for nbest in chosen)
    print(f"{len(chosen)} lists, {hypotheses} hypotheses")
    for name in seconds[0]:
        cost = sum(row[name] for row in seconds) / hypotheses
        ratios = [row[PUBLISHED] / row[name] for row in seconds]
        evaluations = DRAWS if name == PUBLISHED else evaluations_of(scorers[name], chosen)
        print(
            f"{name:36s}{evaluations:6.1f} evaluations {1000 * cost:8.1f} ms a hypothesis,"
            f" {statistics.geometric_mean(ratios):6.1f} times faster"
            f" ({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
