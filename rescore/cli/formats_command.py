"""`dlmrescore formats`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from rescore.formats import Format
from rescore.registry import FORMATS, lookup

__all__ = ["command"]


@click.command("formats")
def command() -> None:
    """List the formats of N-best lists: read or written, what proves them, their options (-O for reading, -W for writing).

    \b
    Example: dlmrescore formats
    """
    for name in sorted(FORMATS):
        for line in _lines(lookup(FORMATS, name, "format")):
            click.echo(line)


def _lines(known: Format) -> Iterator[str]:
    yield f"{known.name}: {known.help}"
    yield f"    {'read and written' if known.is_writable else 'read'}; {f'proof: {known.proof}' if known.proof else 'needs --from'}"
    for flag, options in (("-O", known.read_options), ("-W", known.write_options)):
        for key, option in options.items():
            yield f"    {flag} {key}=...  {option.help}{' (required)' if option.required else ''}"
