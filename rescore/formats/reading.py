"""Reading lists in a known format, or in the one that the content proves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from rescore.arguments import kind_of, refuse_unknown
from rescore.errors import ArgumentError, FormatError
from rescore.formats.base import Format, Skipped
from rescore.formats.files import PathLike, head, name_of, names_in
from rescore.formats.shapes import guess
from rescore.registry import FORMATS, KINDS, lookup, resolve
from rescore.types import NBest

__all__ = ["format_of", "proven_formats", "read_lists"]

_HEAD_SIZE = 1 << 24  # the first value of a JSON file has to be in it


def read_lists(
    path: PathLike, name: str | None = None, *, skipped: Skipped | None = None, **options: Any
) -> Iterator[NBest]:
    """Yield the lists of a file in the format `name`; without it, in the one its content proves.

    `options` go to the reader. Raises FormatError if the content proves no format and for broken
    records, RescoreError if the name is unknown, ArgumentError for an option that it lacks.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"read takes the path of a file, got {kind_of(path)}")
    format: Format[NBest] = format_of(path) if name is None else lookup(FORMATS, name, "format")
    refuse_unknown(options, format.read_options, f"option of the format {format.name}")
    return format.read(path, skipped=skipped, **options)


def format_of(path: PathLike) -> Format[NBest]:
    """Return the one format that the first 16 MB of a file, or the names in a directory, prove.

    If they prove none, a name that ends in `.jsonl` stands for the native format. Raises
    FormatError otherwise: the caller has to name the format.
    """
    proven = proven_formats(path, "format", _HEAD_SIZE)
    if len(proven) == 1:
        return proven[0]
    if not proven and name_of(path).removesuffix(".gz").endswith(".jsonl"):
        # The native reader says what is wrong with the first line, and where.
        native: Format[NBest] = lookup(FORMATS, "jsonl", "format")
        return native
    raise FormatError(
        f"{name_of(path)}: its content does not prove its format; {_advice(path)}name it with "
        "--from (`dlmrescore formats` lists them)"
    )


def _advice(path: PathLike) -> str:
    """What the file looks like, with the options that confirm it; nothing if it looks like none."""
    if os.path.isdir(path):
        return ""
    shape = guess(head(path, _HEAD_SIZE).decode(errors="replace"))
    return "" if shape is None else f"it looks like {shape}; confirm that, or "


def proven_formats(path: PathLike, kind: str, head_size: int) -> list[Format[Any]]:
    """Return the formats that the first bytes of a file, or the names in a directory, prove.

    `kind` is the registry's: "format" or "lattice format". Only built-in formats are tried, so
    that installing a package never changes how a file is read. Raises FormatError if the path
    cannot be read.
    """
    table = KINDS[kind].builtin
    formats: list[Format[Any]] = [resolve(table[name]) for name in sorted(table)]
    if os.path.isdir(path):
        names = set(names_in(path))
        return [format for format in formats if format.proven_by_names(names)]
    start = head(path, head_size)
    text = start.decode(errors="replace")
    return [format for format in formats if format.proven_by(text) or format.proven_by_bytes(start)]
