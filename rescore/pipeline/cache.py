"""Scores that outlive their run: deterministic ones by text, stochastic ones by utterance id and whole list, one file for each signature.

A run sees the cache as it was when the run began, whatever it or others add meanwhile: so what is computed together with what, and with it the last
bits of a score, depends on nothing that happens beside the run. SQLite keeps the file whole through kills and among processes.
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

import msgspec

from rescore.errors import FormatError
from rescore.formats.files import PathLike
from rescore.pipeline.journal import Stored, restored, stored
from rescore.types import NBest, Score, ScoreKind

__all__ = ["Cache"]

T = TypeVar("T")

logger = logging.getLogger("rescore")

_SCHEMA = """
create table if not exists about (key text primary key, value text not null);
create table if not exists scores (number integer primary key, key blob unique not null, checksum integer not null, value blob not null);
"""
_WAIT = 60.0  # seconds for another process's lock


class Cache:
    """The scores of one signature in the directory `folder`.

    Raises FormatError if the directory cannot be used. A file that is damaged is named in a warning, set aside and begun anew.
    """

    def __init__(
        self, folder: PathLike, signature: str, kind: ScoreKind, *, per_token: bool = False
    ) -> None:
        about = f"{signature}|per_token" if per_token else signature
        self.path = (
            Path(folder)
            / f"{signature.partition('|')[0]}-{blake2b(about.encode(), digest_size=8).hexdigest()}.sqlite"
        )
        self._signature, self._kind, self._about = signature, kind, about
        self._rows = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FormatError(
                f"{self.path.parent}: cannot be a cache: {error.strerror}; name a directory that can be written"
            ) from error
        self._open()

    def snapshot(self) -> tuple[str, int]:
        """What names the state of the cache: which file it is, and how many scores it holds."""
        return self._try(lambda: (self._of("token"), self._count()))

    def see(self, state: Sequence[object]) -> None:
        """Look at the cache as it was at `snapshot`; a file that was begun anew since then is empty to this run."""
        token, rows = state
        self._rows = int(str(rows)) if token == self._try(lambda: self._of("token")) else 0

    def text(self, text: str) -> Score | None:
        """The score of one text, with one value; None if it is not known."""
        return self._get(_key("text", text))

    def nbest(self, nbest: NBest) -> Score | None:
        """The score of a whole list; None if it is not known."""
        return self._get(_key("list", nbest.id, *(hyp.text for hyp in nbest.hyps)))

    def add_text(self, text: str, score: Score) -> None:
        """Keep the score of one text for later runs."""
        self._add(_key("text", text), score)

    def add_nbest(self, nbest: NBest, score: Score) -> None:
        """Keep the score of a whole list for later runs."""
        self._add(_key("list", nbest.id, *(hyp.text for hyp in nbest.hyps)), score)

    def commit(self) -> None:
        """See on the disk what was added."""
        self._try(self._connection.commit)

    def close(self) -> None:
        """Let go of the file."""
        with suppress(sqlite3.Error):
            self._connection.close()

    def _open(self) -> None:
        try:
            self._connection = sqlite3.connect(self.path, timeout=_WAIT)
            if self._connection.execute("pragma quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("its pages do not fit together")
            self._connection.executescript(_SCHEMA)
            self._connection.executemany(
                "insert or ignore into about values (?, ?)",
                [("signature", self._about), ("token", secrets.token_hex(8))],
            )
            self._connection.commit()
            if self._of("signature") != self._about:
                raise sqlite3.DatabaseError("it holds scores of another signature")
        except sqlite3.OperationalError as error:  # no permission, no space, locked: not damage
            raise FormatError(
                f"{self.path}: cannot be used as a cache ({error}); name another directory"
            ) from error
        except sqlite3.DatabaseError as error:
            self._anew(error)

    def _anew(self, error: sqlite3.DatabaseError) -> None:
        """Set a damaged file aside and begin another."""
        self.close()
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        logger.warning(
            "%s: is damaged (%s); it was moved to %s and the cache is made anew",
            self.path,
            error,
            aside.name,
        )
        self._rows = 0
        self._open()

    def _try(self, action: Callable[[], T]) -> T:
        """Do it, and once more with a new file if this one turns out to be damaged."""
        try:
            return action()
        except sqlite3.OperationalError as error:
            raise FormatError(
                f"{self.path}: cannot be written ({error}); free some space, or run without the cache"
            ) from error
        except sqlite3.DatabaseError as error:
            self._anew(error)
            return action()

    def _of(self, key: str) -> str:
        (value,) = self._connection.execute(
            "select value from about where key = ?", (key,)
        ).fetchone()
        return str(value)

    def _count(self) -> int:
        (count,) = self._connection.execute(
            "select coalesce(max(number), 0) from scores"
        ).fetchone()
        return int(count)

    def _get(self, key: bytes) -> Score | None:
        if not self._rows:
            return None
        row = self._try(
            lambda: self._connection.execute(
                "select checksum, value from scores where key = ? and number <= ?",
                (key, self._rows),
            ).fetchone()
        )
        if row is None:
            return None
        if row[0] != crc32(row[1]):
            logger.warning("%s: one of its scores is damaged and is computed again", self.path)
            self._try(lambda: self._connection.execute("delete from scores where key = ?", (key,)))
            return None
        return restored(msgspec.json.decode(row[1], type=Stored), self._signature, self._kind)

    def _add(self, key: bytes, score: Score) -> None:
        value = msgspec.json.encode(stored(score))
        self._try(
            lambda: self._connection.execute(
                "insert or ignore into scores (key, checksum, value) values (?, ?, ?)",
                (key, crc32(value), value),
            )
        )


def _key(*parts: str) -> bytes:
    whole = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        whole.update(b"%d:" % len(encoded) + encoded)
    return whole.digest()
