"""The scorer behind `mdlm`, `usdm` and `mlm`: an estimator's plans, evaluated in chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from rescore.batching import Budget
from rescore.diffusion.draws import utterance_key
from rescore.diffusion.plans import Plan, std_error, sums, token_values
from rescore.diffusion.queries import shared_passes
from rescore.diffusion.readouts import NormalisedRows, Readout
from rescore.errors import ScoreError
from rescore.interfaces import Condition, Cost, Denoiser, Scope, SparseDenoiser
from rescore.models.adapters import NetworkDenoiser
from rescore.models.embedded import open_checkpoint
from rescore.scorers import networks
from rescore.scorers.chunks import score_lists
from rescore.scorers.family import Vocabulary
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer, TokenSequence, regroup
from rescore.types import Estimate, NBest, Score, ScoreKind, TokenScores

__all__ = [
    "DenoisingModel",
    "DenoisingScorer",
    "Estimator",
    "Planner",
    "Prepared",
    "denoising_scorer",
    "open_denoiser",
]

#: Queries held at once: memory is bounded by this whatever the lists are.
CHUNK_QUERIES = 20_000


class Planner(Protocol):
    """Writes the plans of an estimator with its settings."""

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window of a hypothesis; `utterance` keys its draws."""

    def evaluations(self, words: int, /) -> int:
        """About how many network evaluations a hypothesis with this many words costs."""


@dataclass(frozen=True)
class Estimator:
    """An estimator of one denoiser.

    `settings` and `version` go into the signature. An estimator of kind `neg_nelbo` draws random
    numbers and returns a cost; the others are deterministic and return scores. `scope` is the list
    where values depend on the alignment to its first hypothesis.
    """

    name: str
    kind: ScoreKind
    planner: Planner
    readout: Readout
    settings: Mapping[str, object]
    version: int
    scope: Scope = "text"

    @property
    def is_stochastic(self) -> bool:
        """Whether values depend on draws."""
        return self.kind == "neg_nelbo"

    @property
    def sign(self) -> Literal[1, -1]:
        """What turns its values into scores."""
        return -1 if self.kind == "neg_nelbo" else 1


@dataclass(frozen=True)
class DenoisingModel:
    """A denoiser with its vocabulary, and the digest that names it in signatures."""

    denoiser: Denoiser
    vocabulary: Vocabulary
    digest: str


def open_denoiser(objective: Literal["mdlm", "usdm"], options: ScorerOptions) -> DenoisingModel:
    """The denoiser of a checkpoint of ours, or of the embedded one. Raises ModelError."""
    checkpoint = open_checkpoint(options.model, objective)
    digest = checkpoint.digest  # before the weights change their dtype
    denoiser = NetworkDenoiser(
        checkpoint, options.device, networks.torch_dtype(options), options.compile
    )
    return DenoisingModel(denoiser, networks.checkpoint_vocabulary(checkpoint, options), digest)


def denoising_scorer(
    family: str, model: DenoisingModel, estimator: Estimator, options: ScorerOptions
) -> DenoisingScorer:
    """The scorer of a model with an estimator, called FAMILY_ESTIMATOR."""
    sequencer = Sequencer(model.vocabulary, options.score_eos)
    signature = networks.network_signature(
        f"{family}.{estimator.name}",
        model.digest,
        estimator.settings,
        sequencer,
        options,
        estimator.version,
    )
    return DenoisingScorer(
        name=f"{family}_{estimator.name}",
        signature=signature,
        denoiser=model.denoiser,
        sequencer=sequencer,
        estimator=replace(estimator, readout=NormalisedRows(estimator.readout)),
        device=options.device,
        per_token=options.per_token,
        budget=networks.budget(options.device, partial(_trial, model.denoiser)),
    )


def _trial(denoiser: Denoiser, tokens: Tensor, padding: Tensor) -> object:
    """One call of the network, for `rescore.scorers.networks.budget`."""
    noise = torch.full((len(tokens),), 0.5, device=tokens.device)
    if isinstance(denoiser, SparseDenoiser):
        return denoiser.encode(tokens, noise, padding)
    return denoiser.log_probs(tokens, noise, padding)


@dataclass(frozen=True)
class _Planned:
    """One hypothesis: its list, its number in the list, its windows and their plans."""

    nbest: NBest
    number: int
    windows: list[TokenSequence]
    plans: list[Plan]


@dataclass(frozen=True)
class _Evaluated:
    """The score of one hypothesis, and what each token adds to it if that was asked for."""

    estimate: Estimate
    token_scores: TokenScores | None


@dataclass(frozen=True)
class Prepared:
    """Tokenised lists. The first group of hypotheses is planned, the rest when its turn comes."""

    lists: Sequence[NBest]
    first: list[_Planned]
    rest: Iterator[list[_Planned]]

    def groups(self) -> Iterator[list[_Planned]]:
        """All groups, once."""
        yield self.first
        yield from self.rest


@dataclass
class DenoisingScorer:
    """Scores lists with one estimator of one denoiser."""

    name: str
    signature: str
    denoiser: Denoiser
    sequencer: Sequencer
    estimator: Estimator
    device: str = "cpu"
    per_token: bool = False
    budget: Budget = field(default_factory=Budget)

    @property
    def kind(self) -> ScoreKind:
        """What the score is."""
        return self.estimator.kind

    @property
    def scope(self) -> Scope:
        """What the score depends on."""
        return self.estimator.scope

    def evaluations(self, nbest: NBest, /) -> int:
        """About how many network evaluations a list costs."""
        return sum(self.estimator.planner.evaluations(len(hyp.words)) for hyp in nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order. Raises as `evaluate`."""
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest], /) -> Prepared:
        """Tokenise lists and plan their evaluation."""
        groups = self._groups(lists, [self.sequencer(nbest) for nbest in lists])
        return Prepared(lists, next(groups, []), groups)

    def evaluate(self, prepared: Prepared, /) -> list[Score]:
        """One Score per list.

        Raises ScoreError naming utterance and hypothesis where a value is not finite.
        """
        hypotheses = [
            evaluated for group in prepared.groups() for evaluated in self._evaluate(group)
        ]
        sizes = [len(nbest.hyps) for nbest in prepared.lists]
        return [self._score(of_list) for of_list in regroup(hypotheses, sizes)]

    def cost(self, prepared: Prepared, /) -> Cost:
        """What `evaluate` would cost: queries of equal corrupted sequences share their tokens."""
        total = Cost()
        for group in prepared.groups():
            queries = [
                query for planned in group for plan in planned.plans for query in plan.queries
            ]
            lengths = [len(queries[shared[0]].noisy) for shared in shared_passes(queries)]
            total += replace(networks.cost(lengths, self.budget), evaluations=len(queries))
        return total

    def warn(self) -> None:
        """Log how many tokens the vocabulary did not know."""
        self.sequencer.warn()

    def _heard(self, nbest: NBest) -> Condition | None:
        """What the texts of a list are conditioned on; text alone has nothing."""
        del nbest
        return None

    def _groups(
        self, lists: Sequence[NBest], tokenised: Sequence[list[list[TokenSequence]]]
    ) -> Iterator[list[_Planned]]:
        """Hypotheses with their plans, about `CHUNK_QUERIES` queries at a time.

        A long list may be split.
        """
        group: list[_Planned] = []
        queries = 0
        for nbest, hypotheses in zip(lists, tokenised, strict=True):
            utterance, condition = utterance_key(nbest.id), self._heard(nbest)
            for number, windows in enumerate(hypotheses):
                plans = [
                    self.estimator.planner(window, utterance).conditioned(condition)
                    for window in windows
                ]
                group.append(_Planned(nbest, number, windows, plans))
                queries += sum(len(plan.queries) for plan in plans)
                if queries >= CHUNK_QUERIES:
                    yield group
                    group, queries = [], 0
        if group:
            yield group

    def _evaluate(self, group: Sequence[_Planned]) -> list[_Evaluated]:
        """Evaluate the plans of a group together."""
        plans = [plan for planned in group for plan in planned.plans]
        values = token_values(
            self.denoiser, plans, self.estimator.readout, budget=self.budget, device=self.device
        )
        per_hypothesis = regroup(values, (len(planned.plans) for planned in group))
        return [
            _Evaluated(
                self._estimate(planned, windows),
                self._token_scores(planned, windows) if self.per_token else None,
            )
            for planned, windows in zip(group, per_hypothesis, strict=True)
        ]

    def _estimate(self, planned: _Planned, values: Sequence[Sequence[np.ndarray]]) -> Estimate:
        """The sum over a hypothesis's windows, as a score."""
        place = planned.nbest.place(planned.number)
        try:
            windows = [
                plan.combine(sums(of_window))
                for plan, of_window in zip(planned.plans, values, strict=True)
            ]
        except ScoreError as problem:
            raise ScoreError(f"{place}: {problem}") from problem
        value = sum(window.value for window in windows) * self.estimator.sign
        if not math.isfinite(value):
            raise ScoreError(
                f'{place}: score "{self.name}" is {value}, expected a finite number;'
                " the model gives this text probability zero"
            )
        error = 0.0
        if self.estimator.is_stochastic:  # windows share the noise levels of their draws
            per_draw = np.sum([window.draws for window in windows], axis=0)
            error = std_error(per_draw, planned.plans[0].strata)
        return Estimate(value, error, sum(window.evaluations for window in windows))

    def _token_scores(
        self, planned: _Planned, values: Sequence[Sequence[np.ndarray]]
    ) -> TokenScores:
        """The scored tokens of a hypothesis, window after window, with what each adds."""
        shares = [
            plan.shares(of_window, len(window.tokens))[window.scored]
            for window, plan, of_window in zip(planned.windows, planned.plans, values, strict=True)
        ]
        return self.sequencer.token_scores(
            planned.windows, np.concatenate(shares) * self.estimator.sign
        )

    def _score(self, hypotheses: Sequence[_Evaluated]) -> Score:
        estimates = [hypothesis.estimate for hypothesis in hypotheses]
        errors = tuple(estimate.std_error for estimate in estimates)
        tokens = [hypothesis.token_scores for hypothesis in hypotheses]
        return Score(
            tuple(estimate.value for estimate in estimates),
            self.signature,
            self.kind,
            sum(estimate.evaluations for estimate in estimates),
            errors if self.estimator.is_stochastic else None,
            tuple(of_one for of_one in tokens if of_one is not None) if self.per_token else None,
        )
