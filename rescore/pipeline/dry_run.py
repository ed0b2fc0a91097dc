"""What a run would cost, before it starts: tokens, evaluations, padding, memory, time."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from rescore.interfaces import Cost, PlainScorer, Scorer
from rescore.pipeline.chunks import BUCKETS, chunks
from rescore.pipeline.lookup import Lookup
from rescore.pipeline.shards import Shard
from rescore.scorers import adapt
from rescore.scorers.chunks import CHUNK, in_chunks
from rescore.types import NBest

__all__ = ["Forecast", "forecast"]

#: Hypotheses that are tokenised and planned; a larger input is extrapolated by its words.
SAMPLE = 5000

#: Network evaluations of the trial that measures the speed.
_TRIAL = 300

#: Bytes of a waiting hypothesis as Python objects, measured on lists with two scores.
_BYTES = 1500


@dataclass(frozen=True)
class Forecast:
    """What a run would cost.

    `tokens` includes padding, and `padding` is its share; `memory` is in bytes; `seconds` is the
    time of evaluation at `speed` tokens a second, as a trial measured it. `is_sampled`: not all
    lists were planned.
    """

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
            "time": f"about {_duration(self.seconds)}, at {self.speed:,.0f} tokens/s",
        }
        return "\n".join(f"{name:<12} {value}" for name, value in rows.items())


@dataclass
class _Tally:
    """Sums over lists; `words` are those of all evaluations together."""

    utterances: int = 0
    hypotheses: int = 0
    evaluations: int = 0
    words: float = 0.0

    def add(self, nbest: NBest, evaluations: int) -> None:
        words = sum(len(hyp.words) + 1 for hyp in nbest.hyps)
        self.utterances += 1
        self.hypotheses += len(nbest.hyps)
        self.evaluations += evaluations
        self.words += evaluations * words / len(nbest.hyps)


@dataclass
class _Sample:
    """The first lists of the input, up to `SAMPLE` hypotheses."""

    lists: list[NBest] = field(default_factory=list)
    tally: _Tally = field(default_factory=_Tally)

    @property
    def is_full(self) -> bool:
        return self.tally.hypotheses >= SAMPLE

    def add(self, nbest: NBest, evaluations: int) -> None:
        self.lists.append(nbest)
        self.tally.add(nbest, evaluations)


def forecast(
    lists: Iterable[NBest], scorer: PlainScorer, *, shard: Shard | None = None
) -> Forecast:
    """Read all lists, plan a sample of them, and evaluate a few of those for the time."""
    adapted = adapt(scorer)
    total, sample = _Tally(), _Sample()
    for nbest in lists:
        if shard is not None and nbest.id not in shard:
            continue
        evaluations = adapted.evaluations(nbest)
        total.add(nbest, evaluations)
        if not sample.is_full:
            sample.add(nbest, evaluations)
    is_sampled = sample.tally.utterances < total.utterances
    cost = _cost(adapted, _chunks(adapted, sample.lists, is_whole=not is_sampled))
    speed = _speed(adapted, sample.lists)
    tokens = round(cost.tokens * total.words / max(1.0, sample.tally.words))
    waiting = min(total.hypotheses, _waiting_hypotheses(sample.tally))
    return Forecast(
        utterances=total.utterances,
        hypotheses=total.hypotheses,
        evaluations=round(
            cost.evaluations * total.evaluations / max(1.0, sample.tally.evaluations)
        ),
        tokens=tokens,
        padding=cost.padding / max(1, cost.tokens),
        memory=_peak_memory(adapted) + _BYTES * waiting,
        seconds=tokens / speed,
        speed=speed,
        is_sampled=is_sampled,
    )


def _chunks(scorer: Scorer, lists: Sequence[NBest], *, is_whole: bool) -> Iterable[list[NBest]]:
    """The chunks of a run over these lists; of a sample, chunks as full as those of the run."""
    if is_whole:
        return chunks(lists, lambda nbest: nbest.id, scorer.evaluations, CHUNK)
    return in_chunks(scorer, lists, CHUNK)


def _cost(scorer: Scorer, chunks_of_lists: Iterable[Sequence[NBest]]) -> Cost:
    """The cost of chunks, equal texts once."""
    total = Cost(0, 0, 0)
    for chunk in chunks_of_lists:
        total += scorer.cost(scorer.prepare(Lookup(chunk, scorer.scope).missing))
    return total


def _speed(scorer: Scorer, lists: Sequence[NBest]) -> float:
    """Tokens a second, padding included, of a second trial; the first one warms up."""
    trials = []
    for trial in in_chunks(scorer, (_shortened(scorer, nbest) for nbest in lists[:_TRIAL]), _TRIAL):
        trials.append(trial)
        if len(trials) == 2:
            break
    if not trials:
        return float("inf")
    speed = 0.0
    for trial in (trials[0], trials[-1]):
        tokens = scorer.cost(scorer.prepare(trial)).tokens
        started = time.perf_counter()
        scorer.evaluate(scorer.prepare(trial))
        speed = tokens / max(1e-9, time.perf_counter() - started)
    return speed


def _shortened(scorer: Scorer, nbest: NBest) -> NBest:
    """The first hypotheses of a list, as many as a trial can evaluate."""
    evaluations_each = max(1, scorer.evaluations(nbest) // len(nbest.hyps))
    count = max(1, _TRIAL // evaluations_each)
    return nbest.only(range(min(len(nbest.hyps), count)))


def _waiting_hypotheses(sample: _Tally) -> int:
    """Hypotheses that wait for their chunks to fill, and for their turn in the output."""
    return 2 * BUCKETS * CHUNK * sample.hypotheses // max(1, sample.evaluations)


def _peak_memory(scorer: Scorer) -> int:
    """Bytes that this process has needed so far, those of its GPU included."""
    import torch  # noqa: PLC0415 - the scorer has loaded it

    on_gpu = scorer.device.startswith("cuda")
    return _peak_of_process() + (
        int(torch.cuda.max_memory_allocated(scorer.device)) if on_gpu else 0
    )


def _peak_of_process() -> int:
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return 0
    import sys  # noqa: PLC0415

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def _duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, for people."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
