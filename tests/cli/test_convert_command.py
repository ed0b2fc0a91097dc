"""`dlmrescore convert` and `formats`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from command_line import (
    GOOD,
    HYPORADISE,
    RECORDS,
    files,
    good,
    read,
    refused,
    write,
)

from rescore.registry import FORMATS, lookup

pytestmark = pytest.mark.usefixtures("folder")


def test_convert_reads_hyporadise_and_writes_jsonl(dlm):
    Path("lists.json").write_text(json.dumps(HYPORADISE))
    assert (
        good(dlm("convert", "lists.json", "--from", "hyporadise", "-o", "nbest.jsonl")).err
        == "2 utterances\n"
    )
    assert read("nbest.jsonl") == [
        {
            "id": "lists-000001",
            "ref": "a b",
            "hyps": [
                {"text": "a b", "scores": {"rank": 0.0}},
                {"text": "a c", "scores": {"rank": -1.0}},
            ],
        },
        {"id": "lists-000002", "ref": "y", "hyps": [{"text": "x", "scores": {"rank": 0.0}}]},
    ]
    assert good(dlm("convert", "lists.json", "--from", "hyporadise")).records == read(
        "nbest.jsonl"
    )  # standard output, JSON only
    assert good(dlm("convert", "lists.json")).records == read(
        "nbest.jsonl"
    )  # the content proves the format


def test_convert_goes_to_mlm_scoring_and_back(dlm):
    write(
        "in.jsonl",
        [{"id": "a", "ref": "x y", "hyps": [{"text": "x", "scores": {"first_pass": -1.5}}]}],
    )
    good(dlm("convert", "in.jsonl", "--to", "mlm-scoring", "-o", "out.json"))
    assert json.loads(Path("out.json").read_text()) == {
        "a": {"hyp_1": {"score": -1.5, "text": "x"}, "ref": "x y"}
    }
    [record] = good(dlm("convert", "out.json")).records
    assert record == {
        "id": "a",
        "ref": "x y",
        "hyps": [{"text": "x", "scores": {"first_pass": -1.5, "rank": 0.0}}],
    }


def test_convert_to_a_format_without_writer_is_a_usage_error(dlm):
    write("in.jsonl", RECORDS)
    done = dlm("convert", "in.jsonl", "--to", "hyporadise", "-o", "out.json")
    assert done.status == 2
    assert "hyporadise can be read but not written" in done.err
    assert files() == ["in.jsonl"]


def test_options_of_formats_reach_reader_and_writer(dlm):
    write("in.jsonl", RECORDS)
    good(dlm("convert", "in.jsonl", "--to", "mlm-scoring", "-W", "score=ngram", "-o", "out.json"))
    assert json.loads(Path("out.json").read_text())["u1"]["hyp_1"] == {
        "score": -9.0,
        "text": "the old horse",
    }
    for command in ("convert", "tune"):
        options = ["--scores", "ngram"] if command == "tune" else []
        good(dlm(command, "out.json", *options, "-O", "score=ngram", "-o", f"{command}.json"))
    assert read("convert.json")[0]["hyps"][0]["scores"] == {"ngram": -9.0, "rank": 0.0}
    assert list(json.loads(Path("tune.json").read_text())["scales"]) == ["ngram"]
    Path("x.tsv").write_text("the old house\t-1\nthe house\t-2\n")
    Path("m.json").write_text('{"audio_filepath": "u1.wav", "text": "the house"}\n')
    done = good(
        dlm(
            "eval",
            "--json",
            "x.tsv",
            "--from",
            "nemo",
            "-O",
            "beam_size=2",
            "--option",
            "manifest=m.json",
        )
    )
    assert json.loads(done.out)["wer"] == 0.5
    complaint = refused(
        dlm(
            "convert",
            "x.tsv",
            "--from",
            "nemo",
            "-O",
            "beam_size=2",
            "-O",
            "manifest=m.json",
            "-o",
            "m.json",
        )
    )
    assert complaint == "m.json: is also the input (m.json); write to another file"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-O", "name=x"], '--from jsonl has no option "name"; it has none'),
        (
            ["--from", "mlm-scoring", "-O", "name=x"],
            '--from mlm-scoring has no option "name"; it has score',
        ),
        (["--from", "mlm-scoring", "-O", "score"], '-O "score" is not KEY=VALUE'),
        (
            ["--from", "mlm-scoring", "-O", "score=a", "-O", "score=b"],
            '--from mlm-scoring: the option "score" is given twice',
        ),
        (
            ["--from", "mlm-scoring", "-O", "score=rank"],
            '--from mlm-scoring: the option "score" is "rank", expected a name other than rank',
        ),
        (
            ["--from", "nemo"],
            (
                '--from nemo needs the option "beam_size" (lines of every '
                "utterance); give -O beam_size=..."
            ),
        ),
        (
            ["--from", "nemo", "-O", "beam_size=0"],
            '--from nemo: the option "beam_size" is "0", expected a whole number from 1',
        ),
        (
            ["--from", "kaldi", "-O", "ids=utt"],
            '--from kaldi: the option "ids" is "utt", expected nbest or plain',
        ),
        (["--to", "kaldi", "-W", "score=x"], '--to kaldi has no option "score"; it has am, lm'),
        (["--to", "jsonl", "-W", "score=x"], '--to jsonl has no option "score"; it has none'),
    ],
)
def test_an_option_that_a_format_does_not_have_is_a_usage_error(dlm, options, message):
    write("in.jsonl", RECORDS)
    done = dlm("convert", "in.jsonl", *options, "-o", "out.jsonl")
    assert (done.status, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"Error: {message}"
    assert files() == ["in.jsonl"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("espnet", ["-W", "score=am"]), ("kaldi", ["-W", "lm=ngram"]), ("srilm", ["-W", "lm=ngram"])],
)
def test_formats_that_are_directories_go_out_and_come_in(dlm, name, options):
    write("in.jsonl", RECORDS)
    assert (
        good(dlm("convert", "in.jsonl", "--to", name, *options, "-o", "out")).err
        == "4 utterances\n"
    )
    back = good(dlm("convert", "out", *(["--from", name] if name == "srilm" else []))).records
    assert [[hyp["text"] for hyp in record["hyps"]] for record in back] == [
        [hyp["text"] for hyp in record["hyps"]] for record in RECORDS
    ]
    again = ("convert", "in.jsonl", "--to", name, *options, "-o", "out")
    good(dlm(*again))  # every byte is the same: a run that was killed at its end
    file = next(path for path in sorted(Path("out").rglob("*")) if path.is_file())
    file.write_bytes(file.read_bytes() + b"\n")
    assert refused(dlm(*again)).startswith("out: is there already")
    assert refused(dlm("convert", "in.jsonl", "--to", name, *options)).startswith(
        "this format is a directory"
    )
    assert files() == ["in.jsonl", "out"]


def test_formats_lists_every_format_with_its_options(dlm):
    out = good(dlm("formats")).out
    for name in FORMATS:
        known = lookup(FORMATS, name, "format")
        assert known.help
        assert f"\n{name}: {known.help}\n" in f"\n{out}"
        for key, option in known.read_options.items():
            assert f"    -O {key}=...  {option.help}" in out
    assert "    read and written; proof: a directory with `1best_recog`\n" in out
    assert "    read; proof: an array whose first item" in out
    assert "    -O beam_size=...  lines of every utterance (required)\n" in out


def test_standard_input_needs_its_format_by_name(dlm, monkeypatch):
    def stdin():
        monkeypatch.setattr(
            sys,
            "stdin",
            io.TextIOWrapper(io.BufferedReader(io.BytesIO(GOOD.encode() + b"\nbroken\n"))),
        )

    stdin()
    assert refused(dlm("convert", "-")).startswith("stdin: its content does not prove its format")
    stdin()
    assert refused(dlm("convert", "-", "--from", "jsonl", "-o", "out.jsonl")).startswith(
        "stdin:2: "
    )
    assert files() == []
