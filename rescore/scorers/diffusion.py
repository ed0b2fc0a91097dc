"""The scorer behind `mdlm`, `usdm` and `mlm`: plans of an estimator for a stream of hypotheses, evaluated in chunks."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rescore.diffusion.denoiser import Denoiser, Plan, Readout, run
from rescore.diffusion.draws import utterance_key
from rescore.errors import ScoreError
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.types import Estimate, NBest, Score, ScoreKind

__all__ = ["DiffusionScorer", "Planner"]

#: (window, number of the utterance) -> plan
Planner = Callable[[TokenSequence, int], Plan]

#: Queries held at once: memory is bounded by this whatever the lists are.
CHUNK_QUERIES = 20_000


@dataclass
class _Open:
    """A list whose hypotheses are being scored."""

    nbest: NBest
    estimates: list[Estimate] = field(default_factory=list)


@dataclass
class DiffusionScorer:
    """Scores lists with one estimator of one denoiser. `negate`: the estimator returns a cost."""

    name: str
    kind: ScoreKind
    signature: str
    denoiser: Denoiser
    sequencer: Sequencer
    planner: Planner
    readout: Readout
    negate: bool = False
    device: str = "cpu"

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order."""
        waiting: deque[_Open] = deque()
        for chunk in self._chunks(lists, waiting):
            plans = [plan for _, _, plans in chunk for plan in plans]
            values = iter(run(self.denoiser, plans, self.readout, device=self.device))
            for opened, number, own in chunk:
                opened.estimates.append(self._estimate(opened.nbest, number, own, list(itertools.islice(values, len(own)))))
            while waiting and len(waiting[0].estimates) == len(waiting[0].nbest.hyps):
                yield self._close(waiting.popleft())
        self.sequencer.warn()

    def _chunks(self, lists: Iterable[NBest], waiting: deque[_Open]) -> Iterator[list[tuple[_Open, int, list[Plan]]]]:
        """Hypotheses with their plans, at most about `CHUNK_QUERIES` queries at a time; a long list may be split."""
        chunk: list[tuple[_Open, int, list[Plan]]] = []
        held = 0
        for nbest in lists:
            opened = _Open(nbest)
            waiting.append(opened)
            key = utterance_key(nbest.id)
            for number, windows in enumerate(self.sequencer(nbest)):
                plans = [self.planner(window, key) for window in windows]
                chunk.append((opened, number, plans))
                held += sum(len(plan.queries) for plan in plans)
                if held >= CHUNK_QUERIES:
                    yield chunk
                    chunk, held = [], 0
        if chunk:
            yield chunk

    def _estimate(self, nbest: NBest, number: int, plans: Sequence[Plan], values: Sequence[object]) -> Estimate:
        """The sum over a hypothesis's windows, as a score."""
        try:
            parts = [plan.combine(value) for plan, value in zip(plans, values, strict=True)]  # type: ignore[arg-type]
        except ScoreError as error:
            raise ScoreError(f"{nbest.place(number)}: {error}") from error
        total = sum(part.value for part in parts) * (-1 if self.negate else 1)
        if not math.isfinite(total):
            raise ScoreError(f'{nbest.place(number)}: score "{self.name}" is {total}, expected a finite number; the model gives this text probability zero')
        return Estimate(total, math.sqrt(sum(part.std_error**2 for part in parts)), sum(part.evaluations for part in parts))

    def _close(self, opened: _Open) -> Score:
        estimates = opened.estimates
        errors = tuple(e.std_error for e in estimates)
        stochastic = any(errors)  # NaN, the unknown error of a single draw, counts as one
        return Score(tuple(e.value for e in estimates), self.signature, self.kind, sum(e.evaluations for e in estimates), errors if stochastic else None)
