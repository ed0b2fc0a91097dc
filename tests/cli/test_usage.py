"""Usage errors, interruptions, versions and helps."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

import click
import pytest
from command_line import (
    COMMANDS,
    GOOD,
    RECORDS,
    files,
    good,
    process,
    refused,
    write,
)

from rescore.cli import cli, main
from rescore.cli.reporting import Reporter
from rescore.scorers.ar import CausalScorer

pytestmark = pytest.mark.usefixtures("folder")


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
        assert done.err.strip() == (
            f"interrupted after 1 utterances; the scores so far are in "
            f"{output}.journal; run the same command again to resume"
        )
    assert files() == ["in.jsonl", "old.jsonl", "old.jsonl.journal", "out.jsonl.journal"]
    assert Path("old.jsonl").read_text() == "as it was\n"
    monkeypatch.setattr(CausalScorer, "evaluate", whole)
    good(dlm("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", "out.jsonl"))
    good(dlm("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"], "-o", "whole.jsonl"))
    assert Path("out.jsonl").read_bytes() == Path("whole.jsonl").read_bytes()
    assert files() == ["in.jsonl", "old.jsonl", "old.jsonl.journal", "out.jsonl", "whole.jsonl"]


def test_a_real_ctrl_c_has_status_130_and_leaves_no_output():
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from rescore.cli import main; main()"
    )
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


def test_a_second_ctrl_c_while_the_first_is_reported_is_no_traceback(monkeypatch):
    reporter = Reporter()
    signal.signal(signal.SIGINT, reporter.interrupt)  # the fixture of all tests puts it back

    def interrupted(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("rescore.cli.reporting.click.echo", interrupted)
    assert reporter.status_of(interrupted) == 130


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_after_the_end_of_a_command_is_no_traceback(name):
    code = f"""
import atexit, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
atexit.register(lambda: os.kill(os.getpid(), signal.{name}))
from rescore.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, "completion", "bash"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")
    assert done.stdout.startswith("_dlmrescore_completion")


def test_a_process_has_json_on_standard_output_and_the_rest_on_standard_error(models):
    write(
        "in.jsonl",
        [{"id": "a", "hyps": [{"text": "the old house \u0432\u0441\u0435"}, {"text": ""}]}],
    )
    done = good(process("score", "in.jsonl", "--scorer", "ar", "--model", models["ar"]))
    assert [set(hyp["scores"]) for hyp in done.records[0]["hyps"]] == [{"ar"}] * 2
    warning, summary = done.err.splitlines()
    assert re.fullmatch(
        (
            r"dlmrescore: \d+ of \d+ tokens are unknown to the model's vocabulary and "
            r"were scored as its unknown token"
        ),
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
    output = good(dlm("--version")).out
    assert output == (
        f"dlmrescore {version('dlmrescore')} (Python {platform.python_version()}, "
        f"torch {version('torch')})\n"
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
    output = good(dlm("score", "--help")).out
    headings = re.findall(r"^(\S.*):$", output, re.MULTILINE)
    assert headings == [
        "Input and output",
        "Model",
        "Estimate",
        "Network",
        "Recogniser",
        "New score",
        "Large runs",
        "Help",
    ]
    places = [
        output.index(text)
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
        r"Exit status: 0 success; 1 .*\n.*2 .*; 130 interrupted", good(dlm("--help")).out
    )
