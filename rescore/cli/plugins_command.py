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
    """List the plug-ins of other packages and try to load each. Writes JSON.

    `problem` is null, or the reason why a plug-in cannot be used. docs/adding.md explains how to
    write one.

    \b
    Example: dlmrescore plugins
    """
    write_json([_row(kind, point) for kind in KINDS for point in plugins(kind)], output)


def _row(kind: str, point: EntryPoint) -> dict[str, str | None]:
    problem = None
    try:
        lookup(KINDS[kind].builtin, point.name, kind)
    except RescoreError as error:
        problem = str(error)
    return {
        "kind": kind,
        "name": point.name,
        "package": package(point),
        "object": point.value,
        "problem": problem,
    }
