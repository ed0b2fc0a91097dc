"""`dlmrescore merge`."""

from __future__ import annotations

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import input_options, output_option
from rescore.formats import jsonl
from rescore.formats.files import refuse_same_file
from rescore.pipeline.merging import merge

__all__ = ["command"]


@click.command("merge")
@click.argument("shards", nargs=-1, required=True, type=click.Path(dir_okay=False))
@click.option(
    "--lists",
    "path",
    required=True,
    type=click.Path(allow_dash=True),
    help="The lists that the shards were scored from; the output keeps their order.",
)
@input_options(None)
@output_option
def command(shards: tuple[str, ...], source: InputOptions, output: str) -> None:
    """Join the outputs of `score --shard` into what one run over all lists writes.

    \b
    Example: dlmrescore merge scored.0.jsonl scored.1.jsonl --lists nbest.jsonl -o scored.jsonl
    """
    lists = source.reader(output)
    for shard in shards:
        refuse_same_file(shard, output)
    count = jsonl.write(merge(lists, shards), output)
    click.echo(f"{count} utterances from {len(shards)} shards", err=True)
