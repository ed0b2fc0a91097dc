"""`dlmrescore sweep`."""

from __future__ import annotations

import math
import time
from decimal import Decimal, InvalidOperation
from typing import Any

import click

from rescore.cli.options import (
    Reader,
    input_options,
    lists_argument,
    named,
    output_option,
    unit_of,
    unit_options,
)
from rescore.formats.files import atomic_writer, refuse_same_file
from rescore.fusion import Base, Sweep, load, sweep
from rescore.report.figures import check_plot
from rescore.report.sweep import plot_sweep, sweep_csv

__all__ = ["command"]

_LARGEST = 1_000_000  # values of one axis


def parse_range(text: str) -> list[float]:
    """`low:high:step`, both ends included, or one number, in decimal arithmetic: 0:2:0.05 holds 0.15 and not 0.15000000000000002."""
    try:
        parts = [Decimal(part.strip()) for part in text.split(":")]
    except InvalidOperation:
        parts = []
    if len(parts) not in (1, 3) or not all(part.is_finite() for part in parts):
        raise click.BadParameter(
            f"got {text!r}, expected low:high:step, such as 0:2:0.05, or one number"
        )
    if len(parts) == 1:
        return [float(parts[0])]
    low, high, step = parts
    if step <= 0 or high < low:
        raise click.BadParameter(
            f"got {text!r}, expected a step above 0 and an end that is not below the start"
        )
    steps = (high - low) / step
    if steps >= _LARGEST:
        raise click.BadParameter(
            f"got {text!r}, which has more than {_LARGEST} values; take a longer step"
        )
    return [float(low + i * step) for i in range(math.floor(steps) + 1)]


def _scales(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for value in values:
        name, equals, text = value.rpartition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"got {value!r}, expected NAME=low:high:step or NAME=number")
        if name.strip() in found:
            raise click.BadParameter(f"the score {name.strip()!r} is there twice")
        found[name.strip()] = parse_range(text)
    return found


def _base(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Base | None:
    if value is None:
        return None
    parts = [
        part.strip().rpartition("=") if "=" in part else (part.strip(), "", "")
        for part in value.split(",")
        if part.strip()
    ]
    names = [name for name, _, _ in parts]
    if not names or len(set(names)) < len(names) or len({equals for _, equals, _ in parts}) > 1:
        raise click.BadParameter(
            f"got {value!r}, expected different names, all alone (am,ngram) or all with scales (am=1,ngram=8)"
        )
    if parts[0][1] == "":
        return names
    try:
        return {name: float(number) for name, _, number in parts}
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, where a scale is not a number") from error


def _word_bonus(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> list[float] | None:
    return None if value is None else parse_range(value)


@click.command("sweep")
@lists_argument("DEV")
@input_options
@output_option
@click.option(
    "--scale",
    "scales",
    multiple=True,
    required=True,
    callback=_scales,
    metavar="NAME=LOW:HIGH:STEP",
    help="Scales to try; repeatable.",
)
@click.option(
    "--base",
    callback=_base,
    metavar="NAMES",
    help="Other scores: am,ngram (tuned, then held) or am=1,ngram=8. Default: the recogniser's.",
)
@click.option(
    "--fusion",
    "weights",
    type=click.Path(dir_okay=False),
    help="Hold all other scores at the weights of this file.",
)
@click.option(
    "--word-bonus",
    callback=_word_bonus,
    metavar="LOW:HIGH:STEP",
    help="Nats per word to try, or one number to hold.",
)
@click.option(
    "--cross-validate",
    type=click.IntRange(2),
    metavar="K",
    help="Also the error rate of K folds, each with the setting chosen on the others.",
)
@click.option(
    "--resamples",
    type=click.IntRange(0),
    default=1000,
    show_default=True,
    help="Bootstrap resamples behind the intervals; 0: none, faster.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of resamples, folds and line search.",
)
@unit_options
@click.option(
    "--normalizer",
    type=named("normaliser"),
    default="none",
    show_default=True,
    help="Applied to both texts before counting.",
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    help="Also draw it (.png, .pdf, .svg): a curve for one scale, a heat map for two.",
)
def command(path: str, output: str, plot: str | None, weights: str | None, **options: Any) -> None:
    """Count the errors on the lists DEV at every combination of scales, and write them as CSV. To choose weights, use `tune`.

    \b
    Example: dlmrescore sweep dev.scored.jsonl --scale mdlm_nelbo=0:20:0.5 --scale ar=0:40:1 -o sweep.csv --plot sweep.png
    """
    reader = Reader.take(path, output, options)
    base = options.pop("base")
    _check_outputs(path, output, plot, weights, base)
    base = base if weights is None else load(weights)
    folds, unit = (
        options.pop("cross_validate") or 0,
        unit_of(options.pop("unit"), options.pop("cer")),
    )
    started = time.monotonic()
    found = sweep(
        reader, options.pop("scales"), base=base, cross_validate=folds, unit=unit, **options
    )
    seconds, text = time.monotonic() - started, sweep_csv(found)
    with atomic_writer(output) as out:
        out.write(text.encode())
    if plot is not None:
        plot_sweep(text, plot)
    click.echo(_summary(found, seconds), err=True)


def _check_outputs(
    path: str, output: str, plot: str | None, weights: str | None, base: object
) -> None:
    """Everything that can be refused before the lists are read."""
    if base is not None and weights is not None:
        raise click.UsageError(
            "--base and --fusion both say how the other scores are held; give one of them"
        )
    if weights is not None:
        refuse_same_file(weights, output)
    if plot is not None:
        check_plot(plot)
        for other in filter(None, (path, output, weights)):
            refuse_same_file(other, plot)


def _summary(found: Sweep, seconds: float) -> str:
    lowest = ", ".join(f"{name} {value:.4g}" for name, value in found.weights(found.best).items())
    held = ", ".join(f"{name} {value:.4g}" for name, value in found.held.items())
    held_out = "" if found.held_out_wer is None else f", {100 * found.held_out_wer:.2f} held out"
    rates = f"lowest error rate {100 * found.wer[found.best]:.2f} % at {lowest}{held_out} (line search {100 * found.optimum_wer:.2f})"
    return f"{rates}; held: {held}; {found.errors.size} settings, {seconds:.1f} s"
