"""The one place where files are opened for reading: regular files, and no more than the limits.

A line has at most `Limits.line` bytes, and what is read whole at most `Limits.file`; both count
decompressed bytes. A gzip stream is counted while it inflates: beyond `Limits.inflated`, one that
grows more than `INFLATION` times is a bomb and refused. Directories, devices, sockets and named
pipes are refused, so that nothing waits for a writer or reads without an end.

Every reader gets these guards through `rescore.formats.files`. What a library opens by itself
(torch, safetensors, SQLite) goes through `check_regular` first.
"""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import sys
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

from rescore.errors import FormatError

__all__ = [
    "GZIP_MAGIC",
    "INFLATION",
    "LIMITS",
    "STANDARD",
    "Limits",
    "PathLike",
    "check_regular",
    "decompressed",
    "explained",
    "failure",
    "is_pipe",
    "name_of",
    "numbered",
    "open_input",
    "open_regular",
    "readable_size",
    "whole",
]

PathLike = str | os.PathLike[str]

#: The path of standard input and output.
STANDARD = "-"

#: How many times its size a gzip stream may grow. JSON and text of recognisers grow 5 to 30 times;
#: one block of up to 32 KiB again and again grows 137 to 1032 times (258 bytes in at most 15 bits).
INFLATION = 100

#: How a gzip stream begins.
GZIP_MAGIC = b"\x1f\x8b"
_BLOCK = 1 << 24  # bytes read at once
_ADVICE = {
    errno.EBADF: "it is closed; name a file",
    errno.EEXIST: "name another one",
    errno.ELOOP: "check the link",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file in it",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EROFS: "write somewhere else",
    errno.ENOSPC: "free some space and run this again",
    errno.EDQUOT: "free some space and run this again",
}
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@dataclass(frozen=True)
class Limits:
    """The most bytes of one line, and of a file that is held whole in memory, decompressed."""

    line: int = 1 << 26
    file: int = 1 << 30

    @property
    def inflated(self) -> int:
        """The bytes that any gzip stream may give, however small it is."""
        return self.line // 64


#: The limits of this process; the commands set them (--max-line, --max-file).
LIMITS: ContextVar[Limits] = ContextVar("LIMITS", default=Limits())  # noqa: B039 - frozen


def name_of(path: PathLike) -> str:
    """Return how messages name an input: its path as the user gave it, `stdin` for `-`."""
    return "stdin" if os.fspath(path) == STANDARD else os.fspath(path)


def readable_size(count: int) -> str:
    """Return a number of bytes as messages write it: `64 MiB`."""
    size, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.4g} {unit}"


def is_pipe(path: PathLike) -> bool:
    """Whether a path stands for standard input or a pipe of the shell, `<(command)`.

    Their bytes can be read once: a look at the start would consume it.
    """
    name = os.path.abspath(path)
    return os.fspath(path) == STANDARD or name.startswith(
        ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
    )


def check_regular(path: PathLike) -> os.stat_result:
    """Return what the system knows of a regular file, before a library opens it.

    Raises FormatError for a file that is missing, a directory, a device, a pipe or a socket.
    """
    with explained(path, "read"):
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    _refuse_irregular(path, status.st_mode)
    return status


def _refuse_irregular(path: PathLike, mode: int) -> None:
    for is_kind, kind in _KINDS:
        if is_kind(mode) and not (is_pipe(path) and not stat.S_ISBLK(mode)):
            advice = "; give - and pipe it into standard input" if stat.S_ISFIFO(mode) else ""
            raise FormatError(f"{name_of(path)}: is {kind}, expected a regular file{advice}")


def open_regular(path: PathLike) -> io.BufferedReader:
    """Open a file for reading; pipes of the shell are let through.

    Raises FormatError as `check_regular` does.
    """
    check_regular(path)

    def opener(name: str, flags: int) -> int:  # a pipe that took the file's place must not wait
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with explained(path, "read"):
        file = open(path, "rb", opener=opener)  # noqa: SIM115
    try:
        _refuse_irregular(path, os.fstat(file.fileno()).st_mode)
        if hasattr(os, "set_blocking"):
            os.set_blocking(file.fileno(), True)
    except BaseException:
        file.close()
        raise
    return file


@contextmanager
def open_input(path: PathLike) -> Iterator[BinaryIO]:
    """Yield an input, decompressed; `-` is standard input. Raises FormatError."""
    if os.fspath(path) == STANDARD:
        if sys.stdin is None:
            raise FormatError("stdin: is closed; name a file, or pipe one into standard input")
        with explained(path, "read"):
            yield decompressed(cast(io.BufferedReader, sys.stdin.buffer), name_of(path))
    else:
        with open_regular(path) as file, explained(path, "read"):
            yield decompressed(file, name_of(path))


class _Counted(io.RawIOBase):
    """The compressed bytes under a gzip stream, and how many were taken."""

    def __init__(self, file: BinaryIO) -> None:
        self.count, self._file = 0, file

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data

    def readable(self) -> bool:
        return True


class _Inflated(io.RawIOBase):
    """A gzip stream that ends in FormatError where it grows as only a bomb does."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._compressed, self._name, self._count = _Counted(file), name, 0
        self._stream = gzip.GzipFile(fileobj=cast(BinaryIO, self._compressed))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        count = self._stream.readinto(buffer)
        self._count += count
        least = LIMITS.get().inflated
        if self._count > max(least, INFLATION * self._compressed.count):
            raise FormatError(
                f"{self._name}: inflates to more than {readable_size(least)} and {INFLATION} times "
                "its size, as no text does; if it is meant to, decompress it first, or raise "
                "dlmrescore --max-line SIZE"
            )
        return count


def decompressed(file: io.BufferedReader, name: str) -> BinaryIO:
    """Decompress by content, not by name: no UTF-8 text starts with gzip's magic number."""
    if file.peek(2)[:2] != GZIP_MAGIC:
        return file
    return io.BufferedReader(_Inflated(file, name), 1 << 17)


def numbered(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of every line, numbered from 1, without its line end.

    A byte order mark at the start is dropped. Raises FormatError for a line above the limit.
    """
    limit = LIMITS.get().line
    for number, line in enumerate(iter(partial(file.readline, limit + 1), b""), 1):
        if len(line) > limit and not line.endswith(b"\n"):
            raise FormatError(
                f"{name}:{number}: the line is longer than {readable_size(limit)}; check that the "
                "file is of this format, or raise the limit: dlmrescore --max-line SIZE"
            )
        if number == 1:
            line = line.removeprefix(BOM_UTF8)  # noqa: PLW2901
            if not line:  # a file of nothing but the mark has no line
                continue
        yield number, line.removesuffix(b"\n").removesuffix(b"\r")


def whole(file: BinaryIO, name: str) -> bytes:
    """Return all bytes of an input. Raises FormatError if there are more than the limit."""
    limit = LIMITS.get().file
    blocks, count = [], 0
    while block := file.read(min(_BLOCK, limit + 1 - count)):
        blocks.append(block)
        count += len(block)
        if count > limit:
            raise FormatError(
                f"{name}: holds more than {readable_size(limit)}, and is read whole; check that it "
                "is the right file, or raise the limit: dlmrescore --max-file SIZE"
            )
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


@contextmanager
def explained(path: PathLike, action: str) -> Iterator[None]:
    """Raise what the system or a gzip stream reports as FormatError; see `failure`."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise failure(path, action, error) from error


def failure(path: PathLike, action: str, error: Exception) -> FormatError:
    """Return the system's report as one line: which file, what went wrong, what to do.

    `action` is "read" or "written".
    """
    number = error.errno if isinstance(error, OSError) else None
    reason = os.strerror(number) if number else f"{error}".rstrip(".")
    advice = _ADVICE.get(number, "") if number else "get it again, it is damaged or cut off"
    return FormatError(
        f"{name_of(path)}: cannot be {action}: {reason[:1].lower()}{reason[1:]}"
        + (f"; {advice}" if advice else "")
    )
