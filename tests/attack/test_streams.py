"""Standard streams that are closed, full or unread: an error is one line, a message never fails."""

from __future__ import annotations

import subprocess
import sys

import pytest
from closed_streams import KINDS, one_line, stream_faults
from small_commands import CASES, SLOW, command_names

from rescore.cli.reporting import INTERNAL


def test_every_command_has_a_case():
    missing = {
        name
        for name in command_names()
        if not any(" ".join(case.argv).startswith(f"{name} ") for case in CASES.values())
        and name not in CASES
    }
    assert not missing, "tests/attack/small_commands.py: add a case"


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith(SLOW)])
def test_every_command_takes_any_standard_stream(forks, tmp_path, name):
    assert list(stream_faults(CASES[name], forks, tmp_path)) == []


@pytest.mark.parametrize(
    ("command", "status"),
    [("score in/dev.jsonl --model none", 1), ("convert in/none.jsonl", 1), ("convert", 2)],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_lost_message_keeps_the_status_of_an_error(forks, tmp_path, command, status, kind):
    assert forks.run(command.split(), tmp_path, stderr=kind).status == status


@pytest.mark.parametrize("command", ["convert", "check", "eval"])
def test_a_closed_standard_input_is_one_line(forks, tmp_path, command):
    done = forks.run([command, "-", "--from", "jsonl"], tmp_path, stdin="closed")
    assert (done.status, done.err) == (
        1,
        "stdin: cannot be read: bad file descriptor; it is closed; name a file\n",
    )


@pytest.mark.parametrize(
    ("closed", "status", "message"),
    [
        (">&-", 1, "standard output: cannot be written: bad file descriptor"),
        ("> /dev/full", 1, "standard output: cannot be written: no space left on device"),
        ("2>&-", 0, ""),
        ("2> /dev/full", 0, ""),
        ("<&- >&- 2>&-", 1, ""),
        ("| true", 0, ""),
    ],
)
def test_a_real_process_ends_as_a_fork_does(inputs, closed, status, message):
    command = f'"$0" -c "from rescore.cli import main; main()" convert in/dev.jsonl {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        capture_output=True,
        text=True,
        check=False,
        cwd=inputs.parent,
    )
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_closed_descriptor_is_never_that_of_an_output_file(forks, tmp_path):
    """Otherwise what a library prints to standard output lands in the file."""
    done = forks.run(CASES["convert"].argv, tmp_path / "closed", stdin="closed", stdout="closed")
    assert done.status == 0
    assert forks.run(CASES["convert"].argv, tmp_path / "whole").status == 0
    written = [tmp_path / folder / "out.jsonl" for folder in ("closed", "whole")]
    assert written[0].read_bytes() == written[1].read_bytes()


FAULTY = """
from rescore.cli import main
import rescore.cli.merge_command
def broken(*arguments, **options):
    raise ValueError("first line\\nsecond line of a library")
rescore.cli.merge_command.jsonl.write = broken
main()
"""


@pytest.mark.parametrize("verbose", [False, True])
def test_a_fault_of_ours_is_one_line_and_its_traceback_is_for_those_who_ask(inputs, verbose):
    argv = ["--verbose"] * verbose + list(CASES["merge"].argv)
    done = subprocess.run(
        [sys.executable, "-c", FAULTY, *argv],
        capture_output=True,
        text=True,
        check=False,
        cwd=inputs.parent,
    )
    first, *rest = done.stderr.splitlines()
    assert done.returncode == 1
    assert first.startswith(f"{INTERNAL} at rescore/cli/merge_command.py:")
    assert "ValueError: first line second line of a library; please report it" in first
    assert bool(rest) == verbose
    assert not verbose or rest[-1] == "second line of a library"


def test_one_line_knows_a_traceback(forks, tmp_path):
    done = forks.run(["convert", "in/none.jsonl"], tmp_path)
    assert one_line(done)
    assert not one_line(done._replace(err=f"{INTERNAL}: x"))
