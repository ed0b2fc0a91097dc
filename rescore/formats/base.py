"""What a format is, its options, and what readers and writers share.

Shared: refusing repeated ids, skipping broken records on request, strict numbers, words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from rescore.arguments import close_to
from rescore.errors import FormatError
from rescore.formats.strict_json import short
from rescore.ids import UniqueIds
from rescore.types import NBest

__all__ = [
    "Format",
    "Option",
    "Skipped",
    "ascii_words",
    "convert_each",
    "line_id",
    "one_of",
    "optional",
    "parse_number",
    "parse_options",
    "read_score_option",
    "whole_number",
    "write_score_option",
]

#: What a format holds: `NBest` or `Lattice`.
Item = TypeVar("Item")
Record = TypeVar("Record")

_ASCII_SPACE = re.compile(r"[ \t\n\r\f\v]+")


def _read_only(*_arguments: object, **_options: object) -> int:
    raise FormatError(
        "this format can be read but not written; `dlmrescore formats` lists those that can"
    )


def _proves_nothing(_evidence: object) -> bool:
    return False


@dataclass(frozen=True)
class Option:
    """One keyword option of a reader (`-O KEY=VALUE`) or of a writer (`-W KEY=VALUE`).

    `parse` turns the text after the `=` into a value and raises ValueError for anything that is
    not `expected`. `is_file`: the value names a file to read, which must not be the output.
    """

    help: str
    parse: Callable[[str], Any] = str
    expected: str = "text"
    required: bool = False
    is_file: bool = False


@dataclass(frozen=True)
class Format(Generic[Item]):
    """One outside format of N-best lists (`Format[NBest]`) or of lattices (`Format[Lattice]`).

    `rescore.registry` names them all. `read(path, **options)` yields items as it goes, every id
    once; readers of lists also take `skipped`. `write(items, path, **options)` returns how many
    items it wrote. `read_options` and `write_options` declare the keyword options for the command
    line. `help` is one line about the format.

    What proves the format, so that users need not name it; each returns True only if nothing but
    this format can look like this:

    - `proven_by(head)`: the start of a file as text.
    - `proven_by_bytes(head)`: the start of a file as bytes, for binary formats.
    - `proven_by_names(names)`: the names in a directory.

    Bytes and text are decompressed. `proof` says the same in words.

    `takes_ids`: files of this format may hold items without ids; `read` then takes
    `unnamed`, the ids of these items in order.
    """

    name: str
    read: Callable[..., Iterator[Item]]
    write: Callable[..., int] = _read_only
    proven_by: Callable[[str], bool] = _proves_nothing
    proven_by_names: Callable[[Set[str]], bool] = _proves_nothing
    help: str = ""
    proof: str = ""
    read_options: Mapping[str, Option] = field(default_factory=dict)
    write_options: Mapping[str, Option] = field(default_factory=dict)
    proven_by_bytes: Callable[[bytes], bool] = _proves_nothing
    takes_ids: bool = False

    @property
    def is_writable(self) -> bool:
        """Whether this format has a writer."""
        return self.write is not _read_only


@dataclass
class Skipped:
    """Counts the broken records that a reader skipped; keeps the first few messages."""

    keep: int = 5
    count: int = 0
    messages: list[str] = field(default_factory=list)

    def add(self, error: FormatError) -> None:
        """Count one broken record."""
        self.count += 1
        if len(self.messages) < self.keep:
            self.messages.append(str(error))


def convert_each(
    records: Iterable[tuple[int, Record]],
    convert: Callable[[Record, str], NBest],
    place: Callable[[int], str],
    skipped: Skipped | None,
) -> Iterator[NBest]:
    """Yield `convert(record, place(number))` of every numbered record, every id once.

    Raises FormatError for a record that `convert` refuses and for a repeated id; with `skipped`,
    counts the record there and goes on. Memory: one small entry an id.
    """
    ids = UniqueIds("read", place)
    for number, record in records:
        try:
            nbest = convert(record, place(number))
            ids.add(nbest, number)
        except FormatError as error:
            if skipped is None:
                raise
            skipped.add(error)
        else:
            yield nbest


def parse_options(
    declared: Mapping[str, Option], assignments: Iterable[str], owner: str, flag: str
) -> dict[str, Any]:
    """Return the keywords that options written `KEY=VALUE` stand for.

    `owner` names the reader or writer in messages, `flag` is the option's spelling (`-O`).
    Raises FormatError for an option that is unknown, not KEY=VALUE, repeated, of a wrong type, or
    missing though required.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise FormatError(f'{flag} "{assignment}" is not KEY=VALUE')
        if key not in declared:
            raise FormatError(
                f'{owner} has no option "{key}"; it has {", ".join(declared) or "none"}'
                f"{close_to(key, declared)}"
            )
        if key in values:
            raise FormatError(f'{owner}: the option "{key}" is given twice')
        try:
            values[key] = declared[key].parse(text)
        except ValueError as error:
            raise FormatError(
                f'{owner}: the option "{key}" is "{text}", expected {declared[key].expected}'
            ) from error
    for key, option in declared.items():
        if option.required and key not in values:
            raise FormatError(
                f'{owner} needs the option "{key}" ({option.help}); give {flag} {key}=...'
            )
    return values


def one_of(*values: str) -> Callable[[str], str]:
    """Return a `parse` for an option that accepts these values only."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return parse


def whole_number(text: str) -> int:
    """Return a whole number from 1. Raises ValueError for any other text."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(text)
    return int(text)


def optional(text: str) -> str | None:
    """Return the text, or None for `none`."""
    return None if text == "none" else text


def read_score_option(what: str) -> dict[str, Option]:
    """Declare the reader's option `score` for a format with a single score: the name it gets.

    It cannot be `rank`, which readers of ordered lists add.
    """
    return {"score": Option(f"{what}; default first_pass", _new_name, "a name other than rank")}


def write_score_option(what: str) -> dict[str, Option]:
    """Declare the writer's option `score` for a format with a single score."""
    return {"score": Option(f"{what}; default first_pass")}


def _new_name(text: str) -> str:
    if text in ("", "rank"):
        raise ValueError(text)
    return text


def line_id(nbest: NBest) -> str:
    """Return the id for a format whose lines begin with it.

    Raises FormatError for an id with white space in it or a byte order mark at its start.
    """
    if re.search(r"\s|^\ufeff", nbest.id):
        raise FormatError(
            f"{nbest.place()}: lines of this format begin with the id, "
            "which cannot hold white space; rename the utterance"
        )
    return nbest.id


def ascii_words(text: str) -> list[str]:
    """Return the words as C and C++ tools see them: only ASCII white space separates words.

    An ideographic space or a no-break space is part of a word.
    """
    return [word for word in _ASCII_SPACE.split(text) if word]


def parse_number(text: str, at: str, what: str) -> float:
    """Return the finite number in a text field.

    Raises FormatError for anything else, including `nan`, `inf` and `1_000`.
    """
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f'{at}: {what} is "{short(text)}", expected a finite number')
    return value
