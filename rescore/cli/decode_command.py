"""`dlmrescore decode`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import click

from rescore.cli.decode_calibration import calibrate_file, calibration_options
from rescore.cli.decode_grid import command_line, grid_option, grid_table
from rescore.cli.decode_options import HEADINGS, RunOptions, decoder_options, run_options
from rescore.cli.journals import journal_beside, resumable
from rescore.cli.options import Sections, named, output_option, write_json
from rescore.decoding.base import Decoder, DecoderOptions, load_decoder
from rescore.decoding.settings import search_settings
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.pipeline.decoding import Decoding, decode
from rescore.pipeline.journal import Journal
from rescore.progress import progress_bar
from rescore.types import NBest

__all__ = ["command", "decoder_of"]


@click.command("decode", cls=Sections, headings=HEADINGS)
@click.argument("path", metavar="FILE", type=click.Path(dir_okay=False))
@click.option(
    "--method",
    type=named("decoder"),
    default="ctc_beam",
    show_default=True,
    help="How hypotheses are found (docs/decoding.md).",
)
@output_option
@decoder_options
@grid_option
@calibration_options
@run_options
def command(
    path: str,
    method: str,
    output: str,
    settings: DecoderOptions,
    grid: dict[str, list[Any]],
    bound: float | None,
    run: RunOptions,
) -> None:
    """Make lists of hypotheses of the posteriors (deliberate: the lists) in FILE.

    \b
    Each list has `am`, the exact CTC score, and `ngram` with --ngram. After an interruption or a
    kill, run the same command again: it resumes from OUTPUT.journal. {shard} in the name of OUTPUT
    becomes the number of the shard.

    \b
    Example: dlmrescore decode dev.safetensors -n 100 --ngram 3gram.arpa -o nbest.jsonl
    Jointly: dlmrescore decode dev.safetensors --method joint --model usdm_bpe -o joint.jsonl
    Settings: dlmrescore decode dev.safetensors --method joint --model usdm_bpe --refs dev.text
    --grid t_start=0.1,0.3,0.5 --grid lm_scale=0.1,0.3 -o grid.json
    """
    output = run.output(output)
    for source in (path, settings.ngram, settings.bpe, settings.model, run.refs):
        if source is not None:
            refuse_same_file(source, output)
    if grid and bound is not None:
        raise click.UsageError("--grid and --calibrate are two runs; leave one of them out")
    if grid:
        _search(path, method, output, settings, grid, run)
        return
    if bound is not None:
        calibrate_file(path, method, output, settings, bound, run)
        return
    decoder = load_decoder(method, path, settings)
    references = run.references()
    evaluator = run.evaluator(method, path, settings)
    with journal_beside(output) as journal, _reported(decoder, run, journal) as progress:
        lists = decode(
            decoder,
            references=references,
            progress=progress,
            shard=run.shard,
            journal=journal,
            evaluator=evaluator,
        )
        jsonl.write(lists, output)


def decoder_of(path: str, options: str) -> Decoder:
    """The decoder that `dlmrescore decode PATH OPTIONS` makes; for scripts that measure one."""
    context = command.make_context("decode", [path, *shlex.split(options), "-o", "-"])
    chosen = {field.name: context.params[field.name] for field in fields(DecoderOptions)}
    return load_decoder(context.params["method"], path, DecoderOptions(**chosen))


def _search(
    path: str,
    method: str,
    output: str,
    settings: DecoderOptions,
    grid: dict[str, list[Any]],
    run: RunOptions,
) -> None:
    """Try the settings of a grid; write and report their error rates."""
    references = run.references()
    if references is None or run.is_distributed:
        raise click.UsageError(
            "--grid counts errors in one process: give --refs, and leave --shard and --ray out"
        )
    search = search_settings(method, path, settings, grid, references)
    best = command_line(method, settings, search.best.setting)
    write_json({**search.to_json(), "command": best}, output)
    click.echo(f"{grid_table(search)}\nbest: {best}", err=True)


@contextmanager
def _reported(
    decoder: Decoder, run: RunOptions, journal: Journal[NBest] | None
) -> Iterator[Decoding]:
    """Report a run: a bar on terminals while it goes, a summary, or where it can be resumed."""
    started = time.monotonic()
    total = sum(1 for item in decoder.inputs() if run.shard is None or item.id in run.shard)
    with progress_bar(total=total, description=decoder.name, unit="utterances") as bar:
        progress = Decoding(advance=lambda _seconds: bar.update())
        with resumable(progress, journal, "lists"):
            yield progress
    elapsed = time.monotonic() - started
    speed = ""
    if progress.seconds:  # of audio; lists have none
        rtfx = progress.seconds / max(1e-3, elapsed)
        speed = f" {progress.seconds / 3600:.2f} h of audio, RTFx {rtfx:.1f},"
    click.echo(
        f"{progress.utterances} utterances, {progress.hypotheses} hypotheses,{speed}"
        f" {elapsed:.1f} s",
        err=True,
    )
