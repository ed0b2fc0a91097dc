"""A folder of 16 kHz mono 16-bit FLAC files, one an utterance, that is filled by many processes.

Each file carries in its comment how it was made. One that was made in the same way is kept, so an
interrupted run continues, and a changed setting makes the file again. Files appear whole.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from manifest import Utterance
from speakers import RATE
from tqdm import tqdm

from rescore.errors import RescoreError
from rescore.formats.files import atomic_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Piece", "digest", "ensure", "fill", "load", "one_line_errors", "path_of"]

AT_ONCE = 256  # utterances handed out at a time, so that `hours` can end it


@dataclass(frozen=True)
class Piece:
    """One file of the folder."""

    utterance: Utterance
    path: Path
    seconds: float
    sha256: str  #: of its samples


def path_of(folder: Path, utterance_id: str) -> Path:
    """Return the file of an utterance."""
    return folder / f"{utterance_id}.flac"


def load(path: Path) -> NDArray[np.float64]:
    """Read the samples of a file, full scale 1."""
    import soundfile  # noqa: PLC0415 - optional

    samples: NDArray[np.float64] = soundfile.read(path)[0]
    return samples


def ensure(
    folder: Path, utterance: Utterance, how: str, samples: Callable[[], NDArray[np.float64]]
) -> Piece:
    """Keep the utterance's file if its comment is `how` and it can be read; otherwise make it."""
    path = path_of(folder, utterance.id)
    data = _read(path, how)
    if data is None:
        data = np.rint(np.clip(samples(), -1, 1 - 2**-15) * 2**15).astype(np.int16)
        _write(path, how, data)
    return Piece(utterance, path, len(data) / RATE, hashlib.sha256(data.tobytes()).hexdigest())


def _read(path: Path, how: str) -> NDArray[np.int16] | None:
    import soundfile  # noqa: PLC0415

    if not path.exists():
        return None
    try:
        with soundfile.SoundFile(path) as file:
            whole: NDArray[np.int16] = file.read(dtype="int16")
            return whole if file.comment == how and len(whole) == file.frames else None
    except soundfile.LibsndfileError:
        return None


def _write(path: Path, how: str, data: NDArray[np.int16]) -> None:
    import soundfile  # noqa: PLC0415

    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        file.comment = how
        file.write(data)
    with atomic_writer(path) as output:
        output.write(buffer.getvalue())


def fill(
    folder: Path,
    make: Callable[[Utterance], Piece],
    utterances: list[Utterance],
    jobs: int,
    hours: float | None = None,
) -> list[Piece]:
    """Make every utterance, or the first ones that last `hours` together, in `jobs` processes.

    Writes the list FOLDER.tsv and prints a line with count, hours and digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pieces = list(_made(make, utterances, jobs, float("inf") if hours is None else hours))
    _write_list(folder, pieces)
    total = sum(piece.seconds for piece in pieces) / 3600
    click.echo(f"{folder}: {len(pieces)} utterances, {total:.2f} h, digest {digest(pieces)}")
    return pieces


def _made(
    make: Callable[[Utterance], Piece], utterances: list[Utterance], jobs: int, hours: float
) -> Iterator[Piece]:
    remaining, seconds = iter(utterances), 0.0
    with (
        ProcessPoolExecutor(jobs) as pool,
        tqdm(total=len(utterances), unit="utt", disable=None) as progress,
    ):
        while wave := list(islice(remaining, AT_ONCE)):
            for piece in pool.map(make, wave, chunksize=8):
                if seconds >= hours * 3600:
                    return
                seconds += piece.seconds
                progress.update()
                yield piece


def digest(pieces: Iterable[Piece]) -> str:
    """Return one short digest of the samples of all files, in order."""
    return hashlib.sha256("".join(piece.sha256 for piece in pieces).encode()).hexdigest()[:16]


def _write_list(folder: Path, pieces: Iterable[Piece]) -> None:
    """Write what the command line reads: id, path from the list's own folder, text."""
    rows = [("id", "path", "text")]
    for piece in pieces:
        path = piece.path.relative_to(folder.parent)
        rows.append((piece.utterance.id, path.as_posix(), piece.utterance.text))
    with atomic_writer(folder.with_name(f"{folder.name}.tsv")) as output:
        output.write("".join("\t".join(row) + "\n" for row in rows).encode())


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what goes wrong on purpose, on disk, or in a process into click's one line."""
    try:
        yield
    except (RescoreError, OSError, BrokenProcessPool) as error:
        raise click.ClickException(str(error)) from error
