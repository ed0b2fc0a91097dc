"""`dlmrescore compare`: what changes between systems, which the summary, JSON and CSV agree on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command_line import RECORDS, files, good, read, refused, write

import rescore
from rescore.wer import evaluate

WEIGHTS = {"base": {"scales": {"am": 1}}, "both": {"scales": {"am": 1, "ngram": 1}}}


@pytest.fixture(autouse=True)
def systems(folder, dlm):
    """Lists, weights of two systems, and the lists that they reorder."""
    write("in.jsonl", RECORDS)
    for name, weights in WEIGHTS.items():
        write(f"{name}.json", [weights])
        good(dlm("fuse", "in.jsonl", "--fusion", f"{name}.json", "-o", f"{name}.jsonl"))


def test_the_summary_says_what_changed(dlm):
    done = good(dlm("compare", "in.jsonl", "both.jsonl"))
    assert (
        done.out
        == (
            "both.jsonl\n"
            "against in.jsonl: 4 utterances, 12 words\n"
            "It gains 25.00 points over the baseline (33.33 % to 8.33 %), probability 1.000\n"
            "  gain between 8.33 and 36.36 points (95 %), 100 % of the gap to the oracle\n"
            "utterances: 3 helped, 0 hurt, 1 unchanged\n"
            "  in 0 of all, the list has a hypothesis with fewer errors\n"
            "\n"
            "               before  fixed  broken  after\n"
            "substitutions       2      2       1      1\n"
            "insertions          2      2       0      0\n"
            "deletions           0      0       0      0\n"
            "all errors          4      4       1      1\n"
            "\n"
            "fixed                                    broken\n"
            "    1  along -> long                         1  walked -> walk\n"
            "    1  house -> horse\n"
            "    1  + a\n"
            "    1  + there\n"
        )
        or done.out
    )


def test_one_system_is_compared_with_its_first_pass(dlm):
    alone = good(dlm("compare", "both.jsonl")).out
    assert "against the first pass" in alone
    assert alone == good(dlm("compare", "both.jsonl", "--baseline", "first-pass")).out
    lists = good(dlm("compare", "in.jsonl", "both.jsonl")).out
    assert alone.splitlines()[2:] == lists.splitlines()[2:]


def test_every_system_is_compared_with_the_baseline(dlm):
    names = ["both.jsonl", "base.jsonl"]
    record = json.loads(good(dlm("compare", *names, "--baseline", "in.jsonl", "--json")).out)
    assert [row["system"] for row in record["systems"]] == names
    assert record["baseline"] == "in.jsonl"
    first = json.loads(good(dlm("compare", "in.jsonl", *names, "--json")).out)
    assert first == record
    for name, row in zip(names, record["systems"], strict=True):
        expected = evaluate(rescore.read(name), rescore.read("in.jsonl")).to_json()
        shared = [key for key in row if key in expected]
        assert len(shared) > 12
        assert {key: row[key] for key in shared} == {key: expected[key] for key in shared}


def test_two_weights_are_compared_on_the_same_lists(dlm):
    record = json.loads(
        good(dlm("compare", "base.json", "both.json", "--lists", "in.jsonl", "--json")).out
    )
    fused = json.loads(good(dlm("compare", "base.jsonl", "both.jsonl", "--json")).out)
    [from_weights], [from_lists] = record["systems"], fused["systems"]
    assert from_weights == {**from_lists, "system": "both.json"}


def test_the_csv_has_every_utterance(dlm):
    options = ["--csv", "out.csv", "-o", "out.json"]
    done = good(dlm("compare", "in.jsonl", "base.jsonl", "both.jsonl", *options))
    assert done.out == ""
    assert "both.jsonl\nagainst in.jsonl" in done.err
    with open("out.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows] == ["base.jsonl"] * 4 + ["both.jsonl"] * 4
    assert rows[4] == {
        "system": "both.jsonl",
        "id": "u1",
        "outcome": "helped",
        "baseline_errors": "1",
        "errors": "0",
        "oracle_errors": "0",
        "substitutions": "0",
        "insertions": "0",
        "deletions": "0",
        "reference_words": "3",
        "reference": "the old house",
        "baseline_text": "the old horse",
        "text": "the old house",
    }
    [_, both] = json.loads(Path("out.json").read_text())["systems"]
    assert sum(row["outcome"] == "helped" for row in rows[4:]) == both["helped"]
    assert sum(int(row["errors"]) for row in rows[4:]) == sum(
        both["errors"][kind] for kind in ("substitutions", "insertions", "deletions")
    )


def test_weights_tuned_on_these_lists_are_warned_of(dlm):
    good(dlm("tune", "in.jsonl", "--scores", "am,ngram", "-o", "tuned.json"))
    done = good(dlm("compare", "tuned.json", "--lists", "in.jsonl"))
    assert done.err == (
        "warning: the weights of tuned.json were tuned on 4 of these 4 utterances; this is not a"
        " test result\n"
    )


def test_speakers_are_resampled_and_characters_counted(dlm):
    record = json.loads(
        good(dlm("compare", "both.jsonl", "--json", "--cluster", "speaker", "--cer")).out
    )
    [row] = record["systems"]
    assert row["unit"] == "char"
    assert {pair["ref"] for pair in row["fixed"]} >= {"u"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["in.jsonl", "in.jsonl"], "a system is named twice"),
        (["in.jsonl", "--baseline", "in.jsonl"], "both a system and the baseline"),
        ([], "Missing argument"),
    ],
)
def test_usage_errors_have_status_2(dlm, argv, message):
    done = dlm("compare", *argv)
    assert done.status == 2
    assert message in done.err


def test_an_output_is_never_an_input(dlm):
    before = files()
    for argv in (["both.jsonl", "--csv", "both.jsonl"], ["both.jsonl", "-o", "both.jsonl"]):
        assert "is also the input" in refused(dlm("compare", *argv))
    argv = ["base.json", "both.json", "--lists", "in.jsonl", "--csv", "base.json"]
    assert "is also the input" in refused(dlm("compare", *argv))
    assert files() == before
    assert read("base.json") == [WEIGHTS["base"]]


def test_other_utterances_are_one_line(dlm):
    write("part.jsonl", RECORDS[1:])
    line = refused(dlm("compare", "part.jsonl", "both.jsonl"))
    assert line.startswith("utterance u1: it is missing from the baseline")
