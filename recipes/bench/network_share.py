"""How much of a scoring run is spent in the network, and how near that is to the matmul peak.

    python recipes/bench/network_share.py lists.jsonl --hypotheses 2000

Runs `rescore.score` with the embedded models on the first hypotheses of a list. Share: wall seconds
inside the network's calls (body and read-out) of the wall seconds of the run, reading and writing
left out, tokenising and planning included. Peak: the floating-point operations of its matrix
products in those seconds, as a part of what torch's own product of the same shapes reaches in the
same process, with as many threads.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

import rescore
from rescore.models.network import Network
from rescore.pipeline import Progress
from rescore.types import NBest

SCORERS = (("usdm", "pll"), ("usdm", "nelbo"), ("mdlm", "nelbo"), ("ar", None))


class Meter:
    """Counts the seconds and the operations of a network's calls."""

    def __init__(self, network: Network) -> None:
        config = network.config
        self.body = (
            2 * config.layers * config.width * (4 * config.width + 3 * config.feed_forward)
        )  # of a token
        self.output = 2 * config.width * config.vocab_size
        self.seconds = self.operations = 0.0
        for name, rows in (
            ("encode", self.body),
            ("encode_forest", self.body),
            ("readout", self.output),
        ):
            setattr(network, name, self._timed(getattr(network, name), rows))

    def _timed(self, call: Callable[..., Any], operations: int) -> Callable[..., Any]:
        def timed(tokens: torch.Tensor, *rest: Any) -> Any:
            started = time.perf_counter()
            result = call(tokens, *rest)
            self.seconds += time.perf_counter() - started
            self.operations += operations * (
                tokens.shape[0] if tokens.is_floating_point() else tokens.numel()
            )
            return result

        return timed


def first(path: str, hypotheses: int) -> Iterator[NBest]:
    """Lists until they hold this many hypotheses."""
    count = 0
    for nbest in rescore.read(path):
        if count >= hypotheses:
            return
        count += len(nbest.hyps)
        yield nbest


def peak(config: Any) -> float:
    """Operations a second of the products of one block, on as many rows as a batch has tokens."""
    sizes = (
        (config.width, 3 * config.width),
        (config.width, config.width),
        (config.width, 2 * config.feed_forward),
        (config.feed_forward, config.width),
    )
    tensors = [(torch.randn(1024, k), torch.randn(n, k)) for k, n in sizes]
    times = []
    for _ in range(25):
        started = time.perf_counter()
        for x, weight in tensors:
            functional.linear(x, weight)
        times.append(time.perf_counter() - started)
    return sum(2 * 1024 * k * n for k, n in sizes) / statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path")
    parser.add_argument("--hypotheses", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    lists = list(first(options.path, options.hypotheses))
    print(
        f"{sum(len(nbest.hyps) for nbest in lists)} hypotheses, {torch.get_num_threads()} threads;"
        f" medians of {options.repeats}"
    )
    print("scorer      evaluations  seconds  in the network  of matmul peak")
    for family, estimator in SCORERS:
        scorer: Any = rescore.load_scorer(family, rescore.ScorerOptions(estimator=estimator))
        network = (scorer.model if family == "ar" else scorer.denoiser).network
        few = (
            lists
            if estimator != "nelbo"
            else list(itertools.islice(lists, max(1, len(lists) // 8)))
        )
        meter, best = Meter(network), peak(network.config)
        rows = []
        for _ in range(options.repeats):
            meter.seconds = meter.operations = 0.0
            progress, started = Progress(), time.perf_counter()
            for _one in rescore.score(few, scorer, progress=progress):
                pass
            seconds = time.perf_counter() - started
            rows.append((seconds, meter.seconds / seconds, meter.operations / meter.seconds / best))
        seconds, share, of_peak = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{scorer.name:<11} {progress.evaluations:>11}  {seconds:7.2f}"
            f"  {share:14.1%}  {of_peak:14.1%}"
        )


if __name__ == "__main__":
    main()
