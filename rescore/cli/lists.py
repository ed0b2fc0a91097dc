"""The N-best lists that a command reads, and a report of the records that it skipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from rescore.errors import FormatError
from rescore.formats import Format, Skipped, format_of
from rescore.formats.base import Option, parse_options
from rescore.formats.files import name_of, refuse_same_file
from rescore.formats.references import join_references, read_references
from rescore.registry import FORMATS, lookup
from rescore.types import NBest

__all__ = ["InputOptions", "ListReader", "format_options", "refuse_option_files"]

_BLOCK = 1 << 20  # bytes
_COUNTED = 1 << 34  # bytes of a file whose lines are counted for a progress bar


@dataclass(frozen=True)
class InputOptions:
    """One input of N-best lists and how to read it.

    `format_name` None: the content decides. `reader_options` are KEY=VALUE texts. `refs` is a
    file of references, whose ids are of the kind `refs_ids`. `on_error`: stop at a broken record,
    or skip it.
    """

    path: str
    format_name: str | None = None
    reader_options: tuple[str, ...] = ()
    refs: str | None = None
    refs_ids: str = "id"
    on_error: Literal["stop", "skip"] = "stop"

    def reader(self, output: str) -> ListReader:
        """The lists, for a command that writes `output`.

        Raises FormatError if the output is also an input, click.UsageError for options that do
        not fit.
        """
        return ListReader(self, output)


class ListReader:
    """The lists of one input, one at a time; at the end it reports the skipped records."""

    def __init__(self, source: InputOptions, output: str) -> None:
        refuse_same_file(source.path, output)
        if source.refs is None and source.refs_ids != "id":
            raise click.UsageError(
                "--refs-ids says which ids the file of --refs goes by; give --refs"
            )
        self._source = source
        self._format: Format[NBest] = (
            format_of(source.path)
            if source.format_name is None
            else lookup(FORMATS, source.format_name, "format")
        )
        declared = self._format.read_options
        owner = f"--from {self._format.name}"
        self._options = format_options(declared, source.reader_options, owner, "-O")
        if source.refs is not None:
            refuse_same_file(source.refs, output)
        refuse_option_files(declared, self._options, output)
        self._skipped = Skipped() if source.on_error == "skip" else None

    def __iter__(self) -> Iterator[NBest]:
        path, refs = self._source.path, self._source.refs
        lists: Iterable[NBest] = self._format.read(path, skipped=self._skipped, **self._options)
        if refs is not None:
            lists = self._joined(lists, read_references(refs, ids=self._source.refs_ids))
        is_empty = True
        for nbest in lists:
            is_empty = False
            yield nbest
        self._report()
        if is_empty:
            raise FormatError(
                f"{name_of(path)}: holds no usable list; expected at least one utterance"
            )

    def _joined(self, lists: Iterable[NBest], references: Mapping[str, str]) -> Iterator[NBest]:
        for nbest in lists:
            try:
                yield from join_references([nbest], references)
            except FormatError as error:
                if self._skipped is None:
                    raise
                self._skipped.add(error)

    def _report(self) -> None:
        if self._skipped is None or not self._skipped.count:
            return
        for message in self._skipped.messages:
            click.echo(f"skipped: {message}", err=True)
        click.echo(
            f"{name_of(self._source.path)}: {self._skipped.count} broken records were skipped",
            err=True,
        )

    def total(self) -> int | None:
        """The number of lines of a plain native file, for progress bars; None for other inputs."""
        path = Path(self._source.path)
        if path.suffix != ".jsonl" or not path.is_file():
            return None
        if path.stat().st_size > _COUNTED:
            return None
        lines = 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                lines += block.count(b"\n")
        return lines


def format_options(
    declared: Mapping[str, Option], assignments: Iterable[str], owner: str, flag: str
) -> dict[str, Any]:
    """Return the keywords of a reader or writer from KEY=VALUE texts.

    Raises click.UsageError, which names the known options, for one that does not fit.
    """
    try:
        return parse_options(declared, assignments, owner, flag)
    except FormatError as error:
        raise click.UsageError(str(error)) from error


def refuse_option_files(
    declared: Mapping[str, Option], values: Mapping[str, Any], output: str
) -> None:
    """Raise FormatError if an option of a format names the output as a file to read."""
    for key, option in declared.items():
        if option.is_file and values.get(key) is not None:
            refuse_same_file(values[key], output)
