"""Systems compared on the same test lists: a table, its CSV, and the CSV as a plot.

CSV columns: `system`, `scores` (added to the base, separated by spaces), `dev_wer`, `held_out_wer`
(dev, each fold with weights tuned on the others), `kept` (yes or no), `wer`, `low`, `high` (95 %
bootstrap interval), `better_than_first` and `better_than_retuned` (share of paired resamples with
fewer errors than the first pass, than the retuned recogniser), `gap_closed` (share of the gap
between the first pass and the oracle), `evaluations` (network evaluations per hypothesis). Rates
are fractions, called `cer` where characters are counted. A cell that does not apply is empty.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rescore.formats.files import PathLike
from rescore.fusion.selection import Verdict
from rescore.report.figures import BLUE, GREY, ORANGE, new_figure, save_figure
from rescore.wer import Comparison, Evaluation

__all__ = ["ORACLE", "System", "plot_systems", "systems_csv", "systems_table"]

ORACLE = "oracle of the lists"

_NOTE = """\
dev CV: error rate on dev, each fold with weights tuned on the others. kept: the
system beats the simpler one there. first, tuned: share of paired bootstrap
resamples of test with fewer errors than the first pass, than the retuned
recogniser. closed: share of the gap from the first pass to the oracle.
evaluations: network passes a hypothesis. seconds: for the test lists."""


@dataclass(frozen=True)
class System:
    """One row of the table.

    `name` is what the system is called, `scores` are those it adds to the base. `dev_wer` is its
    error rate on dev, `held_out_wer` that of cross-validation (None: not validated), fractions;
    the first pass has no weights, and they are one.
    `test` is its result on test, compared with the retuned recogniser. `verdict` says whether the
    guard against fitting noise keeps it; None for the first pass. `evaluations` is the number of
    network evaluations per hypothesis; it and `seconds`, which scoring test took, are None where
    nothing was scored, and `seconds` also where the time was not measured.
    """

    name: str
    scores: tuple[str, ...]
    dev_wer: float
    test: Evaluation
    held_out_wer: float | None = None
    verdict: Verdict | None = None
    evaluations: float | None = None
    seconds: float | None = None

    @property
    def kept(self) -> str:
        """Whether it is kept, in a word; empty for the first pass."""
        if self.verdict is None:
            return ""
        return "yes" if self.verdict.is_kept else "no"


def _rate(systems: Sequence[System]) -> str:
    return "wer" if systems[0].test.unit == "word" else "cer"


def systems_csv(systems: Sequence[System], oracle_dev: float) -> str:
    """Return the systems as CSV: a header, the systems, the oracle of the lists.

    Seconds are left out, so that the text is the same on every run.
    """
    rate, out = _rate(systems), io.StringIO()
    columns = ["system", "scores", f"dev_{rate}", f"held_out_{rate}", "kept", rate, "low", "high"]
    columns += ["better_than_first", "better_than_retuned", "gap_closed", "evaluations"]
    table = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    table.writeheader()
    for system in systems:
        table.writerow(dict(zip(columns, _csv_row(system), strict=True)))
    oracle = {"system": ORACLE, f"dev_{rate}": oracle_dev, rate: systems[0].test.oracle_wer}
    table.writerow(oracle)
    return out.getvalue()


def _csv_row(system: System) -> list[Any]:
    first, retuned = system.test.first_pass, system.test.comparison
    return [
        system.name,
        " ".join(system.scores),
        system.dev_wer,
        system.held_out_wer,
        system.kept,
        system.test.wer,
        *system.test.ci95,
        None if first is None else first.probability_better,
        None if retuned is None else retuned.probability_better,
        None if first is None else first.oracle_gap_closed,
        system.evaluations,
    ]


def systems_table(systems: Sequence[System]) -> str:
    """Return two Markdown tables: what each system is worth, and what it costs.

    Rates are in percent. The oracle of the lists is the last row. Lines below explain the columns.
    With names of up to 19 characters the tables are 80 columns wide or less.
    """
    heads = ["system", f"{_rate(systems).upper()} %", "95 % interval", "dev CV"]
    heads += ["kept", "first", "tuned"]
    rows = [_worth(system) for system in systems]
    rows.append([ORACLE, _percent(systems[0].test.oracle_wer), *[""] * 5])
    costs = [_cost(system) for system in systems[1:]]
    cost_heads = ["system", "closed", "evaluations", "seconds"]
    return "\n\n".join([_markdown(heads, rows), _markdown(cost_heads, costs), _NOTE])


def _worth(system: System) -> list[str]:
    """The cells of a system's row; empty where they do not apply."""
    low, high = system.test.ci95
    return [
        system.name,
        _percent(system.test.wer),
        f"{100 * low:.1f} - {100 * high:.1f}",
        "" if system.held_out_wer is None else _percent(system.held_out_wer),
        system.kept,
        _probability(system.test.first_pass),
        _probability(system.test.comparison),
    ]


def _cost(system: System) -> list[str]:
    first = system.test.first_pass
    closed = None if first is None else first.oracle_gap_closed
    return [
        system.name,
        "" if closed is None else f"{round(100 * closed)} %",
        "" if system.evaluations is None else f"{system.evaluations:.1f}",
        "" if system.seconds is None else f"{system.seconds:.0f}",
    ]


def _percent(rate: float) -> str:
    return f"{100 * rate:.2f}"


def _probability(comparison: Comparison | None) -> str:
    return "" if comparison is None else f"{comparison.probability_better:.3f}"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    lines = []
    for row in (heads, None, *rows):
        if row is None:
            cells = ["-" * widths[0], *(f"{'-' * (width - 1)}:" for width in widths[1:])]
        else:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot_systems(text: str, path: PathLike) -> None:
    """Draw the CSV of the systems: rates, their intervals, and the oracle as a line.

    The probability of beating the first pass stands beside each rate. Raises FormatError if the
    file cannot be written.
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
    label = f"{ORACLE} ({best:.2f} %)"
    axes.axvline(best, color=ORANGE, linewidth=1.2, linestyle="--", label=label)
    for place, value, row in zip(at, rates, rows, strict=True):
        better = row["better_than_first"]
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
    title = "better: share of bootstrap resamples with fewer errors than the first pass"
    axes.set_title(title, fontsize=8, color=GREY, loc="left")
    axes.grid(axis="x", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    save_figure(figure, path)
