"""Time the Monte-Carlo NELBO of the embedded MDLM at equal standard error against the estimator of the authors' public code.

    python recipes/bench/nelbo.py lists.jsonl.gz
    python recipes/bench/nelbo.py lists.jsonl.gz --lists 8 --rounds 64 --json bench.json

Same network, same tokens, [EOS] scored, one thread. Ours is the scorer with its defaults: `--draws` stratified draws of an exact count of hidden tokens,
random numbers that aligned tokens of a list share, a corrupted sequence evaluated once whoever asks for it, log-softmax where a token is scored.
The baseline is arXiv:2604.14001's estimator written plainly: a draw takes one t ~ U(0, 1) for the list, hides every token of every hypothesis with
probability t, evaluates the list as one padded batch, takes the log-softmax of all logits, and weighs the hidden tokens' sum. Weights:
`realised` S / n of n hidden tokens (theirs, biased by S / (S + 1)), and `1/t` (MDLM's, t >= 0.001, for its variance is infinite).

Cost: CPU seconds of whole lists, the sides in turns, medians. Variance: over `--rounds` repetitions with other seeds (ours, of `--draws` draws each) and as
many single draws in all (baseline), of the best `--depth` hypotheses of each list; of a hypothesis's own value, and of its difference to the first
hypothesis of its list, which is what rescoring compares. n independent draws have 1 / n of the variance of one, so the baseline's time for our
standard error is its time a draw x its variance / ours. Ratios are of a list's mean variances; the geometric mean over lists is what is claimed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rescore
from rescore import NBest
from rescore.batching import pad
from rescore.scorers import ScorerOptions, load_scorer
from rescore.scorers.denoising import DiffusionScorer

WEIGHTS = ("realised", "1/t")
LEAST_T = 1e-3


class Baseline:
    """The public estimator, one draw at a time."""

    def __init__(self, scorer: DiffusionScorer, nbest: NBest) -> None:
        windows = [hypothesis[0] for hypothesis in scorer.sequencer(nbest)]
        tokens, padding = pad([window.tokens for window in windows])
        scored, _ = pad([window.scored for window in windows])
        self._tokens, self._padding, self._scored = (
            torch.from_numpy(array) for array in (tokens, padding, scored)
        )
        self._denoiser, self._sizes = scorer.denoiser, self._scored.sum(-1)

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> dict[str, np.ndarray]:
        """The estimates (hypotheses,) of one draw, by weight."""
        t = torch.rand((), generator=generator, dtype=torch.float64).clamp(min=LEAST_T)
        hidden = (
            torch.rand(self._tokens.shape, generator=generator, dtype=torch.float64) < t
        ) & self._scored
        noisy = self._tokens.masked_fill(hidden, self._denoiser.mask_id)
        counts = hidden.sum(-1)
        log_probs: Tensor = self._denoiser.log_probs(noisy, counts / self._sizes, self._padding)
        values = log_probs.gather(-1, self._tokens[..., None]).squeeze(-1)
        summed = values.masked_fill(~hidden, 0.0).double().sum(-1)
        return {
            "realised": (summed * self._sizes / counts.clamp(min=1)).numpy(),
            "1/t": (summed / t).numpy(),
        }


def ours(scorer: DiffusionScorer, nbest: NBest, seed: int) -> np.ndarray:
    """Our estimates (hypotheses,)."""
    scorer.planner = replace(scorer.planner, seed=seed)
    [score] = scorer.score([nbest])
    return np.array(score.values)


def spread(estimates: np.ndarray) -> tuple[float, float]:
    """Of estimates (repetitions, hypotheses): the mean variance of a hypothesis, and that of a difference to the first one."""
    differences = (estimates - estimates[:, :1])[:, 1:]
    return float(estimates.var(axis=0, ddof=1).mean()), float(
        differences.var(axis=0, ddof=1).mean()
    )


def variances(
    scorer: DiffusionScorer, nbest: NBest, options: argparse.Namespace
) -> tuple[dict[str, tuple[float, float]], dict[str, float]]:
    """`spread` of ours (of `--draws` draws) and of each weight of the baseline (of one draw), and the mean estimate of each."""
    baseline, generator = Baseline(scorer, nbest), torch.Generator().manual_seed(options.seed)
    draws = [baseline.draw(generator) for _ in range(options.rounds * options.draws)]
    estimates = {
        "ours": np.stack([ours(scorer, nbest, options.seed + r) for r in range(options.rounds)])
    }
    estimates |= {weight: np.stack([draw[weight] for draw in draws]) for weight in WEIGHTS}
    return {name: spread(own) for name, own in estimates.items()}, {
        name: float(own.mean()) for name, own in estimates.items()
    }


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def costs(
    scorer: DiffusionScorer, nbest: NBest, options: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Median (CPU, wall) seconds: ours for `--draws` draws of the whole list, the baseline's for one draw."""
    baseline, generator = Baseline(scorer, nbest), torch.Generator().manual_seed(options.seed)
    works = {
        "ours": lambda: ours(scorer, nbest, options.seed),
        "baseline": lambda: baseline.draw(generator),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for _, (name, work) in itertools.product(range(options.repeats), works.items()):
        found[name].append(seconds(work))
    return {
        name: (statistics.median(c for c, _ in own), statistics.median(w for _, w in own))
        for name, own in found.items()
    }


def of_list(scorer: DiffusionScorer, nbest: NBest, options: argparse.Namespace) -> dict[str, Any]:
    """What one list shows."""
    cost = costs(scorer, nbest, options)
    variance, mean = variances(
        scorer, nbest.only(range(min(options.depth, len(nbest.hyps)))), options
    )
    row: dict[str, Any] = {
        "id": nbest.id,
        "hypotheses": len(nbest.hyps),
        "words": len(nbest.hyps[0].words),
        "cpu_wall_seconds": cost,
    }
    row |= {
        "variance": variance,
        "mean": mean,
        "cost_of_a_draw": cost["baseline"][0] / (cost["ours"][0] / options.draws),
    }
    for k, kind in enumerate(("value", "difference")):
        row[f"std_error_{kind}"] = variance["ours"][k] ** 0.5
        for weight in WEIGHTS:
            needed = variance[weight][k] / variance["ours"][k]
            row[f"draws_{kind}_{weight}"] = needed
            row[f"ratio_{kind}_{weight}"] = needed * cost["baseline"][0] / cost["ours"][0]
    return row


def over_lists(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Geometric means over lists."""
    names = [name for name in rows[0] if name.startswith(("cost", "std_error", "draws", "ratio"))]
    return {name: statistics.geometric_mean(row[name] for row in rows) for name in names}


def show(report: dict[str, Any], options: argparse.Namespace) -> None:
    rows, overall = report["lists"], report["geometric_mean"]
    print(
        f"{len(rows)} lists, {sum(row['hypotheses'] for row in rows)} hypotheses; ours with {options.draws} draws; variances of {options.rounds} repetitions"
    )
    print(f"a draw of the baseline costs {overall['cost_of_a_draw']:.2f} times one of ours (CPU)")
    print(f"{'':24s}{'of a hypothesis':>18s}{'of a difference':>18s}")
    print(
        "{:24s}{:18.3f}{:18.3f}".format(
            "our standard error", overall["std_error_value"], overall["std_error_difference"]
        )
    )
    for name, weight in itertools.product(("draws", "ratio"), WEIGHTS):
        title = f"{'baseline draws for it' if name == 'draws' else 'time ratio'}, {weight}"
        print(
            f"{title:32s}{overall[f'{name}_value_{weight}']:10.1f}{overall[f'{name}_difference_{weight}']:18.1f}"
        )
    each = ", ".join(
        f"{row['ratio_value_realised']:.1f}/{row['ratio_difference_realised']:.1f}" for row in rows
    )
    print(f"time ratio list by list (realised; hypothesis/difference): {each}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="N-best lists in any format that is recognised by its content")
    parser.add_argument("--lists", type=int, default=4, help="evenly spaced over the file")
    parser.add_argument(
        "--depth",
        type=int,
        default=10,
        help="hypotheses of a list whose variance is measured; the cost is of all",
    )
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE", help="write the report here too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = list(rescore.read(options.path))
    chosen = [
        every[i] for i in np.unique(np.linspace(0, len(every) - 1, options.lists).astype(int))
    ]
    scorer = load_scorer("mdlm", ScorerOptions(draws=options.draws))
    rows = [of_list(scorer, nbest, options) for nbest in chosen if len(nbest.hyps) > 1]
    report = {"lists": rows, "geometric_mean": over_lists(rows)}
    show(report, options)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
