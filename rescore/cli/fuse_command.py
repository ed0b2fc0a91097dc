"""`dlmrescore fuse`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import click

from rescore import fusion
from rescore.cli.lists import InputOptions
from rescore.cli.options import input_options, named, output_option
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.formats.trn import write_trn
from rescore.types import NBest

__all__ = ["command"]


@click.command("fuse")
@input_options()
@output_option
@click.option(
    "--fusion",
    "weights",
    required=True,
    type=click.Path(dir_okay=False),
    help="Weights that `dlmrescore tune` wrote.",
)
@click.option(
    "--decision",
    type=named("decision"),
    default="map",
    show_default=True,
    help="map: the highest total; mbr: the fewest expected errors.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, min_open=True),
    help="Divisor of the totals where they become probabilities; default: the tuned one, or 1.",
)
@click.option(
    "--posterior",
    "posteriors",
    is_flag=True,
    help="Also write the probability of each hypothesis, and of each word of the winner.",
)
@click.option(
    "--trn", type=click.Path(dir_okay=False), help="Also write the winners as sclite trn."
)
def command(
    source: InputOptions,
    output: str,
    weights: str,
    decision: str,
    temperature: float | None,
    posteriors: bool,
    trn: str | None,
) -> None:
    """Reorder LISTS by the total score, the winner first, and add `total` to the scores.

    \b
    Example: dlmrescore fuse test.scored.jsonl --fusion fusion.json -o best.jsonl --trn hyp.trn
    """
    lists = source.reader(output)
    refuse_same_file(weights, output)
    fused = fusion.fuse(lists, fusion.load(weights), decision, temperature, posteriors=posteriors)
    if trn is None:
        jsonl.write(fused, output)
        return
    for other in (source.path, weights, source.refs, output):
        if other is not None:
            refuse_same_file(other, trn)
    if trn == output:
        raise click.UsageError("the lists and --trn cannot both go to standard output; give -o")
    _write_both(fused, output, trn)


def _write_both(fused: Iterable[NBest], output: str, trn: str) -> None:
    """Write the lists as they come, and the winners, whose texts alone stay in memory.

    The trn is complete before the lists appear, so a failure leaves no lists.
    """
    winners: list[NBest] = []

    def collecting() -> Iterator[NBest]:
        for nbest in fused:
            winners.append(NBest(nbest.id, nbest.hyps[:1], where=nbest.where))
            yield nbest
        write_trn(winners, trn)

    jsonl.write(collecting(), output)
