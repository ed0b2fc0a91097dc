"""What of a chunk has to be evaluated, once what is in it twice and what the cache knows are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rescore.interfaces import Scope
from rescore.pipeline.cache import Cache
from rescore.types import NBest, Score

__all__ = ["Missing", "missing"]


@dataclass(frozen=True)
class _Place:
    """One value: hypothesis `number` of a known score, or of the list at `index` among those that are evaluated."""

    number: int
    index: int = -1
    known: Score | None = None

    def of(self, found: Sequence[Score]) -> Score:
        return found[self.index] if self.known is None else self.known


@dataclass(frozen=True)
class Missing:
    """`lists`: what has to be evaluated. `places`: where each hypothesis of each list of the chunk has its value.

    `paid`: which of `lists` a list of the chunk has, -1 for none.
    """

    lists: list[NBest]
    places: list[list[_Place]]
    paid: list[int]
    scope: Scope

    def filled(self, found: Sequence[Score]) -> list[Score]:
        """The score of every list of the chunk, from those of `lists`. A list without a hypothesis of its own to evaluate has cost nothing."""
        return [
            _gathered(places, found, found[paid].evaluations if paid >= 0 else 0)
            for places, paid in zip(self.places, self.paid, strict=True)
        ]

    def keep(self, cache: Cache, lists: Sequence[NBest], scores: Sequence[Score]) -> None:
        """Put what was not known into the cache."""
        for nbest, paid, score in zip(lists, self.paid, scores, strict=True):
            if paid < 0:
                continue
            if self.scope != "text":
                cache.add_nbest(nbest, score)
            else:
                for hyp, number in {
                    hyp.text: number for number, hyp in enumerate(nbest.hyps)
                }.items():
                    cache.add_text(hyp, _one(score, number))
        cache.commit()


def missing(lists: Sequence[NBest], scope: Scope, cache: Cache | None) -> Missing:
    """Look through a chunk. Scores of scope text are shared by equal texts; others only within a list."""
    wanted = Missing([], [], [], scope)
    seen: dict[str, _Place] = {}
    for nbest in lists:
        if scope != "text":
            seen = {}
            known = cache.nbest(nbest) if cache is not None else None
            if known is not None and len(known.values) == len(nbest.hyps):
                wanted.places.append(
                    [_Place(number, known=known) for number in range(len(nbest.hyps))]
                )
                wanted.paid.append(-1)
                continue
        _look(nbest, seen, cache if scope == "text" else None, wanted)
    return wanted


def _look(nbest: NBest, seen: dict[str, _Place], cache: Cache | None, wanted: Missing) -> None:
    """Add one list: every text that is new is evaluated as a hypothesis of it."""
    numbers: list[int] = []
    for number, hyp in enumerate(nbest.hyps):
        if hyp.text not in seen:
            known = cache.text(hyp.text) if cache is not None else None
            seen[hyp.text] = (
                _Place(0, known=known)
                if known is not None
                else _Place(len(numbers), len(wanted.lists))
            )
            if known is None:
                numbers.append(number)
    wanted.places.append([seen[hyp.text] for hyp in nbest.hyps])
    wanted.paid.append(len(wanted.lists) if numbers else -1)
    if numbers:
        wanted.lists.append(nbest if len(numbers) == len(nbest.hyps) else nbest.only(numbers))


def _gathered(places: Sequence[_Place], found: Sequence[Score], evaluations: int) -> Score:
    sources = [(place.of(found), place.number) for place in places]
    first = sources[0][0]
    errors = (
        None
        if any(score.std_errors is None for score, _ in sources)
        else tuple(score.std_errors[number] for score, number in sources if score.std_errors)
    )
    tokens = (
        None
        if first.token_scores is None
        else tuple(score.token_scores[number] for score, number in sources if score.token_scores)
    )
    return Score(
        tuple(score.values[number] for score, number in sources),
        first.signature,
        first.kind,
        evaluations,
        errors,
        tokens,
    )


def _one(score: Score, number: int) -> Score:
    """The score of one hypothesis as a list of its own."""
    return _gathered([_Place(number, known=score)], [], 0)
