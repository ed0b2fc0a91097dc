"""Which format is read: the one that is named, or the one that the content proves."""

import os

import pytest

from rescore.errors import FormatError, RescoreError
from rescore.formats import format_of, read_lists
from rescore.formats.jsonl import JSONL
from rescore.registry import FORMATS, lookup

GOOD = (
    '{"id": "u1", "ref": "a b", "hyps": [{"text": "a b", "scores": {"am": -1.5, "lm": -2.0}}, '
    '{"text": "a", "scores": {"am": -3.0, "lm": 0.5}}]}'
)


def test_the_content_proves_the_format_or_it_has_to_be_named(tmp_path):
    path = tmp_path / "x"
    path.write_text(f"\n{GOOD}\n")
    assert format_of(path) is JSONL
    assert [nbest.id for nbest in read_lists(path)] == ["u1"]
    for content in (
        "",
        "hello\n",
        "[]",
        "{}",
        '{"id": "u", "hyps": [',
        "[" * 100_000,
    ):
        path.write_text(content)
        with pytest.raises(FormatError) as caught:
            read_lists(path)
        assert str(caught.value) == (
            f"{path}: its content does not prove its format; "
            "name it with --from (`dlmrescore formats` lists them)"
        )
    with pytest.raises(FormatError, match=r"^stdin: its content does not prove"):
        read_lists("-")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="pipe: is a named pipe, expected a regular file"):
        read_lists(tmp_path / "pipe")
    with pytest.raises(FormatError, match="cannot be read: no such file"):
        read_lists(tmp_path / "none")
    with pytest.raises(RescoreError, match="format 'xml' is unknown; known: "):
        read_lists(path, "xml")


def test_a_format_without_writer_says_so(tmp_path):
    for name in FORMATS:
        found = lookup(FORMATS, name, "format")
        if not found.is_writable:
            with pytest.raises(FormatError, match="can be read but not written"):
                found.write([], tmp_path / "x")


def test_a_broken_first_line_is_named_where_the_name_promises_the_native_format(tmp_path):
    for name in ("x.jsonl", "x.jsonl.gz"):
        path = tmp_path / name
        path.write_text('{"id": "u", "hyps": [\n')
        with pytest.raises(FormatError, match=f"^{path}:1: "):
            list(read_lists(path))
