"""Hidden parts: what an output is until it is complete, and what a kill leaves of it.

A part lies beside its output and is called `.NAME.<16 hex digits>.part`. Whoever writes it holds a
lock on it until it has its final name. A part that nobody locks is dead: the next writer of the
same output removes it.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["held", "is_there_still", "new_part", "remove_dead_parts", "try_lock"]

_NAME_LENGTH = 40  # characters of the output's name in that of its part


def new_part(target: str) -> str:
    """A name for a part of `target` that nobody else has."""
    folder, name = os.path.split(target)
    return os.path.join(folder, f".{name[:_NAME_LENGTH]}.{secrets.token_hex(8)}.part")


def is_there_still(path: str, descriptor: int) -> bool:
    """Whether `path` still names the open file: a part without a lock yet may have been removed."""
    with suppress(OSError):
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    return False


@contextmanager
def held(descriptor: int) -> Iterator[None]:
    """Hold the lock of an open part, also after `descriptor` is closed.

    Waits for another process that has the lock in order to remove the part. Without locks in the
    file system nothing is held, and nothing removed either.
    """
    copy = os.dup(descriptor)
    try:
        with suppress(ImportError, OSError):
            import fcntl  # noqa: PLC0415 - not on Windows

            fcntl.flock(copy, fcntl.LOCK_EX)
        yield
    finally:
        os.close(copy)


def remove_dead_parts(target: str) -> None:
    """Remove the parts of `target` that killed processes left, as far as that is possible."""
    folder, name = os.path.split(target)
    pattern = re.compile(rf"\.{re.escape(name[:_NAME_LENGTH])}\.[0-9a-f]{{16}}\.part")
    with suppress(OSError, ImportError):
        import fcntl  # noqa: F401, PLC0415 - without locks, no part is known to be dead

        for entry in os.listdir(folder):
            if pattern.fullmatch(entry):
                with suppress(OSError):
                    _remove_dead(os.path.join(folder, entry))


def _remove_dead(part: str) -> None:
    """Remove a file or directory unless another process holds its lock."""
    descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not try_lock(descriptor):
            return
        if os.path.isdir(part):
            shutil.rmtree(part)
        else:
            os.unlink(part)
    finally:
        os.close(descriptor)


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
