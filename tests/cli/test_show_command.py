"""`dlmrescore show`: one utterance, in colour where a terminal reads it."""

from __future__ import annotations

import pytest
from command_line import RECORDS, good, process, refused, write

from rescore.cli import colour

pytestmark = pytest.mark.usefixtures("folder")


def test_it_shows_one_utterance(dlm):
    write("in.jsonl", RECORDS)
    done = good(dlm("show", "in.jsonl", "u3", "-n", 1))
    assert done.out.splitlines()[0] == "in.jsonl:3: utterance u3"
    assert "1  F           1 no light +there\n" in done.out
    assert "\x1b" not in done.out
    assert "+t +h +e +r +e" in good(dlm("show", "in.jsonl", "u3", "--cer")).out


def test_an_unknown_id_is_one_line_that_names_a_similar_one(dlm):
    write("in.jsonl", RECORDS)
    line = refused(dlm("show", "in.jsonl", "speech"))
    assert line == 'in.jsonl: holds no utterance "speech"; the first is "u1"'
    line = refused(dlm("show", "in.jsonl", "u33"))
    assert line == 'in.jsonl: holds no utterance "u33"; did you mean "u3"?'


@pytest.mark.parametrize(
    ("when", "is_terminal", "no_color", "is_coloured"),
    [
        ("auto", True, "", True),
        ("auto", True, "1", False),
        ("auto", False, "", False),
        ("always", False, "1", True),
        ("never", True, "", False),
    ],
)
def test_colour_is_for_terminals_unless_asked_for(
    monkeypatch, when, is_terminal, no_color, is_coloured
):
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setattr(colour.sys.stdout, "isatty", lambda: is_terminal, raising=False)
    assert (colour.painter(when)("a", "substitution") != "a") == is_coloured
    assert colour.painter(when)("a", "no role") == "a"


def test_per_token_reads_what_score_wrote(dlm, models):
    write("in.jsonl", RECORDS)
    options = ["--scorer", "ar", "--model", models["ar"], "--per-token", "-o", "out.jsonl"]
    good(dlm("score", "in.jsonl", *options))
    done = good(dlm("show", "out.jsonl", "u1", "--per-token", "--color", "always"))
    assert "ar by token, in nats" in done.out
    assert "\x1b[1m" in done.out
    assert "`dlmrescore score --per-token`" in refused(dlm("show", "in.jsonl", "u1", "--per-token"))


def test_standard_input_and_any_locale(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    line = '{"id": "a", "ref": "дом", "hyps": [{"text": "том"}]}\n'
    done = good(process("show", "-", "a", "--from", "jsonl", stdin=line.encode()))
    assert "~том" in done.out
