"""`dlmrescore fuse`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence

import click

from rescore import fusion
from rescore.cli.lists import InputOptions
from rescore.cli.options import input_options, named, output_option
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.formats.trn import write_trn
from rescore.fusion.consensus import consensus_lists
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
    "--consensus",
    type=click.Path(dir_okay=False),
    help="Also write the word-by-word vote of each list, as lists of one hypothesis.",
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
    consensus: str | None,
    trn: str | None,
) -> None:
    """Reorder LISTS by the total score, the winner first, and add `total` to the scores.

    \b
    Example: dlmrescore fuse test.scored.jsonl --fusion fusion.json -o best.jsonl --trn hyp.trn
    """
    lists = source.reader(output)
    refuse_same_file(weights, output)
    also = {"--trn": trn, "--consensus": consensus}
    _refuse_clashes(also, (source.path, weights, source.refs, output))
    fused = fusion.fuse(
        lists,
        fusion.load(weights),
        decision,
        temperature,
        posteriors=posteriors or consensus is not None,
        command=f"dlmrescore fuse --fusion {shlex.quote(weights)}",
    )
    _write(fused, output, trn, consensus)


def _refuse_clashes(also: Mapping[str, str | None], others: Sequence[str | None]) -> None:
    """Refuse a further output that is an input, or another output."""
    paths = {flag: path for flag, path in also.items() if path is not None}
    for flag, path in paths.items():
        for other in others:
            if other is not None:
                refuse_same_file(other, path)
        if path == others[-1]:
            raise click.UsageError(
                f"the lists and {flag} cannot both go to standard output; give -o"
            )
    if len(set(paths.values())) < len(paths):
        raise click.UsageError(f"{' and '.join(paths)} cannot both be {path}; give each its own")


def _write(fused: Iterable[NBest], output: str, trn: str | None, consensus: str | None) -> None:
    """Write the lists as they come, then what is made of them, whose texts alone stay in memory.

    The further outputs are complete before the lists appear, so a failure leaves no lists.
    """
    winners: list[NBest] = []
    votes: list[NBest] = []

    def collecting() -> Iterator[NBest]:
        for nbest in fused:
            if trn is not None:
                winners.append(NBest(nbest.id, nbest.hyps[:1], where=nbest.where))
            if consensus is not None:
                votes.extend(consensus_lists([nbest]))
            yield nbest
        if consensus is not None:
            jsonl.write(votes, consensus)
        if trn is not None:
            write_trn(winners, trn)

    jsonl.write(collecting(), output)
