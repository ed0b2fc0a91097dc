"""`dlmrescore run`."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click
from tqdm import tqdm

from rescore.cli.options import named, names_in_list, unit_of, unit_options
from rescore.experiment import FAST, FAST_DEPTH, SCORERS, run
from rescore.scorers.options import DTYPES
from rescore.wer import Unit

__all__ = ["command"]


def _names(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else names_in_list(value, "names")


@click.command("run")
@click.option("--dev", required=True, type=click.Path(), help="Lists to tune on.")
@click.option(
    "--test", required=True, type=click.Path(), help="Lists to report on: other utterances."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder of this experiment; the same command goes on in it.",
)
@click.option(
    "--from",
    "format_name",
    type=named("format"),
    help="Format of both, if not proved by content; `convert` one that needs options.",
)
@click.option(
    "--refs-dev",
    type=click.Path(dir_okay=False),
    help="References of DEV: Kaldi text, .trn or .jsonl.",
)
@click.option("--refs-test", type=click.Path(dir_okay=False), help="References of TEST.")
@click.option(
    "--scorers",
    callback=_names,
    metavar="SPECS",
    help=f"[NAME=]SCORER[:ESTIMATOR][@MODEL], separated by commas. Default: {','.join(SCORERS)}.",
)
@click.option(
    "--fast",
    is_flag=True,
    help=f"Only scores of one network evaluation ({','.join(FAST)}), and --depth {FAST_DEPTH} unless given.",
)
@click.option(
    "--base",
    callback=_names,
    metavar="NAMES",
    help="The recogniser's own scores. Default: those that all hypotheses have, or else rank.",
)
@click.option(
    "--depth", type=click.IntRange(1), help="Use only the first N hypotheses of every list."
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Monte-Carlo draws of a NELBO.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of draws, tuning and intervals of the sweep.",
)
@click.option("--device", default="cpu", show_default=True, help="torch device.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="auto",
    show_default=True,
    help="Of the networks' bodies; auto: bfloat16 on a GPU that has it.",
)
@unit_options
@click.option(
    "--normalizer",
    type=named("normaliser"),
    default="none",
    show_default=True,
    help="Applied to both texts before counting.",
)
def command(
    dev: str, test: str, output: str, fast: bool, unit: Unit | None, cer: bool, **options: Any
) -> None:
    """Score DEV and TEST, tune on DEV, evaluate on TEST: scored lists, weights, a table and plots in one folder, resumable.

    \b
    Example: dlmrescore run --dev dev.jsonl --test test.jsonl -o results
    """
    if fast and options["scorers"]:
        raise click.UsageError("--fast and --scorers both say what is scored; give one of them")
    options["scorers"] = options["scorers"] or (FAST if fast else SCORERS)
    options["depth"] = options["depth"] or (FAST_DEPTH if fast else None)
    try:
        found = run(
            dev,
            test,
            output,
            unit=unit_of(unit, cer),
            say=partial(tqdm.write, file=sys.stderr),
            **options,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; what was scored is in {output}; run the same command again to go on"
        ) from None
    click.echo(found.table, nl=False)
