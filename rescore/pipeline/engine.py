"""Streams of lists through a scorer: every list once, in chunks, with what is known already left out.

import rescore

dev, test = (list(rescore.score(rescore.read(path), "mdlm")) for path in ("dev.jsonl", "test.jsonl"))
fusion = rescore.tune(dev, ["am", "mdlm_nelbo"])
best = list(rescore.fuse(test, fusion))
print(rescore.evaluate(best, baseline=test))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from rescore.errors import ScoreError
from rescore.formats.files import PathLike
from rescore.formats.record import check_score, refuse_existing, with_score
from rescore.fusion.totals import RANK, TOTAL
from rescore.fusion.tuning import WORD_BONUS
from rescore.pipeline.cache import Cache
from rescore.pipeline.chunks import Shard, chunks, digest
from rescore.pipeline.journal import Journal
from rescore.pipeline.lookup import Missing, missing
from rescore.scorers import PlainScorer, Scorer, scorer_of
from rescore.scorers import chunks as scorer_chunks
from rescore.types import NBest, Score

__all__ = ["Evaluator", "Local", "Work", "score"]

_RESERVED = {
    RANK: "the place in the list",
    TOTAL: "what `fuse` adds",
    WORD_BONUS: "the weight of the number of words",
}


@dataclass
class Work:
    """What a run has done so far: counts, and a callback after every list that is scored."""

    utterances: int = 0
    hypotheses: int = 0
    evaluations: int = 0
    advance: Callable[[NBest], object] = field(default=lambda nbest: None)

    def add(self, nbest: NBest, evaluations: int) -> None:
        """Count one list."""
        self.utterances += 1
        self.hypotheses += len(nbest.hyps)
        self.evaluations += evaluations
        self.advance(nbest)


class Evaluator(Protocol):
    """Where chunks are evaluated: in this process, or in others (rescore.pipeline.ray_pool)."""

    @property
    def ahead(self) -> int:
        """How many chunks may be under way beside the one whose scores are waited for."""

    def submit(self, lists: Sequence[NBest]) -> Callable[[], list[Score]]:
        """Begin to evaluate lists; what is returned waits for their scores."""

    def warn(self) -> None:
        """Log once what was noticed over all lists."""

    def close(self) -> None:
        """Let go of threads and processes."""


class Local:
    """Evaluates in this process; the next chunk is tokenised and planned in a thread meanwhile."""

    ahead = 1

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._thread = ThreadPoolExecutor(1, "rescore-prepare")

    def submit(self, lists: Sequence[NBest]) -> Callable[[], list[Score]]:
        """Prepare in the thread; evaluate when the scores are asked for."""
        prepared = self._thread.submit(self._scorer.prepare, lists)
        return lambda: self._scorer.evaluate(prepared.result())

    def warn(self) -> None:
        """Log what the scorer noticed."""
        self._scorer.warn()

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)


def score(
    lists: Iterable[NBest],
    scorer: str | PlainScorer = "mdlm",
    *,
    name: str | None = None,
    overwrite: bool = False,
    work: Work | None = None,
    shard: Shard | None = None,
    journal: Journal | None = None,
    cache: PathLike | None = None,
    evaluator: Callable[[Scorer], Evaluator] = Local,
    **options: Any,
) -> Iterator[NBest]:
    """Yield every list with one more named score, in order, everything else as it was.

    `scorer` is a name, with `ScorerOptions` as keywords, or a scorer that was built before. `name` defaults to the scorer's own
    ("mdlm_nelbo", "usdm_pll", "ar"). A hypothesis that stands in its list twice is scored once. `shard` leaves out lists of other shards.
    `journal` keeps scores as they are made and gives them back to the run that goes on; `cache` names a directory of scores for other runs.
    Memory is bounded by chunks of lists, not by their number.
    Raises ScoreError if the name is reserved, or taken and not `overwrite`, or a score is not finite; ModelError for an unusable model; FormatError
    for a journal of another run, or a journal or cache that cannot be written.
    """
    built = scorer_of(scorer, options)
    name = name or built.name
    if name in _RESERVED:
        raise ScoreError(
            f'a score cannot be called "{name}": that is {_RESERVED[name]}; choose another name (--name)'
        )
    with ExitStack() as stack:
        run = _Run(built, evaluator, journal, cache, stack)
        passed: deque[_Item] = deque()
        for chunk in run.scored(_items(lists, name, overwrite, shard, passed)):
            for item, one in chunk:
                item.score = one
                if work is not None:
                    work.add(item.nbest, one.evaluations)
            while passed and (first := passed[0].score) is not None:
                yield with_score(passed.popleft().nbest, name, first, overwrite)


@dataclass
class _Item:
    """A list on its way through."""

    nbest: NBest
    score: Score | None = None


def _items(
    lists: Iterable[NBest], name: str, overwrite: bool, shard: Shard | None, passed: deque[_Item]
) -> Iterator[_Item]:
    """Lists of the shard, checked before the network is paid for them, remembered in their order."""
    for nbest in lists:
        if shard is not None and nbest.id not in shard:
            continue
        if not overwrite:
            refuse_existing(nbest, name)
        passed.append(_Item(nbest))
        yield passed[-1]


class _Run:
    """One scorer over one stream, with what it may look up."""

    def __init__(
        self,
        scorer: Scorer,
        evaluator: Callable[[Scorer], Evaluator],
        journal: Journal | None,
        cache: PathLike | None,
        stack: ExitStack,
    ) -> None:
        self.scorer = scorer
        self.journal = journal
        per_token = scorer.per_token
        self.cache = (
            None
            if cache is None
            else Cache(cache, scorer.signature, scorer.kind, per_token=per_token)
        )
        if self.cache is not None:
            stack.callback(self.cache.close)
        self._begin(per_token)
        self.evaluator = evaluator(self.scorer)
        stack.callback(self.evaluator.close)

    def _begin(self, per_token: bool) -> None:
        """See the cache as it was when the run began, which may have been in a process before this one."""
        state: Any = {"cache": None if self.cache is None else self.cache.snapshot()}
        if self.journal is not None:
            state = self.journal.begin(
                self.scorer.signature, self.scorer.kind, {"per_token": per_token}, **state
            )
            budget = self.scorer.budget
            if budget is not None and self.journal.tokens:
                budget.tokens = self.journal.tokens
        if self.cache is not None and state["cache"] is not None:
            self.cache.see(state["cache"])

    def scored(self, items: Iterable[_Item]) -> Iterator[list[tuple[_Item, Score]]]:
        """Chunks of items and their scores."""
        waiting: deque[tuple[list[_Item], Callable[[], list[Score]]]] = deque()
        size = scorer_chunks.CHUNK
        for chunk in chunks(
            items,
            lambda item: item.nbest.id,
            lambda item: self.scorer.evaluations(item.nbest),
            size,
        ):
            waiting.append((chunk, self._begun([item.nbest for item in chunk])))
            if len(waiting) > self.evaluator.ahead:
                yield _paired(*waiting.popleft())
        while waiting:
            yield _paired(*waiting.popleft())
        self.evaluator.warn()

    def _begun(self, lists: Sequence[NBest]) -> Callable[[], list[Score]]:
        """Look the chunk up, or begin to evaluate what is not known of it; what is returned waits for the scores."""
        key = digest(lists)
        known = self.journal.get(key) if self.journal is not None else None
        if known is not None:
            return lambda: known
        wanted = missing(lists, self.scorer.scope, self.cache)
        wait = self.evaluator.submit(wanted.lists) if wanted.lists else list
        return lambda: self._ended(key, lists, wanted, wait())

    def _ended(
        self, key: str, lists: Sequence[NBest], wanted: Missing, found: list[Score]
    ) -> list[Score]:
        scores = wanted.filled(found)
        for nbest, one in zip(lists, scores, strict=True):
            check_score(nbest, self.scorer.name, one)  # before it is on disk
        if self.journal is not None:
            self.journal.add(
                key, 0 if self.scorer.budget is None else self.scorer.budget.tokens, scores
            )
        if self.cache is not None:
            wanted.keep(self.cache, lists, scores)
        return scores


def _paired(chunk: list[_Item], wait: Callable[[], list[Score]]) -> list[tuple[_Item, Score]]:
    return list(zip(chunk, wait(), strict=True))
