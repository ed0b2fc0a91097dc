"""`dlmrescore tune`."""

from __future__ import annotations

from dataclasses import dataclass

import click

from rescore import fusion
from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    Counting,
    collected,
    counting_options,
    cross_validate_option,
    input_options,
    names_in_list,
    output_option,
)
from rescore.fusion import Fusion, SearchSettings, tune

__all__ = ["command"]


@dataclass(frozen=True)
class _Search:
    """What is tuned besides the scales, and how."""

    word_bonus: bool
    cross_validate: int
    restarts: int
    seed: int


_SEARCH = [
    click.option(
        "--word-bonus/--no-word-bonus",
        default=True,
        show_default=True,
        help="Also tune the word bonus, nats per word: the length prior.",
    ),
    cross_validate_option(
        "Also report the error rate of K-fold cross-validation: each fold with weights tuned on "
        "the others."
    ),
    click.option(
        "--restarts",
        type=click.IntRange(0),
        default=SearchSettings.restarts,
        show_default=True,
        help="Number of random starting points.",
    ),
    click.option(
        "--seed",
        type=int,
        default=0,
        show_default=True,
        help="Seed of starting points, directions and folds.",
    ),
]


def _names(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return names_in_list(value, "score names")


@click.command("tune")
@input_options("DEV")
@output_option
@click.option(
    "--scores",
    callback=_names,
    required=True,
    help="Score names separated by commas; the first has scale 1. `rank` always exists.",
)
@collected(_Search, "search", _SEARCH)
@counting_options
def command(
    source: InputOptions,
    output: str,
    scores: tuple[str, ...],
    search: _Search,
    counting: Counting,
) -> None:
    """Find the scales with the fewest errors on the lists DEV, by exact line search.

    Writes the weights as JSON, for `dlmrescore fuse`.

    \b
    Example: dlmrescore tune dev.scored.jsonl --scores am,ar,mdlm_nelbo -o fusion.json
    """
    weights = tune(source.reader(output), scores, **vars(search), **vars(counting))
    fusion.save(weights, output)
    click.echo(_summary(weights), err=True)


def _summary(weights: Fusion) -> str:
    dev = weights.dev
    if dev is None:
        return "tuned"
    validated = dev.cross_validated_wer
    held_out = "" if validated is None else f", {100 * validated:.2f} cross-validated"
    oracle = f"(oracle {100 * dev.oracle_wer:.2f})"
    rates = f"{100 * dev.first_pass_wer:.2f} -> {100 * dev.wer:.2f}{held_out} {oracle}"
    scales = ", ".join(f"{name} {scale:.4g}" for name, scale in weights.scales.items())
    temperature = "" if weights.temperature is None else f", temperature {weights.temperature:.4g}"
    return (
        f"dev error rate {rates}; scales: {scales}, word_bonus {weights.word_bonus:.4g}"
        f"{temperature}"
    )
