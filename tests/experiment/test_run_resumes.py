"""The files after a kill -9; damaged journals."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_experiment import contents

import rescore

KILL = """
import os, signal, sys
from importlib import import_module
from rescore.cli import main
where, count = sys.argv.pop(1), int(sys.argv.pop(1))
module, name = where.rsplit(":", 1)
owner = import_module(module)
for part in name.split(".")[:-1]:
    owner = getattr(owner, part)
whole, seen = getattr(owner, name.split(".")[-1]), []
def killing(*arguments, **options):
    seen.append(1)
    if len(seen) == count:
        if where.endswith("Journal.add"):  # in the middle of a line
            with arguments[0].path.open("ab") as file:
                file.write(b'0a1b2c3d {"chunk":"0123","values":[-1.2')
        if where.endswith("write"):  # in the middle of a file
            name = ".dev.scored.jsonl.0123456789abcdef.part"
            part = os.path.join(os.path.dirname(arguments[1]), name)
            open(part, "w").write("half")
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*arguments, **options)
setattr(owner, name.split(".")[-1], killing)
main()
"""


def process(*argv):
    return subprocess.run(
        [sys.executable, "-c", KILL, *map(str, argv)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def command(specs):
    return [
        "run",
        "--dev",
        "dev.jsonl",
        "--test",
        "test.jsonl",
        "--scorers",
        ",".join(specs[::2]),
        "--draws",
        "2",
    ]


@pytest.fixture
def whole(command, shared):
    """The files of a run that nobody killed."""
    if not shared:
        done = process("rescore.experiment:run", 0, *command, "-o", "whole")
        assert done.returncode == 0, done.stderr
        shared.update(contents("whole"))
        assert (
            len(shared) == 4 + 5 + 5 + 2 + 1 + 6
        )  # journals, weights, best lists, scored lists, run.json; plots, their CSV, table, page
    return shared


@pytest.fixture(scope="module")
def shared():
    return {}


@pytest.mark.parametrize(
    ("where", "count", "chunks"),
    [
        ("rescore.experiment.scoring:Journal.add", 1, 0),
        ("rescore.experiment.scoring:Journal.add", 3, 2),
        ("rescore.experiment.scoring:Journal.add", 10, 9),
        ("rescore.experiment.scoring:jsonl.write", 1, 26),
        ("rescore.experiment.results:plot_systems", 1, 26),
    ],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(command, whole, where, count, chunks):
    killed = process(where, count, *command, "-o", "again")
    assert killed.returncode == -signal.SIGKILL
    assert not Path("again/systems.png").exists()
    assert (
        sum(path.read_bytes().count(b"\n") - 1 for path in Path("again/scores").glob("*")) == chunks
    )  # the first line says whose they are
    resumed = process("rescore.experiment:run", 0, *command, "-o", "again")
    assert resumed.returncode == 0, resumed.stderr
    assert contents("again") == whole


def test_a_finished_run_scores_nothing_again(specs, monkeypatch):
    first = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    monkeypatch.setattr(
        "rescore.scorers.ar.CausalScorer.evaluate",
        lambda *arguments: pytest.fail("a list was scored again"),
    )
    assert rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1]).table == first.table
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_a_damaged_journal_is_named_and_what_it_held_is_scored_again(specs, caplog):
    first = rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1])
    journal = Path("out/scores/dev.ar.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    for damaged in (
        b"[]\n",
        b"broken\n",
        b"".join([*lines[:2], lines[2].replace(b"values", b"valves"), *lines[3:]]),
        lines[0] + lines[1][:40] + b"\n",
    ):
        journal.write_bytes(damaged)
        caplog.clear()
        assert rescore.run("dev.jsonl", "test.jsonl", "out", scorers=specs[:1]).table == first.table
        assert re.search(r"out/scores/dev.ar.journal(:\d+)?: (the header is )?damaged", caplog.text)
