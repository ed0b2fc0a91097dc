"""CPU time of one N-best list through a loaded scorer, and how much of it is the network.

    OMP_NUM_THREADS=1 python recipes/bench/latency.py recipes/demo_data/dev.jsonl

For each scorer: milliseconds a list as `score --stream` answers it, those inside the network's
calls, and the seconds of all lists streamed against batched. Both sides of a ratio are measured in
one process, as its CPU time.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

import rescore
from rescore.types import NBest

SPECS = ("ar", "usdm", "mdlm", "mdlm:nelbo")


class Clock:
    """The CPU seconds of all calls of the methods that it times."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time(self, owner: Any, method: str) -> None:
        call: Callable[..., Any] = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.process_time()
            result = call(*arguments, **keywords)
            self.seconds += time.process_time() - started
            return result

        setattr(owner, method, timed)


def seconds(work: Iterable[NBest]) -> float:
    started = time.process_time()
    for _ in work:
        pass
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("lists")
    parser.add_argument("--hypotheses", type=int, default=10)
    parser.add_argument("--count", type=int, default=10, help="lists")
    options = parser.parse_args()
    torch.set_num_threads(1)
    deep = (n for n in rescore.read(options.lists) if len(n.hyps) >= options.hypotheses)
    lists = [
        NBest(nbest.id, nbest.hyps[: options.hypotheses])
        for nbest in itertools.islice(deep, options.count)
    ]
    for spec in SPECS:
        scorer: Any = rescore.load_scorer(spec)
        clock = Clock()
        network = scorer.denoiser if hasattr(scorer, "denoiser") else scorer.model
        clock.time(network, "encode")
        clock.time(network, "readout")
        seconds(rescore.score(lists[:1], scorer, name="x", stream=True))  # warm up
        clock.seconds = 0.0
        streamed = seconds(rescore.score(lists, scorer, name="x", stream=True))
        inside = clock.seconds
        batched = seconds(rescore.score(lists, scorer, name="x"))
        print(
            f"{spec}: {1000 * streamed / len(lists):.1f} ms a list, "
            f"{1000 * inside / len(lists):.1f} in the network; "
            f"streamed {streamed:.2f} s, batched {batched:.2f} s"
        )


if __name__ == "__main__":
    main()
