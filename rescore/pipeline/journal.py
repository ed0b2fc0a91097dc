"""The results of a run on disk as they are made, so that a run that was killed resumes.

One line a chunk: a checksum and a JSON object, written and synced before the next chunk ends.
Chunks are looked up by a digest of their items, so a journal needs no positions; a damaged line is
a chunk that is computed again. The first line, the header, states which run the journal belongs to.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar
from zlib import crc32

import msgspec

from rescore.errors import FormatError
from rescore.formats.bounded import LIMITS, PathLike, check_regular, readable_size
from rescore.formats.parts import try_lock
from rescore.pipeline.results import Codec

__all__ = ["Journal"]

T = TypeVar("T")

logger = logging.getLogger("rescore")

_VERSION = 2
_MOST_TOKENS = 1 << 40  # of a batch
_CHECKSUM = 9  # bytes before the JSON of a line: eight hex digits and a space


class _Entry(msgspec.Struct):
    """One chunk: the digest of its items, the batch budget in tokens, and its results."""

    chunk: str
    tokens: int
    results: list[msgspec.Raw]


@dataclass(frozen=True)
class _Line:
    """A whole line of the file: its number from 1, its place, its JSON (None if damaged)."""

    number: int
    start: int
    size: int
    payload: bytes | None


class Journal(Generic[T]):
    """The journal of one run; only one process can open it at a time.

    `tokens` is the batch budget of its last chunk (0: none), with which a resumed run makes its
    batches. `added` counts the chunks of this process.
    Raises FormatError if the file cannot be opened, or another run has it open.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.tokens = 0
        self.added = 0
        self._lines_by_digest: dict[bytes, tuple[int, int]] = {}  # start and size
        self._codec: Codec[T] | None = None
        self._output = _open_locked(self.path)
        self._input = self.path.open("rb")
        self._may_delete = os.fstat(self._output).st_size == 0

    def __enter__(self) -> Journal[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """The number of chunks."""
        return len(self._lines_by_digest)

    def begin(
        self, codec: Codec[T], settings: Mapping[str, Any], **state: Any
    ) -> Mapping[str, Any]:
        """Read the journal, or write the header of a new one.

        `settings` must equal those of the run that began the journal. Returns the `state` of that
        run; that of this run for a new journal.
        Raises FormatError naming the first setting that differs.
        """
        self._codec = codec
        settings = json.loads(json.dumps({"journal": _VERSION, **settings}))
        lines = self._read_lines()
        first = next(lines, None)
        header = None if first is None else _header(first.payload, state)
        if header is None:
            if first is not None:
                logger.warning("%s: the header is damaged; the journal starts over", self.path)
            os.ftruncate(self._output, 0)
            self._append({"settings": settings, "state": state})
            return state
        self._check_settings(header["settings"], settings)
        self._may_delete = True
        for line in lines:
            self._index(line)
        saved_state: Mapping[str, Any] = header["state"]
        return saved_state

    def get(self, digest: str) -> list[T] | None:
        """The results of the chunk with this digest; None if the journal does not hold them.

        Results that the codec refuses are damage, whatever the checksum says.
        """
        place = self._lines_by_digest.get(bytes.fromhex(digest))
        if place is None or self._codec is None:
            return None
        start, size = place
        self._input.seek(start)
        try:
            entry = msgspec.json.decode(self._input.read(size)[_CHECKSUM:], type=_Entry)
            return [self._codec.decode(bytes(result)) for result in entry.results]
        except (ValueError, RecursionError):
            self.warn_of(digest)
            return None

    def warn_of(self, digest: str) -> None:
        """Log that the chunk with this digest has results that cannot be its own."""
        start, _ = self._lines_by_digest[bytes.fromhex(digest)]
        logger.warning("%s: at byte %d: damaged; its chunk is computed again", self.path, start + 1)

    def add(self, digest: str, tokens: int, results: Sequence[T]) -> None:
        """Write one chunk and sync it to disk.

        Raises FormatError if it cannot be written; what was written before stays.
        """
        if self._codec is None:
            raise FormatError(f"{self.path}: a chunk came before the header")
        encoded = [msgspec.Raw(self._codec.encode(result)) for result in results]
        place = self._append(_Entry(digest, tokens, encoded))
        self._lines_by_digest[bytes.fromhex(digest)] = place
        self.added += 1

    def discard(self) -> None:
        """Delete the file: the run has ended and its output is complete."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file so that others can open it; delete a journal without a chunk."""
        self._input.close()
        if self._output >= 0:
            if self._may_delete and not self._lines_by_digest:
                self.discard()
            os.close(self._output)
            self._output = -1

    def _check_settings(self, saved: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        for name, value in settings.items():
            if saved.get(name) != value:
                raise FormatError(
                    f"{self.path}: belongs to another run, with {name} {_short(saved.get(name))}, "
                    f"expected {_short(value)}; finish that run, or delete the file"
                )

    def _read_lines(self) -> Iterator[_Line]:
        """Every whole line; a torn last line is cut off."""
        self._input.seek(0)
        end, limit = 0, LIMITS.get().line
        for number, line in enumerate(iter(partial(self._input.readline, limit), b""), 1):
            if len(line) == limit:
                raise FormatError(
                    f"{self.path}:{number}: the line is longer than {readable_size(limit)}; "
                    "delete the journal, or raise dlmrescore --max-line SIZE"
                )
            if not line.endswith(b"\n"):
                break
            yield _Line(number, end, len(line), _payload(line))
            end += len(line)
        os.ftruncate(self._output, end)

    def _index(self, line: _Line) -> None:
        try:
            entry = msgspec.json.decode(line.payload or b"", type=_Entry)
            if not 0 <= entry.tokens < _MOST_TOKENS:
                raise ValueError("no budget of a batch")
            self._lines_by_digest[bytes.fromhex(entry.chunk)] = (line.start, line.size)
            self.tokens = entry.tokens
        except (ValueError, RecursionError):
            logger.warning("%s:%d: damaged; its chunk is computed again", self.path, line.number)

    def _append(self, record: object) -> tuple[int, int]:
        """Write one line and sync it; returns its start and size."""
        payload = msgspec.json.encode(record)
        line = b"%08x %s\n" % (crc32(payload), payload)
        start = os.fstat(self._output).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._output, rest) :]
            os.fsync(self._output)
        except OSError as error:
            raise FormatError(
                f"{self.path}: cannot be written: {error.strerror}; "
                "mend that and run the same command again"
            ) from error
        return start, len(line)


def _payload(line: bytes) -> bytes | None:
    """The JSON of a line; None where the checksum does not match."""
    checksum, _, payload = line[:-1].partition(b" ")
    return payload if checksum == b"%08x" % crc32(payload) else None


def _header(payload: bytes | None, state: Mapping[str, Any]) -> dict[str, Any] | None:
    """The header; None where the line is something else, or the state has other names."""
    try:
        header = None if payload is None else msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(header, dict):
        return None
    parts = (header.get("settings"), header.get("state"))
    is_whole = all(isinstance(part, dict) for part in parts)
    return header if is_whole and header["state"].keys() == state.keys() else None


def _open_locked(path: Path) -> int:
    """Open for appending and lock; the system frees the lock whatever ends this process."""
    while True:
        if path.exists():
            check_regular(path)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise FormatError(
                f"{path}: cannot be opened: {error.strerror}; the journal lies beside the output, "
                "so that folder must be writable"
            ) from error
        if not try_lock(descriptor):
            os.close(descriptor)
            raise FormatError(
                f"{path}: another run is writing this output; wait for it or choose another output"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # a run that ended deleted the file between open and lock


def _short(value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = "a value of another form"
    return text if len(text) < 160 else f"{text[:157]}..."
