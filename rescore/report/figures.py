"""Figures without a window or global state, written whole or not at all.

matplotlib is imported when the first figure is made.
"""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import TYPE_CHECKING

from rescore.errors import FormatError, RescoreError
from rescore.formats.files import PathLike, atomic_writer, name_of
from rescore.installation import install_hint

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BLUE", "DARK", "GREY", "ORANGE", "check_plot", "new_figure", "save_figure"]

# Okabe and Ito's palette: readers with any colour vision can tell these apart.
BLUE, ORANGE, GREY, DARK = "#0072B2", "#D55E00", "#5F5F5F", "#35456C"

# Suffix of a plot -> the metadata to leave out, which would make two equal plots differ.
_METADATA = {
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None},
}


def check_plot(path: PathLike) -> None:
    """Check, before any work is done, that a plot can be written there.

    Raises FormatError for a suffix that is not a plot's, RescoreError without matplotlib.
    """
    if name_of(path).rpartition(".")[2] not in _METADATA:
        suffixes = ", ".join(f".{suffix}" for suffix in _METADATA)
        raise FormatError(
            f"{name_of(path)}: not a name for a plot; expected one that ends in {suffixes}"
        )
    if find_spec("matplotlib") is None:
        raise RescoreError(f"plots need matplotlib, which is not installed; {install_hint('plot')}")


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return a figure of this size, in inches, with one pair of axes."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: PathLike) -> None:
    """Write a figure in the format of the path's suffix. Equal figures are equal bytes.

    Raises FormatError if the file cannot be written.
    """
    import matplotlib as mpl  # noqa: PLC0415

    suffix = name_of(path).rpartition(".")[2]
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "dlmrescore"}):
        figure.savefig(buffer, format=suffix, dpi=150, metadata=_METADATA[suffix])
    with atomic_writer(path) as output:
        output.write(buffer.getvalue())
