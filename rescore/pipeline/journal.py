"""The scores of a run on disk as they are made, so that a run that was killed goes on instead of starting again.

One line a chunk: a checksum and a JSON object, written at once and seen on the disk before the next chunk begins. Chunks are found by a digest of
their lists, so a journal needs no positions, and a line that is damaged is a chunk that is scored again. The first line says what the run is.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import msgspec

from rescore.errors import FormatError
from rescore.formats.files import PathLike, is_held
from rescore.types import Score, ScoreKind

__all__ = ["Journal", "Stored", "restored", "stored"]

logger = logging.getLogger("rescore")

_VERSION = 1


class Stored(msgspec.Struct, omit_defaults=True):
    """One Score without what all have in common; NaN, an unknown standard error, is null."""

    values: tuple[float, ...]
    evaluations: int
    std_errors: tuple[float | None, ...] | None = None
    token_scores: tuple[tuple[tuple[str, float], ...], ...] | None = None


class _Entry(msgspec.Struct):
    """One chunk: the digest of its lists, the budget of its batches, its scores."""

    chunk: str
    tokens: int
    scores: list[Stored]


class Journal:
    """The journal of one run; nobody else can open it at the same time.

    `tokens` is the budget of the last chunk in it (0: none): the run that goes on makes its batches with it. `added` counts this run's chunks.
    Raises FormatError if the file cannot be opened, or another run has it open.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(path)
        self.tokens = self.added = 0
        self._places: dict[bytes, tuple[int, int]] = {}
        self._signature = ""
        self._kind: ScoreKind = "log_prob"
        self._output = _locked(self.path)
        self._input = self.path.open("rb")
        self._is_ours = not os.fstat(self._output).st_size

    def __enter__(self) -> Journal:
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
        return len(self._places)

    def begin(
        self, signature: str, kind: ScoreKind, settings: Mapping[str, Any], **state: Any
    ) -> Mapping[str, Any]:
        """Read what is there. `settings` must be those it was begun with; returns the `state` of that first time, which is now's for a new journal.

        Raises FormatError naming the first setting that differs.
        """
        self._signature, self._kind = signature, kind
        own = json.loads(json.dumps({"journal": _VERSION, "signature": signature, **settings}))
        content = self._lines()
        first = next(content, None)
        header = None if first is None else _header(first[1])
        if header is None:
            if first is not None:
                logger.warning("%s: is damaged at its start and is made anew", self.path)
            os.ftruncate(self._output, 0)
            self._append({"settings": own, "state": state})
            return state
        for name, here in own.items():
            there = header["settings"].get(name)
            if there != here:
                raise FormatError(
                    f"{self.path}: is of another run, with {name} {_short(there)} and not {_short(here)}; finish that run, or delete the file"
                )
        self._is_ours = True
        for number, payload, place in content:
            self._index(number, payload, place)
        kept: Mapping[str, Any] = header["state"]
        return kept

    def get(self, digest: str) -> list[Score] | None:
        """The scores of the chunk with this digest; None if it was not scored yet."""
        place = self._places.get(bytes.fromhex(digest))
        if place is None:
            return None
        self._input.seek(place[0])
        entry = msgspec.json.decode(self._input.read(place[1])[9:], type=_Entry)
        return [restored(one, self._signature, self._kind) for one in entry.scores]

    def add(self, digest: str, tokens: int, scores: Sequence[Score]) -> None:
        """Write one chunk and see it on the disk. Raises FormatError if it cannot be written; what was there stays."""
        self.added += 1
        self._append(_Entry(digest, tokens, [stored(score) for score in scores]))

    def discard(self) -> None:
        """Delete the file: the run has ended and its output stands."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let others open it. A journal without a chunk is of no use and deleted."""
        self._input.close()
        if self._output >= 0:
            if self._is_ours and not self._places:
                self.discard()
            os.close(self._output)
            self._output = -1

    def _lines(self) -> Iterator[tuple[int, bytes | None, tuple[int, int]]]:
        """(number, payload or None, place) of every whole line; a torn last line is cut off."""
        self._input.seek(0)
        end = 0
        for number, line in enumerate(self._input, 1):
            if not line.endswith(b"\n"):
                break
            yield number, _payload(line), (end, len(line))
            end += len(line)
        os.ftruncate(self._output, end)

    def _index(self, number: int, payload: bytes | None, place: tuple[int, int]) -> None:
        try:
            entry = msgspec.json.decode(payload or b"", type=_Entry)
            self._places[bytes.fromhex(entry.chunk)] = place
            self.tokens = entry.tokens
        except (msgspec.MsgspecError, ValueError):
            logger.warning("%s:%d: is damaged; what it held is scored again", self.path, number)

    def _append(self, record: object) -> None:
        payload = msgspec.json.encode(record)
        line = b"%08x %s\n" % (crc32(payload), payload)
        start, rest = os.fstat(self._output).st_size, memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._output, rest) :]
            os.fsync(self._output)
        except OSError as error:
            raise FormatError(
                f"{self.path}: cannot be written: {error.strerror}; run the same command again when it can"
            ) from error
        if isinstance(record, _Entry):
            self._places[bytes.fromhex(record.chunk)] = (start, len(line))


def stored(score: Score) -> Stored:
    """What is written of a score."""
    errors = (
        None
        if score.std_errors is None
        else tuple(None if math.isnan(error) else float(error) for error in score.std_errors)
    )
    tokens = score.token_scores
    return Stored(tuple(map(float, score.values)), score.evaluations, errors, tokens)


def restored(stored: Stored, signature: str, kind: ScoreKind) -> Score:
    """The score that was written."""
    errors = (
        None
        if stored.std_errors is None
        else tuple(math.nan if error is None else error for error in stored.std_errors)
    )
    return Score(stored.values, signature, kind, stored.evaluations, errors, stored.token_scores)


def _payload(line: bytes) -> bytes | None:
    """What follows the checksum; None if they do not belong together."""
    checksum, _, payload = line[:-1].partition(b" ")
    return payload if checksum == b"%08x" % crc32(payload) else None


def _header(payload: bytes | None) -> dict[str, Any] | None:
    header = json.loads(payload) if payload is not None else None
    is_header = (
        isinstance(header, dict)
        and isinstance(header.get("settings"), dict)
        and isinstance(header.get("state"), dict)
    )
    return header if is_header else None


def _locked(path: Path) -> int:
    """Open for appending, alone; the system lets go of the lock whatever happens to this process."""
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise FormatError(
                f"{path}: cannot be opened: {error.strerror}; a run's journal lies beside its output, where files can be written"
            ) from error
        if not is_held(descriptor):
            os.close(descriptor)
            raise FormatError(
                f"{path}: another run is writing this output; wait for it or choose another output"
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # a run that ended has just deleted it


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 160 else f"{text[:157]}..."
