"""The scorer behind `mdlm`, `usdm` and `mlm`: plans of an estimator for a stream of hypotheses, evaluated in chunks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget
from rescore.diffusion.draws import utterance_key
from rescore.diffusion.queries import (
    Denoiser,
    Plan,
    Query,
    Readout,
    is_sparse,
    same_sequence,
    sums,
    token_values,
)
from rescore.errors import ScoreError
from rescore.scorers.options import Cost, score_lists
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.scorers.signature import cost
from rescore.types import Estimate, NBest, Score, ScoreKind, TokenScores

__all__ = ["DiffusionScorer", "Planner", "Prepared", "trial"]


class Planner(Protocol):
    """An estimator with its settings."""

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window of a hypothesis; `utterance` keys its draws."""

    def evaluations(self, words: int, /) -> int:
        """About how many network passes a hypothesis of so many words costs."""


#: Queries held at once: memory is bounded by this whatever the lists are.
CHUNK_QUERIES = 20_000


def trial(denoiser: Denoiser, tokens: Tensor, padding: Tensor) -> object:
    """One call of the network, for `rescore.scorers.signature.budget`."""
    noise = torch.full((len(tokens),), 0.5, device=tokens.device)
    return (
        denoiser.encode(tokens, noise, padding)
        if is_sparse(denoiser)
        else denoiser.log_probs(tokens, noise, padding)
    )


@dataclass(frozen=True)
class _Planned:
    """One hypothesis: its list, its number in the list, its windows and their plans."""

    nbest: NBest
    number: int
    windows: list[TokenSequence]
    plans: list[Plan]


@dataclass(frozen=True)
class Prepared:
    """Lists that were tokenised, and groups of planned hypotheses; the first group is planned already, later ones when their turn comes."""

    lists: Sequence[NBest]
    groups: Iterator[list[_Planned]]


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
    budget: Budget = field(default_factory=Budget)

    @property
    def is_stochastic(self) -> bool:
        """Whether a score depends on draws, and so on the utterance and its first hypothesis."""
        return self.kind == "neg_nelbo"

    def evaluations(self, nbest: NBest) -> int:
        """About how many network passes a list costs."""
        return sum(self.planner.evaluations(len(hyp.words)) for hyp in nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order."""
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest]) -> Prepared:
        """Tokenise lists and plan their evaluation; may run beside `evaluate` of other lists."""
        tokenised = [self.sequencer(nbest) for nbest in lists]
        groups = self._groups(lists, tokenised)
        return Prepared(lists, itertools.chain(list(itertools.islice(groups, 1)), groups))

    def evaluate(self, prepared: Prepared) -> list[Score]:
        """One Score per list. Raises ScoreError naming utterance and hypothesis where a value is not finite."""
        estimates: list[Estimate] = []
        token_scores: list[TokenScores] = []
        for group in prepared.groups:
            plans = [plan for planned in group for plan in planned.plans]
            values = iter(
                token_values(
                    self.denoiser, plans, self.readout, budget=self.budget, device=self.device
                )
            )
            for planned in group:
                own = list(itertools.islice(values, len(planned.plans)))
                estimates.append(self._estimate(planned.nbest, planned.number, planned.plans, own))
                if self.per_token:
                    token_scores.append(self._token_scores(planned.windows, planned.plans, own))
        ends = itertools.accumulate(len(nbest.hyps) for nbest in prepared.lists)
        parts = [
            slice(end - len(nbest.hyps), end)
            for nbest, end in zip(prepared.lists, ends, strict=True)
        ]
        return [
            self._close(estimates[part], tuple(token_scores[part]) if self.per_token else None)
            for part in parts
        ]

    def cost(self, prepared: Prepared) -> Cost:
        """What `evaluate` would take: every evaluation counts, the tokens of one corrupted sequence only once."""
        return sum(
            (
                self._cost(
                    [query for planned in group for plan in planned.plans for query in plan.queries]
                )
                for group in prepared.groups
            ),
            Cost(0, 0, 0),
        )

    def _cost(self, queries: Sequence[Query]) -> Cost:
        lengths = [len(queries[group[0]].noisy) for group in same_sequence(queries)]
        return replace(cost(lengths, self.budget), evaluations=len(queries))

    def warn(self) -> None:
        """Say what was noticed over all lists: how many tokens the vocabulary did not know."""
        self.sequencer.warn()

    def _groups(
        self, lists: Sequence[NBest], tokenised: Sequence[list[list[TokenSequence]]]
    ) -> Iterator[list[_Planned]]:
        """Hypotheses with their plans, at most about `CHUNK_QUERIES` queries at a time; a long list may be split."""
        group: list[_Planned] = []
        held = 0
        for nbest, hyps in zip(lists, tokenised, strict=True):
            key = utterance_key(nbest.id)
            for number, windows in enumerate(hyps):
                plans = [self.planner(window, key) for window in windows]
                group.append(_Planned(nbest, number, windows, plans))
                held += sum(len(plan.queries) for plan in plans)
                if held >= CHUNK_QUERIES:
                    yield group
                    group, held = [], 0
        if group:
            yield group

    def _estimate(
        self,
        nbest: NBest,
        number: int,
        plans: Sequence[Plan],
        values: Sequence[Sequence[np.ndarray]],
    ) -> Estimate:
        """The sum over a hypothesis's windows, as a score."""
        try:
            parts = [plan.combine(sums(own)) for plan, own in zip(plans, values, strict=True)]
        except ScoreError as error:
            raise ScoreError(f"{nbest.place(number)}: {error}") from error
        total = sum(part.value for part in parts) * (-1 if self.negate else 1)
        if not math.isfinite(total):
            raise ScoreError(
                f'{nbest.place(number)}: score "{self.name}" is {total}, expected a finite number; the model gives this text probability zero'
            )
        return Estimate(
            total,
            math.sqrt(sum(part.std_error**2 for part in parts)),
            sum(part.evaluations for part in parts),
        )

    def _token_scores(
        self,
        windows: Sequence[TokenSequence],
        plans: Sequence[Plan],
        values: Sequence[Sequence[np.ndarray]],
    ) -> TokenScores:
        """The scored tokens of a hypothesis, window after window, with what each adds to the score."""
        shares = [
            plan.shares(own, len(window.tokens))[window.scored]
            for window, plan, own in zip(windows, plans, values, strict=True)
        ]
        return self.sequencer.token_scores(
            windows, np.concatenate(shares) * (-1 if self.negate else 1)
        )

    def _close(
        self, estimates: Sequence[Estimate], token_scores: tuple[TokenScores, ...] | None
    ) -> Score:
        errors = tuple(e.std_error for e in estimates)
        stochastic = any(errors)  # NaN, the unknown error of a single draw, counts as one
        evaluations = sum(e.evaluations for e in estimates)
        return Score(
            tuple(e.value for e in estimates),
            self.signature,
            self.kind,
            evaluations,
            errors if stochastic else None,
            token_scores,
        )
