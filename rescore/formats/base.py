"""What a format is, and what its readers share: the loop that refuses repeated ids and skips broken records if asked to, and strict numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from rescore.errors import FormatError
from rescore.types import NBest

__all__ = ["Format", "Skipped", "convert_each", "parse_number"]

T = TypeVar("T")


def _read_only(*_arguments: object, **_options: object) -> int:
    raise FormatError("this format can be read but not written; write jsonl")


def _unproven(_head: str) -> bool:
    return False


@dataclass(frozen=True)
class Format:
    """One outside format of N-best lists; `rescore.registry.FORMATS` names them all.

    `read(path, *, skipped=None, **options)` yields NBest records as it goes. `write(lists, path, **options)` returns how many lists it wrote.
    `proven_by(head)` says whether a file that starts like this can only be this format; without it users have to name the format.
    """

    name: str
    read: Callable[..., Iterator[NBest]]
    write: Callable[..., int] = _read_only
    proven_by: Callable[[str], bool] = _unproven

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


def convert_each(records: Iterable[tuple[int, T]], convert: Callable[[T, str], NBest], place: Callable[[int], str], skipped: Skipped | None) -> Iterator[NBest]:
    """Yield `convert(record, place(number))` of every numbered record.

    Remembers every id with its number (about 130 bytes an utterance), and nothing else.
    Raises FormatError for a record that `convert` refuses and for an id that was there before; with `skipped`, counts it there and goes on.
    """
    first: dict[str, int] = {}
    for number, record in records:
        try:
            nbest = convert(record, place(number))
            if first.setdefault(nbest.id, number) != number:
                raise FormatError(f"{nbest.place()}: this id was already at {place(first[nbest.id])}; every utterance needs its own")
        except FormatError as error:
            if skipped is None:
                raise
            skipped.add(error)
        else:
            yield nbest


def parse_number(text: str, at: str, what: str) -> float:
    """Return the finite number that a text field holds. Raises FormatError for anything else, `nan`, `inf` and `1_000` included."""
    try:
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormatError(f'{at}: {what} is "{text}", expected a finite number')
    return value
