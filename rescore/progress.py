"""Progress of long work on standard error: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["announce", "progress_bar"]

Item = TypeVar("Item")

#: Seconds between two lines of a log, and before the first: short work needs none.
_LINE_SECONDS, _FIRST_LINE_SECONDS = 60.0, 10.0

_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} so far, {remaining} left{postfix}"
_LINE_OF_UNKNOWN = "{desc}: {n_fmt} {unit}, {elapsed} so far{postfix}"


class _Lines:
    """What tqdm writes, one line each: no bar that overwrites itself in a log."""

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


def progress_bar(
    items: Iterable[Item] | None = None,
    *,
    total: float | None = None,
    description: str,
    unit: str,
    **settings: Any,
) -> tqdm[Item]:
    """A bar of tqdm that names the step and counts it; `settings` are tqdm's.

    Without a terminal it becomes lines: the first after 10 seconds, then one a minute.
    """
    if not sys.stderr.isatty():
        settings = {
            **settings,
            "file": _Lines(),
            "delay": _FIRST_LINE_SECONDS,
            "mininterval": _LINE_SECONDS,
            "maxinterval": _LINE_SECONDS,
            "bar_format": _LINE_OF_UNKNOWN if total is None else _LINE,
        }
    return tqdm(items, total=total, desc=description, unit=unit, **settings)


def announce(line: str) -> None:
    """Say on a terminal what begins, before slow libraries are imported."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)
