"""`dlmrescore run`."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest

from rescore.cli import main


@pytest.fixture
def dlm(capsys, monkeypatch):
    def call(*argv):
        monkeypatch.setattr(
            sys,
            "argv",
            [
                "dlmrescore",
                "run",
                "--dev",
                "dev.jsonl",
                "--test",
                "test.jsonl",
                "-o",
                "out",
                *map(str, argv),
            ],
        )
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


def test_the_command_prints_the_table_and_says_what_it_does(dlm, specs):
    status, out, err = dlm("--scorers", specs[0], "--base", "am", "--depth", 2)
    assert (status, out) == (0, Path("out/table.md").read_text())
    assert err.splitlines()[0] == "the recogniser's scores: am"
    warnings = [line for line in err.splitlines() if ": warning: " in line]  # what `check` warns of
    assert [line[:31] for line in warnings] == [
        "dev: warning: tokens_unknown: 3",
        "test: warning: tokens_unknown: ",
    ]
    assert [
        re.sub(r"\d+ s$", "", line) for line in err.splitlines()[1:] if line not in warnings
    ] == [
        "1/3 ar on dev: 7 utterances, 14 hypotheses, ",
        "2/3 ar on test: 7 utterances, 14 hypotheses, ",
        "3/3 tuning on dev, evaluating test",
        "scored lists, weights, tables, plots and report.html are in out",
    ]


def test_with_token_scores_the_report_has_heat_strips(dlm, specs):
    assert dlm("--scorers", specs[0], "--per-token")[0] == 0
    [first, *_] = map(json.loads, Path("out/best.ar.jsonl").read_text().splitlines())
    hyp = first["hyps"][0]
    values = [value for _, value in hyp["token_scores"]["ar"]]
    assert sum(values) == pytest.approx(hyp["scores"]["ar"], abs=1e-3)
    assert '"k":{"ar":' in Path("out/report.html").read_text()
    other = dlm("--scorers", specs[0])
    assert other[0] == 1
    assert "with per_token true and not false; use another folder" in other[2]


def test_fast_is_one_evaluation_a_hypothesis(dlm):
    assert dlm("--fast")[0] == 0
    chosen = json.loads(Path("out/run.json").read_text())
    assert (list(chosen["scorers"]), chosen["depth"]) == (["ar", "usdm_pll"], 20)
    rows = list(csv.DictReader(io.StringIO(Path("out/systems.csv").read_text())))
    assert [row["evaluations"] for row in rows] == ["", "", "1.0", "1.0", "2.0", ""]


@pytest.mark.parametrize(
    "argv",
    [["--fast", "--scorers", "ar"], ["--base", "am,am"], ["--depth", "0"], ["--dtype", "float8"]],
    ids=" ".join,
)
def test_a_usage_error_has_status_2(dlm, argv):
    status, out, err = dlm(*argv)
    assert (status, out) == (2, "")
    assert "Error: " in err
    assert not Path("out").exists()


def test_an_input_error_is_one_line_of_status_1(dlm):
    status, out, err = dlm("--base", "gone", "--fast")
    assert (status, out) == (1, "")
    assert err.splitlines()[-1].startswith(
        'dev.jsonl:1: utterance dev-0, hypothesis 1: score "gone" is missing'
    )
