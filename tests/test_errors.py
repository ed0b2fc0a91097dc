"""Messages stay on one short line, whatever they quote."""

from __future__ import annotations

import pytest

from rescore.errors import FormatError


@pytest.mark.parametrize(
    "text", ["\n", "\r", "\x0b", "\x1b[2J", "\x85", "\u2028", "\u202e", "\ud800", "\x00"]
)
def test_what_breaks_a_line_or_controls_a_terminal_is_escaped(text):
    message = str(FormatError(f"a{text}b é 日本"))
    assert message.isprintable()
    assert message.startswith("a\\")
    assert message.endswith("b é 日本")
    message.encode()


def test_the_middle_of_a_long_message_is_left_out():
    message = str(FormatError("in.jsonl:1: " + "[" * 100_000 + "; do that"))
    assert len(message) < 1000
    assert message.startswith("in.jsonl:1: [")
    assert message.endswith("; do that")
