"""`dlmrescore merge`."""

from __future__ import annotations

from typing import Any

import click

from rescore.cli.options import Reader, input_options, output_option
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
    help="The lists that all shards were made from: they say the order.",
)
@input_options
@output_option
def command(shards: tuple[str, ...], path: str, output: str, **options: Any) -> None:
    """Join the outputs of `score --shard` into what one run over all lists would have written.

    \b
    Example: dlmrescore merge scored.0.jsonl scored.1.jsonl --lists nbest.jsonl -o scored.jsonl
    """
    reader = Reader.take(path, output, options)
    for shard in shards:
        refuse_same_file(shard, output)
    count = jsonl.write(merge(reader, shards), output)
    click.echo(f"{count} utterances from {len(shards)} shards", err=True)
