"""Progress of long work on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["announce", "progress_bar"]

Item = TypeVar("Item")

#: Seconds between two lines of a log, and before the first: short work needs none.
_LINE_SECONDS, _FIRST_LINE_SECONDS = 60.0, 10.0

_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} so far, {remaining} left{postfix}"
_LINE_OF_UNKNOWN = "{desc}: {n_fmt} {unit}, {elapsed} so far{postfix}"

#: The bar of what is counted in fractions, such as hours; tqdm's own shows every digit.
_BAR = (
    "{desc}: {percentage:3.0f}% {bar} {n_fmt} of {total_fmt} {unit} "
    "[{elapsed}<{remaining}{postfix}]"
)
_BAR_OF_UNKNOWN = "{desc}: {n_fmt} {unit} [{elapsed}{postfix}]"


class _Lines:
    """What tqdm writes, one line each: no bar that overwrites itself in a log."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


class _Bar(tqdm):  # type: ignore[misc] # tqdm has no types
    """A bar that a signal may end while it is made: the rest of it goes without a traceback."""

    def __del__(self) -> None:
        with suppress(AttributeError):
            super().__del__()


def progress_bar(
    items: Iterable[Item] | None = None,
    *,
    total: float | None = None,
    description: str,
    unit: str,
    fractional: bool = False,
    **settings: Any,
) -> tqdm[Item]:
    """A bar of tqdm that names the step and counts it; `settings` are tqdm's.

    `fractional` counts are shown with two decimals. Without a terminal the bar becomes lines: the
    first after 10 seconds, then one a minute.
    """
    if fractional:
        settings = {"bar_format": _BAR_OF_UNKNOWN if total is None else _BAR, **settings}
    if not sys.stderr.isatty():
        settings = {
            **settings,
            "file": _Lines(),
            "delay": _FIRST_LINE_SECONDS,
            "mininterval": _LINE_SECONDS,
            "maxinterval": _LINE_SECONDS,
            "bar_format": _LINE_OF_UNKNOWN if total is None else _LINE,
        }
    if fractional:
        decimals = settings["bar_format"].replace("{n_fmt}", "{n:.2f}")
        settings["bar_format"] = decimals.replace("{total_fmt}", "{total:.2f}")
    return _Bar(items, total=total, desc=description, unit=unit, **settings)


def announce(line: str) -> None:
    """Say on a terminal what begins, before slow libraries are imported."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)
