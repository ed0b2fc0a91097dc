"""`dlmrescore eval`."""

from __future__ import annotations

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    Counting,
    counting_options,
    input_options,
    output_option,
    write_json,
)
from rescore.cli.resampling import Resampling, resampling_options
from rescore.report.origins import Origins
from rescore.report.summary import evaluation_summary
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
@resampling_options
@click.option("--json", "as_json", is_flag=True, help="Print the record instead of the summary.")
def command(
    source: InputOptions,
    output: str,
    baseline: str | None,
    counting: Counting,
    resampling: Resampling,
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
    origins = Origins()
    result = evaluate(origins.watched(lists), other, **vars(counting), **resampling.keywords)
    is_file = output != "-"
    if as_json or is_file:
        write_json({**result.to_json(), "scores": origins.by_name()}, output)
    if not as_json:
        click.echo(evaluation_summary(result), err=is_file)
        for line in origins.lines():
            click.echo(f"  score {line}", err=is_file)
    if result.tuned_on:
        click.echo(
            f"warning: the weights were tuned on {result.tuned_on} of these {result.utterances}"
            " utterances; this is not a test result",
            err=True,
        )
