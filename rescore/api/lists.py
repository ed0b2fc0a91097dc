"""Lists in and out of files, and what they are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rescore import wer
from rescore.arguments import refuse_unknown
from rescore.errors import FormatError
from rescore.formats import Format, Skipped, read_lists
from rescore.formats.files import PathLike
from rescore.formats.in_memory import ListLike, as_lists, nbest
from rescore.formats.transformers_output import from_transformers
from rescore.registry import FORMATS, lookup
from rescore.types import NBest
from rescore.wer import Evaluation, Unit

__all__ = ["evaluate", "from_transformers", "nbest", "read", "write"]


def read(
    path: PathLike, name: str | None = None, *, skipped: Skipped | None = None, **options: Any
) -> Iterator[NBest]:
    """Yield the lists of a file, one at a time.

    `name` is the format; without it, the content decides where that is certain. `options` are those
    of the format (`dlmrescore formats`). `skipped` counts broken records in place of an error.
    Raises FormatError for a broken record, ArgumentError for an option that the format lacks.
    """
    return read_lists(path, name, skipped=skipped, **options)


def write(lists: Iterable[ListLike], path: PathLike, name: str = "jsonl", **options: Any) -> int:
    """Write lists in the format `name` and return their number; the file appears only whole.

    `options` are those of the format (`dlmrescore formats`). Raises FormatError if the file cannot
    be written or the format has no writer, ArgumentError for an option that it lacks.
    """
    chosen: Format[NBest] = lookup(FORMATS, name, "format")
    if not chosen.is_writable:
        raise FormatError(f"the format {name} can be read but not written")
    refuse_unknown(options, chosen.write_options, f"option of the format {name}")
    return chosen.write(as_lists(lists, "write"), path, **options)


def evaluate(
    lists: Iterable[ListLike],
    baseline: Iterable[ListLike] | None = None,
    *,
    unit: Unit = "word",
    normalizer: str = "none",
    cluster: Callable[[NBest], str] | None = None,
    seed: int = 0,
) -> Evaluation:
    """Evaluate the first hypothesis of every list: see `rescore.wer.evaluate`."""
    other = None if baseline is None else as_lists(baseline, "evaluate")
    return wer.evaluate(
        as_lists(lists, "evaluate"),
        other,
        unit=unit,
        normalizer=normalizer,
        cluster=cluster,
        seed=seed,
    )
