"""`dlmrescore train ngram`: word n-grams with modified Kneser-Ney smoothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rescore.cli.options import Sections, named
from rescore.cli.train_options import text_options
from rescore.cli.train_results import say_result, score_command
from rescore.formats.files import refuse_same_file

__all__ = ["ngram_command"]


def _thresholds(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, expected whole numbers such as 0,0,1") from error


@click.command(
    "ngram",
    cls=Sections,
    headings={"--text": "Text and output", "--order": "Model"},
)
@text_options
@click.option(
    "--arpa",
    type=click.Path(dir_okay=False),
    help="Also write the model as an ARPA file (.gz: compressed).",
)
@click.option(
    "--order",
    type=click.IntRange(2, 6),
    default=3,
    show_default=True,
    help="Length of the longest n-grams, in words.",
)
@click.option(
    "--prune",
    default="0,0,1",
    show_default=True,
    callback=_thresholds,
    help="For each order, leave out n-grams seen at most this often; 0: none.",
)
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Words seen less often become <unk>.",
)
@click.option(
    "--normalizer",
    type=named("normaliser"),
    default="librispeech",
    show_default=True,
    help="Applied to the text, and to every text that the model scores; none for a model of a "
    "recogniser's symbols (docs/decoding.md).",
)
def ngram_command(
    text: tuple[Path, ...],
    valid: tuple[Path, ...],
    output: Path,
    join: float,
    card: dict[str, Any],
    arpa: str | None,
    order: int,
    prune: tuple[int, ...],
    min_count: int,
    normalizer: str,
) -> None:
    """Estimate a word n-gram model (interpolated modified Kneser-Ney).

    \b
    Example: dlmrescore train ngram --text books.txt --valid held_out.txt -o runs/ngram
    """
    from rescore.models.arpa import write_arpa  # noqa: PLC0415 - numpy
    from rescore.train.ngram import NgramOptions, train_ngram  # noqa: PLC0415 - torch

    if arpa is not None:
        for source in (*text, *valid):
            refuse_same_file(source, arpa)
    options = NgramOptions(order, prune, min_count, join, normalizer)
    model, perplexities = train_ngram(text, valid, output, options, card)
    if arpa is not None:
        write_arpa(model, arpa)
    figures = [f"validation ({name}): {value}" for name, value in perplexities.items()]
    say_result("\n".join(figures), score_command("ngram", output))
