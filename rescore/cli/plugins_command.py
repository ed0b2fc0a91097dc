"""`dlmrescore plugins`."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import click

from rescore.cli.options import output_option, write_json
from rescore.errors import RescoreError
from rescore.registry import KINDS, lookup, package, plugins

__all__ = ["command"]


@click.command("plugins")
@output_option
def command(output: str) -> None:
    """List the formats, scorers, normalisers, decisions and fusions of other packages, and try each. Writes JSON.

    `problem` is null, or says why a name cannot be used. How to write a plug-in: docs/adding.md.

    \b
    Example: dlmrescore plugins
    """
    write_json([_row(what, point) for what in KINDS for point in plugins(what)], output)


def _row(what: str, point: EntryPoint) -> dict[str, str | None]:
    problem = None
    try:
        lookup(KINDS[what].builtin, point.name, what)
    except RescoreError as error:
        problem = str(error)
    return {
        "kind": what,
        "name": point.name,
        "package": package(point),
        "object": point.value,
        "problem": problem,
    }
