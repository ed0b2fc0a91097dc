"""Streams of lists in chunks that are batched together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rescore.interfaces import Scorer
from rescore.types import NBest, Score

__all__ = ["CHUNK", "in_chunks", "score_lists"]

#: Network evaluations of a chunk, about: enough to sort by length, few enough to lose to a kill.
CHUNK = 2000


def in_chunks(scorer: Scorer, lists: Iterable[NBest], size: int) -> Iterator[list[NBest]]:
    """Cut a stream of lists into chunks that cost about `size` evaluations each, in order."""
    chunk: list[NBest] = []
    evaluations = 0
    for nbest in lists:
        chunk.append(nbest)
        evaluations += scorer.evaluations(nbest)
        if evaluations >= size:
            yield chunk
            chunk, evaluations = [], 0
    if chunk:
        yield chunk


def score_lists(scorer: Scorer, lists: Iterable[NBest]) -> Iterator[Score]:
    """`Scorer.score` by the other methods: chunk after chunk of about `CHUNK` evaluations."""
    for chunk in in_chunks(scorer, lists, CHUNK):
        yield from scorer.evaluate(scorer.prepare(chunk))
    scorer.warn()
