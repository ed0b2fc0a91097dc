"""`dlmrescore tune`."""

from __future__ import annotations

from typing import Any

import click

from rescore import fusion
from rescore.cli.options import (
    Reader,
    input_options,
    lists_argument,
    named,
    names_in_list,
    output_option,
    unit_of,
    unit_options,
)
from rescore.fusion import SearchSettings, tune

__all__ = ["command"]


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    return list(names_in_list(value, "score names"))


@click.command("tune")
@lists_argument("DEV")
@input_options
@output_option
@click.option(
    "--scores",
    callback=_names,
    required=True,
    help="Score names separated by commas; the first has scale 1. `rank` is always there.",
)
@click.option(
    "--word-bonus/--no-word-bonus",
    default=True,
    show_default=True,
    help="Tune nats per word too: the length prior.",
)
@click.option(
    "--cross-validate",
    type=click.IntRange(2),
    metavar="K",
    help="Also report the WER of K folds, each with weights tuned on the others.",
)
@click.option(
    "--restarts",
    type=click.IntRange(0),
    default=SearchSettings.restarts,
    show_default=True,
    help="Random starting points.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of starts and directions."
)
@unit_options
@click.option(
    "--normalizer",
    type=named("normaliser"),
    default="none",
    show_default=True,
    help="Applied to both texts before counting.",
)
def command(path: str, output: str, **options: Any) -> None:
    """Find the scales with the fewest errors on the lists DEV, by exact line search, and write them as JSON.

    \b
    Example: dlmrescore tune dev.scored.jsonl --scores am,ar,mdlm_nelbo -o fusion.json
    """
    reader = Reader.take(path, output, options)
    unit = unit_of(options.pop("unit"), options.pop("cer"))
    folds = options.pop("cross_validate") or 0
    found = tune(reader, options.pop("scores"), unit=unit, cross_validate=folds, **options)
    fusion.save(found, output)
    click.echo(_summary(found), err=True)


def _summary(found: fusion.Fusion) -> str:
    dev = found.dev
    if dev is None:
        return "tuned"
    held_out = (
        ""
        if dev.cross_validated_wer is None
        else f", {100 * dev.cross_validated_wer:.2f} cross-validated"
    )
    scales = ", ".join(f"{name} {scale:.4g}" for name, scale in found.scales.items())
    divisor = "" if found.temperature is None else f", temperature {found.temperature:.4g}"
    rates = f"{100 * dev.first_pass_wer:.2f} -> {100 * dev.wer:.2f}{held_out} (oracle {100 * dev.oracle_wer:.2f})"
    return f"dev error rate {rates}; scales: {scales}, word_bonus {found.word_bonus:.4g}{divisor}"
