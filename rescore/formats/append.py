"""A native file that grows while a recogniser runs: whole lines, on disk after every batch, readable whenever the run is killed.

A file belongs to one group of settings, which stand in the `meta` of every record. A second run of the same settings goes on where the first one
stopped: what it brings again is left out, so that the file ends as if there had been one run.
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
from rescore.formats.files import PathLike, at_line, is_held, name_of
from rescore.formats.record import from_dict
from rescore.formats.strict_json import decode
from rescore.types import NBest

__all__ = ["Appender"]

_BLOCK = 1 << 16
_BEGINNING = b'{"id":"'


class Appender:
    """Appends lists to a native file, created if it is not there. It holds the file until it is closed; it remembers the id of every list.

    `settings` go into the `meta` of every record. A last line without its line end, which a killed run leaves, is cut off when the file is opened.
    Raises FormatError if the file cannot be written, holds something else or lists of other settings, or another process is appending to it.
    """

    def __init__(self, path: PathLike, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.settings = dict(settings)
        self._now: set[str] = set()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise self._failure("opened", error) from error
        try:
            if not is_held(self._file):
                raise FormatError(
                    f"{name_of(path)}: another process is appending to this file; "
                    "wait for it or name another file"
                )
            end = self._end_of_lines()
            self._before = {self._checked(nbest) for nbest in self._whole_lists(end)}
            os.ftruncate(self._file, end)  # only now that it is known to be such a file
        except BaseException:
            self.close()
            raise

    def append(self, lists: Iterable[NBest]) -> int:
        """Write lists, all or none of them, and return how many were new: those of an earlier run are left out.

        Raises FormatError for an id that this run brought before and if the disk is full, ScoreError for a score that is not finite.
        """
        lines, ids = [], []
        for nbest in lists:
            if nbest.id in self._now or nbest.id in ids:
                raise FormatError(
                    f"{nbest.place()}: this id was appended to {name_of(self.path)} before; "
                    "every utterance needs its own"
                )
            ids.append(nbest.id)
            if nbest.id not in self._before:
                meta = {**self.settings, **nbest.raw.get("meta", {})}
                lines.append(jsonl.encode(replace(nbest, raw={**nbest.raw, "meta": meta})) + b"\n")
        self._write(b"".join(lines))
        self._now.update(ids)
        return len(lines)

    def close(self) -> None:
        """Let the file go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        """The bytes and a flush to the disk; if they do not fit, the file is what it was."""
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
        """Where the last line ends, looking backwards a block at a time. What has no line end at all has to be the beginning of a record."""
        end = os.fstat(self._file).st_size
        while end:
            start = max(0, end - _BLOCK)
            found = os.pread(self._file, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        beginning = os.pread(self._file, len(_BEGINNING), 0)
        if not _BEGINNING.startswith(beginning):
            raise FormatError(
                f"{name_of(self.path)}: is no native file that was being appended to; "
                "name another file"
            )
        return 0

    def _whole_lists(self, end: int) -> Iterator[NBest]:
        """The lists up to a place in the file, checked as `jsonl.read` does."""
        left = end

        def lines() -> Iterator[tuple[int, bytes]]:
            nonlocal left
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

    def _failure(self, done: str, error: OSError) -> FormatError:
        return FormatError(
            f"{name_of(self.path)}: cannot be {done}: {os.strerror(error.errno or 0).lower()}"
        )
