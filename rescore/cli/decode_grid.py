"""`dlmrescore decode --grid`: the settings to try, and what is reported of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import click

from rescore.decoding.base import DecoderOptions
from rescore.decoding.settings import FIXED, SettingSearch

__all__ = ["command_line", "grid_option", "grid_table"]

#: Rows of the table that is printed; the JSON has all.
_ROWS = 20


def _parse(
    context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, list[Any]]:
    """`t_start=0.1,0.3` as option name and values, each as its own option would take it."""
    options = {param.name: param for param in context.command.params}
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        option = options.get(name)
        if not equals or option is None or name in FIXED or name not in _SEARCHED:
            raise click.BadParameter(
                f"got {text!r}, expected OPTION=VALUE,VALUE with one of "
                f"{', '.join(sorted(_SEARCHED))}"
            )
        if name in grid:
            raise click.BadParameter(f"the option {name!r} is given twice")
        grid[name] = [option.process_value(context, value.strip()) for value in values.split(",")]
    return grid


_SEARCHED = (
    frozenset(DecoderOptions.__dataclass_fields__) - FIXED - {"agree", "revoke_draft", "seen_words"}
)

grid_option = click.option(
    "--grid",
    multiple=True,
    callback=_parse,
    metavar="OPTION=VALUES",
    help="Try every combination of values, such as t_start=0.1,0.3 lm_scale=0.1,0.3 (repeatable, "
    "needs --refs), write their error rates as JSON, and name the best one.",
)


def grid_table(search: SettingSearch) -> str:
    """The best settings, one a line under their options, and what the run took."""
    names = list(search.results[0].setting)
    rows = [[*names, "WER %", "oracle %", "evaluations"]]
    order = sorted(search.results, key=lambda result: result.errors.errors)
    words = order[0].errors.reference_words
    for result in order[:_ROWS]:
        asked = search.per_utterance(result)
        rows.append(
            [
                *(_text(result.setting[name]) for name in names),
                f"{100 * result.errors.wer:.2f}",
                f"{100 * result.oracle_errors / words:.2f}",
                "-" if asked is None else f"{asked:.1f}",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    if len(order) > _ROWS:
        lines.append(f"and {len(order) - _ROWS} more")
    shared = ""
    if search.evaluations is not None:
        alone = sum(result.evaluations or 0 for result in search.results)
        shared = f", {search.evaluations} network evaluations ({alone} one by one)"
    lines.append(
        f"{len(order)} settings, {search.utterances} utterances{shared}, {search.seconds:.1f} CPU s"
    )
    return "\n".join(lines)


def command_line(method: str, options: DecoderOptions, setting: Mapping[str, Any]) -> str:
    """The command that decodes a file with a setting."""
    chosen = replace(options, **setting)
    parts = ["dlmrescore", "decode", "FILE", "--method", method]
    for name in DecoderOptions.__dataclass_fields__:
        value = getattr(chosen, name)
        if name not in chosen.changed and name not in setting:
            continue
        flag = "--" + name.replace("_", "-")
        parts += [flag] if value is True else [flag, _text(value)]
    return " ".join([*map(shlex.quote, parts), "-o", "OUTPUT"])


def _text(value: Any) -> str:
    """A value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
