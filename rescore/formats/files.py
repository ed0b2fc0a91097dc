"""Bytes in and out: numbered lines of plain or gzipped UTF-8, and outputs that appear only whole.

Only LF and CRLF end a line: U+2028, U+0085 or a form feed inside a text never split it. `-` is
standard input or output.
"""

from __future__ import annotations

import gzip
import io
import os
import secrets
import shutil
import sys
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from rescore.errors import FormatError
from rescore.formats.bounded import (
    STANDARD,
    PathLike,
    decompressed,
    explained,
    failure,
    is_pipe,
    name_of,
    numbered,
    open_input,
    whole,
)

__all__ = [
    "Output",
    "OutputDirectory",
    "PathLike",
    "at_line",
    "atomic_directory",
    "atomic_writer",
    "byte_lines",
    "head",
    "lines_within",
    "name_of",
    "names_in",
    "not_utf8",
    "read_bytes",
    "refuse_same_file",
    "stem_of",
    "text_lines",
    "try_lock",
]

_DIRECTORY_BUFFER = 1 << 24


class Output(Protocol):
    """What `atomic_writer` yields."""

    def write(self, data: bytes, /) -> object:
        """Add bytes to the output."""


def stem_of(path: PathLike) -> str:
    """Return the file name without `.gz` and the suffix before that: `a/dev.json.gz` -> `dev`."""
    return Path(name_of(path).removesuffix(".gz")).stem


def at_line(path: PathLike) -> Callable[[int], str]:
    """Return the function that names a line of this file: 12 -> `dev.jsonl:12`."""
    name = name_of(path)
    return lambda number: f"{name}:{number}"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Describe a byte that is not UTF-8, for a message that already says where."""
    return (
        f"not UTF-8 (byte 0x{error.object[error.start]:02x} at position {error.start + 1}); "
        "convert the file first, for example with iconv"
    )


def byte_lines(path: PathLike) -> Iterator[tuple[int, bytes]]:
    """Yield (number, line) of every line, numbered from 1, without its line end.

    A byte order mark at the start of the file is dropped. Raises FormatError if the file cannot be
    read or its gzip stream is damaged.
    """
    with open_input(path) as file:
        yield from numbered(file, name_of(path))


def text_lines(path: PathLike) -> Iterator[tuple[int, str]]:
    """Yield (number, line) as `byte_lines` does, decoded.

    Raises FormatError naming the line that is not UTF-8.
    """
    return _decoded(byte_lines(path), name_of(path))


def lines_within(file: io.BufferedReader, name: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line), as `text_lines` does, of an open file such as a member of an archive.

    Messages call it `name`.
    """
    with explained(name, "read"):
        yield from _decoded(numbered(decompressed(file, name), name), name)


def _decoded(lines: Iterator[tuple[int, bytes]], name: str) -> Iterator[tuple[int, str]]:
    for number, line in lines:
        try:
            yield number, line.decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"{name}:{number}: {not_utf8(error)}") from error


def read_bytes(path: PathLike) -> bytes:
    """Return a whole file, decompressed, without its byte order mark.

    Raises FormatError if it cannot be read, or holds more than the limit of whole files.
    """
    with open_input(path) as file:
        return whole(file, name_of(path)).removeprefix(BOM_UTF8)


def head(path: PathLike, size: int) -> bytes:
    """Return the first `size` bytes at most, decompressed, without a byte order mark.

    Nothing of standard input and pipes, where a look would consume it. Raises FormatError if they
    cannot be read.
    """
    if is_pipe(path):
        return b""
    with open_input(path) as file:
        return file.read(size).removeprefix(BOM_UTF8)


@contextmanager
def atomic_writer(path: PathLike) -> Iterator[Output]:
    """Yield an output that gets the name `path` if the block succeeds, and vanishes otherwise.

    The bytes first go to a hidden file in the same directory. A name that ends in `.gz` is
    compressed, reproducibly: no name and no time inside. `-` is standard output; it, devices and
    pipes are written directly, and what they were given cannot be taken back.
    Raises FormatError if the file cannot be written: no such directory, no permission, no space.
    """
    target = os.path.realpath(path)
    if os.fspath(path) == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    elif os.path.exists(target) and not os.path.isfile(target):
        with _output(path, target, "wb") as output:
            yield output
    else:
        part = os.path.join(
            os.path.dirname(target), f".{os.path.basename(target)[:40]}.{secrets.token_hex(8)}.part"
        )
        try:
            with _output(path, part, "xb") as output:
                yield output
            with explained(path, "written"):
                os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise


class OutputDirectory:
    """The files of a directory that is being written, by their names in it.

    They grow side by side in memory and go to disk together, 16 MB at a time.
    """

    def __init__(self, path: PathLike, part: str) -> None:
        self._path, self._part = path, part
        self._buffers: dict[str, list[bytes]] = {}
        self._buffered = 0

    def add(self, name: str, data: bytes) -> None:
        """Append bytes to one file (`words`, or `1best_recog/text`).

        Raises FormatError if they cannot be written.
        """
        self._buffers.setdefault(name, []).append(data)
        self._buffered += len(data)
        if self._buffered > _DIRECTORY_BUFFER:
            self.flush()

    def flush(self) -> None:
        """Write what is in memory. Raises FormatError if it cannot be written."""
        with explained(self._path, "written"):
            for name, buffer in self._buffers.items():
                file = os.path.join(self._part, name)
                os.makedirs(os.path.dirname(file), exist_ok=True)
                with open(file, "ab") as output:
                    output.writelines(buffer)
        self._buffers.clear()
        self._buffered = 0


@contextmanager
def atomic_directory(path: PathLike) -> Iterator[OutputDirectory]:
    """Yield a directory that gets the name `path` if the block succeeds, and vanishes otherwise.

    Raises FormatError if `path` exists (unless it is an empty directory), is `-`, or cannot be
    written: nothing is ever overwritten.
    """
    if os.fspath(path) == STANDARD:
        raise FormatError(
            "this format is a directory, which cannot go to standard output; name one with -o"
        )
    target = os.path.realpath(path)
    if os.path.exists(target) and not (os.path.isdir(target) and not names_in(target)):
        raise FormatError(
            f"{os.fspath(path)}: is there already, and a directory is never written over; "
            "remove it or name another one"
        )
    part = os.path.join(
        os.path.dirname(target), f".{os.path.basename(target)[:40]}.{secrets.token_hex(8)}.part"
    )
    try:
        with explained(path, "written"):
            os.mkdir(part)
        output = OutputDirectory(path, part)
        yield output
        output.flush()
        with explained(path, "written"):
            os.replace(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def names_in(path: PathLike) -> list[str]:
    """Return the names in a directory, sorted.

    Raises FormatError if it is not a directory or cannot be read.
    """
    with explained(path, "read"):
        return sorted(os.listdir(path))


def try_lock(descriptor: int) -> bool:
    """Lock an open file against other processes; return False if another process holds the lock.

    The lock lasts as long as the file is open; the system releases it whatever happens to this
    process. Always True where there are no such locks (Windows).
    """
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def refuse_same_file(source: PathLike, target: PathLike) -> None:
    """Raise FormatError if `target` would overwrite the input `source`, or lies inside it.

    The same file counts under every path and link. `-` never clashes.
    """
    if STANDARD in (os.fspath(source), os.fspath(target)):
        return
    try:
        same = os.path.samefile(source, target)
    except OSError:  # one of them does not exist yet
        same = os.path.realpath(source) == os.path.realpath(target)
    if same:
        raise FormatError(
            f"{os.fspath(target)}: is also the input ({os.fspath(source)}); write to another file"
        )
    if (
        os.path.isdir(source)
        and Path(os.path.realpath(source)) in Path(os.path.realpath(target)).parents
    ):
        raise FormatError(
            f"{os.fspath(target)}: lies in the input ({os.fspath(source)}); write somewhere else"
        )


class _Output:
    """A binary file whose failures name the path that the user gave.

    Other errors inside the `with` block pass through unchanged.
    """

    def __init__(self, path: PathLike, file: BinaryIO) -> None:
        self._path, self._file = path, file

    def write(self, data: bytes, /) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            raise failure(self._path, "written", error) from error


@contextmanager
def _output(path: PathLike, opened: str, mode: str) -> Iterator[Output]:
    files = ExitStack()
    try:
        with explained(path, "written"):
            file = cast(BinaryIO, files.enter_context(open(opened, mode)))  # noqa: SIM115
            if os.fspath(path).endswith(".gz"):
                file = cast(
                    BinaryIO, files.enter_context(gzip.GzipFile("", "wb", 6, file, mtime=0))
                )
        yield _Output(path, file)
    except BaseException:
        with suppress(OSError):
            files.close()
        raise
    with explained(path, "written"):
        files.close()
