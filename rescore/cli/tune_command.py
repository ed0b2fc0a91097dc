"""`dlmrescore tune`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from rescore import fusion
from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    SEED_RANGE,
    Counting,
    collected,
    counting_options,
    cross_validate_option,
    input_options,
    names_in_list,
    output_option,
)
from rescore.fusion import DevSet, Fusion, SearchSettings, tune
from rescore.fusion.selection import ORIGINAL, tune_kept
from rescore.types import NBest

__all__ = ["command"]


_FOLDS = 5  # of cross-validation, where --keep is given alone


@dataclass(frozen=True)
class _Search:
    """What is tuned besides the scales, and how."""

    word_bonus: bool
    cross_validate: int
    keep: float | None
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
        "--keep",
        metavar="P",
        type=click.FloatRange(0, 1),
        help="Guard against fitting noise: take the scores in their order as long as they beat the "
        "simpler system on held-out folds with this probability, such as 0.9. Where none does, the "
        "weights keep the first pass.",
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
        type=SEED_RANGE,
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
    options = {**vars(search), **vars(counting)}
    keep = options.pop("keep")
    if keep is None:
        weights, verdict = tune(source.reader(output), scores, **options), None
    else:
        weights, verdict = _kept(source.reader(output), scores, keep, options)
    fusion.save(weights, output)
    click.echo(_summary(weights), err=True)
    if verdict is not None:
        click.echo(verdict, err=True)


def _kept(
    lists: Iterable[NBest], scores: Sequence[str], keep: float, options: dict[str, Any]
) -> tuple[Fusion, str]:
    """The weights that the guard leaves, and what it says of every score."""
    dev = DevSet.of(lists, unit=options.pop("unit"), normalizer=options.pop("normalizer"))
    folds = options.pop("cross_validate") or min(_FOLDS, len(dev.lists))
    choice, weights = tune_kept(
        dev, scores, keep=keep, folds=folds, settings=SearchSettings(**options)
    )
    lines = [
        f"{'kept' if verdict.is_kept else 'not kept'}: {name} (fewer errors than {verdict.simpler} "
        f"on held-out folds, probability {verdict.probability:.3f})"
        for name, verdict in choice.verdicts.items()
    ]
    if choice.system == ORIGINAL:
        lines.append(f"nothing beats the first pass with probability {keep:g}: the weights keep it")
    return weights, "\n".join(lines)


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
