"""Read the lattices of a file or directory in a named format, or in the one its content proves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.files import PathLike, name_of
from rescore.formats.reading import proven_formats
from rescore.lattice.formats.base import LatticeFormat
from rescore.lattice.lattice import Lattice
from rescore.registry import LATTICE_FORMATS, lookup

__all__ = ["lattice_format_of", "read_lattices"]

#: Bytes of a file that are searched for the proof of its format.
_HEAD_SIZE = 1 << 20


def read_lattices(path: PathLike, format: str | None = None, **options: Any) -> Iterator[Lattice]:
    """Yield the lattices of a file or directory.

    `format` is the name of a format; without one, the content must prove it. `options` go to the
    reader. Raises FormatError if the content proves no format, and for broken lattices;
    RescoreError for an unknown name.
    """
    lattice_format: LatticeFormat
    if format is None:
        lattice_format = lattice_format_of(path)
    else:
        lattice_format = lookup(LATTICE_FORMATS, format, "lattice format")
    for name in options:
        if name not in lattice_format.read_options:
            names = ", ".join(lattice_format.read_options) or "none"
            raise FormatError(
                f'the lattice format {lattice_format.name} has no option "{name}"; it has {names}'
            )
    return lattice_format.read(path, **options)


def lattice_format_of(path: PathLike) -> LatticeFormat:
    """Return the one lattice format that a file's first megabyte, or a directory's names, prove.

    Only built-in formats are tried. Raises FormatError otherwise: the caller has to name it.
    """
    proven = proven_formats(path, "lattice format", _HEAD_SIZE)
    if len(proven) != 1:
        raise FormatError(
            f"{name_of(path)}: its content does not prove its lattice format; "
            f"name it: {', '.join(sorted(LATTICE_FORMATS))}"
        )
    return proven[0]
