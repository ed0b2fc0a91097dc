"""The commands of docs/recognisers.md run as written, with tiny networks on tones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_speech import TEXTS, manifest

from rescore.acoustic.posterior_file import read_posteriors
from rescore.acoustic.recogniser import load_recogniser
from rescore.cli import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "recognisers.md"
SIZES = ["--width=16", "--layers=1", "--heads=2", "--feed-forward=24", "--kernel=3"]


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("dlmrescore ")]


def test_the_commands_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev", "test", "ours"):
        manifest(tmp_path, name, TEXTS[:3])
    for command in commands():
        less = []  # what makes a command short enough for a test
        if command[:2] == ["train", "ctc"]:
            less = ["--steps=1", *([] if "--start-from" in command else SIZES)]
        done = CliRunner().invoke(cli, [*command, *less])
        assert done.exit_code == 0, done.output
    assert list(read_posteriors("test.safetensors")) == ["test-0", "test-1", "test-2"]
    assert load_recogniser(Path("runs/ours")).network.config.width == 16


@pytest.mark.parametrize("option", re.findall(r"`(--[a-z-]+)", PAGE.read_text(encoding="utf-8")))
def test_every_option_that_the_page_names_exists(option):
    known = CliRunner().invoke(cli, ["train", "ctc", "--help"]).output
    known += CliRunner().invoke(cli, ["posteriors", "--help"]).output
    assert option in known
