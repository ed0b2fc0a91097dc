"""Systems compared on the same test lists: a table, its CSV, and the CSV as a plot.

CSV columns: `system`, `scores` (added to the base, separated by spaces), `dev_wer`, `wer`, `low`,
`high` (95 % bootstrap interval), `probability_better` and `gap_closed` (both against the retuned
recogniser), `evaluations` (network evaluations per hypothesis). Rates are fractions, called `cer`
where characters are counted. A cell that does not apply is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rescore.formats.files import PathLike
from rescore.report.figures import BLUE, GREY, ORANGE, new_figure, save_figure
from rescore.wer import Evaluation

__all__ = ["System", "plot_systems", "systems_csv", "systems_table"]

_ORACLE = "oracle of the lists"
_NOTE = (
    "better: share of paired bootstrap resamples with fewer errors than the retuned recogniser;"
    " closed: share of its gap to the oracle;\n"
    "evaluations: network passes a hypothesis; seconds: for the scores of the test lists."
)


@dataclass(frozen=True)
class System:
    """One row of the table.

    `name` is what the system is called, `scores` are those it adds to the base, `dev_wer` is its
    error rate on dev, a fraction, and `test` its result on test. `evaluations` is the number of
    network evaluations per hypothesis; it and `seconds`, which scoring test took, are None where
    nothing was scored, and `seconds` also where the time was not measured.
    """

    name: str
    scores: tuple[str, ...]
    dev_wer: float
    test: Evaluation
    evaluations: float | None = None
    seconds: float | None = None


def systems_csv(systems: Sequence[System], oracle_dev: float) -> str:
    """Return the systems as CSV: a header, the systems, the oracle of the lists.

    Seconds are left out, so that the text is the same on every run.
    """
    rate = "wer" if systems[0].test.unit == "word" else "cer"
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    rates = (f"dev_{rate}", rate, "low", "high")
    gains = ("probability_better", "gap_closed")
    table.writerow(["system", "scores", *rates, *gains, "evaluations"])
    for system in systems:
        table.writerow(_csv_row(system))
    table.writerow([_ORACLE, "", oracle_dev, systems[0].test.oracle_wer, "", "", "", "", ""])
    return out.getvalue()


def _csv_row(system: System) -> list[Any]:
    comparison = system.test.comparison
    return [
        system.name,
        " ".join(system.scores),
        system.dev_wer,
        system.test.wer,
        *system.test.ci95,
        None if comparison is None else comparison.probability_better,
        None if comparison is None else comparison.oracle_gap_closed,
        system.evaluations,
    ]


def systems_table(systems: Sequence[System]) -> str:
    """Return the systems as a Markdown table, the oracle of the lists last.

    Rates are in percent. Lines below the table explain its columns.
    """
    rate = "WER" if systems[0].test.unit == "word" else "CER"
    width = max(len(name) for name in (_ORACLE, *(system.name for system in systems)))
    heads = ["system".ljust(width), f"{rate} %", "95 % interval ", "better", "closed"]
    heads += ["evaluations", "seconds"]
    rule = ["-" * width, "----:", "-------------:", "-----:", "-----:", "----------:", "------:"]
    oracle = [_ORACLE.ljust(width), f"{100 * systems[0].test.oracle_wer:5.2f}", "", "", "", "", ""]
    rows = [heads, rule, *(_cells(system, width) for system in systems), oracle]
    lines = []
    for row in rows:
        cells = [cell.rjust(len(head)) for cell, head in zip(row, heads, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", _NOTE])


def _cells(system: System, width: int) -> list[str]:
    """The cells of a system's row; empty where they do not apply."""
    low, high = system.test.ci95
    better = closed = ""
    comparison = system.test.comparison
    if comparison is not None:
        better = f"{comparison.probability_better:.3f}"
        if comparison.oracle_gap_closed is not None:
            closed = f"{100 * comparison.oracle_gap_closed:.0f} %"
    return [
        system.name.ljust(width),
        f"{100 * system.test.wer:5.2f}",
        f"[{100 * low:.2f}, {100 * high:.2f}]",
        better,
        closed,
        "" if system.evaluations is None else f"{system.evaluations:.1f}",
        "" if system.seconds is None else f"{system.seconds:.0f}",
    ]


def plot_systems(text: str, path: PathLike) -> None:
    """Draw the CSV of the systems: rates, their intervals, and the oracle as a line.

    The probability of being better stands beside each rate. Raises FormatError if the file cannot
    be written.
    """
    *rows, oracle = csv.DictReader(io.StringIO(text))
    rate = "wer" if "wer" in oracle else "cer"
    figure, axes = new_figure(7.2, 1.5 + 0.36 * len(rows))
    at = np.arange(len(rows))[::-1]
    rates, low, high = (
        100 * np.array([float(row[name]) for row in rows]) for name in (rate, "low", "high")
    )
    label = "95 % interval of the rate (bootstrap over utterances)"
    axes.hlines(at, low, high, color=BLUE, linewidth=2, label=label)
    axes.plot(rates, at, "o", color=BLUE, markersize=6)
    best = 100 * float(oracle[rate])
    label = f"{_ORACLE} ({best:.2f} %)"
    axes.axvline(best, color=ORANGE, linewidth=1.2, linestyle="--", label=label)
    for place, value, row in zip(at, rates, rows, strict=True):
        better = row["probability_better"]
        axes.annotate(
            f"{value:.2f}" + (f"   better: {float(better):.3f}" if better else ""),
            (1.01, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
            color=GREY,
            annotation_clip=False,
        )
    axes.set_yticks(at, [row["system"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"{rate.upper()} on the test lists (%)")
    title = "better: share of bootstrap resamples with fewer errors than the retuned recogniser"
    axes.set_title(title, fontsize=8, color=GREY, loc="left")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save_figure(figure, path)
