"""Shards merged are one run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from runs import lists, run

from rescore.errors import FormatError, RescoreError
from rescore.formats import jsonl
from rescore.pipeline import Shard, merge


@pytest.mark.parametrize(("family", "estimator"), [("usdm", "nelbo"), ("ar", None)])
def test_shards_merged_are_one_run_byte_for_byte(models, family, estimator, capsys, monkeypatch):
    jsonl.write(lists(60), "in.jsonl")
    options = [
        "--scorer",
        family,
        "--model",
        models[family],
        *(["--estimator", estimator] if estimator else []),
    ]
    assert run(capsys, monkeypatch, "score", "in.jsonl", *options, "-o", "whole.jsonl")[0] == 0
    for index in range(3):
        assert (
            run(
                capsys,
                monkeypatch,
                "score",
                "in.jsonl",
                *options,
                "--shard",
                f"{index}/3",
                "-o",
                "part.{shard}-{shards}.jsonl",
            )[0]
            == 0
        )
    parts = [f"part.{index}-3.jsonl" for index in (2, 0, 1)]
    assert run(
        capsys, monkeypatch, "merge", *parts, "--lists", "in.jsonl", "-o", "merged.jsonl"
    ) == (0, "60 utterances from 3 shards")
    assert Path("merged.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert not list(Path().glob("*.journal"))


def test_what_does_not_belong_together_is_not_merged():
    few = lists(8)
    halves = [[one for one in few if one.id in Shard(index, 2)] for index in range(2)]
    for name, part in (("a", halves[0]), ("b", halves[1])):
        jsonl.write(part, f"{name}.jsonl")
    assert [one.id for one in merge(few, ["b.jsonl", "a.jsonl"])] == [one.id for one in few]
    signed = [
        replace(one, raw={"meta": {"scores": {"x": {"signature": f"s{one.id in Shard(0, 2)}"}}}})
        for one in few
    ]
    jsonl.write([one for one in signed if one.id in Shard(0, 2)], "signed.jsonl")
    jsonl.write([one for one in signed if one.id not in Shard(0, 2)], "other.jsonl")
    cases = [
        (few, ["a.jsonl"], "not next in any of 1 shards; is a shard missing"),
        (few, ["a.jsonl", "b.jsonl", "b.jsonl"], "b.jsonl: given twice"),
        (few[:-1], ["a.jsonl", "b.jsonl"], "not among the lists to merge by"),
        (
            [replace(few[0], hyps=few[0].hyps[:2]), *few[1:]],
            ["a.jsonl", "b.jsonl"],
            "has other hypotheses than",
        ),
        (few[::-1], ["a.jsonl", "b.jsonl"], "not next in any"),
        (few, ["signed.jsonl", "other.jsonl"], r'score "x" has signature s\w+, and s\w+ before'),
    ]
    for order, shards, message in cases:
        with pytest.raises(RescoreError, match=message):
            list(merge(order, shards))
    Path("c.jsonl").write_bytes(Path("b.jsonl").read_bytes())
    with pytest.raises(FormatError, match=r"this utterance is in b.jsonl too"):
        list(merge(few, ["a.jsonl", "b.jsonl", "c.jsonl"]))
