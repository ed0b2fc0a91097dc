"""`dlmrescore run`."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
from tqdm import tqdm

from rescore.cli.options import (
    NORMALIZER_OPTION,
    SEED_RANGE,
    UNIT_OPTIONS,
    collected,
    folds_option,
    named,
    names_in_list,
)
from rescore.experiment import FAST, FAST_DEPTH, SCORERS, Inputs, Options, Workplace, run_experiment
from rescore.progress import announce
from rescore.scorers.options import DTYPES

__all__ = ["command"]


def _names(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[str, ...] | None:
    return None if value is None else names_in_list(value, "names")


_INPUTS = [
    click.option("--dev", required=True, type=click.Path(), help="Lists to tune on."),
    click.option(
        "--test",
        required=True,
        type=click.Path(),
        help="Lists to report on, of other utterances.",
    ),
    click.option(
        "--from",
        "format_name",
        type=named("format"),
        help="Format of both inputs; by default recognised by content, where that is certain. "
        "Use `convert` first for a format that needs options.",
    ),
    click.option(
        "--refs-dev",
        type=click.Path(dir_okay=False),
        help="References of DEV: Kaldi text, .trn or .jsonl.",
    ),
    click.option("--refs-test", type=click.Path(dir_okay=False), help="References of TEST."),
]
_OPTIONS = [
    click.option(
        "--scorers",
        callback=_names,
        metavar="SPECS",
        help="[NAME=]SCORER[:ESTIMATOR][@MODEL], separated by commas. "
        f"Default: {','.join(SCORERS)}.",
    ),
    click.option(
        "--base",
        callback=_names,
        metavar="NAMES",
        help="The recogniser's own scores. Default: those that every hypothesis has, or rank.",
    ),
    click.option(
        "--depth",
        metavar="N",
        type=click.IntRange(1),
        help="Use only the first N hypotheses of each list.",
    ),
    click.option(
        "--keep",
        metavar="P",
        type=click.FloatRange(0, 1),
        default=Options.keep,
        show_default=True,
        help="Choose a system only if it beats the simpler one on held-out folds of DEV with this "
        "probability.",
    ),
    click.option(
        "--draws",
        type=click.IntRange(1),
        default=8,
        show_default=True,
        help="Monte-Carlo draws of a NELBO.",
    ),
    folds_option,
    click.option(
        "--seed",
        type=SEED_RANGE,
        default=0,
        show_default=True,
        help="Seed of draws, tuning and the sweep's intervals.",
    ),
    click.option(
        "--per-token",
        is_flag=True,
        help="Also keep what each token adds to a score: report.html then shows it as heat strips.",
    ),
    click.option("--device", default="cpu", show_default=True, help="torch device."),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        show_default=True,
        help="dtype of the networks' bodies; auto: bfloat16 on a GPU that supports it.",
    ),
    *UNIT_OPTIONS,
    NORMALIZER_OPTION,
]


@click.command("run")
@collected(Inputs, "inputs", _INPUTS)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False),
    help="Folder of this experiment, in which the same command resumes.",
)
@click.option(
    "--fast",
    is_flag=True,
    help=f"Only scores with one network evaluation per hypothesis ({','.join(FAST)}), and "
    f"--depth {FAST_DEPTH} unless given.",
)
@collected(Options, "options", _OPTIONS)
@click.option(
    "--add",
    callback=_names,
    metavar="SPECS",
    help="Further scorers, as in --scorers: with the command that made OUTPUT, they are added to "
    "it, and what it has is not scored again.",
)
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    help="Directory of scores to reuse between runs.",
)
def command(
    inputs: Inputs,
    output: str,
    fast: bool,
    options: Options,
    add: tuple[str, ...] | None,
    cache: str | None,
) -> None:
    """Score DEV and TEST, tune on DEV, evaluate on TEST.

    Scored lists, weights, a table and plots go into one folder. A run that was stopped resumes
    there.

    \b
    Example: dlmrescore run --dev dev.jsonl --test test.jsonl -o results
    """
    if fast:
        options = _fast(options)
    if add:
        options = replace(options, scorers=(*(options.scorers or SCORERS), *add))
    workplace = Workplace(cache, grows=bool(add))
    announce(f"reading {inputs.dev} and {inputs.test}")
    say = partial(tqdm.write, file=sys.stderr)
    try:
        results = run_experiment(inputs, options, Path(output), say, workplace)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted; the scores so far are in {output}; run the same command again to resume"
        ) from None
    click.echo(results.table, nl=False)


def _fast(options: Options) -> Options:
    if options.scorers is not None:
        raise click.UsageError("--fast and --scorers both say what is scored; give one of them")
    return replace(options, scorers=FAST, depth=options.depth or FAST_DEPTH)
