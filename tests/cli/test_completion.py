"""Completion with the Tab key."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete, FishComplete, ZshComplete
from command_line import (
    COMMANDS,
    good,
)

from rescore.cli import cli
from rescore.registry import SCORERS

pytestmark = pytest.mark.usefixtures("folder")


def completed(*words, shell=BashComplete):
    """What the Tab key offers behind these words, as click's own class for the shell finds it."""
    *arguments, incomplete = words
    completions = shell(cli, {}, "dlmrescore", "_DLMRESCORE_COMPLETE").get_completions(
        list(arguments), incomplete
    )
    return [(item.type, item.value) for item in completions]


@pytest.mark.parametrize("shell", [BashComplete, ZshComplete, FishComplete])
def test_tab_completes_commands_options_and_the_names_in_the_registry(shell):
    assert completed("s", shell=shell) == [("plain", name) for name in ("score", "sweep", "show")]
    assert [value for _, value in completed("", shell=shell)] == COMMANDS
    assert completed("--vers", shell=shell) == [("plain", "--version")]
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
    typed = (
        "COMP_WORDS=(dlmrescore score --scorer us); COMP_CWORD=3; "
        "_dlmrescore_completion dlmrescore; echo ${COMPREPLY[@]}"
    )
    script = f'PATH={folder}:$PATH; eval "$(dlmrescore completion bash)"; {typed}'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "usdm\n", "")


def test_no_command_is_forgotten_here():
    assert cli.list_commands(None) == COMMANDS
