"""Clean speech -> rooms and noise: one FLAC file an utterance, and a list of them.

    python recipes/spoken_books/add_noise.py recipes/spoken_books/manifest/dev.tsv \\
        --clean exp/clean --snr-db 5 20 -o exp/noisy/dev

Takes half a CPU minute for an hour of speech, so that the noise can be tuned. The first training
utterances talk in the babble of all parts. Run the command again after an interruption: finished
files are kept.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from audio_folder import Piece, ensure, fill, load, one_line_errors, path_of
from manifest import Utterance, read
from noise import KINDS, NoiseOptions, corrupt

from rescore.errors import RescoreError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
TALKERS = 200  # the first so many training utterances talk in babble


@lru_cache(maxsize=TALKERS)
def _talker(folder: Path, number: int) -> NDArray[np.float64]:
    path = path_of(folder, f"train-{number + 1:05d}")
    if not path.exists():
        raise RescoreError(
            f"{path}: not there, and babble needs the first {TALKERS} training utterances; "
            "run make_audio.py on the training manifest, or leave babble out with --noise"
        )
    return load(path)


def make_noisy(
    utterance: Utterance, clean: Path, folder: Path, talkers: Path, options: NoiseOptions
) -> Piece:
    """Add noise to one utterance. Raises RescoreError naming it if its clean speech is missing."""
    source = path_of(clean, utterance.id)
    if not source.exists():
        raise RescoreError(f"{source}: not there; run make_audio.py on this manifest first")
    return ensure(
        folder,
        utterance,
        f"{utterance} {options}",
        lambda: corrupt(
            load(source), utterance.seed, options, lambda i: _talker(talkers, i % TALKERS)
        ),
    )


@click.command(context_settings={"show_default": True})
@click.argument("manifest", type=FILE)
@click.option("--clean", type=FOLDER, required=True, help="What make_audio.py made of MANIFEST.")
@click.option(
    "--talkers", type=FOLDER, show_default="train beside CLEAN", help="Clean speech for babble."
)
@click.option("-o", "folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--snr-db", type=(float, float), default=NoiseOptions.snr_db, help="From, to.")
@click.option("--noise", "kinds", type=click.Choice(KINDS), multiple=True, default=KINDS)
@click.option(
    "--room",
    type=click.FloatRange(0, 1),
    default=NoiseOptions.room,
    help="Share with reverberation.",
)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Only the first ones.")
@click.option("--jobs", type=click.IntRange(min=1), default=2, help="Processes.")
def main(
    manifest: Path,
    clean: Path,
    talkers: Path | None,
    folder: Path,
    snr_db: tuple[float, float],
    kinds: tuple[str, ...],
    room: float,
    hours: float | None,
    jobs: int,
) -> None:
    """Put the clean speech of a manifest into noise; the list is FOLDER.tsv."""
    if snr_db[0] > snr_db[1]:
        raise click.BadParameter(f"{snr_db[0]} is above {snr_db[1]}", param_hint="--snr-db")
    make = partial(
        make_noisy,
        clean=clean,
        folder=folder,
        talkers=talkers or clean.with_name("train"),
        options=NoiseOptions(snr_db, kinds, room),
    )
    with one_line_errors():
        fill(folder, make, read(manifest), jobs, hours)


if __name__ == "__main__":
    main()
