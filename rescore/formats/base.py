"""What a format is, its options, and what readers and writers share.

Shared: refusing repeated ids, skipping broken records on request, strict numbers, words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

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
    """One keyword option of a reader or a writer, as the command line takes it: `-O KEY=VALUE` for readers, `-W KEY=VALUE` for writers.

    `parse` turns the text after the `=` into the keyword's value and raises ValueError for what is not `expected`. `is_file` says that the value names
    a file that is read, which no output may be.
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
    """Counts the broken records a reader passed over; `messages` are the first few errors, one line each."""

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
    """Yield `convert(record, place(number))` of every numbered record.

    Remembers every id with its number (about 130 bytes an utterance), and nothing else.
    Raises FormatError for a record that `convert` refuses and for an id that was there before; with `skipped`, counts it there and goes on.
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
    declared: Mapping[str, Option], given: Iterable[str], owner: str, flag: str
) -> dict[str, Any]:
    """Return the keywords that options written `KEY=VALUE` stand for; `owner` names the reader or writer, `flag` how its options are given.

    Raises FormatError naming the known options for an unknown one, and for one that is not KEY=VALUE, given twice, of a wrong type, or missing.
    """
    values: dict[str, Any] = {}
    for item in given:
        key, equals, text = item.partition("=")
        if not equals:
            raise FormatError(f'{flag} "{item}" is not KEY=VALUE')
        if key not in declared:
            raise FormatError(
                f'{owner} has no option "{key}"; it has {", ".join(declared) or "none"}'
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
    """Return an option's `parse` that takes these values only."""

    def parse(text: str) -> str:
        if text not in values:
            raise ValueError(text)
        return text

    return parse


def whole_number(text: str) -> int:
    """Return the number of a text that is a whole number from 1. Raises ValueError for anything else."""
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError(text)
    return int(text)


def optional(text: str) -> str | None:
    """Return the text, None for `none`."""
    return None if text == "none" else text


def read_score_option(what: str) -> dict[str, Option]:
    """Declare the reader's option `score` of a format with a single score: the name it gets, which cannot be the `rank` beside it."""
    return {"score": Option(f"{what}; default first_pass", _new_name, "a name other than rank")}


def write_score_option(what: str) -> dict[str, Option]:
    """Declare the writer's option `score` of a format with a single score."""
    return {"score": Option(f"{what}; default first_pass")}


def _new_name(text: str) -> str:
    if text in ("", "rank"):
        raise ValueError(text)
    return text


def line_id(nbest: NBest) -> str:
    """Return the id for a format whose lines begin with it. Raises FormatError for white space in it and for a byte order mark at its start."""
    if re.search(r"\s|^\ufeff", nbest.id):
        raise FormatError(
            f"{nbest.place()}: lines of this format begin with the id, "
            "which cannot hold white space there; rename the utterance"
        )
    return nbest.id


def ascii_words(text: str) -> list[str]:
    """Return the words as C and C++ tools see them: white space is ASCII's, so that an ideographic or no-break space belongs to a word."""
    return [word for word in _ASCII_SPACE.split(text) if word]


def parse_number(text: str, at: str, what: str) -> float:
    """Return the finite number that a text field holds. Raises FormatError for anything else, `nan`, `inf` and `1_000` included."""
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f'{at}: {what} is "{short(text)}", expected a finite number')
    return value
