"""`dlmrescore sweep`."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from tuning_problems import made_up_lists

import rescore
from rescore.cli import main
from rescore.cli.sweep_command import parse_range
from rescore.formats import jsonl
from rescore.fusion import save, tune
from rescore.report.sweep import sweep_csv


@pytest.fixture
def dlm(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    jsonl.write(made_up_lists(9, 20), "dev.jsonl")

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", "sweep", *map(str, argv)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0:0.2:0.05", [0, 0.05, 0.1, 0.15, 0.2]),
        ("0:1:0.3", [0, 0.3, 0.6, 0.9]),
        ("-1:1:1", [-1, 0, 1]),
        ("2", [2]),
        ("1:1:1", [1]),
        ("0:2e1:1e1", [0, 10, 20]),
    ],
)
def test_a_range_holds_both_ends_in_decimal(text, values):
    assert parse_range(text) == values


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--scale", "mdlm=0:2"], "got '0:2', expected low:high:step"),
        (["--scale", "mdlm=0:2:x"], "got '0:2:x', expected low:high:step"),
        (["--scale", "mdlm=0:2:0"], "expected a step above 0"),
        (["--scale", "mdlm=2:0:1"], "an end that is not below the start"),
        (["--scale", "mdlm=0:inf:1"], "got '0:inf:1', expected low:high:step"),
        (["--scale", "mdlm=0:2:1e-9"], "which has more than 1000000 values"),
        (["--scale", "mdlm"], "expected NAME=low:high:step"),
        (["--scale", "=0:1:1"], "expected NAME=low:high:step"),
        (["--scale", "mdlm=0:1:1", "--scale", "mdlm=0:2:1"], "the score 'mdlm' is given twice"),
        (["--scale", "mdlm=0:1:1", "--base", "am,am"], "expected different names"),
        (["--scale", "mdlm=0:1:1", "--base", "am=1,ngram"], "all with scales"),
        (["--scale", "mdlm=0:1:1", "--base", "am=one"], "a scale is not a number"),
        (["--scale", "mdlm=0:1:1", "--word-bonus", "low"], "got 'low'"),
        (
            ["--scale", "mdlm=0:1:1", "--base", "am", "--fusion", "f.json"],
            "--base and --fusion both say",
        ),
        ([], "Missing option '--scale'"),
    ],
)
def test_a_range_that_is_none_is_a_usage_error_of_one_line(dlm, argv, message):
    status, out, err = dlm("dev.jsonl", *argv)
    assert (status, out) == (2, "")
    [line] = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert message in line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--scale", "mdlm=1"], "nothing is swept"),
        (["--scale", "mdlm=0:1:1", "--plot", "x.jpg"], "x.jpg: not a name for a plot"),
        (
            ["--scale", "mdlm=0:1:1", "--plot", "out.svg", "-o", "out.svg"],
            "out.svg: is also the input",
        ),
        (["--scale", "mdlm=0:1:1", "--fusion", "gone.json"], "gone.json: cannot be read"),
        (
            ["--scale", "gone=0:1:1", "--base", "am"],
            'dev.jsonl:1: utterance u0, hypothesis 1: score "gone" is missing',
        ),
    ],
)
def test_an_input_error_is_one_line_and_leaves_nothing(dlm, argv, message):
    status, out, err = dlm("dev.jsonl", *argv)
    assert (status, out) == (1, "")
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == ["dev.jsonl"]


def test_the_command_writes_the_csv_and_the_plot_of_the_python_call(dlm):
    lists = list(rescore.read("dev.jsonl"))
    status, out, err = dlm(
        "dev.jsonl",
        "--scale",
        "mdlm=0:1:0.25",
        "--scale",
        "ngram=0:1:0.5",
        "--base",
        "am",
        "--cross-validate",
        4,
        "--plot",
        "x.png",
    )
    result = rescore.sweep(
        lists,
        {"mdlm": parse_range("0:1:0.25"), "ngram": parse_range("0:1:0.5")},
        base=["am"],
        cross_validate=4,
    )
    assert (status, out) == (0, sweep_csv(result))
    assert err.startswith(f"lowest error rate {100 * result.wer.min():.2f} % at mdlm ")
    held_out = f"{100 * result.held_out_wer:.2f} held out"
    line_search = f"(line search {100 * result.optimum_wer:.2f})"
    assert f"{held_out} {line_search}; held: am 1, word_bonus" in err
    assert "; 15 settings, " in err
    assert Path("x.png").read_bytes().startswith(b"\x89PNG")

    save(tune(lists, ["am", "ngram", "mdlm"]), "fusion.json")
    assert (
        dlm("dev.jsonl", "--scale", "mdlm=0:1:0.5", "--fusion", "fusion.json", "-o", "sweep.csv")[0]
        == 0
    )
    weights = json.loads(Path("fusion.json").read_text())
    [row, *_] = csv.DictReader(io.StringIO(Path("sweep.csv").read_text()))
    assert (float(row["ngram"]), float(row["word_bonus"])) == (
        weights["scales"]["ngram"],
        weights["word_bonus"],
    )
