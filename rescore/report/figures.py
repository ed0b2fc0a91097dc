"""Figures without a window or global state: made, drawn, written whole or not at all. matplotlib is imported when one is made."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rescore.errors import FormatError, RescoreError
from rescore.formats.files import PathLike, atomic_writer, name_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "DARK", "GREY", "ORANGE", "check_plot", "new_figure", "save_figure"]

# Okabe and Ito's palette, which readers with any colour vision tell apart.
BLUE, ORANGE, GREY, DARK = "#0072B2", "#D55E00", "#5F5F5F", "#35456C"

_SUFFIXES = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}  # and what would make two equal plots differ


def check_plot(path: PathLike) -> None:
    """Raise before any work is done: FormatError for a name that is not a plot's, RescoreError without matplotlib."""
    if name_of(path).rpartition(".")[2] not in _SUFFIXES:
        raise FormatError(
            f"{name_of(path)}: not a name for a plot; expected one that ends in .{', .'.join(_SUFFIXES)}"
        )
    if find_spec("matplotlib") is None:
        raise RescoreError(
            "plots need matplotlib, which is not installed; run: pip install 'dlmrescore[plot]'"
        )


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches with one pair of axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: PathLike) -> None:
    """Write a figure as its suffix says. Equal figures are equal bytes. Raises FormatError if it cannot be written."""
    import matplotlib as mpl  # noqa: PLC0415

    suffix = name_of(path).rpartition(".")[2]
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "dlmrescore"}):
        figure.savefig(buffer, format=suffix, dpi=150, metadata=_SUFFIXES[suffix])
    with atomic_writer(path) as output:
        output.write(buffer.getvalue())
