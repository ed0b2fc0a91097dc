"""The scorer behind `mdlm`, `usdm` and `mlm`: plans of an estimator for a stream of hypotheses, evaluated in chunks."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from rescore.diffusion.denoiser import Denoiser, Plan, Readout, sums, token_values
from rescore.diffusion.draws import utterance_key
from rescore.errors import ScoreError
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.types import Estimate, NBest, Score, ScoreKind, TokenScores

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
    token_scores: list[TokenScores] = field(default_factory=list)


@dataclass
class DiffusionScorer:
    """Scores lists with one estimator of one denoiser. `negate`: the estimator returns a cost; `per_token`: the scores say what each token adds."""

    name: str
    kind: ScoreKind
    signature: str
    denoiser: Denoiser
    sequencer: Sequencer
    planner: Planner
    readout: Readout
    negate: bool = False
    device: str = "cpu"
    per_token: bool = False

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order."""
        waiting: deque[_Open] = deque()
        for chunk in self._chunks(lists, waiting):
            plans = [plan for *_, plans in chunk for plan in plans]
            values = iter(token_values(self.denoiser, plans, self.readout, device=self.device))
            for opened, number, windows, plans in chunk:
                own = list(itertools.islice(values, len(plans)))
                opened.estimates.append(self._estimate(opened.nbest, number, plans, own))
                if self.per_token:
                    opened.token_scores.append(self._token_scores(windows, plans, own))
            while waiting and len(waiting[0].estimates) == len(waiting[0].nbest.hyps):
                yield self._close(waiting.popleft())
        self.sequencer.warn()

    def _chunks(self, lists: Iterable[NBest], waiting: deque[_Open]) -> Iterator[list[tuple[_Open, int, list[TokenSequence], list[Plan]]]]:
        """Hypotheses with their plans, at most about `CHUNK_QUERIES` queries at a time; a long list may be split."""
        chunk: list[tuple[_Open, int, list[TokenSequence], list[Plan]]] = []
        held = 0
        for nbest in lists:
            opened = _Open(nbest)
            waiting.append(opened)
            key = utterance_key(nbest.id)
            for number, windows in enumerate(self.sequencer(nbest)):
                plans = [self.planner(window, key) for window in windows]
                chunk.append((opened, number, windows, plans))
                held += sum(len(plan.queries) for plan in plans)
                if held >= CHUNK_QUERIES:
                    yield chunk
                    chunk, held = [], 0
        if chunk:
            yield chunk

    def _estimate(self, nbest: NBest, number: int, plans: Sequence[Plan], values: Sequence[Sequence[np.ndarray]]) -> Estimate:
        """The sum over a hypothesis's windows, as a score."""
        try:
            parts = [plan.combine(sums(own)) for plan, own in zip(plans, values, strict=True)]
        except ScoreError as error:
            raise ScoreError(f"{nbest.place(number)}: {error}") from error
        total = sum(part.value for part in parts) * (-1 if self.negate else 1)
        if not math.isfinite(total):
            raise ScoreError(f'{nbest.place(number)}: score "{self.name}" is {total}, expected a finite number; the model gives this text probability zero')
        return Estimate(total, math.sqrt(sum(part.std_error**2 for part in parts)), sum(part.evaluations for part in parts))

    def _token_scores(self, windows: Sequence[TokenSequence], plans: Sequence[Plan], values: Sequence[Sequence[np.ndarray]]) -> TokenScores:
        """The scored tokens of a hypothesis, window after window, with what each adds to the score."""
        shares = [plan.shares(own, len(window.tokens))[window.scored] for window, plan, own in zip(windows, plans, values, strict=True)]
        return self.sequencer.token_scores(windows, np.concatenate(shares) * (-1 if self.negate else 1))

    def _close(self, opened: _Open) -> Score:
        estimates = opened.estimates
        errors = tuple(e.std_error for e in estimates)
        stochastic = any(errors)  # NaN, the unknown error of a single draw, counts as one
        token_scores = tuple(opened.token_scores) if self.per_token else None
        evaluations = sum(e.evaluations for e in estimates)
        return Score(tuple(e.value for e in estimates), self.signature, self.kind, evaluations, errors if stochastic else None, token_scores)
