"""Every id once: whatever reads, writes or counts utterances refuses an id that comes again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from rescore.errors import FormatError

__all__ = ["UniqueIds", "each_once"]


class _Named(Protocol):
    """A list or a lattice: its id, where it came from, and how messages name it."""

    @property
    def id(self) -> str: ...

    @property
    def where(self) -> str: ...

    def place(self) -> str: ...


Named = TypeVar("Named", bound=_Named)


class UniqueIds:
    """The ids that came so far, each with the number of its record: about 130 bytes an id."""

    def __init__(self, done: str, place: Callable[[int], str] | None = None) -> None:
        """`done` says for the message what is done with the items: "read", "written", "counted".

        `place(number)`, if given, names the record that had the id first.
        """
        self._done, self._place = done, place
        self._numbers: dict[str, int] = {}

    def add(self, item: _Named, number: int = 0) -> None:
        """Remember the id of a list or a lattice. Raises FormatError if it is blank or known."""
        if not item.id.strip():
            raise FormatError(
                f"{item.where or 'an utterance'}: the id is empty; every utterance needs its own"
            )
        if item.id in self._numbers:
            first = self._numbers[item.id]
            again = (
                f"{self._done} before"
                if self._place is None
                else f"already at {self._place(first)}"
            )
            raise FormatError(f"{item.place()}: this id was {again}; every utterance needs its own")
        self._numbers[item.id] = number


def each_once(items: Iterable[Named], done: str) -> Iterator[Named]:
    """Yield the lists or lattices. Raises FormatError for an id that is blank or comes again."""
    ids = UniqueIds(done)
    for item in items:
        ids.add(item)
        yield item
