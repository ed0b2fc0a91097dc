"""`dlmrescore sweep`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    SEED_RANGE,
    Counting,
    collected,
    counting_options,
    cross_validate_option,
    input_options,
    output_option,
)
from rescore.formats.files import atomic_writer, refuse_same_file
from rescore.fusion import Base, Sweep, load, sweep
from rescore.report.figures import check_plot
from rescore.report.sweep import plot_sweep, sweep_csv

__all__ = ["command"]

_LARGEST = 1_000_000  # values of one axis


def parse_range(text: str) -> list[float]:
    """Return the values of `low:high:step`, both ends included, or of one number.

    The arithmetic is decimal: 0:2:0.05 holds 0.15 and not 0.15000000000000002. Raises
    click.BadParameter for anything else.
    """
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
            f"got {text!r}, which has more than {_LARGEST} values; use a longer step"
        )
    return [float(low + i * step) for i in range(math.floor(steps) + 1)]


def _scales(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, list[float]]:
    scales: dict[str, list[float]] = {}
    for value in values:
        name, equals, text = value.rpartition("=")
        name = name.strip()
        if not equals or not name:
            raise click.BadParameter(f"got {value!r}, expected NAME=low:high:step or NAME=number")
        if name in scales:
            raise click.BadParameter(f"the score {name!r} is given twice")
        scales[name] = parse_range(text)
    return scales


def _base(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Base | None:
    """The names of `am,ngram`, or the scales of `am=1,ngram=8`."""
    if value is None:
        return None
    names: list[str] = []
    numbers: list[str] = []
    for part in value.split(","):
        name, equals, number = part.strip().rpartition("=")
        if equals:
            names.append(name)
            numbers.append(number)
        elif number:
            names.append(number)
    if not names or len(set(names)) < len(names) or len(numbers) not in (0, len(names)):
        raise click.BadParameter(
            f"got {value!r}, expected different names, all alone (am,ngram) or all with scales"
            " (am=1,ngram=8)"
        )
    if not numbers:
        return names
    try:
        return {name: float(number) for name, number in zip(names, numbers, strict=True)}
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, where a scale is not a number") from error


def _word_bonus(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> list[float] | None:
    return None if value is None else parse_range(value)


@dataclass(frozen=True)
class _Grid:
    """The settings to try, and what is estimated of each."""

    scales: dict[str, list[float]]
    word_bonus: list[float] | None
    cross_validate: int
    resamples: int
    seed: int


_GRID = [
    click.option(
        "--scale",
        "scales",
        multiple=True,
        required=True,
        callback=_scales,
        metavar="NAME=LOW:HIGH:STEP",
        help="Scales to try; repeatable.",
    ),
    click.option(
        "--word-bonus",
        callback=_word_bonus,
        metavar="LOW:HIGH:STEP",
        help="Word bonuses to try, in nats per word, or one number to hold.",
    ),
    cross_validate_option(
        "Also report the error rate of K-fold cross-validation: each fold with the setting chosen "
        "on the others."
    ),
    click.option(
        "--resamples",
        type=click.IntRange(0),
        default=1000,
        show_default=True,
        help="Bootstrap resamples for the intervals; 0 leaves the intervals out and is faster.",
    ),
    click.option(
        "--seed",
        type=SEED_RANGE,
        default=0,
        show_default=True,
        help="Seed of resamples, folds and line search.",
    ),
]


@dataclass(frozen=True)
class _Held:
    """The scores that are not swept: `base`, or the weights of a file, or neither."""

    base: Base | None
    weights: str | None

    def load(self) -> Base | None:
        """The base as `sweep` takes it."""
        return self.base if self.weights is None else load(self.weights)


_HELD = [
    click.option(
        "--base",
        callback=_base,
        metavar="NAMES",
        help="Other scores: am,ngram (tuned, then held) or am=1,ngram=8 (held). "
        "Default: the recogniser's.",
    ),
    click.option(
        "--fusion",
        "weights",
        type=click.Path(dir_okay=False),
        help="Hold all other scores at the weights of this file.",
    ),
]


@click.command("sweep")
@input_options("DEV")
@output_option
@collected(_Grid, "grid", _GRID)
@collected(_Held, "held", _HELD)
@counting_options
@click.option(
    "--plot",
    type=click.Path(dir_okay=False),
    help="Also draw a plot (.png, .pdf, .svg): a curve for one scale, a heat map for two.",
)
def command(
    source: InputOptions,
    output: str,
    grid: _Grid,
    held: _Held,
    counting: Counting,
    plot: str | None,
) -> None:
    """Count the errors on the lists DEV at every combination of scales; write CSV.

    A sweep shows the neighbourhood of an optimum; to choose weights, use `tune`.

    \b
    Example: dlmrescore sweep dev.scored.jsonl --scale ar=0:40:1 -o sweep.csv --plot sweep.png
    """
    lists = source.reader(output)
    _check_outputs(source.path, output, plot, held)
    base = held.load()
    started = time.monotonic()
    result = sweep(lists, base=base, **vars(grid), **vars(counting))
    seconds, text = time.monotonic() - started, sweep_csv(result)
    with atomic_writer(output) as out:
        out.write(text.encode())
    if plot is not None:
        plot_sweep(text, plot)
    click.echo(_summary(result, seconds), err=True)


def _check_outputs(path: str, output: str, plot: str | None, held: _Held) -> None:
    """Refuse what cannot work before the lists are read."""
    if held.base is not None and held.weights is not None:
        raise click.UsageError(
            "--base and --fusion both say where the other scores are held; give one of them"
        )
    if held.weights is not None:
        refuse_same_file(held.weights, output)
    if plot is not None:
        check_plot(plot)
        for other in (path, output, held.weights):
            if other is not None:
                refuse_same_file(other, plot)


def _summary(result: Sweep, seconds: float) -> str:
    best = _values(result.weights(result.best))
    held_out = "" if result.held_out_wer is None else f", {100 * result.held_out_wer:.2f} held out"
    return (
        f"lowest error rate {100 * result.wer[result.best]:.2f} % at {best}{held_out}"
        f" (line search {100 * result.optimum_wer:.2f}); held: {_values(result.held)};"
        f" {result.errors.size} settings, {seconds:.1f} s"
    )


def _values(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in weights.items())
