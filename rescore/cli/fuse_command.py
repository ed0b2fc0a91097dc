"""`dlmrescore fuse`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from rescore import fusion
from rescore.cli.options import Reader, input_options, lists_argument, named, output_option
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.formats.trn import write_trn
from rescore.types import NBest

__all__ = ["command"]


@click.command("fuse")
@lists_argument()
@input_options
@output_option
@click.option(
    "--fusion",
    "weights",
    required=True,
    type=click.Path(dir_okay=False),
    help="Weights as `dlmrescore tune` wrote them.",
)
@click.option(
    "--decision",
    type=named("decision"),
    default="map",
    show_default=True,
    help="Highest total, or least expected errors.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    help="Divides totals where probabilities are needed; default: the tuned one, or 1.",
)
@click.option(
    "--posterior",
    "posteriors",
    is_flag=True,
    help="Also write the probability of every hypothesis, and of the winner's words.",
)
@click.option(
    "--trn", type=click.Path(dir_okay=False), help="Also write the winners as sclite trn."
)
def command(
    path: str,
    output: str,
    weights: str,
    decision: str,
    temperature: float | None,
    posteriors: bool,
    trn: str | None,
    **options: Any,
) -> None:
    """Reorder LISTS by the total score, the winner first, and add `total` to the scores.

    \b
    Example: dlmrescore fuse test.scored.jsonl --fusion fusion.json -o best.jsonl --trn hyp.trn
    """
    reader = Reader(path, output, **options)
    refuse_same_file(weights, output)
    fused = fusion.fuse(reader, fusion.load(weights), decision, temperature, posteriors=posteriors)
    if trn is None:
        jsonl.write(fused, output)
    else:
        for other in filter(None, (path, weights, options["refs"], output)):
            refuse_same_file(other, trn)
        if trn == output:
            raise click.UsageError("the lists and --trn cannot both go to standard output; give -o")
        _write_both(fused, output, trn)


def _write_both(fused: Iterable[NBest], output: str, trn: str) -> None:
    """Write the winners beside the lists: the texts alone are kept, the lists stream. The trn is written first, so a failure leaves no lists."""
    winners: list[NBest] = []

    def watched() -> Iterator[NBest]:
        for nbest in fused:
            winners.append(NBest(nbest.id, nbest.hyps[:1], where=nbest.where))
            yield nbest
        write_trn(winners, trn)

    jsonl.write(watched(), output)
