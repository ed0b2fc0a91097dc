"""`dlmrescore formats`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from rescore.formats import Format
from rescore.registry import FORMATS, LATTICE_FORMATS, lookup

__all__ = ["command"]


@click.command("formats")
def command() -> None:
    """List the formats of N-best lists and of lattices: read or written, what proves them, their options (-O for reading, -W for writing).

    \b
    Example: dlmrescore formats
    """
    for title, known, kind in (
        ("N-best lists", FORMATS, "format"),
        ("Lattices (`dlmrescore lattice`)", LATTICE_FORMATS, "lattice format"),
    ):
        click.echo(f"{title}\n")
        for name in sorted(known):
            for line in _lines(lookup(known, name, kind)):
                click.echo(line)
        click.echo()


def _lines(known: Format[Any]) -> Iterator[str]:
    yield f"{known.name}: {known.help}"
    yield f"    {'read and written' if known.is_writable else 'read'}; {f'proof: {known.proof}' if known.proof else 'needs --from'}"
    for flag, options in (("-O", known.read_options), ("-W", known.write_options)):
        for key, option in options.items():
            yield f"    {flag} {key}=...  {option.help}{' (required)' if option.required else ''}"
