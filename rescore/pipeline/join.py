"""The outputs of shards back into one, in the order of the lists they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rescore.errors import FormatError, ScoreError
from rescore.formats import jsonl
from rescore.formats.files import PathLike, name_of
from rescore.types import NBest

__all__ = ["merge"]


def merge(lists: Iterable[NBest], shards: Sequence[PathLike]) -> Iterator[NBest]:
    """Yield every list as its shard has it, in the order of `lists`, which the shards were made from.

    Reads all files side by side, one list of each in memory. Raises FormatError for a list that is in no shard or in two, or has other texts there,
    or that a shard has and `lists` does not; ScoreError if the scores of two shards have different signatures.
    """
    names = [name_of(path) for path in shards]
    if len(set(names)) < len(names):
        raise FormatError(
            f"{next(name for name in names if names.count(name) > 1)}: is given twice; give every shard once"
        )
    readers = [jsonl.read(path) for path in shards]
    heads: dict[str, tuple[NBest, int]] = {}
    made_by: dict[str, Any] = {}

    def advance(number: int) -> None:
        found = next(readers[number], None)
        if found is not None and heads.setdefault(found.id, (found, number))[1] != number:
            raise FormatError(
                f"{found.place()}: this utterance is in {names[heads[found.id][1]]} too; give the shards of one run, each once"
            )

    for number in range(len(readers)):
        advance(number)
    for nbest in lists:
        found, number = heads.pop(nbest.id, (None, -1))
        if found is None:
            raise FormatError(
                f"{nbest.place()}: is not next in any of {len(names)} shards; is a shard missing, unfinished, or made from other lists?"
            )
        if [hyp.text for hyp in found.hyps] != [hyp.text for hyp in nbest.hyps]:
            raise FormatError(
                f"{found.place()}: has other hypotheses than {nbest.place()}; merge with the lists that the shards were made from"
            )
        _check_signatures(found, made_by)
        yield found
        advance(number)
    for found, _number in heads.values():
        raise FormatError(
            f"{found.place()}: is not among the lists to merge by; merge with the lists that the shards were made from"
        )


def _check_signatures(nbest: NBest, made_by: dict[str, Any]) -> None:
    for name, provenance in nbest.provenance.items():
        signature = provenance.signature
        if made_by.setdefault(name, signature) != signature:
            raise ScoreError(
                f'{nbest.place()}: score "{name}" has signature {signature}, and {made_by[name]} before; score all shards alike'
            )
