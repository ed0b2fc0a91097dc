"""Formats in and out, one file each. docs/formats.md describes them, docs/adding.md and docs/adding_a_format.md how to add one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.base import Format, Skipped
from rescore.formats.files import PathLike, head, name_of, names_in
from rescore.registry import FORMATS, lookup
from rescore.types import NBest

__all__ = ["Format", "Skipped", "format_of", "read_lists"]

_HEAD = 1 << 24


def read_lists(
    path: PathLike, name: str | None = None, *, skipped: Skipped | None = None, **options: Any
) -> Iterator[NBest]:
    """Yield the lists of a file in the format called `name`; without a name, in the one its content proves. `options` go to the reader.

    Raises FormatError if the content proves no format and for broken records, RescoreError if the name is unknown.
    """
    chosen: Format = lookup(FORMATS, name, "format") if name is not None else format_of(path)
    return chosen.read(path, skipped=skipped, **options)


def format_of(path: PathLike) -> Format:
    """Return the one format that the first 16 MB of a file, or the names in a directory, prove.

    Where they prove none, a name that ends in `.jsonl` promises the native one. Only built-in formats are tried: what else is installed never changes
    how a file is read. Raises FormatError otherwise: the caller has to say which it is.
    """
    known: list[Format] = [lookup(FORMATS, name, "format") for name in sorted(FORMATS)]
    if os.path.isdir(path):
        names = set(names_in(path))
        proven = [found for found in known if found.proven_by_names(names)]
    else:
        start = _start_of(path)
        proven = [found for found in known if found.proven_by(start)]
    if not proven and name_of(path).removesuffix(".gz").endswith(".jsonl"):
        native: Format = lookup(
            FORMATS, "jsonl", "format"
        )  # so that a broken first line is named by file and line
        return native
    if len(proven) != 1:
        raise FormatError(
            f"{name_of(path)}: its content does not prove its format; name it with --from (`dlmrescore formats` lists them)"
        )
    return proven[0]


def _start_of(path: PathLike) -> str:
    """The start of a file. Standard input and pipes prove nothing: what is read from them for a look is gone."""
    if os.fspath(path) == "-" or (os.path.exists(path) and not os.path.isfile(path)):
        return ""
    return head(path, _HEAD).decode(errors="replace")
