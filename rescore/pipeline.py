"""Streams of lists through a scorer, and the five calls of the Python interface.

import rescore

dev, test = (list(rescore.score(rescore.read(path), "mdlm")) for path in ("dev.jsonl", "test.jsonl"))
fusion = rescore.tune(dev, ["am", "mdlm_nelbo"])
best = list(rescore.fuse(test, fusion))
print(rescore.evaluate(best, baseline=test))
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from rescore.errors import ScoreError
from rescore.formats import read_lists as read
from rescore.formats.record import refuse_existing, with_score
from rescore.fusion import RANK, TOTAL
from rescore.scorers import Scorer, ScorerOptions, load_scorer
from rescore.tuning import WORD_BONUS
from rescore.types import NBest

__all__ = ["Work", "read", "score"]

_RESERVED = {RANK: "the place in the list", TOTAL: "what `fuse` adds", WORD_BONUS: "the weight of the number of words"}


@dataclass
class Work:
    """What a run has done so far: counts, and a callback after every list."""

    utterances: int = 0
    hypotheses: int = 0
    evaluations: int = 0
    advance: Callable[[], object] = field(default=lambda: None)

    def add(self, hypotheses: int, evaluations: int) -> None:
        """Count one list."""
        self.utterances += 1
        self.hypotheses += hypotheses
        self.evaluations += evaluations
        self.advance()


def score(
    lists: Iterable[NBest],
    scorer: str | Scorer = "mdlm",
    *,
    name: str | None = None,
    overwrite: bool = False,
    work: Work | None = None,
    **options: Any,
) -> Iterator[NBest]:
    """Yield every list with one more named score, in order, everything else as it was.

    `scorer` is a name, with `ScorerOptions` as keywords, or a scorer that was built before. `name` defaults to the scorer's own
    ("mdlm_nelbo", "usdm_pll", "ar"). Memory is bounded by a chunk of hypotheses.
    Raises ScoreError if the name is reserved, or taken and not `overwrite`, or a score is not finite; ModelError for an unusable model.
    """
    built = load_scorer(scorer, ScorerOptions(**options)) if isinstance(scorer, str) else scorer
    name = name or built.name
    if name in _RESERVED:
        raise ScoreError(f'a score cannot be called "{name}": that is {_RESERVED[name]}; choose another name (--name)')
    passed: deque[NBest] = deque()

    def watched() -> Iterator[NBest]:
        for nbest in lists:
            if not overwrite:
                refuse_existing(nbest, name)  # before the network is paid for the list
            passed.append(nbest)
            yield nbest

    for result in built.score(watched()):
        nbest = passed.popleft()
        if work is not None:
            work.add(len(nbest.hyps), result.evaluations)
        yield with_score(nbest, name, result, overwrite)
