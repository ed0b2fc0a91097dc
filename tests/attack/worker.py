"""Tries one case after the other under a limit on memory and time; a parent watches over it.

Reads a case as a line of JSON, `[target, hostile file or null, number]`, and answers with a line:
null, what went wrong, or false if there is no such file. The parent (campaign.py) kills a worker
that does not answer.
"""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from target import Use
from targets import TARGETS

from rescore.errors import RescoreError, ScoreError

#: Bytes of address space that a case may add to those of the idle worker.
MEMORY = 3 << 30

#: Seconds of processor time that a case may take.
SECONDS = 10


class Hung(BaseException):
    """A case took too long. Not an Exception, so that no reader mistakes it for a broken file."""


def _stop(*_: object) -> None:
    raise Hung(f"no answer after {SECONDS} s of processor time")


class Arena:
    """The folder of one target, put back to its valid files before every case."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.use: Use = TARGETS[name](folder)
        self._files = {path: path.read_bytes() for path in self.paths()}
        self._directories = [path for path in sorted(folder.rglob("*")) if path.is_dir()]

    def paths(self) -> list[Path]:
        """Every file."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file())

    def reset(self) -> None:
        """Put every file back."""
        for path in self.folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        for directory in self._directories:
            directory.mkdir(exist_ok=True)
        for path, data in self._files.items():
            path.write_bytes(data)


def fault(use: Use, folder: Path) -> str | None:
    """What is wrong with how the files of a case are used; None if nothing is.

    Right is a result, or a RescoreError of one line that names a file of the folder, or, where a
    score is refused, its hypothesis.
    """
    try:
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            use()
    except RescoreError as error:
        message = str(error)
        if len(message.splitlines()) != 1 or len(message) > 4000:
            return f"a message that is not one short line: {message!r}"[:500]
        if str(folder) not in message and not isinstance(error, ScoreError):
            return f"a message that names no file: {message!r}"[:500]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - PanicException of Rust is no Exception
        return f"{type(error).__name__}: {error}"[:500]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None


def attempt(arena: Arena, hostile: str | None, number: int) -> str | bool | None:
    """Damage one file, chosen by `number`, and use the target; False if it has no such file."""
    from mutations import mutated, put  # noqa: PLC0415 - beside targets, which extends the path

    arena.reset()
    paths = arena.paths()
    chance = random.Random(number)
    if hostile is None:
        mutated(chance.choice(paths), chance)
    else:
        if number >= len(paths):
            return False
        put(hostile, paths[number])
    return fault(arena.use, arena.folder)


def main() -> None:
    """Answer cases until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    logging.disable()
    signal.signal(signal.SIGPROF, _stop)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    with tempfile.TemporaryDirectory() as scratch:
        arenas: dict[str, Arena] = {}
        for line in sys.stdin:
            name, hostile, number = json.loads(line)
            if name not in arenas:
                arenas[name] = Arena(name, Path(scratch) / f"{len(arenas):03d}")
                arenas[name].use()  # loads libraries before memory is limited
                pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
            answer = attempt(arenas[name], hostile, number)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
            arenas[name].reset()


if __name__ == "__main__":
    main()
