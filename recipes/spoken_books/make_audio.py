"""Manifest -> clean speech: one FLAC file an utterance, and a list of them.

    python recipes/spoken_books/make_audio.py recipes/spoken_books/manifest/dev.tsv -o exp/clean/dev

The same versions of the synthesisers give the same samples in any order and with any number of
processes. Run the command again after an interruption: finished files are kept.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from audio_folder import Piece, ensure, fill, one_line_errors
from manifest import Utterance, read
from speakers import VOICES, require, speak

from rescore.errors import RescoreError


def make_clean(utterance: Utterance, folder: Path) -> Piece:
    """Speak one utterance. Raises RescoreError naming it."""
    how = f"{utterance.voice} pace {utterance.pace} warp {utterance.warp}: {utterance.text}"
    sound = partial(speak, utterance.text, utterance.voice, utterance.pace, utterance.warp)
    try:
        return ensure(folder, utterance, how, sound)
    except RescoreError as error:
        raise RescoreError(f"utterance {utterance.id}: {error}") from error


def voice_of(engine: str, utterance: Utterance) -> str:
    """Return the voice of one engine that an utterance has: its own, or one by its seed."""
    if utterance.voice.startswith(f"{engine}/"):
        return utterance.voice
    voices = [voice for voice in VOICES if voice.startswith(f"{engine}/")]
    return voices[utterance.seed % len(voices)]


@click.command(context_settings={"show_default": True})
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), help="Only the first ones.")
@click.option("--voice", help="Speak everything with this voice, such as festival/ked_diphone.")
@click.option(
    "--engine", type=click.Choice(["flite", "espeak"]), help="Only voices of this synthesiser."
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, help="Processes.")
def main(
    manifest: Path,
    folder: Path,
    hours: float | None,
    voice: str | None,
    engine: str | None,
    jobs: int,
) -> None:
    """Speak the sentences of a manifest; the list is FOLDER.tsv."""
    with one_line_errors():
        utterances = read(manifest)
        if voice is not None:
            utterances = [replace(utterance, voice=voice) for utterance in utterances]
        elif engine is not None:
            utterances = [replace(one, voice=voice_of(engine, one)) for one in utterances]
        require({utterance.voice for utterance in utterances})
        fill(folder, partial(make_clean, folder=folder), utterances, jobs, hours)


if __name__ == "__main__":
    main()
