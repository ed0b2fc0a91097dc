"""Progress: lines in a log, a bar on a terminal, and what a training says at its end."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from rescore import progress
from rescore.cli.train_results import evaluation_interval, few_tokens, say_result, score_command
from rescore.progress import announce, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_lines_that_name_the_step_and_count_it(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST_LINE_SECONDS", 0.0)
    with progress_bar(total=3, description="2/7 ar on test", unit="utterances") as bar:
        bar.update(3)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("2/7 ar on test: 0 of 3 utterances, 00:00 so far, ")
    assert lines[-1].startswith("2/7 ar on test: 3 of 3 utterances, ")
    assert list(progress_bar(["x"], description="text", unit="lines")) == ["x"]
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "text: 1 lines, 00:00 so far"
    assert not any("\r" in line for line in lines)


def test_a_bar_that_a_signal_ended_while_it_was_made_goes_in_silence(monkeypatch):
    """Python reports what a destructor raises; the bar lacks its place on the terminal."""
    bar = type(progress_bar(total=1, description="x", unit="y"))
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", raised.append)
    half = bar.__new__(bar)
    half.disable = False
    del half
    assert not raised


def test_hours_have_two_decimals_in_a_log_and_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(progress, "_FIRST_LINE_SECONDS", 0.0)
    for total, count in ((1.5, "0.12 of 1.50 h"), (None, "0.12 h")):
        for terminal in (None, Terminal()):
            with monkeypatch.context() as patch:
                if terminal is not None:
                    patch.setattr(sys, "stderr", terminal)
                hours = {"unit": "h", "fractional": True, "mininterval": 0}
                with progress_bar(total=total, description="posteriors", **hours) as bar:
                    bar.update(0.123456)
            shown = capsys.readouterr().err if terminal is None else terminal.getvalue()
            assert "posteriors: " in shown
            assert f" {count}" in shown
            assert "0.1234" not in shown


def test_short_work_leaves_a_log_alone(capsys):
    assert list(progress_bar(range(9), total=9, description="x", unit="lines")) == list(range(9))
    announce("loading")
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_and_a_first_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    announce("usdm: loading the model")
    assert list(progress_bar(["x"], total=1, description="text", unit="lines")) == ["x"]
    first, *_, bar = terminal.getvalue().replace("\r", "\n").split("\n")[:-1]
    assert first == "usdm: loading the model"
    assert "text: 100%|" in bar


@pytest.mark.parametrize(("steps", "interval"), [(3000, 250), (200, 25), (1, 1)])
def test_a_short_run_has_points_for_its_curve(steps, interval):
    assert evaluation_interval(steps, 250) == interval


def test_a_training_ends_with_what_to_do_next(capsys):
    advice = few_tokens("usdm", 30_000, None)
    say_result("3.1 nats", score_command("usdm", Path("runs/usdm")), advice)
    assert capsys.readouterr().err.splitlines() == [
        "3.1 nats",
        advice,
        "use it: dlmrescore score LISTS --scorer usdm --model runs/usdm -o scored.jsonl",
    ]
    assert advice.startswith("30,000 tokens from scratch make a weak model: fine-tune one ")
    assert few_tokens("usdm", 30_000, "usdm") is None
    assert few_tokens("usdm", 3_000_000, None) is None
