"""A sweep as CSV, and the CSV as a curve or a heat map.

Columns: `point` (`grid`; `line_search`; `fold_1`, ...), one for each weight, `errors`,
`reference_words`, `wer` or `cer` (a fraction), and `above_low`, `above_high`: the interval of the
rate minus that of the line search. The row of a fold has the weights chosen on the other folds and
the errors they make on this one, so these rows add up to the held-out error rate.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.formats.files import PathLike
from rescore.fusion import Sweep
from rescore.report.figures import BLUE, DARK, GREY, ORANGE, new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SweepTable", "plot_sweep", "sweep_csv", "weight_label"]

FloatArray: TypeAlias = NDArray[np.float64]

_FOLD_LABEL = "chosen without one fold"


def sweep_csv(result: Sweep) -> str:
    """Return the sweep as CSV, a header line first; numbers have all their digits."""
    rate = "wer" if result.unit == "word" else "cer"
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    every = {**result.held, **result.weights(result.best)}
    names = [*(name for name in every if name != "word_bonus"), "word_bonus"]
    table.writerow(["point", *names, "errors", "reference_words", rate, "above_low", "above_high"])

    def write(
        point: str, weights: Mapping[str, float], errors: int, words: int, *interval: float
    ) -> None:
        every = {**result.held, **weights}
        values = [every[name] for name in names]
        table.writerow([point, *values, errors, words, errors / words if words else "", *interval])

    for index in np.ndindex(result.errors.shape):
        errors, words = int(result.errors[index]), result.reference_words
        write("grid", result.weights(index), errors, words, *_interval(result, index))
    write("line_search", result.optimum, result.optimum_errors, result.reference_words)
    for number, fold in enumerate(result.folds, 1):
        write(f"fold_{number}", fold.weights, fold.errors, fold.reference_words)
    return out.getvalue()


def _interval(result: Sweep, index: tuple[int, ...]) -> tuple[float, ...]:
    """The interval at one setting; empty without resamples."""
    if result.above_low is None or result.above_high is None:
        return ()
    return float(result.above_low[index]), float(result.above_high[index])


@dataclass(frozen=True)
class SweepTable:
    """The CSV of a sweep as columns of floats (NaN where a cell is empty).

    `grid`, `best` (the line search) and `folds` are the kinds of rows. Rates are in percent.
    """

    rate: str
    weights: list[str]
    grid: dict[str, FloatArray]
    best: dict[str, float]
    folds: dict[str, FloatArray]

    @classmethod
    def of(cls, text: str) -> SweepTable:
        """Read the CSV that `sweep_csv` returns."""
        header, *rows = csv.reader(io.StringIO(text))
        rate = "wer" if "wer" in header[1:] else "cer"
        weights = header[1 : header.index("errors")]

        def columns(kind: str) -> dict[str, FloatArray]:
            """The columns of the rows whose point is `kind` or begins with `kind_`."""
            selected = [row for row in rows if row[0].partition("_")[0] == kind]
            arrays: dict[str, FloatArray] = {}
            for place, name in enumerate(header[1:], 1):
                cells = [row[place] if place < len(row) else "" for row in selected]
                values = np.array([float(cell or "nan") for cell in cells])
                is_rate = name in (rate, "above_low", "above_high")
                arrays[name] = 100 * values if is_rate else values
            return arrays

        best = {name: float(values[0]) for name, values in columns("line").items()}
        return cls(rate, weights, columns("grid"), best, columns("fold"))

    @property
    def axes(self) -> list[str]:
        """The weights that vary."""
        return [name for name in self.weights if len(np.unique(self.grid[name])) > 1]

    def slice(self, shown: list[str]) -> dict[str, FloatArray]:
        """The grid where all weights that are not shown have the values of the best setting."""
        best = int(self.grid["errors"].argmin())
        keep = np.ones(len(self.grid["errors"]), dtype=bool)
        for name in self.axes:
            if name not in shown:
                keep &= self.grid[name] == self.grid[name][best]
        return {name: values[keep] for name, values in self.grid.items()}

    def title(self, shown: list[str], part: dict[str, FloatArray]) -> str:
        """The weights that are held, and the held-out error rate."""
        held = [
            f"{weight_label(name)} {part[name][0]:.4g}"
            for name in self.weights
            if name not in shown
        ]
        others = [weight_label(name) for name in self.axes if name not in shown]
        title = f"held: {', '.join(held)}"
        if others:
            title += f" (best of the grid: {', '.join(others)})"
        folds = len(self.folds["errors"])
        if folds:
            held_out = 100 * self.folds["errors"].sum() / self.folds["reference_words"].sum()
            title += (
                f"\nchoosing on the grid: {part[self.rate].min():.2f} % on these lists,"
                f" {held_out:.2f} % held out ({folds} folds)"
            )
        return title


def plot_sweep(text: str, path: PathLike) -> None:
    """Draw the CSV of a sweep: a curve with its band for one axis, a heat map for two.

    Of more axes it draws the best slice through the first two. Raises FormatError if the file
    cannot be written.
    """
    table = SweepTable.of(text)
    shown = table.axes[:2]
    part = table.slice(shown)
    figure, axes = new_figure(6.4, 5.4 if len(shown) > 1 else 4.2)
    draw = _curve if len(shown) == 1 else _heat_map
    draw(axes, table, shown, part)
    axes.set_title(table.title(shown, part), fontsize=8, color=GREY, loc="left")
    dark = (
        {"facecolor": DARK, "labelcolor": "white", "framealpha": 1, "edgecolor": DARK}
        if len(shown) > 1
        else {"frameon": False}
    )
    figure.legend(loc="outside lower center", ncols=1 if len(shown) > 1 else 2, fontsize=8, **dark)
    save_figure(figure, path)


def weight_label(name: str) -> str:
    """What a weight is called in a plot."""
    return "word bonus" if name == "word_bonus" else name


def _axis_label(name: str) -> str:
    return "word bonus (nats per word)" if name == "word_bonus" else f"scale of {name}"


def _curve(axes: Axes, table: SweepTable, shown: list[str], part: dict[str, FloatArray]) -> None:
    (name,) = shown
    at, rate, best = part[name], table.rate.upper(), table.best[table.rate]
    label = f"{rate} at each setting"
    axes.plot(at, part[table.rate], color=BLUE, linewidth=1.5, label=label, zorder=3)
    if not np.isnan(part["above_low"]).any():
        low, high = best + part["above_low"], best + part["above_high"]
        label = "95 % interval of the distance to the optimum"
        axes.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0, label=label)
    label = f"{rate} of the line search"
    axes.axhline(best, color=GREY, linewidth=0.8, linestyle=":", zorder=1, label=label)
    label = _optimum_label(table)
    axes.plot(table.best[name], best, "D", color=ORANGE, markersize=7, zorder=5, label=label)
    folds = table.folds[name]
    if len(folds):
        axes.plot(
            folds,
            np.full(len(folds), 0.015),
            "^",
            color="black",
            markersize=5,
            transform=axes.get_xaxis_transform(),
            label=_FOLD_LABEL,
        )
    axes.set_xlabel(_axis_label(name))
    axes.set_ylabel(f"{rate} (%)")
    axes.set_xlim(at.min(), at.max())


def _heat_map(axes: Axes, table: SweepTable, shown: list[str], part: dict[str, FloatArray]) -> None:
    x, y = (np.unique(part[name]) for name in shown)
    order = np.lexsort([part[name] for name in shown])  # the second name is the row
    rates = part[table.rate][order].reshape(len(y), len(x))
    low = part["above_low"][order].reshape(len(y), len(x))
    top = float(np.quantile(rates, 0.9))
    mesh = axes.pcolormesh(
        x,
        y,
        rates,
        cmap="cividis",
        shading="nearest",
        vmin=rates.min(),
        vmax=top if top > rates.min() else None,
        rasterized=True,
    )
    bar = axes.figure.colorbar(mesh, ax=axes, extend="max" if top < rates.max() else "neither")
    bar.set_label(f"{table.rate.upper()} (%)")
    if not np.isnan(low).any() and low.min() <= 0 < low.max():
        axes.contour(x, y, low > 0, levels=[0.5], colors="white", linewidths=1.2)
        rows, columns = np.nonzero(low <= 0)
        axes.plot(x[columns], y[rows], ".", color="white", markersize=1.6)
        label = "dotted, inside the border: these lists cannot tell it from the optimum (95 %)"
        axes.plot([], [], color="white", linewidth=1.2, marker=".", markersize=4, label=label)
    _mark_choices(axes, table, shown)
    axes.set_xlabel(_axis_label(shown[0]))
    axes.set_ylabel(_axis_label(shown[1]))


def _mark_choices(axes: Axes, table: SweepTable, shown: list[str]) -> None:
    """Mark the choices of the folds with circles, the optimum with a diamond."""
    x, y = shown
    if len(table.folds[x]):
        axes.plot(
            table.folds[x],
            table.folds[y],
            "o",
            markerfacecolor="none",
            markeredgecolor="white",
            markersize=8,
            label=_FOLD_LABEL,
            clip_on=False,
        )
    axes.plot(
        table.best[x],
        table.best[y],
        "D",
        color=ORANGE,
        markeredgecolor="white",
        markersize=8,
        label=_optimum_label(table),
        clip_on=False,
    )


def _optimum_label(table: SweepTable) -> str:
    place = ", ".join(f"{weight_label(name)} {table.best[name]:.3g}" for name in table.axes)
    return f"line search: {table.best[table.rate]:.2f} % at {place}"
