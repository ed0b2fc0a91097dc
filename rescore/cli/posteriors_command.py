"""`dlmrescore posteriors`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import click
from tqdm import tqdm

from rescore.acoustic.audio import seconds_of
from rescore.acoustic.loading import EncoderOptions, load_task
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.utterance import Utterance
from rescore.acoustic.windows import Windows
from rescore.cli.options import Sections, named
from rescore.cli.posteriors_conversion import convert, require_model
from rescore.cli.posteriors_options import (
    HEADINGS,
    RunOptions,
    encoder_options,
    run_options,
    window_options,
)
from rescore.errors import AudioError
from rescore.formats.files import refuse_same_file
from rescore.pipeline.recognition import Recognition, recognise
from rescore.progress import progress_bar

__all__ = ["command"]

_HOUR = 3600


@click.command("posteriors", cls=Sections, headings=HEADINGS)
@click.argument("audio", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="Output file.")
@click.option(
    "--recordings",
    type=click.Path(dir_okay=False),
    help="lhotse recordings, where AUDIO is a manifest of supervisions.",
)
@click.option(
    "--from",
    "format_name",
    type=named("posterior format"),
    help="AUDIO holds posteriors already, in this format (`dlmrescore formats`).",
)
@click.option(
    "-O",
    "--option",
    "reader_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of that format.",
)
@encoder_options
@window_options
@run_options
def command(
    audio: str,
    output: str,
    format_name: str | None,
    reader_options: tuple[str, ...],
    recordings: str | None,
    encoder: EncoderOptions,
    windows: Windows,
    run: RunOptions,
) -> None:
    """Write what a CTC recogniser believes at every frame of AUDIO, for `score` and `decode`.

    \b
    AUDIO is a lhotse manifest, a Kaldi wav.scp, a TSV (id, path[, text]) or a folder. After an
    interruption or a kill, run the same command again: it resumes from OUTPUT.journal and
    OUTPUT.rows. {shard} in the name of OUTPUT becomes the number of the shard.

    \b
    Example: dlmrescore posteriors dev.tsv --model facebook/wav2vec2-base-960h -o dev.safetensors
    Of Kaldi: dlmrescore posteriors dev.scp --from kaldi -O symbols=tokens.txt -O frame_shift=0.04 \
    -o dev.safetensors
    """
    output = run.output(output)
    refuse_same_file(audio, output)
    if format_name is not None:
        click.echo(convert(audio, output, run.store, format_name, reader_options), err=True)
        return
    require_model(encoder, reader_options)
    encoder = replace(encoder, device=run.device(encoder.device))
    evaluator = run.evaluator(encoder, windows)
    utterances = run.of_shard(read_utterances(audio, recordings))
    task = load_task(encoder, windows)
    with _reported(utterances) as progress:
        recognise(
            utterances,
            task,
            output,
            dtype=run.store or "float32",
            on_error=run.on_error,
            evaluator=evaluator,
            progress=progress,
        )


@contextmanager
def _reported(utterances: Sequence[Utterance]) -> Iterator[Recognition]:
    """Report a run: hours of audio and their speed while it goes, and a summary."""
    started = time.monotonic()
    total = _hours(utterances)
    with progress_bar(total=total, description="posteriors", unit="h", fractional=True) as bar:
        progress = Recognition(advance=lambda seconds: _advance(bar, seconds, progress, started))
        try:
            yield progress
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"interrupted after {progress.seconds / _HOUR:.2f} h of audio; run the same "
                "command again to resume"
            ) from None
    for message in progress.messages:
        click.echo(f"skipped: {message}", err=True)
    click.echo(_summary(progress, time.monotonic() - started), err=True)


def _hours(utterances: Sequence[Utterance]) -> float | None:
    """Hours of audio, from the manifest or the files' headers; None where a file cannot tell.

    Headers are read on terminals alone: a million files take minutes to open.
    """
    if not sys.stderr.isatty() and any(utterance.duration is None for utterance in utterances):
        return None
    try:
        return sum(seconds_of(utterance) for utterance in utterances) / _HOUR
    except AudioError:  # the run says which, once it comes there
        return None


def _advance(bar: tqdm[None], seconds: float, progress: Recognition, started: float) -> None:
    bar.set_postfix_str(f"RTFx {_rtfx(progress, time.monotonic() - started):.1f}", refresh=False)
    bar.update(seconds / _HOUR)


def _rtfx(progress: Recognition, seconds: float) -> float:
    """Seconds of audio that this process evaluated, for every second that passed."""
    return progress.computed_seconds / max(1e-3, seconds)


def _summary(progress: Recognition, seconds: float) -> str:
    skipped = f", {progress.skipped} skipped" if progress.skipped else ""
    return (
        f"{progress.utterances} utterances{skipped}, {progress.seconds / _HOUR:.2f} h of audio, "
        f"{seconds:.1f} s, RTFx {_rtfx(progress, seconds):.1f}"
    )
