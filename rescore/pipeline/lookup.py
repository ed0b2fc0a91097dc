"""What of a chunk of lists must be evaluated: no text twice, nothing that the cache has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rescore.interfaces import Scope
from rescore.pipeline.cache import Cache, chunk_key, list_key, text_key, utterance_key
from rescore.pipeline.chunks import content
from rescore.types import NBest, Score

__all__ = ["Lookup"]


@dataclass(frozen=True)
class _Source:
    """Where a hypothesis finds its value: hypothesis `index` of a cached score, or else of the
    score of list number `missing` among those that are evaluated.
    """

    index: int
    cached: Score | None = None
    missing: int = -1

    def score(self, evaluated: Sequence[Score]) -> Score:
        return evaluated[self.missing] if self.cached is None else self.cached


class Lookup:
    """One chunk of lists, looked up.

    `missing`: what must be evaluated, each list with the hypotheses that are new. Equal texts share
    a score: within the chunk where the scope is the text, within their list otherwise.
    `condition(id)` names the audio of an utterance for the cache; by default, its id does.
    """

    def __init__(
        self,
        lists: Sequence[NBest],
        scope: Scope,
        cache: Cache | None = None,
        condition: Callable[[str], str] | None = None,
    ) -> None:
        self.missing: list[NBest] = []
        self._lists, self._scope, self._cache = lists, scope, cache
        self._condition = condition
        self._sources: list[list[_Source]] = []  # of each list, one for each hypothesis
        self._missing_of: list[int | None] = []  # of each list, its number in `missing`
        self._whole = self._cached_chunk()
        by_text: dict[str, _Source] = {}
        for nbest in lists if self._whole is None else ():
            if scope != "text":
                by_text = {}
            whole = self._cached_list(nbest)
            if whole is None:
                self._look_up(nbest, by_text)
            else:
                self._sources.append([_Source(i, whole) for i in range(len(nbest.hyps))])
                self._missing_of.append(None)

    def complete(self, evaluated: Sequence[Score]) -> list[Score]:
        """The score of every list of the chunk, from the scores of `missing`.

        Evaluations count where they were spent: a list without a new text has none. A chunk that
        the cache has as a whole keeps what it cost.
        """
        if self._whole is not None:
            return self._whole
        scores = []
        for sources, missing in zip(self._sources, self._missing_of, strict=True):
            evaluations = 0 if missing is None else evaluated[missing].evaluations
            scores.append(_gather(sources, evaluated, evaluations))
        return scores

    def keep(self, scores: Sequence[Score]) -> None:
        """Add the scores of the chunk's lists to the cache, as far as it lacks them."""
        if self._cache is None or self._cache.holds(self._chunk_key):
            return
        for nbest, missing, score in zip(self._lists, self._missing_of, scores, strict=True):
            if missing is None:
                continue
            if self._scope == "list":
                self._cache.add(list_key(nbest, self._heard(nbest, "")), score)
                continue
            last_index = {hyp.text: index for index, hyp in enumerate(nbest.hyps)}
            for text, index in last_index.items():
                alone = _gather([_Source(index, score)], [], evaluations=0)
                self._cache.add(self._key(nbest, text), alone)
        self._cache.add_chunk(self._chunk_key, scores)
        self._cache.commit()

    @cached_property
    def _chunk_key(self) -> bytes:
        return chunk_key(content(nbest, self._heard(nbest, "")) for nbest in self._lists)

    def _cached_chunk(self) -> list[Score] | None:
        """The scores of the whole chunk, as a run that evaluated it wrote them."""
        scores = None if self._cache is None else self._cache.get_chunk(self._chunk_key)
        if scores is None or len(scores) != len(self._lists):
            return None
        shapes = zip(scores, self._lists, strict=True)
        fits = all(len(score.values) == len(nbest.hyps) for score, nbest in shapes)
        return scores if fits else None

    def _cached_list(self, nbest: NBest) -> Score | None:
        if self._cache is None or self._scope != "list":
            return None
        score = self._cache.get(list_key(nbest, self._heard(nbest, "")))
        return score if score is not None and len(score.values) == len(nbest.hyps) else None

    def _look_up(self, nbest: NBest, by_text: dict[str, _Source]) -> None:
        """Add one list: each of its texts is cached, seen before, or evaluated with this list."""
        new: list[int] = []
        for index, hyp in enumerate(nbest.hyps):
            if hyp.text in by_text:
                continue
            cached = self._cached_text(nbest, hyp.text)
            if cached is not None:
                by_text[hyp.text] = _Source(0, cached)
            else:
                by_text[hyp.text] = _Source(len(new), missing=len(self.missing))
                new.append(index)
        self._sources.append([by_text[hyp.text] for hyp in nbest.hyps])
        self._missing_of.append(len(self.missing) if new else None)
        if new:
            self.missing.append(nbest if len(new) == len(nbest.hyps) else nbest.only(new))

    def _cached_text(self, nbest: NBest, text: str) -> Score | None:
        if self._cache is None or self._scope == "list":
            return None
        score = self._cache.get(self._key(nbest, text))
        return score if score is not None and len(score.values) == 1 else None

    def _key(self, nbest: NBest, text: str) -> bytes:
        if self._scope == "text":
            return text_key(text)
        return utterance_key(self._heard(nbest, nbest.id), text)

    def _heard(self, nbest: NBest, default: str) -> str:
        """What names the audio of a list; `default` for a scorer that hears none."""
        return default if self._condition is None else self._condition(nbest.id)


def _gather(sources: Sequence[_Source], evaluated: Sequence[Score], evaluations: int) -> Score:
    """One score of the values that the sources name."""
    parts = [(source.score(evaluated), source.index) for source in sources]
    first, _ = parts[0]
    values, errors, tokens = [], [], []
    for score, index in parts:
        values.append(score.values[index])
        if score.std_errors is not None:
            errors.append(score.std_errors[index])
        if score.token_scores is not None:
            tokens.append(score.token_scores[index])
    return replace(
        first,
        values=tuple(values),
        evaluations=evaluations,
        std_errors=tuple(errors) if len(errors) == len(parts) else None,
        token_scores=tuple(tokens) if len(tokens) == len(parts) else None,
    )
