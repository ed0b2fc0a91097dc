"""Scores that outlive their run, one file for each signature.

The key of a score is what it depends on (`Scope`): the text; the utterance and the text; the
whole list. A run sees the cache as it was when the run began, whatever it or others add meanwhile.
So what is computed together, and with it the last bits of a score, does not depend on other runs.
SQLite keeps the file intact through kills and among processes.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar
from zlib import crc32

from rescore.errors import FormatError
from rescore.formats.files import PathLike
from rescore.pipeline.chunks import content, delimited
from rescore.pipeline.results import ScoreCodec
from rescore.types import NBest, Score, ScoreKind

__all__ = ["Cache", "list_key", "text_key", "utterance_key"]

T = TypeVar("T")

logger = logging.getLogger("rescore")

_SCHEMA = """
create table if not exists about (key text primary key, value text not null);
create table if not exists scores (
    number integer primary key, key blob unique not null, checksum integer not null,
    value blob not null
);
"""
_WAIT = 60.0  # seconds for another process's lock


def text_key(text: str) -> bytes:
    """The key of the score of a text alone."""
    return _key("text", text)


def utterance_key(utterance: str, text: str) -> bytes:
    """The key of the score of a text for one utterance."""
    return _key("utterance", utterance, text)


def list_key(nbest: NBest) -> bytes:
    """The key of the scores of a whole list."""
    return _key("list", *content(nbest))


class Cache:
    """The scores of one signature in the directory `folder`.

    Raises FormatError if the directory cannot be used. A damaged file is moved aside with a
    warning, and a new one started.
    """

    def __init__(
        self, folder: PathLike, signature: str, kind: ScoreKind, *, per_token: bool = False
    ) -> None:
        self._signature = f"{signature}|per_token" if per_token else signature
        hashed = blake2b(self._signature.encode(), digest_size=8).hexdigest()
        self.path = Path(folder) / f"{signature.partition('|')[0]}-{hashed}.sqlite"
        self._codec = ScoreCodec(signature, kind)
        self._visible = 0  # scores up to this number are seen by this run
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FormatError(
                f"{self.path.parent}: cannot be a cache: {error.strerror}; "
                "name a directory that can be written"
            ) from error
        self._open()

    def snapshot(self) -> tuple[str, int]:
        """The state of the cache: which file it is, and the number of its last score."""
        return self._retried(lambda: (self._about("token"), self._last_number()))

    def restore(self, state: Sequence[object]) -> None:
        """See the cache as it was at `snapshot`; a file started since then is empty to this run."""
        token, last_number = state
        is_same_file = token == self._retried(lambda: self._about("token"))
        self._visible = int(str(last_number)) if is_same_file else 0

    def get(self, key: bytes) -> Score | None:
        """The score with this key; None if the cache has none. A damaged one is deleted."""
        if not self._visible:
            return None
        query = "select checksum, value from scores where key = ? and number <= ?"
        row = self._retried(
            lambda: self._connection.execute(query, (key, self._visible)).fetchone()
        )
        if row is None:
            return None
        checksum, value = row
        if checksum != crc32(value):
            logger.warning("%s: a damaged score is computed again", self.path)
            self._retried(
                lambda: self._connection.execute("delete from scores where key = ?", (key,))
            )
            return None
        return self._codec.decode(value)

    def add(self, key: bytes, score: Score) -> None:
        """Keep a score for later runs, once `commit` is called."""
        value = self._codec.encode(score)
        insert = "insert or ignore into scores (key, checksum, value) values (?, ?, ?)"
        self._retried(lambda: self._connection.execute(insert, (key, crc32(value), value)))

    def commit(self) -> None:
        """Write what was added to disk."""
        self._retried(self._connection.commit)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def _open(self) -> None:
        about = [("signature", self._signature), ("token", secrets.token_hex(8))]
        try:
            self._connection = sqlite3.connect(self.path, timeout=_WAIT)
            if self._connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("its pages do not fit together")
            self._connection.executescript(_SCHEMA)
            self._connection.executemany("insert or ignore into about values (?, ?)", about)
            self._connection.commit()
            if self._about("signature") != self._signature:
                raise sqlite3.DatabaseError("it holds scores of another signature")
        except sqlite3.OperationalError as error:  # no permission, no space, locked: not damage
            raise FormatError(
                f"{self.path}: cannot be used as a cache ({error}); name another directory"
            ) from error
        except sqlite3.DatabaseError as error:
            self._start_over(error)

    def _start_over(self, error: sqlite3.DatabaseError) -> None:
        """Move a damaged file aside and start another."""
        self.close()
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        logger.warning(
            "%s: damaged (%s); it was moved to %s and a new cache is started",
            self.path,
            error,
            aside.name,
        )
        self._visible = 0
        self._open()

    def _retried(self, action: Callable[[], T]) -> T:
        """Do it, and once more with a new file if this one turns out to be damaged."""
        try:
            return action()
        except sqlite3.OperationalError as error:
            raise FormatError(
                f"{self.path}: cannot be written ({error}); free some space, "
                "or run without the cache"
            ) from error
        except sqlite3.DatabaseError as error:
            self._start_over(error)
            return action()

    def _about(self, key: str) -> str:
        query = "select value from about where key = ?"
        (value,) = self._connection.execute(query, (key,)).fetchone()
        return str(value)

    def _last_number(self) -> int:
        query = "select coalesce(max(number), 0) from scores"
        (number,) = self._connection.execute(query).fetchone()
        return int(number)


def _key(*parts: str) -> bytes:
    return blake2b(delimited(parts), digest_size=16).digest()
