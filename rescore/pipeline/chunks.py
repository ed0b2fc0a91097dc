"""What is evaluated together: chunks of items of one bucket.

The last bits of a result depend on the company in its batch. Batches never cross a chunk, and a
chunk holds items of one bucket in the order of the input. So the chunks of a bucket are the same in
a whole run, in any shard, and in a run that resumes after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TypeVar

from rescore.types import NBest

__all__ = ["BUCKETS", "bucket", "chunks", "content", "delimited", "digest"]

T = TypeVar("T")

#: Parts into which items are dealt by their ids; the largest number of shards.
BUCKETS = 64


def bucket(utterance: str) -> int:
    """The bucket of an utterance id, 0..BUCKETS - 1, the same everywhere."""
    hashed = blake2b(utterance.encode(), digest_size=8, person=b"bucket").digest()
    return int.from_bytes(hashed, "little") % BUCKETS


def chunks(
    items: Iterable[T], id_of: Callable[[T], str], cost: Callable[[T], int], size: int
) -> Iterator[list[T]]:
    """Yield items of one bucket, in order, once they cost `size` together; the rest at the end.

    At most about BUCKETS x size of cost is held. A single item may cost more than `size`; it ends
    its chunk.
    """
    waiting: dict[int, list[T]] = {}
    costs: dict[int, int] = {}
    for item in items:
        number = bucket(id_of(item))
        waiting.setdefault(number, []).append(item)
        costs[number] = costs.get(number, 0) + cost(item)
        if costs[number] >= size:
            del costs[number]
            yield waiting.pop(number)
    for number in sorted(waiting):
        yield waiting[number]


def content(nbest: NBest, condition: str = "") -> list[str]:
    """What the scores of a list depend on: its id, its audio's digest, its texts in order."""
    heard = [condition] if condition else []
    return [nbest.id, *heard, *(hyp.text for hyp in nbest.hyps)]


def digest(contents: Iterable[Sequence[str]]) -> str:
    """32 hex digits over the contents of a chunk's items, in order."""
    whole = blake2b(digest_size=16)
    for texts in contents:
        whole.update(delimited(texts) + b";")
    return whole.hexdigest()


def delimited(texts: Iterable[str]) -> bytes:
    """The bytes of texts, each after its length, so that different texts give different bytes."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(b"%d:" % len(data) + data for data in encoded)
