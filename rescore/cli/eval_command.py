"""`dlmrescore eval`."""

from __future__ import annotations

from collections.abc import Callable
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
    write_json,
)
from rescore.errors import FormatError
from rescore.types import NBest
from rescore.wer import evaluate

__all__ = ["command"]


@click.command("eval")
@lists_argument()
@input_options
@output_option
@click.option(
    "--baseline",
    type=click.Path(dir_okay=False),
    help="Lists whose first hypotheses LISTS is compared with.",
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
    "--cluster",
    metavar="FIELD",
    help="Resample by this field of the records (for example speaker) instead of by utterance.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
def command(
    path: str,
    output: str,
    baseline: str | None,
    normalizer: str,
    cluster: str | None,
    seed: int,
    **options: Any,
) -> None:
    """Evaluate the first hypothesis of every list: error rate, oracle, interval; with a baseline, gain and its probability. Writes JSON.

    \b
    Example: dlmrescore eval best.jsonl --baseline test.scored.jsonl
    """
    unit = unit_of(options.pop("unit"), options.pop("cer"))
    lists = Reader(path, output, **options)
    other = None if baseline is None else Reader(baseline, output, on_error=options["on_error"])
    by = None if cluster is None else _by_field(cluster)
    result = evaluate(lists, other, unit=unit, normalizer=normalizer, cluster=by, seed=seed)
    write_json(result.to_json(), output)
    if result.tuned_on:
        click.echo(
            f"warning: the weights were tuned on {result.tuned_on} of these {result.utterances} utterances; this is not a test result",
            err=True,
        )


def _by_field(name: str) -> Callable[[NBest], str]:
    def cluster(nbest: NBest) -> str:
        if name not in nbest.raw:
            raise FormatError(
                f'{nbest.place()}: the field "{name}" is missing; --cluster needs it in every record'
            )
        return str(nbest.raw[name])

    return cluster
