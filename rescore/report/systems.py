"""Systems compared on the same test lists: a table, its CSV, and the CSV as points with intervals.

CSV columns: `system`, `scores` (added to the base, separated by spaces), `dev_wer`, `wer`, `low`, `high` (95 % bootstrap interval),
`probability_better` and `gap_closed` (both against the retuned recogniser), `evaluations` (network passes a hypothesis). Rates are fractions, and
called `cer` where characters were counted; an empty cell does not apply.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rescore.formats.files import PathLike
from rescore.report.figures import BLUE, GREY, ORANGE, new_figure, save_figure
from rescore.wer import Evaluation

__all__ = ["System", "plot_systems", "systems_csv", "systems_table"]


@dataclass(frozen=True)
class System:
    """One row: what it is called, the scores it adds, its rate on dev, its result on test, and what its scores cost there.

    `evaluations` is per hypothesis; it and `seconds` are None where nothing was scored, `seconds` too where nobody measured.
    """

    name: str
    scores: tuple[str, ...]
    dev_wer: float
    test: Evaluation
    evaluations: float | None = None
    seconds: float | None = None


def systems_csv(systems: Sequence[System], oracle_dev: float) -> str:
    """The systems as CSV text, a header line first, the oracle of the lists last. Seconds are left out: the rest is the same on every run."""
    rate = "wer" if systems[0].test.unit == "word" else "cer"
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(
        [
            "system",
            "scores",
            f"dev_{rate}",
            rate,
            "low",
            "high",
            "probability_better",
            "gap_closed",
            "evaluations",
        ]
    )
    for system in systems:
        against = system.test.comparison
        better, closed = (
            (None, None)
            if against is None
            else (against.probability_better, against.oracle_gap_closed)
        )
        table.writerow(
            [
                system.name,
                " ".join(system.scores),
                system.dev_wer,
                system.test.wer,
                *system.test.ci95,
                better,
                closed,
                system.evaluations,
            ]
        )
    table.writerow(
        ["oracle of the lists", "", oracle_dev, systems[0].test.oracle_wer, "", "", "", "", ""]
    )
    return out.getvalue()


def systems_table(systems: Sequence[System]) -> str:
    """The systems as a Markdown table with rates in percent, the oracle of the lists last, and a line that explains two columns."""
    rate = "WER" if systems[0].test.unit == "word" else "CER"
    wide = max(len(name) for name in ("oracle of the lists", *(system.name for system in systems)))
    heads = [
        "system".ljust(wide),
        f"{rate} %",
        "95 % interval ",
        "better",
        "closed",
        "evaluations",
        "seconds",
    ]
    rows = [
        heads,
        ["-" * wide, "----:", "-------------:", "-----:", "-----:", "----------:", "------:"],
        *(_cells(system, wide) for system in systems),
    ]
    rows.append(
        [
            "oracle of the lists".ljust(wide),
            f"{100 * systems[0].test.oracle_wer:5.2f}",
            "",
            "",
            "",
            "",
            "",
        ]
    )
    lines = [
        "| "
        + " | ".join(cell.rjust(len(head)) for cell, head in zip(row, heads, strict=True))
        + " |"
        for row in rows
    ]
    note = "better: share of paired bootstrap resamples with fewer errors than the retuned recogniser; closed: share of its gap to the oracle;"
    return "\n".join(
        [
            *lines,
            "",
            f"{note}\nevaluations: network passes a hypothesis; seconds: for the scores of the test lists.",
        ]
    )


def _cells(system: System, wide: int) -> list[str]:
    low, high = system.test.ci95
    against, better, closed = system.test.comparison, "", ""
    if against is not None:
        better = f"{against.probability_better:.3f}"
        closed = (
            "" if against.oracle_gap_closed is None else f"{100 * against.oracle_gap_closed:.0f} %"
        )
    cost = "" if system.evaluations is None else f"{system.evaluations:.1f}"
    seconds = "" if system.seconds is None else f"{system.seconds:.0f}"
    return [
        system.name.ljust(wide),
        f"{100 * system.test.wer:5.2f}",
        f"[{100 * low:.2f}, {100 * high:.2f}]",
        better,
        closed,
        cost,
        seconds,
    ]


def plot_systems(text: str, path: PathLike) -> None:
    """Draw the CSV of the systems: rates with their intervals, the probability of being better beside them, the oracle as a line.

    Raises FormatError if the file cannot be written.
    """
    *rows, oracle = csv.DictReader(io.StringIO(text))
    rate = "wer" if "wer" in oracle else "cer"
    figure, axes = new_figure(7.2, 1.5 + 0.36 * len(rows))
    at = np.arange(len(rows))[::-1]
    rates, low, high = (
        100 * np.array([float(row[name]) for row in rows]) for name in (rate, "low", "high")
    )
    axes.hlines(
        at,
        low,
        high,
        color=BLUE,
        linewidth=2,
        label="95 % interval of the rate (bootstrap over utterances)",
    )
    axes.plot(rates, at, "o", color=BLUE, markersize=6)
    best = 100 * float(oracle[rate])
    axes.axvline(
        best,
        color=ORANGE,
        linewidth=1.2,
        linestyle="--",
        label=f"oracle of the lists ({best:.2f} %)",
    )
    for place, value, row in zip(at, rates, rows, strict=True):
        better = (
            f"   better: {float(row['probability_better']):.3f}"
            if row["probability_better"]
            else ""
        )
        axes.annotate(
            f"{value:.2f}{better}",
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
    axes.set_title(
        "better: share of bootstrap resamples with fewer errors than the retuned recogniser",
        fontsize=8,
        color=GREY,
        loc="left",
    )
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save_figure(figure, path)
