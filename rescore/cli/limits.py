"""`--max-line` and `--max-file`: how much of a file is read, as options of the command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from rescore.formats.bounded import LIMITS, Limits, readable_size

__all__ = ["limit_options"]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_SIZE = re.compile(r"([0-9]{1,9})([KMGT]?)(?:i?B)?", re.IGNORECASE)


class _Size(click.ParamType[int]):
    """A number of bytes: 4096, 64M, 1G; units are powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes. Raises click.BadParameter."""
        match = _SIZE.fullmatch(str(value))
        if match is None or int(match[1]) < 1:
            self.fail(f"{value!r} is no size, expected bytes, or K, M, G", param, ctx)
        return int(match[1]) << _UNITS[match[2].upper()]


def _set(field: str) -> Callable[[click.Context, click.Parameter, int | None], None]:
    def callback(ctx: click.Context, _parameter: click.Parameter, value: int | None) -> None:
        if value is not None:
            token = LIMITS.set(replace(LIMITS.get(), **{field: value}))
            ctx.call_on_close(lambda: LIMITS.reset(token))

    return callback


def limit_options(command: Any) -> Any:
    """Add --max-line and --max-file, which hold until the command has ended."""
    defaults = Limits()
    for field, what in (
        ("file", "Largest file that is held whole in memory"),
        ("line", "Longest line of a file"),
    ):
        command = click.option(
            f"--max-{field}",
            type=_Size(),
            metavar="SIZE",
            expose_value=False,
            callback=_set(field),
            help=f"{what}, decompressed; default: {readable_size(getattr(defaults, field))}.",
        )(command)
    return command
