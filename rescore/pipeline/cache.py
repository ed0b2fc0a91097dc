"""Scores that outlive their run, one file for each signature.

The key of a score is what it depends on (`Scope`): the text; the utterance and the text; the
whole list. A run sees the cache as it was when the run began, whatever it or others add meanwhile.
So what is computed together, and with it the last bits of a score, does not depend on other runs.
The scores of a chunk are also kept as a whole, with what they cost: a run that is repeated, or that
was killed after its journal was gone, finds the very bits of the first time.
SQLite keeps the file intact through kills and among processes. It does not notice a flipped bit, so
a checksum covers the key that is looked up, the signature and the value together, and what a row
holds is checked against the shape it must have.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import msgspec

from rescore.errors import FormatError
from rescore.formats.bounded import PathLike, check_regular
from rescore.formats.files import make_folder
from rescore.pipeline.chunks import content, delimited, digest
from rescore.pipeline.results import ScoreCodec
from rescore.types import NBest, Score, ScoreKind

__all__ = ["Cache", "chunk_key", "list_key", "text_key", "utterance_key"]

T = TypeVar("T")

logger = logging.getLogger("rescore")

_SCHEMA = """
create table if not exists about (key text primary key, value text not null);
create table if not exists scores (
    number integer primary key, key blob unique not null, checksum integer not null,
    value blob not null
);
"""
_VERSION = 2  # of the checksum
_LARGEST = 2**63 - 1  # number of a row
_WAIT = 60.0  # seconds for another process's lock

#: How SQLite's messages begin where nothing is damaged: no permission, no space, a lock.
_NO_DAMAGE = (
    "attempt to write",
    "database is locked",
    "database or disk is full",
    "database table is locked",
    "disk I/O error",
    "unable to open",
)


def text_key(text: str) -> bytes:
    """The key of the score of a text alone."""
    return _key("text", text)


def utterance_key(utterance: str, text: str) -> bytes:
    """The key of the score of a text for one utterance."""
    return _key("utterance", utterance, text)


def chunk_key(contents: Iterable[Sequence[str]]) -> bytes:
    """The key of the scores of lists that are evaluated together, from `content` of each."""
    return _key("chunk", digest(contents))


def list_key(nbest: NBest, condition: str = "") -> bytes:
    """The key of the scores of a whole list, heard or read."""
    return _key("list", *content(nbest, condition))


class Cache:
    """The scores of one signature in the directory `folder`.

    Raises FormatError if the directory cannot be used. A damaged file is moved aside with a
    warning, and a new one started.
    """

    def __init__(
        self, folder: PathLike, signature: str, kind: ScoreKind, *, per_token: bool = False
    ) -> None:
        self._signature = f"{signature}|per_token" if per_token else signature
        versioned = f"{_VERSION}|{self._signature}"
        hashed = blake2b(versioned.encode(), digest_size=8).hexdigest()
        self.path = Path(folder) / f"{signature.partition('|')[0]}-{hashed}.sqlite"
        self._seed = crc32(self._signature.encode())
        self._codec = ScoreCodec(signature, kind)
        self._visible = 0  # scores up to this number are seen by this run
        make_folder(folder)
        self._open()

    def snapshot(self) -> tuple[str, int]:
        """The state of the cache: which file it is, and the number of its last score."""
        return self._retried(lambda: (self._about("token"), self._last_number()))

    def restore(self, state: Sequence[object]) -> None:
        """See the cache as it was at `snapshot`; a file started since then is empty to this run.

        Raises FormatError for a state that is no snapshot.
        """
        token, last_number = state if len(state) == 2 else (None, None)
        if not isinstance(token, str) or type(last_number) is not int or last_number < 0:
            raise FormatError(
                f"{self.path}: the journal has {str(state)[:60]} for the state of this cache, "
                "expected its token and a number; delete the journal and run this again"
            )
        is_same_file = token == self._retried(lambda: self._about("token"))
        self._visible = min(last_number, _LARGEST) if is_same_file else 0

    def get(self, key: bytes) -> Score | None:
        """The score with this key; None if the cache has none. A damaged one is deleted."""
        return self._read(key, self._codec.decode)

    def get_chunk(self, key: bytes) -> list[Score] | None:
        """The scores of the lists of a chunk; None if the cache has none."""
        return self._read(key, self._decoded_chunk)

    def holds(self, key: bytes) -> bool:
        """Whether there is anything with this key, also of later runs."""
        query = "select 1 from scores where key = ?"
        return self._retried(lambda: self._connection.execute(query, (key,)).fetchone() is not None)

    def _read(self, key: bytes, decode: Callable[[bytes], T]) -> T | None:
        """What a row holds; None if there is none. A damaged one is deleted."""
        if not self._visible:
            return None
        query = "select checksum, value from scores where key = ? and number <= ?"
        row = self._retried(
            lambda: self._connection.execute(query, (key, self._visible)).fetchone()
        )
        if row is None:
            return None
        checksum, value = row
        found = self._decoded(key, checksum, value, decode)
        if found is None:
            logger.warning("%s: a damaged score is computed again", self.path)
            self._retried(
                lambda: self._connection.execute("delete from scores where key = ?", (key,))
            )
        return found

    def _decoded(
        self, key: bytes, checksum: object, value: object, decode: Callable[[bytes], T]
    ) -> T | None:
        """What a row holds; None where it is damaged, or another key's."""
        if not isinstance(value, bytes) or checksum != self._checksum(key, value):
            return None
        try:
            return decode(value)
        except (ValueError, RecursionError):
            return None

    def _decoded_chunk(self, value: bytes) -> list[Score]:
        scores = msgspec.json.decode(value, type=list[msgspec.Raw])
        return [self._codec.decode(bytes(score)) for score in scores]

    def _checksum(self, key: bytes, value: bytes) -> int:
        return crc32(value, crc32(key, self._seed))

    def add(self, key: bytes, score: Score) -> None:
        """Keep a score for later runs, once `commit` is called."""
        self._insert(key, self._codec.encode(score))

    def add_chunk(self, key: bytes, scores: Sequence[Score]) -> None:
        """Keep the scores of the lists of a chunk, once `commit` is called."""
        self._insert(key, b"[%b]" % b",".join(map(self._codec.encode, scores)))

    def _insert(self, key: bytes, value: bytes) -> None:
        insert = "insert or ignore into scores (key, checksum, value) values (?, ?, ?)"
        row = (key, self._checksum(key, value), value)
        self._retried(lambda: self._connection.execute(insert, row))

    def commit(self) -> None:
        """Write what was added to disk."""
        self._retried(self._connection.commit)

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def _open(self) -> None:
        about = [("signature", self._signature), ("token", secrets.token_hex(8))]
        if self.path.exists():
            check_regular(self.path)
        try:
            self._connection = sqlite3.connect(self.path, timeout=_WAIT)
            self._connection.text_factory = bytes  # a damaged text is no UTF-8
            self._check_pages()
            self._connection.executescript(_SCHEMA)
            self._connection.executemany("insert or ignore into about values (?, ?)", about)
            self._connection.commit()
            if self._about("signature") != self._signature:
                raise sqlite3.DatabaseError("it holds scores of another signature")
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise FormatError(
                    f"{self.path}: cannot be used as a cache ({error}); name another directory"
                ) from error
            self._start_over(error)

    def _check_pages(self) -> None:
        """Raise sqlite3.DatabaseError for damaged pages, and for tables that are not ours."""
        execute = self._connection.execute
        execute("pragma trusted_schema = off")
        if execute("pragma quick_check(1)").fetchone()[0] != b"ok":
            raise sqlite3.DatabaseError("its pages do not fit together")
        kinds = {kind for (kind,) in execute("select distinct type from sqlite_master")}
        if not kinds <= {b"table", b"index"}:
            raise sqlite3.DatabaseError("it holds more than tables")

    def _start_over(self, error: Exception) -> None:
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
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if not _is_damage(error):
                raise FormatError(
                    f"{self.path}: cannot be written ({error}); free some space, "
                    "or run without the cache"
                ) from error
            self._start_over(error)
            return action()

    def _about(self, key: str) -> str:
        query = "select value from about where key = ?"
        row = self._connection.execute(query, (key,)).fetchone()
        if row is None or not isinstance(row[0], bytes):
            raise sqlite3.DatabaseError(f"it does not state its {key}")
        return row[0].decode(errors="replace")

    def _last_number(self) -> int:
        query = "select coalesce(max(number), 0) from scores"
        (number,) = self._connection.execute(query).fetchone()
        return int(number)


def _is_damage(error: Exception) -> bool:
    """Whether SQLite speaks of damage; a message that is no UTF-8 quotes a damaged name."""
    return not str(error).startswith(_NO_DAMAGE)


def _key(*parts: str) -> bytes:
    return blake2b(delimited(parts), digest_size=16).digest()
