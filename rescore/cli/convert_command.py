"""`dlmrescore convert`."""

from __future__ import annotations

import click

from rescore.cli.lists import InputOptions, format_options, refuse_option_files
from rescore.cli.options import input_options, named
from rescore.formats import Format
from rescore.registry import FORMATS, lookup
from rescore.types import NBest

__all__ = ["command"]


@click.command("convert")
@input_options()
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
    help="Option of the output format (see `dlmrescore formats`).",
)
@click.option(
    "-o",
    "--output",
    default="-",
    show_default="standard output",
    help="Output file, or a new directory for formats that are directories.",
)
def command(
    source: InputOptions, target: str, writer_options: tuple[str, ...], output: str
) -> None:
    """Read LISTS in any known format and write them in the native one, or in another.

    \b
    Example: dlmrescore convert lists.json --from hyporadise -o nbest.jsonl
             dlmrescore convert scored.jsonl --to mlm-scoring -W score=mdlm_nelbo -o scored.json
    """
    writer: Format[NBest] = lookup(FORMATS, target, "format")
    if not writer.is_writable:
        raise click.BadParameter(f"{target} can be read but not written", param_hint="--to")
    keywords = format_options(writer.write_options, writer_options, f"--to {target}", "-W")
    refuse_option_files(writer.write_options, keywords, output)
    count = writer.write(source.reader(output), output, **keywords)
    click.echo(f"{count} utterances", err=True)
