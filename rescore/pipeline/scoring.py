"""`rescore.score`: lists through a scorer, each with one more named score.

import rescore

dev = list(rescore.score(rescore.read("dev.jsonl"), "mdlm"))
test = list(rescore.score(rescore.read("test.jsonl"), "mdlm"))
fusion = rescore.tune(dev, ["am", "mdlm_nelbo"])
best = list(rescore.fuse(test, fusion))
print(rescore.evaluate(best, baseline=test))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from rescore.errors import ScoreError
from rescore.formats.files import PathLike
from rescore.formats.record import check_score, refuse_existing, with_score
from rescore.fusion import RANK, TOTAL, WORD_BONUS
from rescore.interfaces import ListenerScorer, PlainScorer, Scorer
from rescore.pipeline.cache import Cache
from rescore.pipeline.chunks import content
from rescore.pipeline.engine import Engine, Evaluator, InProcess, InTurn, ItemTraits
from rescore.pipeline.journal import Journal
from rescore.pipeline.lookup import Lookup
from rescore.pipeline.results import ScoreCodec
from rescore.pipeline.shards import Shard
from rescore.scorers import built_scorer, command_of
from rescore.scorers import chunks as scorer_chunks
from rescore.types import NBest, Score

__all__ = ["Progress", "score", "selected"]

#: Names that mean something else in a list, and what.
_RESERVED = {
    RANK: "the place in the list",
    TOTAL: "what `fuse` adds",
    WORD_BONUS: "the weight of the number of words",
}


@dataclass
class Progress:
    """What a run has done so far; `advance` is called after every list that is scored."""

    utterances: int = 0
    hypotheses: int = 0
    evaluations: int = 0
    advance: Callable[[NBest], object] = field(default=lambda nbest: None)

    def add(self, nbest: NBest) -> None:
        """Count one list."""
        self.utterances += 1
        self.hypotheses += len(nbest.hyps)
        self.advance(nbest)

    def spend(self, evaluated: Sequence[Score]) -> None:
        """Count the evaluations of scores that this process computed."""
        self.evaluations += sum(score.evaluations for score in evaluated)


def score(
    lists: Iterable[NBest],
    scorer: str | PlainScorer = "mdlm",
    *,
    name: str | None = None,
    overwrite: bool = False,
    stream: bool = False,
    progress: Progress | None = None,
    shard: Shard | None = None,
    journal: Journal[Score] | None = None,
    cache: PathLike | None = None,
    evaluator: Callable[[Scorer], Evaluator[NBest, Score]] = InProcess,
    command: str | None = None,
    **options: Any,
) -> Iterator[NBest]:
    """Yield every list with one more named score, in order, everything else as it was.

    `scorer` is a specification (`rescore.scorers.Spec`: "mdlm", "usdm:pll@DIR"), with
    `ScorerOptions` as keywords, or a scorer that was built before. `name` defaults to that of the
    specification, or the scorer's own ("mdlm_nelbo", "usdm_pll", "ar"). A hypothesis that occurs
    twice in its list is scored once. `shard` skips the lists of other shards. `journal` stores
    scores as they are made, and returns them to the run that resumes; `cache` names a directory of
    scores shared by runs. Memory is bounded by chunks of lists, not by their number.
    `command` is kept in the record of the score (None: that of the specification, if there is one).
    `stream` yields every list before the next one is read, scored by itself: for services and
    filters. Otherwise lists are collected in `chunks.BUCKETS` buckets and batched together, which
    is faster.
    Raises ScoreError if the name is reserved, or exists and not `overwrite`, or a score is not
    finite; ModelError for an unusable model; FormatError for the journal of another run, or a
    journal or cache that cannot be written.
    """
    specified, built = built_scorer(scorer, options)
    command = command or command_of(scorer, options)
    name = name or specified or built.name
    if name in _RESERVED:
        raise ScoreError(
            f'a score cannot be called "{name}": that is {_RESERVED[name]}; '
            "choose another name (--name)"
        )
    progress = progress or Progress()
    condition = built.condition if isinstance(built, ListenerScorer) else None
    with ExitStack() as stack:
        stored = None if cache is None else _open_cache(cache, built, stack)
        _begin(built, journal, stored)
        chunk_evaluator = InTurn(built) if stream else evaluator(built)
        stack.callback(chunk_evaluator.close)
        traits = ItemTraits[NBest, Score](
            id_of=lambda nbest: nbest.id,
            content=lambda nbest: content(nbest, "" if condition is None else condition(nbest.id)),
            look_up=lambda nbests: Lookup(nbests, built.scope, stored, condition),
            check=lambda nbest, result: check_score(nbest, built.name, result),
            done=lambda nbest, _result: progress.add(nbest),
            spent=progress.spend,
        )
        engine = Engine(
            built,
            chunk_evaluator,
            traits,
            chunk_evaluations=0 if stream else scorer_chunks.CHUNK,
            journal=journal,
        )
        for nbest, result in engine.run(selected(_checked(lists, name, overwrite, shard), built)):
            yield with_score(nbest, name, result, overwrite, command)


def selected(lists: Iterable[NBest], scorer: Scorer) -> Iterable[NBest]:
    """The lists as the scorer takes them: without the hypotheses that it drops."""
    return scorer.select(lists) if isinstance(scorer, ListenerScorer) else lists


def _open_cache(folder: PathLike, scorer: Scorer, stack: ExitStack) -> Cache:
    cache = Cache(folder, scorer.signature, scorer.kind, per_token=scorer.per_token)
    stack.callback(cache.close)
    return cache


def _begin(scorer: Scorer, journal: Journal[Score] | None, cache: Cache | None) -> None:
    """Read the journal; see the cache as it was when the journal was begun."""
    snapshot = None if cache is None else cache.snapshot()
    if journal is not None:
        codec = ScoreCodec(scorer.signature, scorer.kind)
        settings = {"signature": scorer.signature, "per_token": scorer.per_token}
        snapshot = journal.begin(codec, settings, cache=snapshot)["cache"]
    if cache is not None and snapshot is not None:
        cache.restore(snapshot if isinstance(snapshot, list | tuple) else [])


def _checked(
    lists: Iterable[NBest], name: str, overwrite: bool, shard: Shard | None
) -> Iterator[NBest]:
    """The lists of the shard; a score that exists is an error before any compute is spent."""
    for nbest in lists:
        if shard is not None and nbest.id not in shard:
            continue
        if not overwrite:
            refuse_existing(nbest, name)
        yield nbest
