"""Bytes in and out: numbered lines of plain or gzipped UTF-8, and outputs that appear only whole.

Only LF and CRLF end a line: U+2028, U+0085 or a form feed inside a text never split it. `-` is
standard input or output.
"""

from __future__ import annotations

import gzip
import io
import os
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
from rescore.formats.parts import (
    held,
    is_there_still,
    new_part,
    remove_dead_parts,
)

__all__ = [
    "Output",
    "PathLike",
    "at_line",
    "atomic_writer",
    "byte_lines",
    "head",
    "lines_within",
    "make_folder",
    "name_of",
    "names_in",
    "not_utf8",
    "read_bytes",
    "refuse_same_file",
    "replace_file",
    "stem_of",
    "text_lines",
]


class Output(Protocol):
    """What `atomic_writer` yields."""

    def write(self, data: bytes, /) -> object:
        """Add bytes to the output."""

    def flush(self) -> object:
        """Hand on what was written so far."""


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

    The bytes first go to a hidden part in the same directory (rescore.formats.parts); parts that
    killed runs left are removed. A link is followed: what it names is replaced or made. A name that
    ends in `.gz` is compressed, reproducibly: no name and no time inside. `-` is standard output;
    it, devices and pipes are written directly, and what they were given cannot be taken back.
    Raises FormatError if the file cannot be written: no such directory, no permission, no space.
    """
    target = os.path.realpath(path)
    if os.fspath(path) == STANDARD:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with explained(path, "written"):
        is_special = _is_special(target)
    if is_special:
        with explained(path, "written"):
            special: BinaryIO = open(target, "wb")  # noqa: SIM115 - closed by `_output`
        with _output(path, special) as output:
            yield output
        return
    remove_dead_parts(target)
    part = new_part(target)
    with ExitStack() as held_part:
        try:  # from before the part is there: a signal may come at any moment
            with explained(path, "written"):
                file = _open_part(part, held_part)
            with _output(path, file) as output:
                yield output
            with explained(path, "written"):
                os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise


def _is_special(target: str) -> bool:
    """Whether it is there and not a regular file. Raises OSError for a name that cannot be."""
    try:
        os.lstat(target)
    except FileNotFoundError:
        return False
    return not os.path.isfile(target)


def _open_part(part: str, held_part: ExitStack) -> BinaryIO:
    """The file of a new part; `held_part` closes it and releases its lock."""
    while True:
        file = held_part.enter_context(open(part, "xb"))  # noqa: SIM115 - in the stack
        held_part.enter_context(held(file.fileno()))
        if is_there_still(part, file.fileno()):
            return file


def make_folder(path: PathLike) -> None:
    """Make a directory, with its parents, unless it is there; a link is followed.

    Raises FormatError if it cannot be made.
    """
    with explained(path, "written"):
        os.makedirs(os.path.realpath(path), exist_ok=True)


def replace_file(path: PathLike, data: bytes) -> None:
    """Write a file, whole or not at all. Raises FormatError as `atomic_writer` does."""
    with atomic_writer(path) as output:
        output.write(data)


def names_in(path: PathLike) -> list[str]:
    """Return the names in a directory, sorted.

    Raises FormatError if it is not a directory or cannot be read.
    """
    with explained(path, "read"):
        return sorted(os.listdir(path))


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

    def flush(self) -> None:
        """torch.save asks for it."""
        with explained(self._path, "written"):
            self._file.flush()


@contextmanager
def _output(path: PathLike, file: BinaryIO) -> Iterator[Output]:
    """Write to an open file, which is closed; compressed if `path` says so."""
    files = ExitStack()
    files.callback(file.close)
    try:
        with explained(path, "written"):
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
