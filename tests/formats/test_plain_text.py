"""Plain texts, one a line."""

from __future__ import annotations

import pytest

from rescore.errors import FormatError
from rescore.formats import plain_text, read_lists
from rescore.types import Hypothesis, NBest


def test_line_n_is_list_n_and_empty_lines_count(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("the old house\n\n a  b \r\nlast")
    lists = list(read_lists(path, "text"))
    assert [(nbest.id, nbest.hyps[0].text) for nbest in lists] == [
        ("texts-000001", "the old house"),
        ("texts-000002", ""),
        ("texts-000003", " a  b "),
        ("texts-000004", "last"),
    ]
    again = tmp_path / "again.txt"
    assert plain_text.write(lists, again) == 4
    assert again.read_text() == "the old house\n\n a  b \nlast\n"


def test_a_text_of_two_lines_is_refused(tmp_path):
    for text in ("a\nb", "a\r"):
        with pytest.raises(FormatError, match="utterance u, hypothesis 1: the text holds a line"):
            plain_text.write([NBest("u", (Hypothesis(text),))], tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()
