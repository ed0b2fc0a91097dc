"""Lattices: outside files to one in-memory form, and what can be computed on it without k2."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.files import PathLike, name_of
from rescore.formats.reading import proven_formats
from rescore.lattice.formats.base import LatticeFormat
from rescore.lattice.lattice import Lattice
from rescore.lattice.symbols import text_of
from rescore.registry import LATTICE_FORMATS, lookup

__all__ = ["Lattice", "LatticeFormat", "lattice_format_of", "read_lattices", "text_of"]

_HEAD_SIZE = 1 << 20


def read_lattices(path: PathLike, format: str | None = None, **options: Any) -> Iterator[Lattice]:
    """Yield the lattices of a file or directory in the format of that name; without one, in the format its content proves. `options` go to the reader.

    Raises FormatError if the content proves no format and for broken lattices, RescoreError if the name is unknown.
    """
    chosen: LatticeFormat = (
        lookup(LATTICE_FORMATS, format, "lattice format")
        if format is not None
        else lattice_format_of(path)
    )
    for name in options:
        if name not in chosen.read_options:
            raise FormatError(
                f'the lattice format {chosen.name} has no option "{name}"; it has {", ".join(chosen.read_options) or "none"}'
            )
    return chosen.read(path, **options)


def lattice_format_of(path: PathLike) -> LatticeFormat:
    """Return the one lattice format that the first megabyte of a file, or the names in a directory, prove.

    Only built-in formats are tried. Raises FormatError otherwise: the caller has to name it.
    """
    proven = proven_formats(path, "lattice format", _HEAD_SIZE)
    if len(proven) != 1:
        raise FormatError(
            f"{name_of(path)}: its content does not prove its lattice format; name it: {', '.join(sorted(LATTICE_FORMATS))}"
        )
    return proven[0]
