"""The options of `dlmrescore train --objective ngram`, and what it does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rescore.formats.files import refuse_same_file

__all__ = ["or_ngram"]

#: Options of the command that mean something for n-grams.
_OWN = ("order", "prune", "min_count", "arpa")
_SHARED = ("objective", "text", "valid", "output", "join", "card")


def _thresholds(
    _context: click.Context, _parameter: click.Parameter, value: str
) -> tuple[int, ...]:
    try:
        return tuple(int(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, expected whole numbers such as 0,0,1") from error


def or_ngram(train_network: Callable[..., None]) -> Callable[..., None]:
    """Add the options of n-grams to a command that trains networks, and train an n-gram where that is the objective."""

    @click.option(
        "--order",
        type=click.IntRange(2, 6),
        default=3,
        show_default=True,
        help="ngram: length of the longest n-grams, in words.",
    )
    @click.option(
        "--prune",
        default="0,0,1",
        show_default=True,
        callback=_thresholds,
        help="ngram: leave out n-grams seen at most so often, a number an order; 0: none.",
    )
    @click.option(
        "--min-count",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="ngram: words seen less often become <unk>.",
    )
    @click.option(
        "--arpa",
        type=click.Path(dir_okay=False),
        help="ngram: also write the model as an ARPA file (.gz: compressed).",
    )
    @functools.wraps(train_network)
    def chosen(**options: Any) -> None:
        is_ngram = options["objective"] == "ngram"
        _refuse_others(
            options["objective"], set(options) - {*_OWN, *_SHARED} if is_ngram else set(_OWN)
        )
        own = {name: options.pop(name) for name in _OWN}
        if is_ngram:
            _train(**{name: options[name] for name in _SHARED if name != "objective"}, **own)
        else:
            train_network(**options)

    return chosen


def _refuse_others(objective: str, without_meaning: set[str]) -> None:
    """Raise a usage error for an option that was given and would change nothing."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if (
            parameter.name in without_meaning
            and context.get_parameter_source(parameter.name) is not ParameterSource.DEFAULT
        ):
            raise click.UsageError(
                f"{parameter.opts[0]} has no meaning for --objective {objective}; leave it out"
            )


def _train(
    text: tuple[Path, ...],
    valid: tuple[Path, ...],
    output: Path,
    join: float,
    card: dict[str, Any],
    arpa: str | None,
    **settings: Any,
) -> None:
    from rescore.models.arpa import write_arpa  # noqa: PLC0415 - numpy
    from rescore.train.ngram import NgramOptions, train_ngram  # noqa: PLC0415 - torch

    if arpa is not None:
        for source in (*text, *valid):
            refuse_same_file(source, arpa)
    model, held_out = train_ngram(text, valid, output, NgramOptions(**settings, join=join), card)
    for name, found in held_out.items():
        click.echo(f"validation ({name}): {found}", err=True)
    if arpa is not None:
        write_arpa(model, arpa)
