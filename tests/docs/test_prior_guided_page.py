"""The commands of docs/prior_guided.md run as written, with tiny networks on tones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hub_text_models import save_text_model
from page_commands import console_commands
from small_speech import TEXTS, manifest

from rescore.cli import cli
from rescore.formats import jsonl

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prior_guided.md"
SIZES = ["--width=16", "--layers=1", "--heads=2", "--feed-forward=24"]


def test_the_commands_run_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("train", "dev"):
        manifest(tmp_path, name, TEXTS[:3])
    save_text_model(tmp_path / "LLaDA", "llada")
    for command in console_commands(PAGE):
        less = ["--steps=1", "--float32"] if command[0] == "train" else []
        less += SIZES if command[:2] == ["train", "ctc"] else []
        done = CliRunner().invoke(cli, [*command, *less])
        assert done.exit_code == 0, done.output
    assert Path("tau.png").exists()
    for name in ("dev.jsonl", "mask.jsonl", "llada.jsonl"):
        assert all("multiplications" in nbest.raw for nbest in jsonl.read(name))


@pytest.mark.parametrize(
    "option", sorted(set(re.findall(r"`(--[a-z-]+)", PAGE.read_text("utf-8"))))
)
def test_every_option_that_the_page_names_exists(option):
    known = ""
    for command in (["train", "dllm"], ["decode"]):
        known += CliRunner().invoke(cli, [*command, "--help"]).output
    assert option in known
