"""`dlmrescore show`."""

from __future__ import annotations

from collections.abc import Iterable

import click

from rescore.arguments import nearest
from rescore.cli.colour import color_option
from rescore.cli.lists import InputOptions
from rescore.cli.options import Counting, counting_options, input_options
from rescore.errors import FormatError
from rescore.formats.files import name_of
from rescore.report.layout import Paint
from rescore.report.utterance import UtteranceView, utterance_text
from rescore.types import NBest

__all__ = ["command"]


@click.command("show")
@input_options()
@click.argument("utterance", metavar="ID")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Show the first N hypotheses; the first pass and the one with the fewest errors are "
    "always shown.",
)
@click.option(
    "--per-token",
    is_flag=True,
    help="Also show what each token adds to a score, as `score --per-token` wrote it.",
)
@counting_options
@color_option
def command(
    source: InputOptions,
    utterance: str,
    count: int,
    per_token: bool,
    counting: Counting,
    paint: Paint,
) -> None:
    """Show one utterance of LISTS: hypotheses aligned to the reference, and every score.

    Without a reference they are aligned to the first hypothesis.

    \b
    Example: dlmrescore show best.jsonl 84-121123-0000
    """
    nbest = _find(source.reader("-"), utterance, source.path)
    view = UtteranceView(count, counting.unit, counting.normalizer, per_token, paint)
    click.echo(utterance_text(nbest, view).encode())  # UTF-8 in every locale


def _find(lists: Iterable[NBest], id: str, path: str) -> NBest:
    """The list with this id. Raises FormatError, naming similar ids, if there is none."""
    ids = []
    for nbest in lists:
        if nbest.id == id:
            return nbest
        ids.append(nbest.id)
    meant = nearest(id, ids)
    advice = f'the first is "{ids[0]}"' if meant is None else f'did you mean "{meant}"?'
    raise FormatError(f'{name_of(path)}: holds no utterance "{id}"; {advice}')
