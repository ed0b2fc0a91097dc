"""`dlmrescore convert`."""

from __future__ import annotations

from typing import Any

import click

from rescore.cli.options import (
    Reader,
    format_options,
    input_options,
    lists_argument,
    named,
    refuse_option_files,
)
from rescore.formats import Format
from rescore.registry import FORMATS, lookup
from rescore.types import NBest

__all__ = ["command"]


@click.command("convert")
@lists_argument()
@input_options
@click.option(
    "--to",
    "target",
    type=named("format"),
    default="jsonl",
    show_default=True,
    help="Format of the output.",
)
@click.option(
    "-W",
    "--write-option",
    "writer_options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Option of the output's format (see `dlmrescore formats`).",
)
@click.option(
    "-o",
    "--output",
    default="-",
    show_default="standard output",
    help="Where the lists go: a file, or a new directory for formats that are one.",
)
def command(
    path: str, output: str, target: str, writer_options: tuple[str, ...], **options: Any
) -> None:
    """Read LISTS in any known format and write them in the native one, or in another.

    \b
    Example: dlmrescore convert lists.json --from hyporadise -o nbest.jsonl
             dlmrescore convert scored.jsonl --to mlm-scoring -W score=mdlm_nelbo -o scored.json
    """
    chosen: Format[NBest] = lookup(FORMATS, target, "format")
    if not chosen.is_writable:
        raise click.BadParameter(f"{target} can be read but not written", param_hint="--to")
    keywords = format_options(chosen.write_options, writer_options, f"--to {target}", "-W")
    refuse_option_files(chosen.write_options, keywords, output)
    count = chosen.write(Reader(path, output, **options), output, **keywords)
    click.echo(f"{count} utterances", err=True)
