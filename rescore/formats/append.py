"""A native file that grows while a recogniser runs.

Lines are whole and on disk after every batch, so the file is readable whenever the run is killed.
It belongs to one group of settings, which stand in the `meta` of every record. A second run with
the same settings goes on where the first one stopped: lists that the file holds are skipped, so
that it ends as if there had been one run.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from rescore.errors import FormatError
from rescore.formats import jsonl
from rescore.formats.base import convert_each
from rescore.formats.files import PathLike, at_line, name_of
from rescore.formats.parts import try_lock
from rescore.formats.record import from_dict
from rescore.formats.strict_json import decode
from rescore.types import NBest

__all__ = ["Appender"]

_BLOCK = 1 << 16
_BEGINNING = b'{"id":"'


class Appender:
    """Appends lists to a native file, which is created if need be, and locked until it is closed.

    `settings` go into the `meta` of every record. Opening cuts off a last line without a line end,
    which a killed run leaves. Memory: the id of every list.
    Raises FormatError if the file cannot be written, holds anything but lists of these settings,
    or another process is appending to it.
    """

    def __init__(self, path: PathLike, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = dict(settings)
        self._appended: set[str] = set()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._failure("opened", error) from error
        try:
            if not try_lock(self._file):
                raise FormatError(
                    f"{name_of(path)}: another process is appending to this file; "
                    "wait for it or name another file"
                )
            end = self._end_of_lines()
            self._earlier = {self._checked(nbest) for nbest in self._whole_lists(end)}
            os.ftruncate(self._file, end)  # only now that it is known to be such a file
        except BaseException:
            self.close()
            raise

    def append(self, lists: Iterable[NBest]) -> int:
        """Write lists, all or none of them, and return how many were new.

        Lists that an earlier run wrote are skipped. Raises FormatError for an id that this run
        wrote already and if the disk is full, ScoreError for a score that is not finite.
        """
        lines, ids = [], []
        for nbest in lists:
            if nbest.id in self._appended or nbest.id in ids:
                raise FormatError(
                    f"{nbest.place()}: this id was appended to {name_of(self.path)} before; "
                    "every utterance needs its own"
                )
            ids.append(nbest.id)
            if nbest.id not in self._earlier:
                meta = {**self.settings, **nbest.raw.get("meta", {})}
                lines.append(jsonl.encode(replace(nbest, raw={**nbest.raw, "meta": meta})) + b"\n")
        self._write(b"".join(lines))
        self._appended.update(ids)
        return len(lines)

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        """Write and flush to disk; if that fails, the file stays as it was."""
        size = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, size)
            raise self._failure("written", error) from error

    def _end_of_lines(self) -> int:
        """The offset after the last line end, found by reading backwards block by block.

        A file without a line end has to be the beginning of a record.
        """
        end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - _BLOCK)
            line_end = os.pread(self._file, end - start, start).rfind(b"\n")
            if line_end >= 0:
                return start + line_end + 1
            end = start
        beginning = os.pread(self._file, len(_BEGINNING), 0)
        if not _BEGINNING.startswith(beginning):
            raise FormatError(
                f"{name_of(self.path)}: is not a native file that was being appended to; "
                "name another file"
            )
        return 0

    def _whole_lists(self, end: int) -> Iterator[NBest]:
        """The lists before this offset, checked as `jsonl.read` does."""

        def lines() -> Iterator[tuple[int, bytes]]:
            left = end
            with os.fdopen(os.dup(self._file), "rb") as file:
                file.seek(0)
                for number, line in enumerate(file, 1):
                    left -= len(line)
                    if left < 0:
                        return
                    yield number, line

        return convert_each(
            lines(),
            lambda line, where: from_dict(decode(line, where), where),
            at_line(self.path),
            None,
        )

    def _checked(self, nbest: NBest) -> str:
        meta = nbest.raw.get("meta", {})
        for name, value in self.settings.items():
            if meta.get(name) != value:
                raise FormatError(
                    f"{nbest.place()}: was written with {name} {meta.get(name)!r}, "
                    f"expected {value!r}; append to another file, or remove this one"
                )
        return nbest.id

    def _failure(self, action: str, error: OSError) -> FormatError:
        return FormatError(
            f"{name_of(self.path)}: cannot be {action}: {os.strerror(error.errno or 0).lower()}"
        )
