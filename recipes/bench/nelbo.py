"""Time the Monte-Carlo NELBO of the embedded MDLM against the authors' public estimator.

    python recipes/bench/nelbo.py lists.jsonl.gz
    python recipes/bench/nelbo.py lists.jsonl.gz --lists 8 --rounds 64 --json bench.json

Both sides use the same network and the same tokens, score [EOS] and run in one thread; they are
compared at equal standard error.

Ours is `--estimator nelbo` with its defaults: `--draws` stratified draws of an exact count of
hidden tokens, random numbers that aligned tokens of a list share, equal corrupted sequences
evaluated once, and log-softmax only where a token is scored.

The baseline is the estimator of arXiv:2604.14001, written plainly. A draw takes one t ~ U(0, 1) for
the list, hides every token of every hypothesis with probability t, evaluates the list as one padded
batch, takes the log-softmax of all logits, and weighs the hidden tokens' sum. Two weights:
`realised`, S / n of n hidden tokens (theirs, biased by S / (S + 1)), and `1/t` (MDLM's; t >= 0.001,
because its variance is infinite).

Cost: CPU seconds of whole lists, the two sides in turns, medians. Variance: over `--rounds`
repetitions with different seeds (ours, of `--draws` draws each) and over as many single draws in
all (baseline), of the best `--depth` hypotheses of each list; of the value of a hypothesis, and of
its difference to the first hypothesis, which is what rescoring compares. n independent draws have
1 / n of the variance of one. So the baseline needs, for our standard error, its time for a draw
x its variance / ours. Ratios use a list's mean variances; the claim is their geometric mean.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rescore
from rescore import NBest
from rescore.batching import pad
from rescore.scorers import ScorerOptions, load_scorer
from rescore.scorers.denoising import DenoisingScorer

WEIGHTS = ("realised", "1/t")
LEAST_T = 1e-3


@dataclass(frozen=True)
class Spread:
    """Mean variance of a hypothesis's value, and of its difference to the first hypothesis."""

    value: float
    difference: float

    @classmethod
    def of(cls, estimates: np.ndarray) -> Spread:
        """From estimates (repetitions, hypotheses)."""
        differences = (estimates - estimates[:, :1])[:, 1:]
        return cls(
            float(estimates.var(axis=0, ddof=1).mean()),
            float(differences.var(axis=0, ddof=1).mean()),
        )


@dataclass(frozen=True)
class Seconds:
    """CPU and wall seconds."""

    cpu: float
    wall: float


class Baseline:
    """The public estimator, one draw at a time."""

    def __init__(self, scorer: DenoisingScorer, nbest: NBest) -> None:
        first_windows = [windows[0] for windows in scorer.sequencer(nbest)]
        tokens, padding = pad([window.tokens for window in first_windows])
        scored, _ = pad([window.scored for window in first_windows])
        self._tokens = torch.from_numpy(tokens)
        self._padding = torch.from_numpy(padding)
        self._scored = torch.from_numpy(scored)
        self._denoiser, self._sizes = scorer.denoiser, self._scored.sum(-1)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> dict[str, np.ndarray]:
        """The estimates (hypotheses,) of one draw, by weight."""
        t = torch.rand((), generator=generator, dtype=torch.float64).clamp(min=LEAST_T)
        u = torch.rand(self._tokens.shape, generator=generator, dtype=torch.float64)
        hidden = (u < t) & self._scored
        noisy = self._tokens.masked_fill(hidden, self._denoiser.mask_id)
        counts = hidden.sum(-1)
        log_probs: Tensor = self._denoiser.log_probs(noisy, counts / self._sizes, self._padding)
        token_log_probs = log_probs.gather(-1, self._tokens[..., None]).squeeze(-1)
        sums = token_log_probs.masked_fill(~hidden, 0.0).double().sum(-1)
        return {
            "realised": (sums * self._sizes / counts.clamp(min=1)).numpy(),
            "1/t": (sums / t).numpy(),
        }


def our_scores(scorer: DenoisingScorer, nbest: NBest, seed: int) -> np.ndarray:
    """Our estimates (hypotheses,)."""
    planner = replace(scorer.estimator.planner, seed=seed)
    reseeded = replace(scorer, estimator=replace(scorer.estimator, planner=planner))
    [score] = reseeded.score([nbest])
    return np.array(score.values)


def estimates_of(
    scorer: DenoisingScorer, nbest: NBest, options: argparse.Namespace
) -> dict[str, np.ndarray]:
    """Estimates (repetitions, hypotheses): ours of `--draws` draws, each weight's of one draw."""
    seeds = range(options.seed, options.seed + options.rounds)
    estimates = {"ours": np.stack([our_scores(scorer, nbest, seed) for seed in seeds])}
    baseline, generator = Baseline(scorer, nbest), torch.Generator().manual_seed(options.seed)
    draws = [baseline.draw(generator) for _ in range(options.rounds * options.draws)]
    for weight in WEIGHTS:
        estimates[weight] = np.stack([draw[weight] for draw in draws])
    return estimates


def timed(work: Callable[[], object]) -> Seconds:
    """How long `work` takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return Seconds(time.process_time() - cpu, time.perf_counter() - wall)


def costs_of(
    scorer: DenoisingScorer, nbest: NBest, options: argparse.Namespace
) -> dict[str, Seconds]:
    """Median seconds: ours for `--draws` draws of the whole list, the baseline's for one draw."""
    baseline, generator = Baseline(scorer, nbest), torch.Generator().manual_seed(options.seed)
    sides = {
        "ours": lambda: our_scores(scorer, nbest, options.seed),
        "baseline": lambda: baseline.draw(generator),
    }
    times: dict[str, list[Seconds]] = {side: [] for side in sides}
    for _ in range(options.repeats):
        for side, work in sides.items():
            times[side].append(timed(work))
    return {
        side: Seconds(
            statistics.median(seconds.cpu for seconds in repeats),
            statistics.median(seconds.wall for seconds in repeats),
        )
        for side, repeats in times.items()
    }


def row_of(scorer: DenoisingScorer, nbest: NBest, options: argparse.Namespace) -> dict[str, Any]:
    """The measurements of one list."""
    costs = costs_of(scorer, nbest, options)
    estimates = estimates_of(
        scorer, nbest.only(range(min(options.depth, len(nbest.hyps)))), options
    )
    variances = {name: Spread.of(values) for name, values in estimates.items()}
    row: dict[str, Any] = {
        "id": nbest.id,
        "hypotheses": len(nbest.hyps),
        "words": len(nbest.hyps[0].words),
        "cpu_wall_seconds": {side: (cost.cpu, cost.wall) for side, cost in costs.items()},
        "variance": {name: (v.value, v.difference) for name, v in variances.items()},
        "mean": {name: float(values.mean()) for name, values in estimates.items()},
        "cost_of_a_draw": costs["baseline"].cpu / (costs["ours"].cpu / options.draws),
    }
    for kind in ("value", "difference"):
        ours = getattr(variances["ours"], kind)
        row[f"std_error_{kind}"] = ours**0.5
        for weight in WEIGHTS:
            draws = getattr(variances[weight], kind) / ours
            row[f"draws_{kind}_{weight}"] = draws
            row[f"ratio_{kind}_{weight}"] = draws * costs["baseline"].cpu / costs["ours"].cpu
    return row


def over_lists(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means over lists."""
    names = [name for name in rows[0] if name.startswith(("cost", "std_error", "draws", "ratio"))]
    return {name: statistics.geometric_mean(row[name] for row in rows) for name in names}


def show(report: dict[str, Any], options: argparse.Namespace) -> None:
    rows, overall = report["lists"], report["geometric_mean"]
    hypotheses = sum(row["hypotheses"] for row in rows)
    print(
        f"{len(rows)} lists, {hypotheses} hypotheses; ours with {options.draws} draws;"
        f" variances of {options.rounds} repetitions"
    )
    print(f"a draw of the baseline costs {overall['cost_of_a_draw']:.2f} times one of ours (CPU)")
    print(f"{'':24s}{'of a hypothesis':>18s}{'of a difference':>18s}")
    value, difference = overall["std_error_value"], overall["std_error_difference"]
    print(f"{'our standard error':24s}{value:18.3f}{difference:18.3f}")
    for name, weight in itertools.product(("draws", "ratio"), WEIGHTS):
        title = f"{'baseline draws for it' if name == 'draws' else 'time ratio'}, {weight}"
        value, difference = (
            overall[f"{name}_value_{weight}"],
            overall[f"{name}_difference_{weight}"],
        )
        print(f"{title:32s}{value:10.1f}{difference:18.1f}")
    ratios = ", ".join(
        f"{row['ratio_value_realised']:.1f}/{row['ratio_difference_realised']:.1f}" for row in rows
    )
    print(f"time ratio list by list (realised; hypothesis/difference): {ratios}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="N-best lists in any format that its content identifies")
    parser.add_argument("--lists", type=int, default=4, help="evenly spaced over the file")
    parser.add_argument(
        "--depth",
        type=int,
        default=10,
        help="hypotheses of a list whose variance is measured; all are timed",
    )
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the report to this file too")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    lists = list(rescore.read(options.path))
    numbers = np.unique(np.linspace(0, len(lists) - 1, options.lists).astype(int))
    chosen = [lists[number] for number in numbers]
    scorer = load_scorer("mdlm", ScorerOptions(estimator="nelbo", draws=options.draws))
    rows = [row_of(scorer, nbest, options) for nbest in chosen if len(nbest.hyps) > 1]
    report = {"lists": rows, "geometric_mean": over_lists(rows)}
    show(report, options)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
