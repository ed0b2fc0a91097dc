"""`dlmrescore compare`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import click

from rescore.cli.colour import color_option
from rescore.cli.lists import InputOptions
from rescore.cli.options import (
    Counting,
    collected,
    counting_options,
    input_options,
    output_option,
    write_json,
)
from rescore.cli.resampling import Resampling, resampling_options
from rescore.formats.files import atomic_writer, refuse_same_file
from rescore.fusion import fuse, load
from rescore.report.changes import changes_csv, changes_json, changes_text
from rescore.report.layout import Paint
from rescore.types import NBest
from rescore.wer import Changes, changes

__all__ = ["ORIGINAL", "baseline_option", "command"]

#: What `--baseline` calls the recogniser's own order.
ORIGINAL = "first-pass"

baseline_option = click.option(
    "--baseline",
    metavar="FILE",
    help="What every system is compared with: a file like the systems', or first-pass, the "
    "recogniser's order. Default: the first of several systems; the first pass for one alone.",
)


@dataclass(frozen=True)
class _Output:
    """What is written, and where."""

    output: str
    as_json: bool
    csv: str | None
    pairs: int


_OUTPUT = [
    output_option,
    click.option(
        "--json", "as_json", is_flag=True, help="Print the record instead of the summary."
    ),
    click.option(
        "--csv",
        type=click.Path(dir_okay=False),
        help="Also write every utterance: errors before and after, and the texts.",
    ),
    click.option(
        "--pairs",
        type=click.IntRange(0),
        default=10,
        show_default=True,
        help="List the N most common errors that were fixed, and that are new.",
    ),
]


@click.command("compare")
@click.argument("systems", nargs=-1, required=True, type=click.Path(allow_dash=True))
@baseline_option
@click.option(
    "--lists",
    "path",
    type=click.Path(allow_dash=True),
    help="Scored lists: the systems are then weights that `tune` wrote, which reorder these.",
)
@input_options(None)
@collected(_Output, "target", _OUTPUT)
@counting_options
@resampling_options
@color_option
def command(
    systems: tuple[str, ...],
    baseline: str | None,
    source: InputOptions,
    target: _Output,
    counting: Counting,
    resampling: Resampling,
    paint: Paint,
) -> None:
    """Compare SYSTEMS with a baseline, utterance by utterance.

    A system is a file of lists whose first hypotheses count, or with --lists a file of weights.
    Prints for each how many utterances it helps and hurts, which errors it fixes and which are
    new, and how sure the gain is. -o FILE and --json give the record as JSON.

    \b
    Example: dlmrescore compare best.base.jsonl best.jsonl --csv utterances.csv
             dlmrescore compare base.json all.json --lists test.scored.jsonl
    """
    names = _without_baseline(systems, baseline)
    against = baseline or (systems[0] if len(systems) > 1 else ORIGINAL)
    inputs = _Inputs(source, target)
    compared: dict[str, Changes] = {}
    for name in names:
        other = None if against == ORIGINAL else inputs.lists(against)
        compared[name] = changes(inputs.lists(name), other, **vars(counting), **resampling.keywords)
    _write(compared, against, target, paint)


def _without_baseline(systems: tuple[str, ...], baseline: str | None) -> tuple[str, ...]:
    """The systems that are compared; the first of several is the baseline unless one is named."""
    if len(set(systems)) < len(systems):
        raise click.UsageError(f"a system is named twice: {' '.join(systems)}")
    if baseline in systems:
        raise click.UsageError(f"{baseline} is both a system and the baseline; name it once")
    return systems if baseline or len(systems) == 1 else systems[1:]


class _Inputs:
    """The lists of each system: read from its file, or reordered by its weights."""

    def __init__(self, source: InputOptions, target: _Output) -> None:
        self._source, self._target = source, target
        self._scored = list(self._reader(source.path)) if source.path else None

    def lists(self, system: str) -> Iterable[NBest]:
        """The lists of one system, winners first."""
        if self._scored is None:
            return self._reader(system)
        for output in self._outputs():
            refuse_same_file(system, output)
        return fuse(self._scored, load(system))

    def _reader(self, path: str) -> Iterable[NBest]:
        readers = [replace(self._source, path=path).reader(output) for output in self._outputs()]
        return readers[0]

    def _outputs(self) -> list[str]:
        return [self._target.output, *([self._target.csv] if self._target.csv else [])]


def _write(compared: dict[str, Changes], baseline: str, target: _Output, paint: Paint) -> None:
    """Write everything; the CSV appears only if the rest could be written."""
    is_file = target.output != "-"
    with ExitStack() as outputs:
        if target.csv is not None:
            table = outputs.enter_context(atomic_writer(target.csv))
            table.write(changes_csv(compared).encode())
        if target.as_json or is_file:
            write_json(changes_json(compared, baseline), target.output)
        if not target.as_json:
            other = "the first pass" if baseline == ORIGINAL else baseline
            texts = [
                changes_text(result, name, other, pairs=target.pairs, paint=paint)
                for name, result in compared.items()
            ]
            click.echo("\n\n".join(texts).encode(), err=is_file)
    for name, result in compared.items():
        if result.tuned_on:
            click.echo(
                f"warning: the weights of {name} were tuned on {result.tuned_on} of these"
                f" {len(result.utterances)} utterances; this is not a test result",
                err=True,
            )
