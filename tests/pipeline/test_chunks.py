"""Chunks and their digests, and shards as unions of buckets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from small import nbest

from rescore.errors import RescoreError
from rescore.pipeline import Shard
from rescore.pipeline.chunks import BUCKETS, bucket, chunks, content, digest


def test_chunks_of_a_bucket_are_the_same_in_every_shard():
    ids = [f"u{number}" for number in range(3000)]
    whole = list(chunks(ids, str, len, 60))
    assert sorted(itertools.chain(*whole)) == sorted(ids)
    assert all(len({bucket(name) for name in chunk}) == 1 for chunk in whole)
    assert all(chunk == sorted(chunk, key=ids.index) for chunk in whole)
    assert max(sum(map(len, chunk)) for chunk in whole) < 60 + len("u2999")
    for count in (1, 3, BUCKETS):
        parts = [
            chunk
            for index in range(count)
            for chunk in chunks([name for name in ids if name in Shard(index, count)], str, len, 60)
        ]
        assert sorted(parts) == sorted(whole)


def test_buckets_are_filled_alike_and_never_change():
    sizes = np.bincount(
        [bucket(f"1089-134686-{number:04}") for number in range(64_000)], minlength=BUCKETS
    )
    assert 850 < sizes.min() < sizes.max() < 1150
    assert [bucket(name) for name in ("", "84-121123-0000", "\u00e9")] == [61, 63, 39]


def test_a_digest_covers_ids_texts_and_their_order():
    base = [nbest("a b", "c", id="u"), nbest("d", id="v")]
    others = [
        [base[1], base[0]],
        base[:1],
        [nbest("a", "b c", id="u"), base[1]],
        [nbest("c", "a b", id="u"), base[1]],
        [nbest("a b", "c", id="w"), base[1]],
        [nbest("a b", "c", "v", "d", id="u")],
    ]
    digests = {digest(map(content, case)) for case in [base, *others]}
    assert len(digests) == len(others) + 1
    with_other_scores = [nbest("a b", "c", id="u", am=-3.0), nbest("d", id="v", ref="x")]
    assert digest(map(content, with_other_scores)) == digest(map(content, base))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8"}, Shard(3, 8)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "5",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "2",
            },
            Shard(3, 4),
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}, Shard(0, 2)),
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Shard(1, 2)),
    ],
)
def test_env_is_what_the_job_system_says(environment, expected):
    assert Shard.parse("env", environment) == expected


@pytest.mark.parametrize("text", ["8/8", "-1/8", "1", "a/b", "1/65", "0/0", "env"])
def test_a_shard_that_cannot_be_is_refused(text):
    with pytest.raises(RescoreError, match=r"shard .*(expected I/N|torchrun or SLURM)"):
        Shard.parse(text, {"RANK": "1"})


def test_a_process_takes_the_gpu_of_its_place_on_the_machine():
    shard = Shard.parse("env", {"RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2"})
    assert [shard.device("cuda", count) for count in (4, 1, 0)] == ["cuda:2", "cuda:0", "cuda"]
    assert shard.device("cuda:1", 4) == "cuda:1"
    assert shard.device("cpu", 4) == "cpu"
    assert (
        Shard.parse("env", {"SLURM_PROCID": "6", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"}).local
        == 3
    )
    assert Shard(0, 2).device("cuda", 4) == "cuda"


def test_a_rank_that_is_no_number_is_refused():
    with pytest.raises(RescoreError, match=r"RANK=x, WORLD_SIZE=2 are not numbers"):
        Shard.parse("env", {"RANK": "x", "WORLD_SIZE": "2"})
