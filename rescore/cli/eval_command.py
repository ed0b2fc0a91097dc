"""`dlmrescore eval`."""

from __future__ import annotations

from collections.abc import Callable

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    Counting,
    counting_options,
    input_options,
    output_option,
    write_json,
)
from rescore.errors import FormatError
from rescore.types import NBest
from rescore.wer import evaluate

__all__ = ["command"]


@click.command("eval")
@input_options()
@output_option
@click.option(
    "--baseline",
    type=click.Path(dir_okay=False),
    help="Lists to compare with: their first hypotheses are the baseline.",
)
@counting_options
@click.option(
    "--cluster",
    metavar="FIELD",
    help="Resample by this field of the records, such as speaker, instead of by utterance.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the bootstrap.")
def command(
    source: InputOptions,
    output: str,
    baseline: str | None,
    counting: Counting,
    cluster: str | None,
    seed: int,
) -> None:
    """Evaluate the first hypothesis of every list: error rate, interval, oracle.

    With --baseline also the gain, and the share of bootstrap resamples that confirm it. Writes
    JSON.

    \b
    Example: dlmrescore eval best.jsonl --baseline test.scored.jsonl
    """
    lists, other = source.reader(output), None
    if baseline is not None:
        other = InputOptions(baseline, on_error=source.on_error).reader(output)
    field = None if cluster is None else _field(cluster)
    result = evaluate(lists, other, cluster=field, seed=seed, **vars(counting))
    write_json(result.to_json(), output)
    if result.tuned_on:
        click.echo(
            f"warning: the weights were tuned on {result.tuned_on} of these {result.utterances}"
            " utterances; this is not a test result",
            err=True,
        )


def _field(name: str) -> Callable[[NBest], str]:
    """The function that returns a field of a list's record."""

    def value(nbest: NBest) -> str:
        if name not in nbest.raw:
            raise FormatError(
                f'{nbest.place()}: the field "{name}" is missing;'
                " --cluster needs it in every record"
            )
        return str(nbest.raw[name])

    return value
