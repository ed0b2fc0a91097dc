"""`dlmrescore eval`."""

from __future__ import annotations

from collections.abc import Callable

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    SEED_RANGE,
    Counting,
    counting_options,
    input_options,
    output_option,
    write_json,
)
from rescore.errors import FormatError
from rescore.report.summary import evaluation_summary
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
@click.option(
    "--seed", type=SEED_RANGE, default=0, show_default=True, help="Seed of the bootstrap."
)
@click.option("--json", "as_json", is_flag=True, help="Print the record instead of the summary.")
def command(
    source: InputOptions,
    output: str,
    baseline: str | None,
    counting: Counting,
    cluster: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Evaluate the first hypothesis of every list: error rate, interval, oracle.

    Lists that `fuse` reordered are compared with the recogniser's first hypotheses, and with
    --baseline with other lists: the gain, and the share of bootstrap resamples that confirm it.
    Prints a summary; -o FILE and --json give the record as JSON.

    \b
    Example: dlmrescore eval best.jsonl
    """
    lists, other = source.reader(output), None
    if baseline is not None:
        other = InputOptions(baseline, on_error=source.on_error).reader(output)
    field = None if cluster is None else _field(cluster)
    result = evaluate(lists, other, cluster=field, seed=seed, **vars(counting))
    is_file = output != "-"
    if as_json or is_file:
        write_json(result.to_json(), output)
    if not as_json:
        click.echo(evaluation_summary(result), err=is_file)
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
