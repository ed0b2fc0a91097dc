"""Charts as inline SVG, in the colours of the page's style sheet, light or dark.

A chart is a tree of `Mark`s, which the template writes: texts are escaped there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rescore.report.page.calibration import Reliability
from rescore.report.sweep import SweepTable, weight_label

__all__ = ["Chart", "Mark", "calibration_chart", "rates_chart", "sweep_charts"]

FloatArray: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Mark:
    """One element: its tag, its attributes, and the text inside; `title` is shown on hovering."""

    tag: str
    attributes: dict[str, Any]
    text: str = ""
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing of `width` x `height` units, its caption, and what it shows in a sentence."""

    width: int
    height: int
    caption: str
    marks: tuple[Mark, ...]
    notes: tuple[str, ...] = field(default=())


def _mark(tag: str, kind: str, text: str = "", title: str = "", **attributes: Any) -> Mark:
    """An element of a class; attributes are rounded, and an underscore in a name is a hyphen."""
    named = {
        name.replace("_", "-"): f"{value:.2f}".rstrip("0").rstrip(".")
        if isinstance(value, float)
        else value
        for name, value in attributes.items()
    }
    return Mark(tag, {"class": kind, **named}, text, title)


@dataclass(frozen=True)
class _Axis:
    """A linear scale from values to places of the drawing."""

    low: float
    high: float
    begin: float
    end: float

    def at(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return float(self.begin + (value - self.low) / span * (self.end - self.begin))

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers between the ends."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        step = 10.0 ** math.floor(math.log10(span / count))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (factor * step) <= count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step + 0.0 for number in range(first, last + 1)]


def _axes(x: _Axis, y: _Axis, x_label: str, y_label: str) -> Iterator[Mark]:
    """Grid lines, ticks and labels of a plot; y goes upwards."""
    for value in x.ticks():
        place = x.at(value)
        yield _mark("line", "grid", x1=place, x2=place, y1=y.begin, y2=y.end)
        yield _mark("text", "tick middle", f"{value:g}", x=place, y=y.begin + 16)
    for value in y.ticks():
        place = y.at(value)
        yield _mark("line", "grid", x1=x.begin, x2=x.end, y1=place, y2=place)
        yield _mark("text", "tick end", f"{value:g}", x=x.begin - 6, y=place + 4)
    middle = (x.begin + x.end) / 2
    yield _mark("text", "label middle", x_label, x=middle, y=y.begin + 34)
    yield _mark("text", "label", y_label, x=x.begin - 40, y=y.end - 10)


def rates_chart(rows: Sequence[tuple[str, float, float, float]], oracle: float, rate: str) -> Chart:
    """Each system's rate with its interval, fractions; the oracle is a dashed line."""
    left, width, step = 190, 720, 28
    height = step * len(rows) + 74
    values = [oracle, *(value for row in rows for value in row[1:])]
    margin = 0.04 * (max(values) - min(values) or 1)
    x = _Axis(100 * (min(values) - margin), 100 * (max(values) + margin), left, width - 74)
    bottom = height - 44
    marks = []
    for value in x.ticks():
        place = x.at(value)
        marks.append(_mark("line", "grid", x1=place, x2=place, y1=20, y2=bottom))
        marks.append(_mark("text", "tick middle", f"{value:g}", x=place, y=bottom + 16))
    at = x.at(100 * oracle)
    marks.append(_mark("line", "oracle", x1=at, x2=at, y1=20, y2=bottom))
    marks.append(_mark("text", "tick middle", f"oracle {100 * oracle:.2f}", x=at, y=14))
    for number, (name, value, low, high) in enumerate(rows):
        y = 36.0 + step * number
        title = f"{name}: {100 * value:.2f} %, 95 % interval {100 * low:.2f} to {100 * high:.2f}"
        ends: dict[str, Any] = {"x1": x.at(100 * low), "x2": x.at(100 * high)}
        marks.append(
            _mark("text", "label end", _short(name, 28), x=left - 12, y=y + 4, title=title)
        )
        marks.append(_mark("line", "interval", y1=y, y2=y, title=title, **ends))
        marks.append(_mark("circle", "point", cx=x.at(100 * value), cy=y, r=5, title=title))
        marks.append(_mark("text", "tick", f"{100 * value:.2f} %", x=width - 62, y=y + 4))
    middle = (left + width - 74) / 2
    marks.append(_mark("text", "label middle", f"{rate} (%)", x=middle, y=bottom + 34))
    caption = f"{rate} of each system with its 95 % interval"
    return Chart(width, height, caption, tuple(marks), ("Dashed: the oracle of the lists.",))


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def sweep_charts(text: str) -> list[Chart]:
    """The CSV of a sweep: a heat map of the first two axes, and a curve along each axis."""
    table = SweepTable.of(text)
    axes = table.axes
    charts = [_heat_map(table, axes[0], axes[1])] if len(axes) > 1 else []
    return charts + [_curve(table, name) for name in axes]


def _curve(table: SweepTable, name: str) -> Chart:
    """The rate along one axis through the best setting, with its band, folds and the optimum."""
    part = table.slice([name])
    order = np.argsort(part[name], kind="stable")
    at, rate, best = part[name][order], part[table.rate][order], table.best[table.rate]
    low, high = best + part["above_low"][order], best + part["above_high"][order]
    has_band = bool(np.isfinite(low).all() and np.isfinite(high).all())
    every = np.concatenate([rate, [best], *((low, high) if has_band else ())])
    x = _Axis(float(at.min()), float(at.max()), 56, 460)
    y = _Axis(float(every.min()), float(every.max()) + 1e-9, 236, 30)
    label = weight_label(name)
    marks = list(_axes(x, y, f"scale of {label}", f"{table.rate.upper()} (%)"))
    if has_band:
        ends = [*zip(at, high, strict=True), *zip(at[::-1], low[::-1], strict=True)]
        marks.append(_mark("polygon", "band", points=_points(x, y, ends)))
    line = _points(x, y, list(zip(at, rate, strict=True)))
    marks.append(_mark("polyline", "curve", points=line))
    for fold in table.folds[name]:
        place = x.at(float(np.clip(fold, x.low, x.high)))
        marks.append(_mark("path", "fold", d=f"M{place - 4:.1f} 236l4 -8l4 8z"))
    title = f"line search: {best:.2f} % at {label} {table.best[name]:.3g}"
    marks.append(_diamond(x.at(table.best[name]), y.at(best), title))
    caption = f"{table.rate.upper()} on dev along the scale of {label}"
    notes = [f"Diamond: {title}."]
    if has_band:
        notes.append("Band: 95 % interval of the distance to the optimum.")
    if len(table.folds[name]):
        notes.append("Triangles: chosen without one fold.")
    return Chart(480, 280, caption, tuple(marks), tuple(notes))


def _points(x: _Axis, y: _Axis, pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in pairs)


def _diamond(x: float, y: float, title: str) -> Mark:
    return _mark("path", "optimum", d=f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z", title=title)


def _heat_map(table: SweepTable, first: str, second: str) -> Chart:
    """The rate over two axes; darker is better; a line around what cannot be told apart."""
    part = table.slice([first, second])
    xs, ys = np.unique(part[first]), np.unique(part[second])
    grid = part[table.rate][np.lexsort([part[first], part[second]])].reshape(len(ys), len(xs))
    lows = part["above_low"][np.lexsort([part[first], part[second]])].reshape(grid.shape)
    x = _Axis(0, len(xs), 56, 460)
    y = _Axis(0, len(ys), 336, 30)
    top = float(np.quantile(grid, 0.9))
    marks = list(_cells(grid, lows, x, y, top))
    x_values, y_values = _Axis(xs[0], xs[-1], *_middles(x)), _Axis(ys[0], ys[-1], *_middles(y))
    labels = f"scale of {weight_label(first)}", f"scale of {weight_label(second)}"
    axes = _axes(x_values, y_values, *labels)
    marks += [mark for mark in axes if mark.tag == "text"]
    for fold_x, fold_y in zip(table.folds[first], table.folds[second], strict=True):
        place: dict[str, Any] = {"cx": x_values.at(fold_x), "cy": y_values.at(fold_y)}
        marks.append(_mark("circle", "ring", r=5, **place))
    names = f"{weight_label(first)} {table.best[first]:.3g}"
    names += f", {weight_label(second)} {table.best[second]:.3g}"
    title = f"line search: {table.best[table.rate]:.2f} % at {names}"
    optimum = x_values.at(table.best[first]), y_values.at(table.best[second])
    marks.append(_diamond(*optimum, title))
    notes = [
        f"Dark: {grid.min():.2f} %, bright: {top:.2f} % or more. Diamond: {title}.",
        "Dots: settings that these lists cannot tell from the optimum (95 %).",
    ]
    if len(table.folds[first]):
        notes.append("Rings: chosen without one fold.")
    return Chart(
        480, 380, f"{table.rate.upper()} on dev over two scales", tuple(marks), tuple(notes)
    )


def _middles(axis: _Axis) -> tuple[float, float]:
    """The middles of the first and the last cell."""
    return axis.at(axis.low + 0.5), axis.at(axis.high - 0.5)


def _cells(grid: FloatArray, lows: FloatArray, x: _Axis, y: _Axis, top: float) -> Iterator[Mark]:
    width, height = x.at(1) - x.at(0), y.at(0) - y.at(1)
    span = top - float(grid.min()) or 1.0
    for row, column in np.ndindex(grid.shape):
        share = min(1.0, (float(grid[row, column]) - float(grid.min())) / span)
        place = {"x": round(x.at(column), 1), "y": round(y.at(row + 1), 1)}
        size = {"width": round(width + 0.3, 1), "height": round(height + 0.3, 1)}
        yield Mark("rect", {**place, **size, "fill": _colour(share)})
    for row, column in np.argwhere(lows <= 0):  # never where the interval is not known
        yield _mark("circle", "inside", cx=x.at(column + 0.5), cy=y.at(row + 0.5), r=1.1)


#: Three colours of matplotlib's cividis, which readers with any colour vision can tell apart.
_STOPS = ((0, 34, 78), (124, 123, 120), (254, 232, 56))


def _colour(share: float) -> str:
    position = share * (len(_STOPS) - 1)
    index = min(int(position), len(_STOPS) - 2)
    mix = position - index
    pair = zip(_STOPS[index], _STOPS[index + 1], strict=True)
    return "#" + "".join(f"{round(a + mix * (b - a)):02x}" for a, b in pair)


def calibration_chart(reliability: Reliability) -> Chart:
    """The share of right words over their confidence; on the diagonal, they are equal."""
    x, y = _Axis(0, 1, 56, 320), _Axis(0, 1, 296, 30)
    marks = list(_axes(x, y, "mean confidence", "share of right words"))
    corners: dict[str, Any] = {"x1": x.at(0), "y1": y.at(0), "x2": x.at(1), "y2": y.at(1)}
    marks.append(_mark("line", "oracle", **corners))
    largest = max(part.words for part in reliability.bins)
    for part in reliability.bins:
        title = f"{part.words} words, confidence {part.confidence:.3f}, {part.right:.3f} right"
        place: dict[str, Any] = {"cx": x.at(part.confidence), "cy": y.at(part.right)}
        radius = 3 + 9 * math.sqrt(part.words / largest)
        marks.append(_mark("circle", "point soft", r=radius, title=title, **place))
    caption = "Word confidence against the share of right words"
    notes = (
        "Dashed: confidences that are right on average; below it they are too high.",
        "Larger circles hold more words.",
    )
    return Chart(350, 340, caption, tuple(marks), notes)
