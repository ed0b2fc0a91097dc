"""`dlmrescore convert`."""

from __future__ import annotations

from typing import Any

import click

from rescore.cli.options import Reader, input_options, lists_argument, named, output_option
from rescore.formats import Format
from rescore.registry import FORMATS, lookup

__all__ = ["command"]


@click.command("convert")
@lists_argument()
@input_options
@click.option("--to", "target", type=named("format"), default="jsonl", show_default=True, help="Format of the output.")
@output_option
def command(path: str, output: str, target: str, **options: Any) -> None:
    """Read LISTS in any known format and write them in the native one.

    \b
    Example: dlmrescore convert lists.json --from hyporadise -o nbest.jsonl
    """
    chosen: Format = lookup(FORMATS, target, "format")
    if not chosen.is_writable:
        raise click.BadParameter(f"{target} can be read but not written", param_hint="--to")
    count = chosen.write(Reader(path, output, **options), output)
    click.echo(f"{count} utterances", err=True)
