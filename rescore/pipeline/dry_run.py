"""What scoring would take, before it begins: tokens, evaluations, padding, memory, time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from rescore.pipeline.chunks import BUCKETS, Shard, chunks
from rescore.pipeline.lookup import missing
from rescore.interfaces import Cost, PlainScorer, Scorer
from rescore.scorers import adapt
from rescore.scorers.chunks import CHUNK, in_chunks
from rescore.types import NBest

__all__ = ["Forecast", "forecast"]

#: Hypotheses that are tokenised and planned; what a larger input takes is their ratio to the words.
SAMPLE = 5000

#: Network evaluations of the trial that measures the speed.
_TRIAL = 300

#: Bytes of a waiting hypothesis as Python objects, measured on lists with two scores.
_BYTES = 1500


@dataclass(frozen=True)
class Forecast:
    """What a run would take. `tokens` counts padding; `seconds` is what is left of evaluation at the speed of a trial; `is_sampled`: not all was planned."""

    utterances: int
    hypotheses: int
    evaluations: int
    tokens: int
    padding: float
    memory: int
    seconds: float
    speed: float
    is_sampled: bool

    def __str__(self) -> str:
        about = "about " if self.is_sampled else ""
        rows = {
            "utterances": f"{self.utterances:,}",
            "hypotheses": f"{self.hypotheses:,}",
            "evaluations": f"{about}{self.evaluations:,}",
            "tokens": f"{about}{self.tokens:,}, of which {self.padding:.1%} padding",
            "memory": f"about {self.memory / 2**30:.1f} GiB",
            "time": f"about {_clock(self.seconds)}, at {self.speed:,.0f} tokens/s",
        }
        return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


def forecast(lists: Iterable[NBest], scorer: PlainScorer, *, shard: Shard | None = None) -> Forecast:
    """Read all lists, plan some, and evaluate a few of those for the time."""
    built = adapt(scorer)
    utterances = hypotheses = waiting = 0
    weights = {"all": [0.0, 0.0], "sample": [0.0, 0.0]}  # evaluations, and their tokens in words
    sample: list[NBest] = []
    for nbest in lists:
        if shard is not None and nbest.id not in shard:
            continue
        utterances, hypotheses = utterances + 1, hypotheses + len(nbest.hyps)
        evaluations, words = (
            built.evaluations(nbest),
            sum(len(hyp.words) + 1 for hyp in nbest.hyps) / len(nbest.hyps),
        )
        is_looked_at = waiting < SAMPLE
        if is_looked_at:
            sample.append(nbest)
            waiting += len(nbest.hyps)
        for part in ("all", "sample")[: 1 + is_looked_at]:
            weights[part][0] += evaluations
            weights[part][1] += evaluations * words
    is_sampled = len(sample) < utterances
    cost = _cost(
        built,
        in_chunks(built, sample, CHUNK)
        if is_sampled
        else chunks(sample, lambda nbest: nbest.id, built.evaluations, CHUNK),
    )
    more, longer = (
        whole / max(1.0, part)
        for whole, part in zip(weights["all"], weights["sample"], strict=True)
    )
    speed = _speed(built, sample)
    tokens = round(cost.tokens * longer)
    padding = cost.padding / max(1, cost.tokens)
    memory = _peak(built) + _BYTES * min(hypotheses, _held(built, sample))
    return Forecast(
        utterances,
        hypotheses,
        round(cost.evaluations * more),
        tokens,
        padding,
        memory,
        tokens / speed,
        speed,
        is_sampled,
    )


def _cost(scorer: Scorer, found: Iterable[Sequence[NBest]]) -> Cost:
    """What chunks cost, equal texts once."""
    total = Cost()
    for chunk in found:
        total += scorer.cost(scorer.prepare(missing(chunk, scorer.scope, None).lists))
    return total


def _speed(scorer: Scorer, sample: Sequence[NBest]) -> float:
    """Padded tokens a second of the second trial; the first one warms up."""
    trials = list(
        islice(in_chunks(scorer, (_short(scorer, nbest) for nbest in sample[:_TRIAL]), _TRIAL), 2)
    )
    speed = float("inf")
    for trial in [trials[0], trials[-1]] if trials else []:
        tokens = scorer.cost(scorer.prepare(trial)).tokens
        started = time.perf_counter()
        scorer.evaluate(scorer.prepare(trial))
        speed = tokens / max(1e-9, time.perf_counter() - started)
    return speed


def _short(scorer: Scorer, nbest: NBest) -> NBest:
    """So many first hypotheses as a trial can pay for."""
    each = max(1, scorer.evaluations(nbest) // len(nbest.hyps))
    return nbest.only(range(min(len(nbest.hyps), max(1, _TRIAL // each))))


def _held(scorer: Scorer, sample: Sequence[NBest]) -> int:
    """Hypotheses that wait for the chunks of their buckets to fill, and for their turn in the output."""
    hypotheses = sum(len(nbest.hyps) for nbest in sample)
    return (
        2
        * BUCKETS
        * CHUNK
        * hypotheses
        // max(1, sum(scorer.evaluations(nbest) for nbest in sample))
    )


def _peak(scorer: Scorer) -> int:
    """Bytes that this process has needed so far, and of the GPU if the scorer is on one."""
    import torch  # noqa: PLC0415 - loaded by the scorer already

    return _peak_of_process() + (
        int(torch.cuda.max_memory_allocated(scorer.device)) if scorer.device.startswith("cuda") else 0
    )


def _peak_of_process() -> int:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    import sys  # noqa: PLC0415

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def _clock(seconds: float) -> str:
    """Seconds for people."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
