"""`dlmrescore check`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from checked_lists import ROOT, changed, clean

import rescore
from rescore.checking import check
from rescore.cli import main


class Done(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run `dlmrescore check` in a folder with lists.jsonl."""
    monkeypatch.chdir(tmp_path)

    def call(*argv, lists=None):
        with Path("lists.jsonl").open("w", encoding="utf-8") as file:
            for nbest in lists or clean():
                file.write(
                    json.dumps(
                        {
                            "id": nbest.id,
                            "ref": nbest.ref,
                            "hyps": [
                                {"text": h.text, "scores": dict(h.scores)} for h in nbest.hyps
                            ],
                        }
                    )
                    + "\n"
                )
        monkeypatch.setattr(sys, "argv", ["dlmrescore", "check", "lists.jsonl", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return Done(stopped.value.code, *capsys.readouterr())

    return call


def test_the_command_prints_what_the_page_explains(run):
    done = run()
    assert (done.status, done.err) == (0, "")
    labels = [line.split("  ")[0] for line in done.out.splitlines() if not line.startswith(" ")]
    assert labels == ["model", "lists", "texts", "tokens", "evaluations", "errors", "score", "am"]
    assert "lists         40 utterances, 120 hypotheses; in a list 3 to 3, median 3" in done.out
    page = (ROOT / "docs" / "checking.md").read_text(encoding="utf-8")
    assert [f"    {label}" in page for label in labels] == [True] * len(labels)


def test_warnings_fail_only_if_asked_to_and_notes_never(run):
    warned = changed(am=[-40.0, 0.0, -50.0])
    for lists, argv, status in (
        (warned, [], 0),
        (warned, ["--strict"], 1),
        (changed(texts=["", "old", "the"]), ["--strict"], 0),
    ):
        done = run(*argv, lists=lists)
        assert (done.status, done.err) == (status, "")
        assert re.search(
            (
                r"^(warning: score_zero|note: texts_empty): .*\(first: "
                r"lists\.jsonl:2: utterance u2, hypothesis \d\)$"
            ),
            done.out,
            re.MULTILINE,
        )


def test_the_json_holds_the_figures_and_the_findings(run):
    lists = changed(am=[-40.0, 0.0, -50.0])
    done = run("--json", "report.json", "--unit", "char", lists=lists)
    written = json.loads(Path("report.json").read_text())
    assert (
        json.loads(run("--json", "-", "--cer", lists=lists).out) == written
    )  # standard output holds JSON alone
    assert (written["utterances"], written["hypotheses"], written["unit"]) == (40, 120, "char")
    assert [finding["code"] for finding in written["findings"]] == ["score_zero"]
    assert written["scores"]["am"]["zero"] == {
        "count": 1,
        "first": "lists.jsonl:2: utterance u2, hypothesis 2",
    }
    assert written["tokens"] == check(rescore.read("lists.jsonl")).tokens
    assert f"{written['tokens']:,}" in done.out


def test_options_of_score_change_what_the_model_sees(run):
    assert (
        "normaliser none, window 16"
        in run("--normalizer", "none", "--window", 16, "--scorer", "usdm").out
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--model", "nowhere"], "nowhere: no such checkpoint directory"),
        (["--scorer", "mlm"], "--scorer mlm needs --model"),
        (["--refs", "gone.txt"], "gone.txt: cannot be read"),
        (["--json", "lists.jsonl"], "lists.jsonl: is also the input"),
        (["--from", "hyporadise"], "lists.jsonl: "),
    ],
)
def test_bad_input_is_one_line(run, argv, message):
    done = run(*argv)
    assert (done.status, done.out) == (1, "")
    [line] = done.err.splitlines()
    assert line.startswith(message)


def test_an_unknown_normaliser_is_a_usage_error(run):
    done = run("--normalizer", "magic")
    assert (done.status, "'magic' is not one of" in done.err) == (2, True)
