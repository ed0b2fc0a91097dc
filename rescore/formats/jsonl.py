"""The native format: one utterance a line, a JSON object as in rescore/formats/record.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from rescore.formats import strict_json
from rescore.formats.base import Format, Skipped, convert_each
from rescore.formats.files import PathLike, at_line, atomic_writer, byte_lines
from rescore.formats.record import from_dict, to_dict
from rescore.types import NBest

__all__ = ["JSONL", "encode", "read", "write", "write_live"]


def read(path: PathLike, *, skipped: Skipped | None = None) -> Iterator[NBest]:
    """Yield the lists of a native file, one line in memory at a time; blank lines are skipped.

    Raises FormatError naming the line for a broken record or a repeated id; with `skipped`,
    counts such lines there and goes on.
    """
    lines = ((number, line) for number, line in byte_lines(path) if line.strip())
    return convert_each(lines, _decode, at_line(path), skipped)


def write(lists: Iterable[NBest], path: PathLike) -> int:
    """Write lists as they come and return their number.

    The file appears only when all are written. Raises FormatError if the file cannot be written
    or a record is not JSON, ScoreError for a score that is not finite.
    """
    return _write(lists, path, is_live=False)


def write_live(lists: Iterable[NBest], path: PathLike) -> int:
    """Do what `write` does, and hand every line on at once: for who reads standard output."""
    return _write(lists, path, is_live=True)


def _write(lists: Iterable[NBest], path: PathLike, is_live: bool) -> int:
    count = 0
    with atomic_writer(path) as output:
        for nbest in lists:
            output.write(encode(nbest) + b"\n")
            count += 1
            if is_live:
                output.flush()
    return count


def encode(nbest: NBest) -> bytes:
    """Return the line of one list, without its line end.

    Raises FormatError or ScoreError for what JSON cannot hold.
    """
    return strict_json.encode(to_dict(nbest), nbest.place())


def _decode(line: bytes, where: str) -> NBest:
    check = partial(from_dict, where=where)
    return check(strict_json.decode(line, where, check))


def _is_native(head: str) -> bool:
    record = strict_json.first_value(head, r"\s*")
    return isinstance(record, dict) and isinstance(record.get("hyps"), list)


JSONL = Format(
    "jsonl",
    read,
    write,
    _is_native,
    help="the native format: one utterance a line, a JSON object",
    proof="the first value is an object with a list `hyps`",
)
