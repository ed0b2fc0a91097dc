"""`dlmrescore formats`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from rescore.formats import Format
from rescore.registry import FORMATS, LATTICE_FORMATS, POSTERIOR_FORMATS, lookup

__all__ = ["command"]


@click.command("formats")
def command() -> None:
    """List the formats of N-best lists, lattices and posteriors, with their options.

    For each: whether it is read or also written, what proves it, so that --from is not needed,
    and its options (-O for reading, -W for writing).

    \b
    Example: dlmrescore formats
    """
    for title, table, kind in (
        ("N-best lists", FORMATS, "format"),
        ("Lattices (`dlmrescore lattice`)", LATTICE_FORMATS, "lattice format"),
        ("Posteriors (`dlmrescore posteriors`)", POSTERIOR_FORMATS, "posterior format"),
    ):
        click.echo(f"{title}\n")
        for name in sorted(table):
            for line in _lines(lookup(table, name, kind)):
                click.echo(line)
        click.echo()


def _lines(entry: Format[Any]) -> Iterator[str]:
    access = "read and written" if entry.is_writable else "read"
    proof = f"proof: {entry.proof}" if entry.proof else "needs --from"
    yield f"{entry.name}: {entry.help}"
    yield f"    {access}; {proof}"
    for flag, options in (("-O", entry.read_options), ("-W", entry.write_options)):
        for key, option in options.items():
            required = " (required)" if option.required else ""
            yield f"    {flag} {key}=...  {option.help}{required}"
