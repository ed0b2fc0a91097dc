"""Colours on terminals: `--color`, and NO_COLOR (no-color.org)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rescore.report.layout import Paint, plain

__all__ = ["color_option", "painter"]

_F = TypeVar("_F", bound=Callable[..., Any])

_STYLES: dict[str, dict[str, Any]] = {
    "substitution": {"fg": "yellow", "bold": True},
    "insertion": {"fg": "cyan", "bold": True},
    "deletion": {"fg": "red", "bold": True},
    "helped": {"fg": "green"},
    "hurt": {"fg": "red"},
    "title": {"bold": True},
    "value": {"dim": True},
}


def _paint(_context: click.Context, _parameter: click.Parameter, when: str) -> Paint:
    return painter(when)


def color_option(command: _F) -> _F:
    """Add --color; the command gets the `Paint` as `paint`."""
    decorated: _F = click.option(
        "--color",
        "paint",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        callback=_paint,
        help="auto: on a terminal, unless NO_COLOR is set.",
    )(command)
    return decorated


def painter(when: str) -> Paint:
    """How to colour standard output: `when` is auto, always or never."""
    is_coloured = when == "always" or (
        when == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    )
    return _styled if is_coloured else plain


def _styled(text: str, role: str) -> str:
    style = _STYLES.get(role)
    return text if style is None else click.style(text, **style)
