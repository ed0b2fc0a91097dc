"""What is evaluated together: chunks of lists of one bucket, and shards as unions of buckets.

The last bits of a score depend on its company in a batch. Batches never cross a chunk, and a chunk holds lists of one bucket in the order of the
input, so the chunks of a bucket are the same in a run over everything, in any shard, and in a run that goes on after a kill.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TypeVar

from rescore.errors import RescoreError
from rescore.types import NBest

__all__ = ["BUCKETS", "Shard", "bucket", "chunks", "digest"]

T = TypeVar("T")

#: Parts that lists are dealt into by their ids; the largest number of shards.
BUCKETS = 64

#: Where job systems say which of how many processes this is: (number, count, first number).
_ENVIRONMENTS = (
    ("RANK", "WORLD_SIZE", ""),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)
_LOCAL = ("LOCAL_RANK", "SLURM_LOCALID")  # which of the processes of this machine


def bucket(utterance: str) -> int:
    """The bucket of an utterance id, 0..BUCKETS - 1, the same everywhere."""
    return (
        int.from_bytes(
            blake2b(utterance.encode(), digest_size=8, person=b"bucket").digest(), "little"
        )
        % BUCKETS
    )


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 0) of `count` parts of the work: the buckets whose number leaves `index` over when divided by `count`.

    `local`: which of the processes of one machine this is, where the environment says so; it chooses among GPUs.
    """

    index: int
    count: int
    local: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= BUCKETS or not 0 <= self.index < self.count:
            raise RescoreError(
                f"shard {self.index}/{self.count}: expected I/N with I from 0 to N - 1 and N at most {BUCKETS}; split larger work by file"
            )

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Shard:
        """`3/8`, or `env` for what torchrun or SLURM say in the environment. Raises RescoreError for anything else."""
        if text == "env":
            return cls._of_environment(os.environ if environment is None else environment)
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if found is None:
            raise RescoreError(f"shard {text!r}: expected I/N, such as 0/8 to 7/8, or env")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def _of_environment(cls, environment: Mapping[str, str]) -> Shard:
        for number, count, first in _ENVIRONMENTS:
            if number in environment and count in environment:
                values = [environment[number], environment[count], environment.get(first, "0")]
                if not all(re.fullmatch(r"\d{1,9}", value, re.ASCII) for value in values):
                    raise RescoreError(
                        f"shard env: {number}={values[0]}, {count}={values[1]} are not numbers; give the shard as I/N"
                    )
                local = next(
                    (
                        int(environment[name])
                        for name in _LOCAL
                        if environment.get(name, "").isdecimal()
                    ),
                    None,
                )
                return cls(int(values[0]) - int(values[2]), int(values[1]), local)
        wanted = ", ".join(f"{number} and {count}" for number, count, _ in _ENVIRONMENTS)
        raise RescoreError(
            f"shard env: the environment has none of {wanted}; run this under torchrun or SLURM, or give the shard as I/N"
        )

    def device(self, device: str, count: int) -> str:
        """Which of `count` GPUs `cuda` stands for; any other device stays what it is."""
        return (
            f"cuda:{self.local % count}"
            if device == "cuda" and self.local is not None and count
            else device
        )

    def __contains__(self, utterance: str) -> bool:
        return bucket(utterance) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def chunks(
    items: Iterable[T], id_of: Callable[[T], str], cost: Callable[[T], int], size: int
) -> Iterator[list[T]]:
    """Items of one bucket, as they come, until they cost `size` together; at the end what is left, bucket after bucket.

    At most about BUCKETS x size of cost are held. A single item may cost more than `size`; it ends its chunk.
    """
    waiting: dict[int, list[T]] = {}
    held: dict[int, int] = {}
    for item in items:
        number = bucket(id_of(item))
        waiting.setdefault(number, []).append(item)
        held[number] = held.get(number, 0) + cost(item)
        if held[number] >= size:
            del held[number]
            yield waiting.pop(number)
    for number in sorted(waiting):
        yield waiting[number]


def digest(lists: Sequence[NBest]) -> str:
    """32 hex digits over everything that scores depend on: ids and texts, in order."""
    whole = blake2b(digest_size=16)
    for nbest in lists:
        for text in (nbest.id, *(hyp.text for hyp in nbest.hyps)):
            part = text.encode("utf-8", "surrogatepass")
            whole.update(b"%d:" % len(part) + part)
        whole.update(b";")
    return whole.hexdigest()
