"""`dlmrescore score`."""

from __future__ import annotations

import copy
import gzip
import json
import math
import re
from pathlib import Path

import pytest
from command_line import (
    BARE,
    HYPORADISE,
    RECORDS,
    TEXTS,
    files,
    good,
    read,
    refused,
    write,
)
from small import LINES

pytestmark = pytest.mark.usefixtures("folder")

NELBO = ("--estimator", "nelbo", "--draws", 2)


@pytest.mark.parametrize(
    ("scorer", "options", "name", "kind", "evaluations"),
    [
        ("mdlm", [], "mdlm_pll", "pll", None),
        ("mdlm", ["--folds", "2"], "mdlm_pll", "pll", 2),
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
        provenance = record["meta"]["scores"].pop(name)
        assert (provenance["kind"], record["meta"]["scores"]) == (kind, {})
        assert provenance["signature"].startswith(f"{scorer}.")
        assert evaluations is None or provenance["evaluations"] == evaluations * len(record["hyps"])
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
            *NELBO,
            "--per-token",
            "-o",
            "both.jsonl",
        )
    )
    good(dlm("score", "ar.jsonl", "--model", models["mdlm"], *NELBO, "-o", "plain.jsonl"))
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
    score = ["--model", models["mdlm"], *NELBO]
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
        'in.jsonl:2: utterance u2: score "ar" is there already; use --overwrite '
        "to replace it or --name to add it under another name"
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
    by_path = good(dlm("score", "in.jsonl", "--model", models["mdlm"])).records
    commands = {record["meta"]["scores"]["mdlm_pll"].pop("command") for record in embedded}
    assert commands == {"dlmrescore score --scorer mdlm"}
    for record in by_path:
        command = record["meta"]["scores"]["mdlm_pll"].pop("command")
        assert command == f"dlmrescore score --scorer mdlm@{models['mdlm']}"
    assert embedded == by_path
    listed = json.loads(good(dlm("models", "--json")).out)
    assert [(row["name"], row["objective"], row["normalizer"]) for row in listed] == [
        (name, name, "librispeech") for name in ("ar", "mdlm", "usdm")
    ]
    assert all(row["bytes"] > 10_000 and Path(row["path"]).is_dir() for row in listed)
    assert [row["prediction"] for row in listed] == ["causal", "masked", "leave_one_out"]
    good(dlm("models", "-o", "models.json"))
    assert json.loads(Path("models.json").read_text()) == listed
    named = good(dlm("score", "in.jsonl", "--scorer", "mdlm", "--model", "mdlm")).records
    assert [record["hyps"] for record in named] == [record["hyps"] for record in embedded]
    line = refused(dlm("score", "in.jsonl", "--scorer", "mdlm", "--model", "usdm"))
    assert "holds objective 'usdm', expected 'mdlm'; pass --scorer usdm" in line


def test_models_are_a_table_that_fits_a_terminal(dlm):
    lines = good(dlm("models")).out.splitlines()
    assert lines[0].split() == ["name", "what", "it", "is", "size", "perplexity", "use", "it"]
    assert [line.split()[0] for line in lines[1:4]] == ["ar", "mdlm", "usdm"]
    assert lines[1].endswith("--scorer ar")
    assert max(map(len, lines)) <= 88


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
        (
            r"\d+ of \d+ tokens are unknown to the model's vocabulary and were scored "
            r"as its unknown token"
        ),
        warning,
    )
