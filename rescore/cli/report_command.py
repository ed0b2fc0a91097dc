"""`dlmrescore report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import click
from click.core import ParameterSource

from rescore.cli.compare_command import ORIGINAL
from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    SEED_RANGE,
    Counting,
    counting_options,
    input_options,
    output_option,
)
from rescore.errors import FormatError
from rescore.formats.files import read_bytes, refuse_same_file
from rescore.report.page import source_of_folder, source_of_lists, write_report
from rescore.report.sweep import SweepTable
from rescore.types import NBest

__all__ = ["command"]


@click.command("report")
@input_options("INPUT")
@click.argument("others", metavar="[INPUT]...", nargs=-1, type=click.Path())
@output_option
@click.option(
    "--baseline",
    metavar="FILE",
    help="Lists that every system is compared with. Default: the recogniser's order, first-pass.",
)
@click.option(
    "--sweep",
    type=click.Path(dir_okay=False),
    help="Also draw the CSV that `dlmrescore sweep` wrote.",
)
@counting_options
@click.option(
    "--seed", type=SEED_RANGE, default=0, show_default=True, help="Seed of the bootstrap."
)
@click.pass_context
def command(
    ctx: click.Context,
    source: InputOptions,
    others: tuple[str, ...],
    output: str,
    baseline: str | None,
    sweep: str | None,
    counting: Counting,
    seed: int,
) -> None:
    """Write an HTML page that shows what changed, utterance by utterance.

    INPUT is the folder of a `run`, or files of lists, each a system whose first hypotheses count.
    The page needs no network. Above 1,000 utterances there are several: report.html,
    report.2.html and so on.

    \b
    Example: dlmrescore report results -o report.html
             dlmrescore report best.jsonl -o report.html
    """
    folder = Path(source.path)
    if (folder / "run.json").is_file():
        _refuse_options(ctx, others)
        report = source_of_folder(folder)
    else:
        systems = {path: _lists(source, path, output) for path in (source.path, *others)}
        against = None
        if baseline is not None and baseline != ORIGINAL:
            against = (baseline, _lists(source, baseline, output))
        report = source_of_lists(systems, against, _sweep(sweep, output), **vars(counting))
    pages = write_report(report, Path(output), seed)
    for page in pages if output != "-" else ():
        click.echo(f"{page}: {page.stat().st_size / 1e6:.2f} MB", err=True)


def _refuse_options(ctx: click.Context, others: tuple[str, ...]) -> None:
    """Raise click.UsageError for what the folder of a run does not read."""
    if others:
        raise click.UsageError("a folder of `run` is reported alone; give one input")
    for parameter in ctx.command.params:
        name = parameter.name or ""
        is_typed = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_typed and name not in ("path", "output", "seed"):
            raise click.UsageError(
                f"{parameter.opts[-1]} is not read: the folder of a `run` says everything else"
            )


def _lists(source: InputOptions, path: str, output: str) -> Callable[[], Iterable[NBest]]:
    """The function that reads the lists of one file."""
    reader = replace(source, path=path).reader(output)
    return lambda: reader


def _sweep(path: str | None, output: str) -> str:
    if path is None:
        return ""
    refuse_same_file(path, output)
    text = read_bytes(path).decode(errors="replace")
    try:
        table = SweepTable.of(text)
        is_sweep = bool(table.axes) and set(table.best) > {table.rate}
    except (ValueError, LookupError):
        is_sweep = False
    if not is_sweep:
        raise FormatError(f"{path}: not the CSV of `dlmrescore sweep`; name the file of its -o")
    return text
