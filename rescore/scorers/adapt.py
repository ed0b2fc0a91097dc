"""Scorers of other packages, made into what the engine runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from rescore.interfaces import Cost, PlainScorer, Scope, Scorer
from rescore.types import NBest, Score, ScoreKind

__all__ = ["adapt"]


def adapt(scorer: PlainScorer) -> Scorer:
    """The scorer itself if it is a `Scorer`, else one that scores whole lists with it.

    Nothing is known about what a plain scorer's values depend on, so its scope is the list.
    """
    return scorer if isinstance(scorer, Scorer) else _Adapted(scorer)


@dataclass(frozen=True)
class _Adapted:
    """A plain scorer with what it does not say: one evaluation a hypothesis, one token a word."""

    scorer: PlainScorer
    scope: ClassVar[Scope] = "list"
    per_token: ClassVar[bool] = False
    budget: ClassVar[None] = None
    device: ClassVar[str] = "cpu"

    @property
    def name(self) -> str:
        return self.scorer.name

    @property
    def kind(self) -> ScoreKind:
        return self.scorer.kind

    @property
    def signature(self) -> str:
        return self.scorer.signature

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        return self.scorer.score(lists)

    def evaluations(self, nbest: NBest, /) -> int:
        return len(nbest.hyps)

    def prepare(self, lists: Sequence[NBest], /) -> Sequence[NBest]:
        return lists

    def evaluate(self, prepared: Sequence[NBest], /) -> list[Score]:
        return list(self.scorer.score(prepared))

    def cost(self, prepared: Sequence[NBest], /) -> Cost:
        evaluations = sum(len(nbest.hyps) for nbest in prepared)
        tokens = sum(len(hyp.words) + 1 for nbest in prepared for hyp in nbest.hyps)
        return Cost(evaluations, tokens, 0)

    def warn(self) -> None:
        pass
