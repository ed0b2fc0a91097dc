"""The outputs of shards back into one file, in the order of the lists they were made from."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

from rescore.errors import FormatError, ScoreError
from rescore.formats import jsonl
from rescore.formats.files import PathLike, name_of
from rescore.types import NBest

__all__ = ["merge"]

logger = logging.getLogger("rescore")


def merge(lists: Iterable[NBest], shards: Sequence[PathLike]) -> Iterator[NBest]:
    """Yield every list as its shard has it, in the order of `lists`, the input of the shards.

    Reads all files side by side, with one list of each in memory. Raises FormatError for a list
    that no shard has, or two, or that has other texts in its shard, or that `lists` lacks (a list
    may lack hypotheses in its shard: logged at the end);
    ScoreError if two shards have scores of different signatures.
    """
    names = [name_of(path) for path in shards]
    for name in names:
        if names.count(name) > 1:
            raise FormatError(f"{name}: given twice; give every shard once")
    heads = _Heads(shards, names)
    signatures: dict[str, str | None] = {}
    for nbest in lists:
        scored = heads.pop(nbest)
        _check_signatures(scored, signatures)
        yield scored
    heads.refuse_rest()
    if heads.dropped:
        logger.warning(
            "the shards lack %d hypotheses of %d lists: did `score --impossible drop` make them?",
            heads.dropped,
            heads.shortened,
        )


class _Heads:
    """The next list of every shard."""

    def __init__(self, shards: Sequence[PathLike], names: Sequence[str]) -> None:
        self._names = names
        self.dropped = self.shortened = 0  # hypotheses that the shards lack, and their lists
        self._readers = [jsonl.read(path) for path in shards]
        self._heads: dict[str, tuple[NBest, int]] = {}  # by id: the list and its shard
        for number in range(len(shards)):
            self._advance(number)

    def pop(self, nbest: NBest) -> NBest:
        """The list as its shard has it; the shard's next list takes its place."""
        if nbest.id not in self._heads:
            raise FormatError(
                f"{nbest.place()}: not next in any of {len(self._names)} shards; is a shard "
                "missing, unfinished, or made from other lists?"
            )
        scored, number = self._heads.pop(nbest.id)
        if not self._is_part(scored, nbest):
            raise FormatError(
                f"{scored.place()}: has other hypotheses than {nbest.place()}; "
                "merge with the lists that the shards were made from"
            )
        self._advance(number)
        return scored

    def _is_part(self, scored: NBest, nbest: NBest) -> bool:
        """Whether a list holds texts of another in its order; counts those that it lacks."""
        texts = iter([hyp.text for hyp in nbest.hyps])
        lacking = len(nbest.hyps) - len(scored.hyps)
        self.dropped += lacking
        self.shortened += lacking > 0
        return all(hyp.text in texts for hyp in scored.hyps)

    def refuse_rest(self) -> None:
        """Raise FormatError if a shard has a list left."""
        for scored, _ in self._heads.values():
            raise FormatError(
                f"{scored.place()}: not among the lists to merge by; "
                "merge with the lists that the shards were made from"
            )

    def _advance(self, number: int) -> None:
        scored = next(self._readers[number], None)
        if scored is None:
            return
        if scored.id in self._heads:
            _, other = self._heads[scored.id]
            raise FormatError(
                f"{scored.place()}: this utterance is in {self._names[other]} too; "
                "give the shards of one run, each once"
            )
        self._heads[scored.id] = (scored, number)


def _check_signatures(nbest: NBest, signatures: dict[str, str | None]) -> None:
    for name, provenance in nbest.provenance.items():
        first = signatures.setdefault(name, provenance.signature)
        if provenance.signature != first:
            raise ScoreError(
                f'{nbest.place()}: score "{name}" has signature {provenance.signature}, '
                f"and {first} before; score all shards alike"
            )
