"""The command line: what each command writes, what it says when the input is wrong, and that the Python interface gives the same numbers."""

from __future__ import annotations

import copy
import gzip
import io
import json
import math
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
import safetensors.torch
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from small import LINES, save_small

import rescore
from rescore.cli import cli, main
from rescore.formats import jsonl
from rescore.fusion import load as load_fusion
from rescore.registry import FORMATS, SCORERS, lookup
from rescore.scorers.ar import CausalScorer
from rescore.types import Hypothesis, NBest
from rescore.wer import list_errors

COMMANDS = [
    "convert",
    "lattice",
    "check",
    "score",
    "merge",
    "tune",
    "sweep",
    "fuse",
    "eval",
    "run",
    "models",
    "formats",
    "train",
    "plugins",
    "completion",
]

#: (id, reference, [(text, am, ngram)]): the first pass makes 4 errors, the oracle 1.
TEXTS = [
    (
        "u1",
        "the old house",
        [
            ("the old horse", -10.0, -9.0),
            ("the old house", -10.5, -6.0),
            ("the cold house", -12.0, -8.0),
        ],
    ),
    (
        "u2",
        "she wrote a letter",
        [("she wrote a letter", -20.0, -8.0), ("she wrote letter", -19.0, -12.0)],
    ),
    (
        "u3",
        "no light",
        [("no light there", -5.0, -9.0), ("no light", -5.5, -4.0), ("", -30.0, -1.0)],
    ),
    ("u4", "we walked along", [("we walked a long", -7.0, -9.5), ("we walk along", -7.2, -6.5)]),
]
RECORDS = [
    {
        "id": name,
        "ref": ref,
        "speaker": f"s{number % 2}",
        "hyps": [{"text": text, "scores": {"am": am, "ngram": ngram}} for text, am, ngram in hyps],
    }
    for number, (name, ref, hyps) in enumerate(TEXTS)
]
BARE = [{"id": name, "hyps": [{"text": text} for text, _, _ in hyps]} for name, _, hyps in TEXTS]


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def dlm(capsys, monkeypatch):
    """Run a command in this process."""

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Done(stopped.value.code, *capsys.readouterr())

    return call


def process(*argv, stdin=b""):
    """Run a command in a process of its own."""
    command = [sys.executable, "-c", "from rescore.cli import main; main()", *map(str, argv)]
    done = subprocess.run(command, capture_output=True, input=stdin, check=False)
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: save_small(root / objective, objective) for objective in ("mdlm", "usdm", "ar")
    }


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Every test works in a folder of its own, so that messages name files as a user types them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name, records):
    """One line a record; text lines are written as they are."""
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    Path(name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return name


def read(name):
    return [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]


def good(done):
    assert done.status == 0, done.err
    return done


def refused(done):
    """The one line of an error: status 1, nothing on standard output."""
    assert (done.status, done.out) == (1, ""), done
    [line] = done.err.splitlines()
    return line


def files():
    return sorted(os.listdir())


# ------------------------------------------------------------------------------------------------------------------------------- convert

HYPORADISE = [{"input": ["a b", "a c", "a b"], "output": "a b"}, {"input": ["x"], "output": "y"}]


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
        dlm("eval", "x.tsv", "--from", "nemo", "-O", "beam_size=2", "--option", "manifest=m.json")
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
            '--from nemo needs the option "beam_size" (lines of every utterance); give -O beam_size=...',
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
    assert refused(dlm("convert", "in.jsonl", "--to", name, *options, "-o", "out")).startswith(
        "out: is there already"
    )
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


# --------------------------------------------------------------------------------------------------------------------------------- score


@pytest.mark.parametrize(
    ("scorer", "options", "name", "kind", "evaluations"),
    [
        ("mdlm", [], "mdlm_nelbo", "neg_nelbo", 8),
        (
            "mdlm",
            ["--estimator", "nelbo", "--draws", "3", "--seed", "7"],
            "mdlm_nelbo",
            "neg_nelbo",
            3,
        ),
        ("mdlm", ["--estimator", "pll"], "mdlm_pll", "pll", None),
        ("mdlm", ["--estimator", "pll_within_word"], "mdlm_pll_within_word", "pll", None),
        ("mdlm", ["--estimator", "chain"], "mdlm_chain", "log_prob", None),
        ("usdm", [], "usdm_pll", "pll", 1),
        ("usdm", ["--t", "0.3"], "usdm_pll", "pll", 1),
        ("usdm", ["--estimator", "nelbo", "--draws", "4"], "usdm_nelbo", "neg_nelbo", 4),
        ("ar", [], "ar", "log_prob", 1),
    ],
)
def test_score_adds_one_named_score_and_leaves_the_rest(
    dlm, models, scorer, options, name, kind, evaluations
):
    source = [
        {**copy.deepcopy(RECORDS[0]), "odd": {"deep": [1, {"x": None}]}, "meta": {"mine": 1}},
        {**RECORDS[1], "big": 2**70},
    ]
    source[0]["hyps"][0]["confidence"] = [0.5]
    write("in.jsonl", source)
    before = Path("in.jsonl").read_bytes()
    done = good(
        dlm(
            "score",
            "in.jsonl",
            "--scorer",
            scorer,
            "--model",
            models[scorer],
            *options,
            "-o",
            "out.jsonl",
        )
    )
    assert (Path("in.jsonl").read_bytes(), done.out) == (before, "")
    assert re.fullmatch(
        r"2 utterances, 5 hypotheses, \d+\.\d evaluations a hypothesis, \d+\.\d s\n", done.err
    )

    for record, original in zip(read("out.jsonl"), source, strict=True):
        made = record["meta"]["scores"].pop(name)
        assert (made["kind"], record["meta"]["scores"]) == (kind, {})
        assert made["signature"].startswith(f"{scorer}.")
        assert evaluations is None or made["evaluations"] == evaluations * len(record["hyps"])
        for hyp in record["hyps"]:
            value = hyp["scores"].pop(name)
            assert math.isfinite(value)
            assert value < 0
            assert ("std_errors" in hyp) == ("nelbo" in name)
            assert hyp.pop("std_errors", {name: 1}).keys() == {name}
        del record["meta"]["scores"]
        assert record == {"meta": {}, **original}


def test_score_says_what_each_token_adds_if_asked(dlm, models):
    write("in.jsonl", RECORDS)
    good(
        dlm(
            "score",
            "in.jsonl",
            "--scorer",
            "ar",
            "--model",
            models["ar"],
            "--per-token",
            "-o",
            "ar.jsonl",
        )
    )
    good(
        dlm(
            "score",
            "ar.jsonl",
            "--model",
            models["mdlm"],
            "--draws",
            2,
            "--per-token",
            "-o",
            "both.jsonl",
        )
    )
    good(dlm("score", "ar.jsonl", "--model", models["mdlm"], "--draws", 2, "-o", "plain.jsonl"))
    for both, plain in zip(read("both.jsonl"), read("plain.jsonl"), strict=True):
        for hyp, other in zip(both["hyps"], plain["hyps"], strict=True):
            assert hyp["scores"] == other["scores"]
            assert {
                name: sum(value for _, value in tokens)
                for name, tokens in hyp["token_scores"].items()
            } == pytest.approx({name: hyp["scores"][name] for name in ("ar", "mdlm_nelbo")})
            assert "".join(piece for piece, _ in hyp["token_scores"]["ar"]).replace(
                "\u2581", " "
            ) == f" {hyp['text']}</s>".replace(" </s>", "</s>")
            assert other["token_scores"] == {"ar": hyp["token_scores"]["ar"]}


def test_scores_of_another_run_stay_and_the_seed_decides(dlm, models):
    write("in.jsonl", RECORDS)
    score = ["--model", models["mdlm"], "--draws", 2]
    good(dlm("score", "in.jsonl", *score, "-o", "once.jsonl"))
    good(dlm("score", "once.jsonl", *score, "--seed", 1, "--name", "again", "-o", "twice.jsonl"))
    good(dlm("score", "in.jsonl", *score, "-o", "copy.jsonl"))
    assert Path("copy.jsonl").read_bytes() == Path("once.jsonl").read_bytes()
    for one, two in zip(read("once.jsonl"), read("twice.jsonl"), strict=True):
        assert [hyp["scores"]["mdlm_nelbo"] for hyp in one["hyps"]] == [
            hyp["scores"]["mdlm_nelbo"] for hyp in two["hyps"]
        ]
        assert [hyp["scores"]["again"] for hyp in two["hyps"]] != [
            hyp["scores"]["mdlm_nelbo"] for hyp in two["hyps"]
        ]
        assert set(two["meta"]["scores"]) == {"mdlm_nelbo", "again"}


def test_score_works_on_lists_without_any_score_and_writes_json_lines_only(dlm, models):
    write("in.jsonl", BARE)
    done = good(dlm("score", "in.jsonl", "--scorer", "usdm", "--model", models["usdm"]))
    assert [record["id"] for record in done.records] == ["u1", "u2", "u3", "u4"]
    assert all(
        set(hyp["scores"]) == {"usdm_pll"} for record in done.records for hyp in record["hyps"]
    )


def test_score_reads_and_writes_gzip(dlm, models):
    Path("in.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(record) + "\n" for record in RECORDS).encode())
    )
    good(
        dlm("score", "in.jsonl.gz", "--scorer", "ar", "--model", models["ar"], "-o", "out.jsonl.gz")
    )
    records = [
        json.loads(line) for line in gzip.decompress(Path("out.jsonl.gz").read_bytes()).splitlines()
    ]
    assert [record["hyps"][0]["scores"]["am"] for record in records] == [-10.0, -20.0, -5.0, -7.0]
    good(dlm("convert", "out.jsonl.gz", "-o", "plain.jsonl"))
    assert read("plain.jsonl") == records


def test_score_reads_other_formats_too(dlm, models):
    Path("lists.json").write_text(json.dumps(HYPORADISE))
    records = good(
        dlm(
            "score", "lists.json", "--from", "hyporadise", "--scorer", "ar", "--model", models["ar"]
        )
    ).records
    assert [set(hyp["scores"]) for hyp in records[0]["hyps"]] == [{"rank", "ar"}] * 2


def test_an_existing_name_is_an_error_unless_overwritten(dlm, models):
    score = ["--scorer", "ar", "--model", models["ar"]]
    write("in.jsonl", [RECORDS[0], {**RECORDS[1], "hyps": [{"text": "x", "scores": {"ar": -1}}]}])
    assert refused(dlm("score", "in.jsonl", *score, "-o", "out.jsonl")) == (
        'in.jsonl:2: utterance u2: score "ar" is there already; use --overwrite to replace it or --name to add it under another name'
    )
    assert files() == ["in.jsonl"]
    good(dlm("score", "in.jsonl", *score, "-o", "out.jsonl", "--overwrite"))
    assert read("out.jsonl")[1]["hyps"][0]["scores"]["ar"] < -1
    good(dlm("score", "in.jsonl", *score, "-o", "named.jsonl", "--name", "mine"))
    assert set(read("named.jsonl")[1]["hyps"][0]["scores"]) == {"ar", "mine"}


@pytest.mark.parametrize("name", ["rank", "total", "word_bonus"])
def test_a_name_with_a_meaning_of_its_own_is_refused(dlm, models, name):
    write("in.jsonl", BARE)
    line = refused(
        dlm(
            "score",
            "in.jsonl",
            "--scorer",
            "ar",
            "--model",
            models["ar"],
            "--name",
            name,
            "--overwrite",
            "-o",
            "out.jsonl",
        )
    )
    assert line.startswith(f'a score cannot be called "{name}": that is ')
    assert line.endswith("choose another name (--name)")
    assert files() == ["in.jsonl"]


@pytest.mark.parametrize("name", ["refs.txt", "refs.trn", "refs.jsonl"])
def test_references_of_another_file_replace_those_of_the_lists(dlm, models, name):
    lines = {
        "refs.txt": [f"{name} new {ref}" for name, ref, _ in TEXTS],
        "refs.trn": [f"new {ref} ({name})" for name, ref, _ in TEXTS],
        "refs.jsonl": [{"id": name, "ref": f"new {ref}"} for name, ref, _ in TEXTS],
    }
    write(name, reversed(lines[name]))
    write("in.jsonl", RECORDS)
    records = good(
        dlm("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"], "--refs", name)
    ).records
    assert [record["ref"] for record in records] == [f"new {ref}" for _, ref, _ in TEXTS]
    write("bare.jsonl", BARE)
    assert (
        good(dlm("convert", "bare.jsonl", "--refs", name)).records[0]["ref"] == "new the old house"
    )


def test_references_of_lhotse_go_by_cut_supervision_or_recording(dlm):
    supervision = {
        "id": "u1",
        "recording_id": "rec",
        "start": 0.0,
        "duration": 2.0,
        "channel": 0,
        "text": "the old house",
    }
    recording = {
        "id": "rec",
        "sources": [],
        "sampling_rate": 16000,
        "num_samples": 32000,
        "duration": 2.0,
    }
    cut = {
        "id": "cut",
        "start": 0.0,
        "duration": 2.0,
        "channel": 0,
        "supervisions": [supervision],
        "recording": recording,
        "type": "MonoCut",
    }
    write("cuts.jsonl", [cut])
    write("supervisions.jsonl", [supervision])
    for name, file, *ids in (
        ("cut", "cuts"),
        ("u1", "cuts", "--refs-ids", "supervision"),
        ("rec", "supervisions", "--refs-ids", "recording"),
    ):
        write("in.jsonl", [{**BARE[0], "id": name}])
        [record] = good(dlm("convert", "in.jsonl", "--refs", f"{file}.jsonl", *ids)).records
        assert (record["id"], record["ref"]) == (name, "the old house")
    assert "there is no reference with this id" in refused(
        dlm("convert", "in.jsonl", "--refs", "cuts.jsonl", "--refs-ids", "supervision")
    )
    assert "give the supervision set" in refused(
        dlm("eval", "in.jsonl", "--refs", "cuts.jsonl", "--refs-ids", "recording")
    )
    for wrong in (["--refs-ids", "recording"], ["--refs", "cuts.jsonl", "--refs-ids", "cut"]):
        done = dlm("convert", "in.jsonl", *wrong)
        assert done.status == 2
        assert "--refs" in done.err
    for command in ("check", "score", "tune", "fuse", "eval", "convert"):
        assert "--refs-ids" in good(dlm(command, "--help")).out


def test_without_a_model_the_embedded_one_scores(dlm, models, monkeypatch):
    monkeypatch.setattr("rescore.models.embedded.EMBEDDED", models["mdlm"].parent)
    write("in.jsonl", RECORDS)
    embedded = good(dlm("score", "in.jsonl")).records
    assert embedded == good(dlm("score", "in.jsonl", "--model", models["mdlm"])).records
    listed = json.loads(good(dlm("models")).out)
    assert [(one["name"], one["objective"], one["normalizer"]) for one in listed] == [
        (name, name, "librispeech") for name in ("ar", "mdlm", "usdm")
    ]
    assert all(one["bytes"] > 10_000 and Path(one["path"]).is_dir() for one in listed)
    assert [one["prediction"] for one in listed] == ["causal", "masked", "leave_one_out"]
    good(dlm("models", "-o", "models.json"))
    assert json.loads(Path("models.json").read_text()) == listed


@pytest.mark.parametrize("scorer", ["mdlm", "usdm", "ar"])
def test_odd_hypotheses_have_finite_scores_and_unknown_script_is_counted(
    dlm, models, scorer, caplog
):
    long, script = " ".join(LINES * 3), "\u0432\u0441\u0435 \u6211"
    write(
        "in.jsonl",
        [
            {
                "id": "a",
                "hyps": [{"text": text} for text in (long, script, "", "   ", "x", "\u00a0")],
            },
            {"id": "b", "hyps": [{"text": ""}]},
        ],
    )
    records = good(
        dlm("score", "in.jsonl", "--scorer", scorer, "--model", models[scorer], "--window", 32)
    ).records
    values = [next(iter(hyp["scores"].values())) for record in records for hyp in record["hyps"]]
    assert len(values) == 7
    assert all(math.isfinite(value) and value < 0 for value in values)
    assert values[0] < 20 * values[4]
    [warning] = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(
        r"\d+ of \d+ tokens are unknown to the model's vocabulary and were scored as its unknown token",
        warning,
    )


# -------------------------------------------------------------------------------------------------------------------- tune, fuse, evaluate


@pytest.fixture
def scored(dlm, models):
    """dev.jsonl and test.jsonl: the same texts under other ids, with an `ar` and an `mdlm_nelbo` score."""
    for half, prefix in (("dev", "d"), ("test", "t")):
        write("bare.jsonl", [{**record, "id": prefix + record["id"]} for record in RECORDS])
        good(
            dlm("score", "bare.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", "ar.jsonl")
        )
        good(
            dlm("score", "ar.jsonl", "--draws", 4, "--model", models["mdlm"], "-o", f"{half}.jsonl")
        )
    for name in ("bare.jsonl", "ar.jsonl"):
        Path(name).unlink()


def test_tune_writes_weights_and_says_what_they_do(dlm, scored):
    done = good(
        dlm(
            "tune",
            "dev.jsonl",
            "--scores",
            "am, ngram,mdlm_nelbo",
            "-o",
            "fusion.json",
            "--cross-validate",
            2,
        )
    )
    assert done.out == ""
    assert re.match(
        r"dev error rate 33\.33 -> \d+\.\d\d, \d+\.\d\d cross-validated \(oracle 8\.33\); scales: am 1, ngram [\d.e+-]+, mdlm_nelbo ",
        done.err,
    )
    assert len(done.err.splitlines()) == 1
    fusion = json.loads(Path("fusion.json").read_text())
    assert list(fusion["scales"]) == ["am", "ngram", "mdlm_nelbo"]
    assert fusion["scales"]["am"] == 1
    assert set(fusion["signatures"]) == {"mdlm_nelbo"}
    assert (
        fusion["dev"]["utterances"],
        fusion["dev"]["reference_words"],
        fusion["dev"]["folds"],
    ) == (4, 12, 2)
    assert (
        fusion["dev"]["wer"] == fusion["dev"]["oracle_wer"] == 1 / 12
    )  # am + ngram reach the oracle of these lists
    assert fusion["dev"]["first_pass_wer"] == 4 / 12
    assert fusion["dev"]["cross_validated_wer"] >= 1 / 12
    assert (
        json.loads(
            good(
                dlm("tune", "dev.jsonl", "--scores", "am,ngram,mdlm_nelbo", "--cross-validate", 2)
            ).out
        )
        == fusion
    )


def test_tune_has_the_rank_without_being_given_one_and_a_bonus_only_if_wanted(dlm):
    write(
        "bare.jsonl",
        [{**record, "ref": ref} for record, (_, ref, _) in zip(BARE, TEXTS, strict=True)],
    )
    fusion = json.loads(good(dlm("tune", "bare.jsonl", "--scores", "rank", "--no-word-bonus")).out)
    assert (fusion["scales"], fusion["word_bonus"]) == ({"rank": 1.0}, 0.0)
    assert fusion["dev"]["wer"] == fusion["dev"]["first_pass_wer"]


def test_fuse_puts_the_winner_first_with_totals(dlm):
    write("in.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1, "ngram": 0.5}, "word_bonus": 0.25}])
    done = good(
        dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl", "--trn", "hyp.trn")
    )
    assert (done.out, done.err) == ("", "")
    assert [record["hyps"][0]["text"] for record in read("best.jsonl")] == [
        "the old house",
        "she wrote a letter",
        "no light",
        "we walk along",
    ]
    assert (
        Path("hyp.trn").read_text()
        == "the old house (u1)\nshe wrote a letter (u2)\nno light (u3)\nwe walk along (u4)\n"
    )
    for record, original in zip(read("best.jsonl"), RECORDS, strict=True):
        totals = [hyp["scores"].pop("total") for hyp in record["hyps"]]
        assert totals == [
            h["scores"]["am"] + 0.5 * h["scores"]["ngram"] + 0.25 * len(h["text"].split())
            for h in record["hyps"]
        ]
        assert totals == sorted(totals, reverse=True)
        assert sorted(record["hyps"], key=str) == sorted(original["hyps"], key=str)
        assert {key: record[key] for key in original if key != "hyps"} == {
            key: original[key] for key in original if key != "hyps"
        }


def test_mbr_may_choose_another_winner_than_map(dlm):
    hyps = [
        {"text": text, "scores": {"am": am}}
        for text, am in (("a b c", 0.0), ("x y z", -0.2), ("x y w", -0.2))
    ]
    write("in.jsonl", [{"id": "a", "hyps": hyps}])
    write("fusion.json", [{"scales": {"am": 1}}])
    for options, winner in (
        ([], "a b c"),
        (["--decision", "mbr"], "x y z"),
        (["--decision", "mbr", "--temperature", 0.01], "a b c"),
    ):
        [record] = good(dlm("fuse", "in.jsonl", "--fusion", "fusion.json", *options)).records
        assert record["hyps"][0]["text"] == winner
        assert len(record["hyps"]) == 3


def test_fuse_writes_posteriors_with_the_tuned_temperature(dlm):
    write("dev.jsonl", RECORDS)
    assert (
        "temperature"
        in good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json")).err
    )
    good(dlm("fuse", "dev.jsonl", "--fusion", "fusion.json", "--posterior", "-o", "best.jsonl"))
    tuned = json.loads(Path("fusion.json").read_text())["temperature"]
    for record in read("best.jsonl"):
        assert record["meta"]["scores"]["total"]["temperature"] == tuned
        assert sum(hyp["posterior"] for hyp in record["hyps"]) == pytest.approx(1.0)
        assert ["word_confidences" in hyp for hyp in record["hyps"]] == [True] + [False] * (
            len(record["hyps"]) - 1
        )
        assert len(record["hyps"][0]["word_confidences"]) == len(record["hyps"][0]["text"].split())
    good(dlm("fuse", "best.jsonl", "--fusion", "fusion.json", "-o", "plain.jsonl"))
    good(dlm("fuse", "dev.jsonl", "--fusion", "fusion.json", "-o", "never.jsonl"))
    assert sorted(map(str, read("plain.jsonl"))) == sorted(map(str, read("never.jsonl")))
    [even] = good(
        dlm(
            "fuse",
            write("one.jsonl", RECORDS[:1]),
            "--fusion",
            "fusion.json",
            "--posterior",
            "--temperature",
            1e9,
        )
    ).records
    assert [hyp["posterior"] for hyp in even["hyps"]] == pytest.approx([1 / 3] * 3)


def test_eval_reports_errors_oracle_interval_and_gain(dlm, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json"))
    good(dlm("fuse", "test.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    done = good(dlm("eval", "best.jsonl", "--baseline", "test.jsonl"))
    assert done.err == ""
    result = json.loads(done.out)
    assert (result["wer"], result["oracle_wer"], result["baseline_wer"], result["utterances"]) == (
        1 / 12,
        1 / 12,
        4 / 12,
        4,
    )
    assert result["errors"] == {
        "substitutions": 1,
        "insertions": 0,
        "deletions": 0,
        "reference_words": 12,
    }
    assert result["oracle_gap_closed"] == 1
    low, high = result["ci95"]
    assert 0 <= low <= 1 / 12 <= high <= 1
    assert 0.9 < result["probability_better"] <= 1
    assert result["tuned_on"] == 0
    good(dlm("eval", "best.jsonl", "--baseline", "test.jsonl", "-o", "result.json"))
    assert json.loads(Path("result.json").read_text()) == result


def test_eval_of_a_plain_file_counts_the_first_hypotheses(dlm):
    write("in.jsonl", RECORDS)
    result = json.loads(good(dlm("eval", "in.jsonl")).out)
    assert (result["wer"], result["oracle_wer"]) == (4 / 12, 1 / 12)
    assert result["errors"] == {
        "substitutions": 2,
        "insertions": 2,
        "deletions": 0,
        "reference_words": 12,
    }
    assert "probability_better" not in result
    by_speaker = json.loads(good(dlm("eval", "in.jsonl", "--cluster", "speaker")).out)
    assert (by_speaker["clusters"], result["clusters"]) == (2, 4)
    characters = json.loads(good(dlm("eval", "in.jsonl", "--cer")).out)
    assert characters["errors"]["reference_words"] == sum(len(ref) for _, ref, _ in TEXTS)
    write("loud.jsonl", [{**record, "ref": record["ref"].upper() + "."} for record in RECORDS])
    assert (
        json.loads(good(dlm("eval", "loud.jsonl", "--normalizer", "librispeech")).out)["wer"]
        == 4 / 12
    )
    assert json.loads(good(dlm("eval", "loud.jsonl")).out)["wer"] > 0.9


def test_eval_and_tune_count_in_the_unit_that_is_asked_for(dlm):
    write(
        "in.jsonl",
        [
            {
                "id": "a",
                "ref": "我 想 book",
                "hyps": [
                    {"text": "我想 brook", "scores": {"am": -1.0}},
                    {"text": "我想book", "scores": {"am": -2.0}},
                ],
            }
        ],
    )
    counted = {"word": (3, 3), "char": (2, 8), "char_nospace": (1, 6), "mixed": (1, 3)}
    for unit, (errors, length) in counted.items():
        result = json.loads(good(dlm("eval", "in.jsonl", "--unit", unit)).out)
        assert (result["unit"], result["wer"], result["errors"]["reference_words"]) == (
            unit,
            errors / length,
            length,
        )
        good(dlm("tune", "in.jsonl", "--scores", "am", "--unit", unit, "-o", f"{unit}.json"))
        dev = load_fusion(f"{unit}.json").dev
        assert (dev.unit, dev.first_pass_wer, dev.reference_words) == (
            unit,
            errors / length,
            length,
        )
    assert (
        good(dlm("eval", "in.jsonl", "--cer")).out
        == good(dlm("eval", "in.jsonl", "--unit", "char")).out
    )
    good(dlm("tune", "in.jsonl", "--scores", "am", "--cer", "-o", "cer.json"))
    assert Path("cer.json").read_text() == Path("char.json").read_text()
    assert good(dlm("eval", "in.jsonl", "--cer", "--unit", "char")).err == ""


def test_eval_on_the_utterances_tuned_on_says_so(dlm, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,ngram", "-o", "fusion.json"))
    write("mixed.jsonl", [*read("dev.jsonl")[:3], *read("test.jsonl")[3:]])
    for name, count in (("dev.jsonl", 4), ("mixed.jsonl", 3), ("test.jsonl", 0)):
        good(dlm("fuse", name, "--fusion", "fusion.json", "-o", f"best.{name}"))
        done = good(dlm("eval", f"best.{name}", "--baseline", name))
        assert json.loads(done.out)["tuned_on"] == count
        assert bool(done.err) == bool(count)
        assert not count or f"the weights were tuned on {count} of these 4 utterances" in done.err


def test_fuse_refuses_scores_of_another_model_or_setting(dlm, models, scored):
    good(dlm("tune", "dev.jsonl", "--scores", "am,mdlm_nelbo", "-o", "fusion.json"))
    good(
        dlm(
            "score",
            "test.jsonl",
            "--draws",
            5,
            "--model",
            models["mdlm"],
            "--overwrite",
            "-o",
            "other.jsonl",
        )
    )
    line = refused(dlm("fuse", "other.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    assert line.startswith(
        'other.jsonl:1: utterance tu1: score "mdlm_nelbo" was made by "mdlm.nelbo|'
    )
    assert "draws=5" in line
    assert "draws=4" in line
    assert not Path("best.jsonl").exists()
    good(dlm("fuse", "test.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))


# --------------------------------------------------------------------------------------------------- the same in Python, and a model of one's own


def test_five_lines_of_python_give_what_the_commands_give(dlm, models):
    write("dev.jsonl", RECORDS)
    write("test.jsonl", [{**record, "id": "t" + record["id"]} for record in RECORDS[::-1]])
    model = str(models["mdlm"])
    for half in ("dev", "test"):
        good(
            dlm(
                "score",
                f"{half}.jsonl",
                "--model",
                model,
                "--draws",
                4,
                "-o",
                f"{half}.scored.jsonl",
            )
        )
    good(dlm("tune", "dev.scored.jsonl", "--scores", "am,ngram,mdlm_nelbo", "-o", "fusion.json"))
    good(dlm("fuse", "test.scored.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    result = json.loads(good(dlm("eval", "best.jsonl", "--baseline", "test.scored.jsonl")).out)

    dev, test = (
        list(rescore.score(rescore.read(f"{half}.jsonl"), "mdlm", model=model, draws=4))
        for half in ("dev", "test")
    )
    fusion = rescore.tune(dev, ["am", "ngram", "mdlm_nelbo"])
    best = list(rescore.fuse(test, fusion))
    evaluation = rescore.evaluate(best, baseline=test)

    for lists, name in (
        (dev, "dev.scored.jsonl"),
        (test, "test.scored.jsonl"),
        (best, "best.jsonl"),
    ):
        assert [jsonl.encode(one) for one in lists] == Path(name).read_bytes().splitlines()
    assert fusion == load_fusion("fusion.json")
    assert evaluation.to_json() == result


def test_arrays_give_the_weights_that_lists_give():
    lists = list(rescore.read(write("dev.jsonl", RECORDS)))
    names = ["am", "ngram"]
    features = [
        np.array([[hyp.scores[name] for name in names] for hyp in one.hyps]) for one in lists
    ]
    errors, words = (
        [list_errors(one) for one in lists],
        [[len(hyp.words) for hyp in one.hyps] for one in lists],
    )
    optimum, fusion = (
        rescore.tune_arrays(features, errors, words=words, names=names),
        rescore.tune(lists, names),
    )
    assert (optimum.scales, optimum.word_bonus) == (fusion.scales, fusion.word_bonus)
    assert (optimum.errors, optimum.errors_before) == (
        1,
        5,
    )  # the am score alone makes one error more than the order of the lists


def test_lists_made_in_python_need_no_file(models):
    lists = [
        NBest("a", (Hypothesis("the old horse"), Hypothesis("the old house")), "the old house")
    ]
    [scored] = rescore.score(lists, "ar", model=str(models["ar"]))
    assert [set(hyp.scores) for hyp in scored.hyps] == [{"ar"}] * 2
    assert lists[0].hyps[0].scores == {}
    assert rescore.evaluate([scored]).wer == 1 / 3


@pytest.mark.parametrize(
    "form", [["--objective", "usdm"], ["--objective=usdm"], ["--text", "x", "--objective", "usdm"]]
)
def test_the_former_objective_option_names_the_command(form, dlm):
    done = dlm("train", *form, "-o", "run")
    assert (done.status, done.out) == (2, "")
    message = "Error: there is no --objective; write `dlmrescore train usdm ...`"
    assert done.err.splitlines()[-1] == message


def test_a_model_trained_by_the_command_scores(dlm):
    Path("text.txt").write_text("\n".join(LINES))
    sizes = [
        "--width",
        16,
        "--layers",
        1,
        "--heads",
        2,
        "--feed-forward",
        24,
        "--vocab-size",
        64,
        "--batch-tokens",
        128,
        "--steps",
        2,
        "--warmup",
        1,
    ]
    train = [
        "train",
        "usdm",
        "--text",
        "text.txt",
        "--valid",
        "text.txt",
        "--corpus",
        "corpus",
        "-o",
        "run",
        *sizes,
        "--float32",
    ]
    good(dlm(*train, "--card", '{"text": "ours"}'))
    assert json.loads(Path("run/config.json").read_text())["card"]["text"] == "ours"
    write("in.jsonl", BARE)
    good(dlm("score", "in.jsonl", "--scorer", "usdm", "--model", "run", "-o", "out.jsonl"))
    assert refused(dlm(*train, "--seed", 1)).endswith(
        "the run was started with other options (seed); use the same options or another directory"
    )
    tune = [
        "train",
        "mdlm",
        "--text",
        "text.txt",
        "--valid",
        "text.txt",
        "--batch-tokens",
        128,
        "--steps",
        1,
        "--float32",
    ]
    tuned = dlm(*tune, "--start-from", "run", "-o", "tuned")  # sizes and vocabulary come with it
    assert re.search(
        r"[0-9.]+ nats a token, perplexity [0-9.]+ a word on the validation text", tuned.err
    )
    assert (
        Path("tuned/corpus/tokenizer.model").read_bytes()
        == Path("run/tokenizer.model").read_bytes()
    )
    assert json.loads(Path("tuned/config.json").read_text())["network"]["width"] == 16
    if find_spec("matplotlib"):
        assert Path("tuned/log.png").read_bytes().startswith(b"\x89PNG")
    gone = refused(dlm(*tune, "--start-from", "gone", "-o", "other"))
    assert gone.endswith(
        "--start-from gone: no such checkpoint; give a directory that `dlmrescore train` made, or one of mdlm, usdm, ar"
    )
    for card in ("[1]", "{"):
        done = dlm(*train, "--card", card)
        assert (done.status, "--card" in done.err) == (2, True)


# ----------------------------------------------------------------------------------------------------------------------------- bad records

GOOD = '{"id": "good", "ref": "x", "hyps": [{"text": "x", "scores": {"am": -1}}]}'
BAD = {
    '{"id": "b", "hyps": [{"text": "x"}]': "broken JSON",
    "not json": "broken JSON",
    '{"id": "b", "hyps": [{"text": "x"}]} {}': "more than one JSON value",
    "[1, 2]": "a list, expected an object",
    "null": "null, expected an object",
    '{"hyps": [{"text": "x"}]}': '"id" is missing',
    '{"id": 7, "hyps": [{"text": "x"}]}': '"id" is a number (7)',
    '{"id": " ", "hyps": [{"text": "x"}]}': '"id" is empty',
    '{"id": "good", "hyps": [{"text": "x"}]}': "already at in.jsonl:1",
    '{"id": "b"}': '"hyps" is missing',
    '{"id": "b", "hyps": []}': '"hyps" is an empty list',
    '{"id": "b", "hyps": {"text": "x"}}': '"hyps" is an object',
    '{"id": "b", "hyps": ["x"]}': "hypothesis 1 is a string",
    '{"id": "b", "hyps": [{"text": "x"}, {"scores": {"am": 1}}]}': 'hypothesis 2: "text" is missing',
    '{"id": "b", "hyps": [{"text": null}]}': 'hypothesis 1: "text" is null',
    '{"id": "b", "hyps": [{"text": 5}]}': 'hypothesis 1: "text" is a number (5)',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": "-1"}}]}': 'score "am" is a string',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": true}}]}': 'score "am" is a boolean',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": null}}]}': 'score "am" is null',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": NaN}}]}': 'score "am" is NaN',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": -Infinity}}]}': 'score "am" is infinite',
    '{"id": "b", "hyps": [{"text": "x", "scores": {"am": 1e999}}]}': 'score "am" is infinite',
    '{"id": "b", "hyps": [{"text": "x", "scores": [1]}]}': '"scores" is a list',
    '{"id": "b", "ref": 1, "hyps": [{"text": "x"}]}': '"ref" is a number',
}


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
    expected = 'in.jsonl:2: utterance u2, hypothesis 2: score "ngram" is missing; run `dlmrescore score` on this file again'
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
        assert (
            line
            == "in.jsonl:2: utterance u2: there is no reference with this id; give the references of this very set"
        )
    assert files() == ["in.jsonl", "refs.txt"]
    done = good(dlm("eval", "in.jsonl", "--refs", "refs.txt", "--on-error", "skip"))
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
        line = "in.jsonl:1: utterance a: the reference holds no words: an error rate is not defined; give --refs with words"
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


# ------------------------------------------------------------------------------------------------------------------- bad models, weights, paths


def test_a_checkpoint_of_another_kind_or_with_a_missing_tensor_is_named(dlm, models, tmp_path):
    write("in.jsonl", RECORDS)
    before = files()
    for scorer, other in (("mdlm", "usdm"), ("usdm", "ar"), ("ar", "mdlm")):
        line = refused(
            dlm(
                "score", "in.jsonl", "--scorer", scorer, "--model", models[other], "-o", "out.jsonl"
            )
        )
        assert line.startswith(
            f"{models[other]}: checkpoint holds objective '{other}', expected '{scorer}'"
        )
    assert refused(dlm("score", "in.jsonl", "--model", "nowhere", "-o", "out.jsonl")).startswith(
        "nowhere: no such checkpoint directory"
    )
    assert refused(dlm("score", "in.jsonl", "--scorer", "mlm", "-o", "out.jsonl")).startswith(
        "--scorer mlm needs --model"
    )
    assert refused(
        dlm("score", "in.jsonl", "--model", models["mdlm"], "--estimator", "magic")
    ).startswith("estimator 'magic' of --scorer mdlm is unknown")
    assert files() == before

    broken = save_small(tmp_path / "broken", "mdlm")
    weights = safetensors.torch.load_file(broken / "model.safetensors")
    del weights["blocks.1.down.weight"]
    safetensors.torch.save_file(weights, broken / "model.safetensors")
    line = refused(dlm("score", "in.jsonl", "--model", "broken", "-o", "out.jsonl"))
    assert (
        line
        == "broken/model.safetensors: tensor 'blocks.1.down.weight' is missing; restore the file"
    )
    assert "out.jsonl" not in files()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "fusion.json: broken JSON"),
        ("[]", "fusion.json: not weights"),
        ('{"scales": {}}', "fusion.json: not weights"),
        ('{"scales": {"am": 1}, "wordbonus": 1}', 'fusion.json: the field "wordbonus" is unknown'),
        (None, "fusion.json: cannot be read"),
    ],
)
def test_broken_weights_are_named(dlm, content, message):
    write("in.jsonl", RECORDS)
    if content is not None:
        Path("fusion.json").write_text(content)
    before = files()
    assert refused(
        dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl")
    ).startswith(message)
    assert files() == before


def test_an_output_that_is_also_an_input_is_refused(dlm, models):
    write("in.jsonl", RECORDS)
    write("base.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1}}])
    write("refs.txt", [f"{name} {ref}" for name, ref, _ in TEXTS])
    Path("link.jsonl").symlink_to("in.jsonl")
    fuse = ["fuse", "in.jsonl", "--fusion", "fusion.json", "--refs", "refs.txt"]
    before = {name: Path(name).read_bytes() for name in files()}
    for output, *command in [
        ("in.jsonl", "score", "in.jsonl", "--scorer", "ar", "--model", models["ar"]),
        ("./in.jsonl", "convert", "in.jsonl"),
        ("link.jsonl", "convert", "in.jsonl"),
        ("in.jsonl", "tune", "in.jsonl", "--scores", "am"),
        ("in.jsonl", "eval", "in.jsonl"),
        ("base.jsonl", "eval", "in.jsonl", "--baseline", "base.jsonl"),
        ("refs.txt", "convert", "in.jsonl", "--refs", "refs.txt"),
        ("in.jsonl", *fuse),
        ("fusion.json", *fuse),
        ("refs.txt", *fuse),
    ]:
        assert refused(dlm(*command, "-o", output)).startswith(f"{output}: is also the input ("), (
            command
        )
    for trn in ("in.jsonl", "fusion.json", "refs.txt", "best.jsonl", "link.jsonl"):
        assert refused(dlm(*fuse, "-o", "best.jsonl", "--trn", trn)).startswith(
            f"{trn}: is also the input ("
        ), trn
    assert dlm(*fuse, "--trn", "-").status == 2
    assert {name: Path(name).read_bytes() for name in files()} == before


def test_an_output_in_a_missing_directory_is_refused(dlm, models):
    write("in.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1}}])
    for command in (
        ["score", "in.jsonl", "--scorer", "ar", "--model", models["ar"]],
        ["convert", "in.jsonl"],
        ["tune", "in.jsonl", "--scores", "am"],
        ["eval", "in.jsonl"],
        ["fuse", "in.jsonl", "--fusion", "fusion.json"],
        ["models"],
    ):
        assert refused(dlm(*command, "-o", "gone/out.json")).startswith(
            "gone/out.json: cannot be written: no such file or directory"
        )
    assert refused(dlm("convert", "gone.jsonl", "-o", "out.jsonl")).startswith(
        "gone.jsonl: cannot be read: no such file or directory"
    )
    assert files() == ["fusion.json", "in.jsonl"]


@pytest.mark.parametrize(("utterance", "trn"), [("with space", "hyp.trn"), ("u1", "gone/hyp.trn")])
def test_a_trn_that_cannot_be_written_leaves_no_lists_either(dlm, utterance, trn):
    write("in.jsonl", [{**RECORDS[0], "id": utterance}])
    write("fusion.json", [{"scales": {"am": 1}}])
    assert "trn" in refused(
        dlm("fuse", "in.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl", "--trn", trn)
    )
    assert files() == ["fusion.json", "in.jsonl"]


# ------------------------------------------------------------------------------------------------------------------- usage, interruption, help


@pytest.mark.parametrize(
    "argv",
    [
        ["score", "in.jsonl", "--scorer", "magic"],
        ["score"],
        ["score", "in.jsonl", "--draws", "0"],
        ["score", "in.jsonl", "--t", "1"],
        ["score", "in.jsonl", "--dtype", "float8"],
        ["score", "in.jsonl", "--normalizer", "magic"],
        ["completion", "magic"],
        ["convert", "in.jsonl", "--from", "magic"],
        ["tune", "in.jsonl"],
        ["tune", "in.jsonl", "--scores", "am,am"],
        ["tune", "in.jsonl", "--scores", " ,"],
        ["tune", "in.jsonl", "--scores", "am", "--cross-validate", "1"],
        ["fuse", "in.jsonl"],
        ["fuse", "in.jsonl", "--fusion", "fusion.json", "--decision", "magic"],
        ["eval", "in.jsonl", "--normalizer", "magic"],
        ["eval", "in.jsonl", "--unit", "magic"],
        ["eval", "in.jsonl", "--cer", "--unit", "mixed"],
        ["tune", "in.jsonl", "--scores", "am", "--cer", "--unit", "word"],
        ["magic"],
    ],
    ids=" ".join,
)
def test_a_usage_error_has_status_2(dlm, argv):
    write("in.jsonl", RECORDS)
    write("fusion.json", [{"scales": {"am": 1}}])
    done = dlm(*argv)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("Usage: dlmrescore")
    assert files() == ["fusion.json", "in.jsonl"]


def test_ctrl_c_has_status_130_and_leaves_no_output(dlm, models, monkeypatch):
    whole, seen = CausalScorer.evaluate, []

    def interrupted(self, prepared):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return whole(self, prepared)

    monkeypatch.setattr(CausalScorer, "evaluate", interrupted)
    write("in.jsonl", RECORDS)
    Path("old.jsonl").write_text("as it was\n")
    for output in ("out.jsonl", "old.jsonl"):
        seen.clear()
        done = dlm("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", output)
        assert (done.status, done.out) == (130, "")
        assert (
            done.err.strip()
            == f"interrupted after 1 utterances; the scores so far are in {output}.journal; run the same command again to resume"
        )
    assert files() == ["in.jsonl", "old.jsonl", "old.jsonl.journal", "out.jsonl.journal"]
    assert Path("old.jsonl").read_text() == "as it was\n"
    monkeypatch.setattr(CausalScorer, "evaluate", whole)
    good(dlm("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", "out.jsonl"))
    good(dlm("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", "whole.jsonl"))
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert files() == ["in.jsonl", "old.jsonl", "old.jsonl.journal", "out.jsonl", "whole.jsonl"]


def test_a_real_ctrl_c_has_status_130_and_leaves_no_output():
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from rescore.cli import main; main()"
    command = [sys.executable, "-c", code, "convert", "-", "--from", "jsonl", "-o", "out.jsonl"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        running.stdin.write(GOOD.encode() + b"\n")
        running.stdin.flush()
        deadline = time.monotonic() + 60
        while not any(name.endswith(".part") for name in os.listdir()):  # it has begun to write
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        running.wait(timeout=60)
        assert (running.returncode, files()) == (130, [])
        assert b"interrupted" in running.stderr.read()


def test_a_process_has_json_on_standard_output_and_the_rest_on_standard_error(models):
    write(
        "in.jsonl",
        [{"id": "a", "hyps": [{"text": "the old house \u0432\u0441\u0435"}, {"text": ""}]}],
    )
    done = good(process("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"]))
    assert [set(hyp["scores"]) for hyp in done.records[0]["hyps"]] == [{"ar"}] * 2
    warning, summary = done.err.splitlines()
    assert re.fullmatch(
        r"dlmrescore: \d+ of \d+ tokens are unknown to the model's vocabulary and were scored as its unknown token",
        warning,
    )
    assert summary.startswith("1 utterances, 2 hypotheses, 1.0 evaluations a hypothesis")


def test_a_process_reads_standard_input_and_fails_with_status_1():
    done = process("convert", "-", "--from", "jsonl", stdin=(GOOD + "\n").encode())
    assert good(done).records == [json.loads(GOOD)]
    done = process("eval", "-", "--from", "jsonl", stdin=(GOOD + "\n{\n").encode())
    assert refused(done).startswith("stdin:2: broken JSON")


def test_the_command_is_installed():
    [script] = [
        point for point in entry_points(group="console_scripts") if point.name == "dlmrescore"
    ]
    assert script.load() is main


def test_the_version_is_the_packages(dlm):
    found = good(dlm("--version")).out
    assert (
        found
        == f"dlmrescore {version('dlmrescore')} (Python {platform.python_version()}, torch {version('torch')})\n"
    )


def test_the_version_says_what_is_not_installed(dlm, monkeypatch):
    def nothing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("rescore.cli.version", nothing)
    assert (
        good(dlm("--version")).out
        == f"dlmrescore not installed (Python {platform.python_version()}, torch not installed)\n"
    )


#: Commands, and the commands of groups as "group command".
ALL_COMMANDS = [*COMMANDS, *(f"train {name}" for name in ("mdlm", "usdm", "ar", "ngram"))]


def click_command(command):
    """The click command that words name, and the words that are left: its arguments."""
    current, words = cli, list(command)
    while isinstance(current, click.Group) and words:
        current = current.get_command(None, words.pop(0))
    return current, words


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_the_help_of_every_command_shows_an_example_and_explains_its_options(dlm, command):
    done = good(dlm(*command.split(), "--help"))
    assert f"Example: dlmrescore {command}" in done.out
    assert done.err == ""
    *group, name = command.split()
    assert name in good(dlm(*group, "--help")).out
    options = [
        option
        for option in click_command(command.split())[0].params
        if isinstance(option, click.Option)
    ]
    for option in options:
        assert option.help, option.name
        assert option.show_default or option.to_info_dict()["default"] in (None, False), (
            f"{option.name} hides its default"
        )
        assert (
            done.out.count(f"{option.opts[-1]} ") + done.out.count(f"{option.opts[-1]}\n") >= 1
        ), option.name


@pytest.mark.parametrize("command", ALL_COMMANDS)
def test_the_example_of_every_command_is_a_command_line_that_it_takes(dlm, command):
    shown = good(dlm(*command.split(), "--help")).out
    examples = re.findall(r"^ +[A-Z][\w-]*: (dlmrescore .*)$", shown, re.MULTILINE)
    assert examples
    for example in examples:
        assert f"{example} ".startswith(f"dlmrescore {command} ")
        current, arguments = click_command(shlex.split(example)[1:])
        for argument in arguments:
            if re.fullmatch(r"[\w.]+\.\w+", argument):  # a file
                Path(argument).touch()
        # raises for an option or a value that is not known
        context = current.make_context(current.name, arguments)
        assert not context.args


def test_long_helps_have_their_options_under_headings(dlm):
    found = good(dlm("score", "--help")).out
    headings = re.findall(r"^(\S.*):$", found, re.MULTILINE)
    assert headings == [
        "Input and output",
        "Model",
        "Estimate",
        "New score",
        "Network",
        "Large runs",
        "Help",
    ]
    places = [
        found.index(text)
        for text in (
            "\nModel:",
            "\n  --scorer",
            "\nEstimate:",
            "\n  --draws",
            "\nNew score:",
            "\n  --name",
        )
    ]
    assert places == sorted(places)


def test_the_help_of_the_group_lists_the_exit_statuses(dlm):
    assert re.search(
        r"Exit status: 0 success, 1 .*\n.*2 .*, 130 interrupted", good(dlm("--help")).out
    )


# -------------------------------------------------------------------------------------------------------------------------------- completion


def completed(*words, shell=BashComplete):
    """What the Tab key offers behind these words, as click's own class for the shell finds it."""
    *arguments, incomplete = words
    found = shell(cli, {}, "dlmrescore", "_DLMRESCORE_COMPLETE").get_completions(
        list(arguments), incomplete
    )
    return [(item.type, item.value) for item in found]


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_tab_completes_commands_options_and_the_names_in_the_registry(shell):
    assert completed("s", shell=shell) == [("plain", "score"), ("plain", "sweep")]
    assert [value for _, value in completed("", shell=shell)] == COMMANDS
    assert completed("--v", shell=shell) == [("plain", "--version")]
    assert completed("score", "--dra", shell=shell) == [("plain", "--draws")]
    assert [
        value for _, value in completed("score", "x.jsonl", "--scorer", "", shell=shell)
    ] == sorted(SCORERS)
    assert completed("fuse", "--decision", "mb", shell=shell) == [("plain", "mbr")]
    assert completed("convert", "--from", "hyp", shell=shell) == [("plain", "hyporadise")]
    assert completed("eval", "--normalizer", "libri", shell=shell) == [("plain", "librispeech")]
    assert completed("score", "--dtype", "b", shell=shell) == [("plain", "bfloat16")]
    assert completed("completion", "", shell=shell) == [
        ("plain", "bash"),
        ("plain", "zsh"),
        ("plain", "fish"),
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("convert", ""),
        ("score", "dev"),
        ("score", "--model", ""),
        ("tune", ""),
        ("fuse", "--fusion", ""),
        ("eval", "x", "-o", ""),
    ],
)
def test_tab_completes_file_names_where_a_file_is_expected(words):
    assert completed(*words) == [("file", words[-1])]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_command_prints_the_shells_script(dlm, shell):
    done = good(dlm("completion", shell))
    assert f"_DLMRESCORE_COMPLETE={shell}_complete" in done.out
    assert "_dlmrescore_completion" in done.out
    assert done.err == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_printed_script(folder):
    """The script as a user sources it, the command as a user has it on the path."""
    Path("dlmrescore").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "from rescore.cli import main; main()" "$@"\n'
    )
    Path("dlmrescore").chmod(0o755)
    typed = "COMP_WORDS=(dlmrescore score --scorer us); COMP_CWORD=3; _dlmrescore_completion dlmrescore; echo ${COMPREPLY[@]}"
    script = f'PATH={folder}:$PATH; eval "$(dlmrescore completion bash)"; {typed}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "usdm\n", "")


def test_no_command_is_forgotten_here():
    assert cli.list_commands(None) == COMMANDS
