"""`dlmrescore pool`."""

from __future__ import annotations

import re

import click

from rescore.cli.lists import InputOptions
from rescore.cli.options import named, output_option
from rescore.formats import jsonl
from rescore.formats.files import stem_of
from rescore.fusion.pooling import pool

__all__ = ["command"]

_SYSTEM = re.compile(r"(?:([\w-]+)=)?(.+)", re.DOTALL)


def _weights(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    if value is None:
        return None
    try:
        return tuple(float(weight) for weight in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, expected numbers separated by commas") from error


def _systems(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """The name of every system and its file: `NAME=FILE`, or FILE, whose stem names it."""
    systems: dict[str, str] = {}
    for value in values:
        match = _SYSTEM.fullmatch(value)
        name, path = (match[1], match[2]) if match else (None, value)
        name = name or re.sub(r"[^\w-]", "_", stem_of(path).removesuffix(".jsonl"))
        if name in systems:
            raise click.BadParameter(f"two systems are called {name!r}; name them: NAME=FILE")
        systems[name] = path
    if len(systems) < 2:
        raise click.BadParameter("give the lists of two systems or more")
    return systems


@click.command("pool")
@click.argument("systems", metavar="[NAME=]LISTS...", nargs=-1, required=True, callback=_systems)
@click.option(
    "--weights",
    callback=_weights,
    metavar="W,W,...",
    help="Weights of the systems in the mixture; default: equal ones.",
)
@click.option(
    "--missing",
    type=click.Choice(["error", "keep"]),
    default="error",
    show_default=True,
    help="An utterance that a system lacks: stop, or pool what the others have.",
)
@click.option(
    "--from",
    "format_name",
    type=named("format"),
    help="Format of all inputs; by default recognised by content, where that is certain.",
)
@output_option
def command(
    systems: dict[str, str],
    weights: tuple[float, ...] | None,
    missing: str,
    format_name: str | None,
    output: str,
) -> None:
    """Join the LISTS of several systems for the same utterances, by text.

    Scores get the names of their systems, `a.am`; `pool` is the log-probability of a hypothesis
    under the mixture of the systems. Give lists that `fuse --posterior` wrote: their posteriors are
    what is mixed; lists without count by their order.

    \b
    Example: dlmrescore pool a=a.best.jsonl b=b.best.jsonl -o pooled.jsonl
    """
    lists = {}
    for name, path in systems.items():
        lists[name] = InputOptions(path, format_name).reader(output)
    pooled = pool(lists, weights, keep_incomplete=missing == "keep")
    count = jsonl.write(pooled, output)
    click.echo(f"{count} utterances of {len(systems)} systems", err=True)
