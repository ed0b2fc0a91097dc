"""`pool`, and `fuse --consensus`."""

from __future__ import annotations

import json

import pytest
from command_line import RECORDS, good, read, refused, write

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def systems(dlm):
    """a.jsonl and b.jsonl: the same utterances, fused with weights of their own."""
    write("lists.jsonl", RECORDS)
    for name, scales in (("a", {"am": 1.0}), ("b", {"ngram": 1.0})):
        write(f"{name}.json", [json.dumps({"scales": scales, "temperature": 2.0})])
        good(
            dlm("fuse", "lists.jsonl", "--fusion", f"{name}.json", "--posterior",
                "-o", f"{name}.jsonl")
        )  # fmt: skip


def test_systems_are_joined_by_text_and_voted_on(systems, dlm):
    done = good(dlm("pool", "a.jsonl", "second=b.jsonl", "-o", "pooled.jsonl"))
    assert done.err == "4 utterances of 2 systems\n"
    pooled = read("pooled.jsonl")
    assert [record["id"] for record in pooled] == [record["id"] for record in RECORDS]
    scores = pooled[0]["hyps"][0]["scores"]
    assert set(scores) == {
        *("a.am", "a.ngram", "a.total", "second.am", "second.ngram", "second.total", "pool")
    }
    assert pooled[0]["hyps"][0]["systems"] == ["a", "second"]
    write("pool.json", [json.dumps({"scales": {"pool": 1.0}})])
    good(
        dlm("fuse", "pooled.jsonl", "--fusion", "pool.json", "--decision", "mbr", "-o",
            "best.jsonl", "--consensus", "voted.jsonl", "--trn", "hyp.trn")
    )  # fmt: skip
    voted = read("voted.jsonl")
    assert [len(record["hyps"]) for record in voted] == [1] * 4
    confidences = voted[0]["hyps"][0]["word_confidences"]
    assert len(confidences) == len(voted[0]["hyps"][0]["text"].split())
    assert "WER" in good(dlm("eval", "voted.jsonl", "--baseline", "best.jsonl")).out


def test_what_cannot_be_pooled_is_one_line(systems, dlm):
    for argv, message in (
        (["a.jsonl"], "give the lists of two systems or more"),
        (["a.jsonl", "a.jsonl"], "two systems are called 'a'; name them: NAME=FILE"),
        (["a.jsonl", "b.jsonl", "--weights", "1,x"], "expected numbers separated by commas"),
    ):
        done = dlm("pool", *argv)
        assert (done.status, message in done.err) == (2, True), done.err
    assert "is also the input" in refused(dlm("pool", "a.jsonl", "b.jsonl", "-o", "b.jsonl"))
    write("c.jsonl", RECORDS[:2])
    line = refused(dlm("pool", "a.jsonl", "c.jsonl", "-o", "x.jsonl"))
    assert line == (
        "a.jsonl:3: utterance u3: system c has no list of this utterance; give the same utterances,"
        " or pool what there is (--missing keep)"
    )
    assert good(dlm("pool", "a.jsonl", "c.jsonl", "--missing", "keep")).out.count("\n") == 4
    write("pool.json", [json.dumps({"scales": {"am": 1.0}})])
    for other in ("a.jsonl", "pool.json"):
        done = dlm("fuse", "a.jsonl", "--fusion", "pool.json", "--consensus", other, "-o", "x")
        assert "is also the input" in refused(done)
    both = dlm("fuse", "a.jsonl", "--fusion", "pool.json", "--consensus", "x", "--trn", "x")
    assert (both.status, "give each its own" in both.err) == (2, True)
