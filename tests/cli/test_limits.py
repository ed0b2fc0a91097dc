"""The limits of what is read, as options of every command."""

from __future__ import annotations

import gzip
import random

import pytest
from command_line import RECORDS, good, refused, write

from rescore.formats.bounded import LIMITS, Limits

pytestmark = pytest.mark.usefixtures("folder")


def test_the_limits_are_options_and_their_messages_name_them(dlm, tmp_path):
    write("in.jsonl", RECORDS)
    line = refused(dlm("--max-line", "50", "convert", "in.jsonl"))
    assert line == (
        "in.jsonl:1: the line is longer than 50 bytes; check that the file is of this format, or "
        "raise the limit: dlmrescore --max-line SIZE"
    )
    good(dlm("--max-line", "1K", "convert", "in.jsonl"))
    noise = random.Random(0).randbytes(5000).hex()
    lists = f'[{{"input": ["{noise}"], "output": "a"}}]'
    (tmp_path / "in.json.gz").write_bytes(gzip.compress(lists.encode()))
    command = ["convert", "in.json.gz", "--from", "hyporadise"]
    assert refused(dlm("--max-file", "8KiB", *command)) == (
        "in.json.gz: holds more than 8 KiB, and is read whole; check that it is the right file, or "
        "raise the limit: dlmrescore --max-file SIZE"
    )
    good(dlm("--max-file", "1g", *command))
    assert LIMITS.get() == Limits()


@pytest.mark.parametrize("size", ["0", "-1", "1.5G", "many", "", "99999999999"])
def test_what_is_no_size_is_refused(dlm, size):
    assert dlm("--max-line", size, "formats").status == 2
