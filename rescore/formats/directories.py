"""Outputs that are directories: they appear whole, and nothing is written over.

A directory that is there already is compared with what would be written: one that a run had
completed before it was killed is accepted when the run is repeated.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from rescore.errors import FormatError
from rescore.formats.bounded import STANDARD, PathLike, explained
from rescore.formats.files import names_in
from rescore.formats.parts import held, is_there_still, new_part, remove_dead_parts

__all__ = ["OutputDirectory", "atomic_directory"]

_DIRECTORY_BUFFER = 1 << 24


class OutputDirectory:
    """The files of a directory that is being written, by their names in it.

    They grow side by side in memory and go to disk together, 16 MB at a time.
    """

    def __init__(self, path: PathLike, folder: str) -> None:
        self._path, self._folder = path, folder
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
                self._append(name, b"".join(buffer))
        self._buffers.clear()
        self._buffered = 0

    def _append(self, name: str, data: bytes) -> None:
        file = os.path.join(self._folder, name)
        os.makedirs(os.path.dirname(file), exist_ok=True)
        with open(file, "ab") as output:
            output.write(data)


class _Comparison(OutputDirectory):
    """Compares what would be written with a directory that is there; writes nothing."""

    def __init__(self, path: PathLike, folder: str) -> None:
        super().__init__(path, folder)
        self._compared: dict[str, int] = {}  # bytes of each file

    def check_rest(self) -> None:
        """Refuse files that are longer than what was compared, and other files."""
        for folder, _, names in os.walk(self._folder):
            for name in names:
                file = os.path.join(folder, name)
                expected = self._compared.get(os.path.relpath(file, self._folder))
                if expected is None or os.path.getsize(file) != expected:
                    raise self._other(os.path.relpath(file, self._folder))

    def _append(self, name: str, data: bytes) -> None:
        start = self._compared.get(name, 0)
        try:
            with open(os.path.join(self._folder, name), "rb") as file:
                file.seek(start)
                is_same = file.read(len(data)) == data
        except OSError as error:
            raise self._other(name) from error
        if not is_same:
            raise self._other(name)
        self._compared[name] = start + len(data)

    def _other(self, name: str) -> FormatError:
        return FormatError(
            f"{os.fspath(self._path)}: is there already, with another {name}, and a directory is "
            "never written over; remove it or name another one"
        )


@contextmanager
def atomic_directory(path: PathLike) -> Iterator[OutputDirectory]:
    """Yield a directory that gets the name `path` if the block succeeds, and vanishes otherwise.

    A directory that is there may be empty, or hold exactly what is written; a link to one is
    followed. Raises FormatError if it holds anything else, if `path` is a file or `-`, or cannot be
    written: nothing is ever overwritten.
    """
    if os.fspath(path) == STANDARD:
        raise FormatError(
            "this format is a directory, which cannot go to standard output; name one with -o"
        )
    target = os.path.realpath(path)
    with explained(path, "written"):
        is_there = _is_there(target)
    if is_there and not os.path.isdir(target):
        raise FormatError(
            f"{os.fspath(path)}: is there already, and not a directory; name another one"
        )
    remove_dead_parts(target)
    if is_there and names_in(target):
        comparison = _Comparison(path, target)
        yield comparison
        comparison.flush()
        comparison.check_rest()
        return
    part = new_part(target)
    with ExitStack() as held_part:
        try:  # from before the part is there: a signal may come at any moment
            with explained(path, "written"):
                _make_part(part, held_part)
            output = OutputDirectory(path, part)
            yield output
            output.flush()
            with explained(path, "written"):
                os.replace(part, target)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise


def _is_there(target: str) -> bool:
    """Whether there is anything of this name. Raises OSError for a name that cannot be."""
    try:
        os.lstat(target)
    except FileNotFoundError:
        return False
    return True


def _make_part(part: str, held_part: ExitStack) -> None:
    """Make the directory of a new part, whose lock `held_part` releases."""
    is_made = False
    while not is_made:
        os.mkdir(part)
        descriptor = os.open(part, os.O_RDONLY)
        try:
            held_part.enter_context(held(descriptor))
            is_made = is_there_still(part, descriptor)
        finally:
            os.close(descriptor)
