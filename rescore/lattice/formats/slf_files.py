"""The files of a set of lattices with one file an utterance: a file, a directory or a tar."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO, cast

from rescore.errors import FormatError
from rescore.formats.bounded import GZIP_MAGIC, open_regular
from rescore.formats.files import (
    PathLike,
    head,
    lines_within,
    name_of,
    names_in,
    read_bytes,
    stem_of,
    text_lines,
)

__all__ = ["Source", "sources"]


@dataclass(frozen=True)
class Source:
    """One file: its name in messages, its name without .gz and suffix, its numbered lines."""

    name: str
    stem: str
    lines: Callable[[], Iterator[tuple[int, str]]]


def sources(path: PathLike) -> Iterator[Source]:
    """Yield the file, or the files of a directory or a tar, sorted by name.

    Names that begin with a dot are ignored. Raises FormatError if there is no file, or if one
    cannot be read.
    """
    if os.path.isdir(path):
        names = [name for name in names_in(path) if not name.startswith(".")]
        if not names:
            raise FormatError(
                f"{name_of(path)}: the directory holds no file; name the one with the lattices"
            )
        for name in names:
            yield _source(os.path.join(path, name))
    elif os.path.isfile(path) and head(path, 262)[257:] == b"ustar":
        yield from _members(path)
    else:
        yield _source(path)


def _source(path: PathLike) -> Source:
    return Source(name_of(path), stem_of(path), lambda: text_lines(path))


def _members(path: PathLike) -> Iterator[Source]:
    """The files of a tar. Each must be read before the next one."""
    try:
        with _archive_file(path) as file, closing(tarfile.open(fileobj=file, mode="r:")) as archive:
            members = sorted(
                (member for member in archive.getmembers() if not member.isdir()),
                key=lambda member: member.name,
            )
            members = [
                member for member in members if PurePath(member.name).name[:1] not in ("", ".")
            ]
            if not members:
                raise FormatError(
                    f"{name_of(path)}: the archive holds no file; name the one with the lattices"
                )
            for member in members:
                yield _member(archive, member, f"{name_of(path)}/{member.name}")
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise FormatError(
            f"{name_of(path)}: cannot be read as a tar archive "
            f"({' '.join(str(error).split())}); get it again"
        ) from error


def _archive_file(path: PathLike) -> BinaryIO:
    """A plain tar as it lies on disk; a gzipped one inflated in memory, as far as files may be."""
    file = open_regular(path)
    if file.peek(2)[:2] != GZIP_MAGIC:
        return file
    file.close()
    return io.BytesIO(read_bytes(path))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> Source:
    if not member.isreg():
        raise FormatError(
            f"{name}: a link or a device, expected a file; "
            "unpack the archive and name the directory"
        )

    def lines() -> Iterator[tuple[int, str]]:
        with closing(cast(io.BufferedReader, archive.extractfile(member))) as file:
            yield from lines_within(file, name)

    return Source(name, stem_of(member.name), lines)
