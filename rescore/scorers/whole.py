"""Scorers of other packages, which score whole lists and say nothing about their costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rescore.scorers.options import ChunkScorer, Cost, Scorer
from rescore.types import NBest, Score

__all__ = ["chunked_scorer"]


def chunked_scorer(scorer: Scorer) -> ChunkScorer:
    """The scorer itself, or one that scores whole lists with it."""
    return scorer if isinstance(scorer, ChunkScorer) else _Whole(scorer)


@dataclass(frozen=True)
class _Whole:
    """A scorer of another package, which says nothing about its costs and scores whole lists."""

    scorer: Scorer
    is_stochastic: bool = True

    @property
    def name(self) -> str:
        return self.scorer.name

    @property
    def kind(self) -> Any:
        return self.scorer.kind

    @property
    def signature(self) -> str:
        return self.scorer.signature

    @property
    def per_token(self) -> bool:
        return bool(getattr(self.scorer, "per_token", False))

    def evaluations(self, nbest: NBest) -> int:
        return len(nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        return self.scorer.score(lists)

    def prepare(self, lists: Sequence[NBest]) -> Sequence[NBest]:
        return lists

    def evaluate(self, prepared: Sequence[NBest]) -> list[Score]:
        return list(self.scorer.score(prepared))

    def cost(self, prepared: Sequence[NBest]) -> Cost:
        words = sum(len(hyp.words) + 1 for nbest in prepared for hyp in nbest.hyps)
        return Cost(sum(map(self.evaluations, prepared)), words, 0)

    def warn(self) -> None:
        pass
