"""Python gives the commands' numbers; a model trained by the command scores."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command_line import (
    BARE,
    RECORDS,
    good,
    refused,
    write,
)
from small import LINES

import rescore
from rescore.formats import jsonl
from rescore.fusion import load as load_fusion
from rescore.types import Hypothesis, NBest
from rescore.wer import list_errors

pytestmark = pytest.mark.usefixtures("folder")


def without_commands(line):
    """A record without what says which command made a score: Python is no command."""
    record = json.loads(line)
    for entry in record["meta"]["scores"].values():
        entry.pop("command", None)
    return record


def test_five_lines_of_python_give_what_the_commands_give(dlm, models):
    write("dev.jsonl", RECORDS)
    write("test.jsonl", [{**record, "id": "t" + record["id"]} for record in RECORDS[::-1]])
    model = str(models["mdlm"])
    nelbo = {"estimator": "nelbo", "draws": 4}
    for half in ("dev", "test"):
        good(
            dlm(
                "score",
                f"{half}.jsonl",
                "--model",
                model,
                "--estimator",
                "nelbo",
                "--draws",
                4,
                "-o",
                f"{half}.scored.jsonl",
            )
        )
    good(dlm("tune", "dev.scored.jsonl", "--scores", "am,ngram,mdlm_nelbo", "-o", "fusion.json"))
    good(dlm("fuse", "test.scored.jsonl", "--fusion", "fusion.json", "-o", "best.jsonl"))
    result = json.loads(
        good(dlm("eval", "--json", "best.jsonl", "--baseline", "test.scored.jsonl")).out
    )

    dev, test = (
        list(rescore.score(rescore.read(f"{half}.jsonl"), "mdlm", model=model, **nelbo))
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
        written = Path(name).read_bytes().splitlines()
        assert list(map(without_commands, map(jsonl.encode, lists))) == list(
            map(without_commands, written)
        )
    assert fusion == load_fusion("fusion.json")
    made = result.pop("scores")
    assert made["am"] == ["came with the lists"]
    assert made["mdlm_nelbo"][0].startswith("dlmrescore score --scorer mdlm")
    assert made["total"] == ["dlmrescore fuse --fusion fusion.json"]
    assert evaluation.to_json() == result


def test_arrays_give_the_weights_that_lists_give():
    lists = list(rescore.read(write("dev.jsonl", RECORDS)))
    names = ["am", "ngram"]
    features = [
        np.array([[hyp.scores[name] for name in names] for hyp in nbest.hyps]) for nbest in lists
    ]
    errors, words = (
        [list_errors(nbest) for nbest in lists],
        [[len(hyp.words) for hyp in nbest.hyps] for nbest in lists],
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
    assert tuned.err.splitlines()[-1] == (
        "use it: dlmrescore score LISTS --scorer mdlm --model tuned -o scored.jsonl"
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
        "--start-from gone: no such checkpoint; give a directory that "
        "`dlmrescore train` made, or one of ar, mdlm, usdm"
    )
    for card in ("[1]", "{"):
        done = dlm(*train, "--card", card)
        assert (done.status, "--card" in done.err) == (2, True)
