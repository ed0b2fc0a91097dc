"""Shards: a run split over processes or machines, each of which takes whole buckets."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rescore.errors import RescoreError
from rescore.pipeline.chunks import BUCKETS, bucket

__all__ = ["Shard"]

#: Where job systems state the rank: (rank, number of processes, first rank).
_RANKS = (
    ("RANK", "WORLD_SIZE", ""),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)
_LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")  # the rank among the processes of this machine


@dataclass(frozen=True)
class Shard:
    """Shard `index` (from 0) of `count`: the buckets whose number is `index` modulo `count`.

    `local`: the rank among the processes of this machine, where the environment states it; it
    chooses among GPUs.
    """

    index: int
    count: int
    local: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= BUCKETS or not 0 <= self.index < self.count:
            raise RescoreError(
                f"shard {self.index}/{self.count}: expected I/N with I from 0 to N - 1 and N at "
                f"most {BUCKETS}; split a larger run by file"
            )

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str] | None = None) -> Shard:
        """Read `3/8`, or `env` for the rank that torchrun or SLURM put into the environment.

        Raises RescoreError for anything else.
        """
        if text == "env":
            return cls._of_environment(os.environ if environment is None else environment)
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if match is None:
            raise RescoreError(f"shard {text!r}: expected I/N, such as 0/8 to 7/8, or env")
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def _of_environment(cls, environment: Mapping[str, str]) -> Shard:
        for rank_name, count_name, first_name in _RANKS:
            if rank_name not in environment or count_name not in environment:
                continue
            rank, count = environment[rank_name], environment[count_name]
            first = environment.get(first_name, "0")
            for value in (rank, count, first):
                if not re.fullmatch(r"\d{1,9}", value, re.ASCII):
                    raise RescoreError(
                        f"shard env: {rank_name}={rank}, {count_name}={count} are not numbers; "
                        "give the shard as I/N"
                    )
            return cls(int(rank) - int(first), int(count), _local_rank(environment))
        names = ", ".join(f"{rank} and {count}" for rank, count, _ in _RANKS)
        raise RescoreError(
            f"shard env: the environment has none of {names}; run this under torchrun or SLURM, "
            "or give the shard as I/N"
        )

    def named(self, template: str) -> str:
        """The file name of this shard: `{shard}` and `{shards}` become numbers."""
        index, count = str(self.index), str(self.count)
        return template.replace("{shard}", index).replace("{shards}", count)

    def device(self, device: str, count: int) -> str:
        """The GPU of `count` that `cuda` means in this process; any other device stays as it is."""
        is_ranked = device == "cuda" and self.local is not None and count > 0
        return f"cuda:{self.local % count}" if is_ranked and self.local is not None else device

    def __contains__(self, utterance: str) -> bool:
        return bucket(utterance) % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def _local_rank(environment: Mapping[str, str]) -> int | None:
    for name in _LOCAL_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return None
