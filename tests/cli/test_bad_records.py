"""Records that are broken, lists that are empty, references and scores that are missing."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from command_line import (
    BAD,
    BARE,
    GOOD,
    RECORDS,
    files,
    good,
    read,
    refused,
    write,
)

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(("line", "message"), BAD.items(), ids=BAD.values())
def test_a_bad_record_is_one_line_with_its_place_and_no_output(dlm, models, line, message):
    write("in.jsonl", [GOOD, line])
    Path("old.jsonl").write_text("as it was\n")
    before = files()
    for output in ("out.jsonl", "old.jsonl"):
        for command in (["score", "--scorer", "ar", "--model", models["ar"]], ["convert"]):
            complaint = refused(dlm(*command, "in.jsonl", "-o", output))
            assert complaint.startswith("in.jsonl:2: ")
            assert message in complaint
    assert files() == before
    assert Path("old.jsonl").read_text() == "as it was\n"


@pytest.mark.parametrize(("line", "message"), BAD.items(), ids=BAD.values())
def test_bad_records_are_counted_and_left_out_only_on_demand(dlm, models, line, message):
    write("in.jsonl", [GOOD, line, BARE[0]])
    done = good(
        dlm(
            "score",
            "in.jsonl",
            "--scorer",
            "ar",
            "--model",
            models["ar"],
            "--on-error",
            "skip",
            "-o",
            "out.jsonl",
        )
    )
    assert [record["id"] for record in read("out.jsonl")] == ["good", "u1"]
    skipped, count, summary = done.err.splitlines()
    assert skipped.startswith("skipped: in.jsonl:2: ")
    assert message in skipped
    assert (count, summary[:13]) == ("in.jsonl: 1 broken records were skipped", "2 utterances,")


def test_a_first_line_that_is_bad_is_named_where_the_format_is(dlm):
    write("in.jsonl", ['{"id": "b", "hyps": []}', GOOD])
    assert refused(dlm("convert", "in.jsonl", "--from", "jsonl", "-o", "out.jsonl")).startswith(
        'in.jsonl:1: utterance b: "hyps" is an empty list'
    )
    assert files() == ["in.jsonl"]


@pytest.mark.parametrize(
    "command",
    [
        ["tune", "--scores", "am"],
        ["fuse", "--fusion", "fusion.json"],
        ["eval"],
        ["eval", "good.jsonl", "--baseline"],
    ],
)
def test_every_command_names_the_bad_record(dlm, command):
    write("in.jsonl", [GOOD, '{"id": "b", "hyps": [{"text": "x", "scores": {"am": NaN}}]}'])
    write("good.jsonl", [GOOD, '{"id": "b", "ref": "x", "hyps": [{"text": "x"}]}'])
    write("fusion.json", [{"scales": {"am": 1}}])
    before = files()
    complaint = refused(dlm(*command, "in.jsonl", "-o", "out.json"))
    assert complaint.startswith('in.jsonl:2: utterance b, hypothesis 1: score "am" is NaN')
    assert files() == before


def test_when_nothing_usable_is_left_the_reasons_are_said(dlm):
    write("in.jsonl", ["broken", "[]"])
    done = dlm("convert", "in.jsonl", "--from", "jsonl", "--on-error", "skip", "-o", "out.jsonl")
    assert done.status == 1
    assert [line[:22] for line in done.err.splitlines()] == [
        "skipped: in.jsonl:1: b",
        "skipped: in.jsonl:2: t",
        "in.jsonl: 2 broken rec",
        "in.jsonl: holds no usa",
    ]
    assert files() == ["in.jsonl"]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_an_error(dlm, models, content):
    Path("in.jsonl").write_text(content)
    for command in (
        ["convert"],
        ["score", "--model", models["mdlm"]],
        ["tune", "--scores", "am"],
        ["eval"],
    ):
        assert refused(dlm(*command, "in.jsonl", "--from", "jsonl", "-o", "out.jsonl")).startswith(
            "in.jsonl: holds no usable list"
        )
        assert refused(dlm(*command, "in.jsonl", "-o", "out.jsonl")).startswith("in.jsonl: ")
    assert files() == ["in.jsonl"]


def test_a_missing_score_is_named_with_utterance_and_hypothesis(dlm):
    records = copy.deepcopy(RECORDS)
    del records[1]["hyps"][1]["scores"]["ngram"]
    write("in.jsonl", records)
    write("fusion.json", [{"scales": {"am": 1, "ngram": 0.5}}])
    before = files()
    expected = (
        'in.jsonl:2: utterance u2, hypothesis 2: score "ngram" is missing, it has am; '
        "`dlmrescore score` adds the scores of models, a recogniser brings its own"
    )
    assert (
        refused(dlm("tune", "in.jsonl", "--scores", "am,ngram", "-o", "weights.json")) == expected
    )
    assert (
        refused(dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl")) == expected
    )
    assert (
        refused(
            dlm(
                "fuse",
                "in.jsonl",
                "--fusion",
                "fusion.json",
                "-o",
                "best.jsonl",
                "--trn",
                "hyp.trn",
            )
        )
        == expected
    )
    assert files() == before


def test_references_that_lack_an_id_are_named_or_skipped_on_demand(dlm, models):
    write("in.jsonl", BARE)
    write("refs.txt", ["u1 the old house", "u3 no light", "u4 we walked along"])
    for command in (
        ["convert"],
        ["eval"],
        ["tune", "--scores", "rank"],
        ["score", "--scorer", "ar", "--model", models["ar"]],
    ):
        line = refused(dlm(*command, "in.jsonl", "--refs", "refs.txt", "-o", "out.jsonl"))
        assert line == (
            "in.jsonl:2: utterance u2: there is no reference with this id; give "
            "the references of this very set"
        )
    assert files() == ["in.jsonl", "refs.txt"]
    done = good(dlm("eval", "--json", "in.jsonl", "--refs", "refs.txt", "--on-error", "skip"))
    assert json.loads(done.out)["utterances"] == 3
    assert done.err.splitlines()[-1] == "in.jsonl: 1 broken records were skipped"
    assert refused(dlm("eval", "in.jsonl")).startswith(
        'in.jsonl:1: utterance u1: the reference ("ref") is missing'
    )
    write("refs.txt", ["u1 x", "u1 y"])
    assert refused(dlm("eval", "in.jsonl", "--refs", "refs.txt")).startswith("refs.txt:2: ")
    assert refused(dlm("eval", "in.jsonl", "--refs", "gone.txt")).startswith("gone.txt: ")


def test_an_error_rate_needs_reference_words(dlm):
    write("in.jsonl", [{"id": "a", "ref": " ", "hyps": [{"text": "x"}]}])
    for command in (["eval"], ["tune", "--scores", "rank"]):
        line = (
            "in.jsonl:1: utterance a: the reference holds no words: an error rate is "
            "not defined; give --refs with words"
        )
        assert refused(dlm(*command, "in.jsonl", "-o", "out.json")) == line
    assert files() == ["in.jsonl"]


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        (RECORDS[:3], "utterance u4: it is missing from the baseline"),
        (
            [*RECORDS, {"id": "u5", "hyps": [{"text": "x"}]}],
            "base.jsonl:5: utterance u5: it is in the baseline and not among the evaluated lists",
        ),
        (
            [{**record, "ref": "other"} for record in RECORDS],
            "base.jsonl:1: utterance u1: the baseline's reference differs",
        ),
    ],
)
def test_a_baseline_of_other_utterances_is_refused(dlm, baseline, message):
    write("in.jsonl", RECORDS)
    write("base.jsonl", baseline)
    assert refused(
        dlm("eval", "in.jsonl", "--baseline", "base.jsonl", "-o", "out.json")
    ).startswith(message)
    assert files() == ["base.jsonl", "in.jsonl"]
