"""What stage `joint` shows: joint.md, and joint.csv with its plots wer_{evaluations,speed}.png.

Every row is read from lists of test: word error rate with its interval, edits against the greedy
transcript (errors fixed, broken and kept), network evaluations, and how sure the difference to USDM
rescoring is (paired bootstrap). Times are those of timing.py.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from rescore.formats.reading import read_lists
from rescore.report.figures import BLUE, DARK, GREY, ORANGE, new_figure, save_figure
from rescore.types import NBest
from rescore.wer.changes import Changes, changes
from rescore.wer.evaluation import Evaluation, evaluate

BASELINE = "beam+usdm"

#: Name, title, the systems of timing.json that it takes.
SYSTEMS = [
    ("greedy", "greedy", ["greedy"]),
    ("beam", "beam", ["beam"]),
    ("beam_ngram", "beam + 3-gram", ["beam_ngram"]),
    ("beam+ar", "beam, AR rescoring", ["beam", "+ar"]),
    ("beam+usdm", "beam, USDM rescoring (PLL)", ["beam", "+usdm"]),
    ("beam+mdlm", "beam, MDLM rescoring (PLL)", ["beam", "+mdlm"]),
    ("joint", "joint CTC-USDM, best on dev", ["joint"]),
    ("edits", "the same with edits of the length", ["edits"]),
    ("mdlm", "joint CTC-MDLM", ["mdlm"]),
    ("mdlm_edits", "the same with edits of the length", ["mdlm_edits"]),
    ("joined+ar", "beam and joint candidates, AR rescoring", []),
    ("joined+usdm", "beam and joint candidates, USDM rescoring", []),
    ("joined+mdlm", "beam and joint candidates, MDLM rescoring", []),
    ("deliberate_mdlm+usdm", "beam and MDLM deliberation, USDM rescoring", []),
    ("deliberate_usdm+usdm", "beam and USDM deliberation, USDM rescoring", []),
]

#: The colours of the plots.
COLOURS = {
    "lists, rescored or not": GREY,
    "joint CTC-USDM (unnamed: L and t_start)": BLUE,
    "joint CTC-MDLM": ORANGE,
}

#: What stage `joint` joins with the lists of the beam.
JOINED = ["drafts", "edits", "mdlm_edits"]


@dataclass(frozen=True)
class Row:
    """A system on test."""

    title: str
    evaluation: Evaluation
    edits: Changes | None  #: against greedy
    paired: Changes | None  #: against USDM rescoring
    evaluations: float
    rtfx: float | None


def lists_of(exp: Path, name: str, part: str = "test") -> list[NBest] | None:
    """The lists of a system, None where there are none."""
    folder = exp / name / f"{part}.jsonl"
    path = folder if folder.is_file() else exp / "joint" / f"{name}.{part}.jsonl"
    return list(read_lists(str(path))) if path.is_file() else None


def evaluations_of(exp: Path, lists: list[NBest], name: str) -> float:
    """Network evaluations an utterance: of the decoders, and of the language model's scores."""
    source, _, lm = name.partition("+")
    total = 0
    for nbest in lists:
        score = nbest.provenance.get(lm)
        total += 0 if score is None else score.evaluations or 0
    for decoder in JOINED if source == "joined" else [source]:
        decoded = lists_of(exp, decoder) or []
        total += sum(int(nbest.raw.get("evaluations", 0)) for nbest in decoded)
    return total / len(lists)


def speed(timing: dict, systems: list[str]) -> float | None:
    """Seconds of audio a CPU second."""
    seconds = timing["cpu_seconds"]
    if not systems or any(name not in seconds for name in systems):
        return None
    return timing["audio_seconds"] / sum(seconds[name] for name in systems)


def rows_of(exp: Path, timing: dict) -> dict[str, Row]:
    greedy, baseline = lists_of(exp, "greedy"), lists_of(exp, BASELINE)
    systems = list(SYSTEMS)
    for path in sorted((exp / "joint").glob("steps*.test.jsonl"), key=_step_and_time):
        steps, time = _step_and_time(path)
        timed = [f"steps{steps}"]
        title = f"joint CTC-USDM, L = {steps}, t_start {time:g}"
        systems.append((path.name.removesuffix(".test.jsonl"), title, timed))
    rows = {}
    for name, title, timed in systems:
        lists = lists_of(exp, name)
        if lists is None:
            continue
        rows[name] = Row(
            title,
            evaluate(lists),
            None if name == "greedy" else changes(lists, greedy),
            None if name == BASELINE or baseline is None else changes(lists, baseline),
            evaluations_of(exp, lists, name),
            speed(timing, timed),
        )
    return rows


def _step_and_time(path: Path) -> tuple[int, float]:
    steps, _, time = path.name.removesuffix(".test.jsonl").removeprefix("steps").partition(".")
    return int(steps), float(time)


def table(rows: dict[str, Row]) -> str:
    lines = [
        "| system | WER % | 95 % interval | fixed | broken | kept | better | evaluations | RTFx |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows.values():
        low, high = row.evaluation.ci95
        cells = [
            row.title,
            f"{100 * row.evaluation.wer:.2f}",
            f"[{100 * low:.2f}, {100 * high:.2f}]",
            *edit_cells(row.edits),
            "" if row.paired is None else f"{row.paired.comparison.probability_better:.3f}",
            f"{row.evaluations:.1f}",
            "" if row.rtfx is None else f"{row.rtfx:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def edit_cells(edits: Changes | None) -> list[str]:
    """Errors of the greedy transcript that are fixed, new errors, errors that stay."""
    if edits is None:
        return ["", "", ""]
    fixed = sum(edits.fixed.values())
    kept = edits.baseline_errors.errors - fixed
    return [str(fixed), str(sum(edits.broken.values())), str(kept)]


def plot(rows: dict[str, Row], speed_axis: bool, path: Path) -> None:
    """WER against evaluations an utterance, or against the real-time factor."""
    figure, axes = new_figure(7.2, 4.6)
    for name, row in rows.items():
        x = row.evaluations if not speed_axis else (1 / row.rtfx if row.rtfx else None)
        if x is None:
            continue
        kind = kind_of(name)
        marker = "s" if kind == "lists, rescored or not" else "o"
        axes.plot(x, 100 * row.evaluation.wer, marker, color=COLOURS[kind], markersize=5)
        if not name.startswith("steps"):
            below = name in ("edits", "mdlm_edits", "joined+ar")
            axes.annotate(
                name,
                (x, 100 * row.evaluation.wer),
                fontsize=6.5,
                color=DARK,
                xytext=(4, -9 if below else 3),
                textcoords="offset points",
            )
    for kind, colour in COLOURS.items():
        axes.plot([], [], "o", color=colour, markersize=5, label=kind)
    axes.legend(fontsize=7, frameon=False)
    axes.set_xscale("log" if speed_axis else "symlog")
    axes.set_xlabel(
        "real-time factor (CPU seconds of one thread for a second of audio)"
        if speed_axis
        else "network evaluations an utterance"
    )
    axes.set_ylabel("test WER (%)")
    save_figure(figure, path)


def kind_of(name: str) -> str:
    """What a system is, as the legend of the plots says."""
    if "+" in name or name.startswith(("beam", "greedy")):
        return "lists, rescored or not"
    return "joint CTC-MDLM" if "mdlm" in name else "joint CTC-USDM (unnamed: L and t_start)"


def as_csv(rows: dict[str, Row]) -> str:
    """What the plots draw."""
    lines = ["system,wer,evaluations,real_time_factor"]
    for name, row in rows.items():
        factor = "" if row.rtfx is None else f"{1 / row.rtfx:.6f}"
        lines.append(f"{name},{row.evaluation.wer:.6f},{row.evaluations:.4f},{factor}")
    return "\n".join(lines) + "\n"


def oracle_table(rows: dict[str, dict[str, float]]) -> str:
    """Without and with the reference's length, side by side."""
    lines = ["| replaced by the truth | WER % | and the length |", "|---|---:|---:|"]
    for name, row in rows.items():
        if name.endswith(" + length"):
            continue
        known = rows[f"{name} + length"]
        lines.append(f"| {name} | {100 * row['wer']:.2f} | {100 * known['wer']:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exp", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    folder = given.exp / "joint"
    rows = rows_of(given.exp, json.loads((folder / "timing.json").read_text()))
    text = table(rows)
    if (folder / "oracle.json").is_file():
        text += f"\n{oracle_table(json.loads((folder / 'oracle.json').read_text()))}"
    (given.output / "joint.md").write_text(text)
    (given.output / "joint.csv").write_text(as_csv(rows))
    plot(rows, False, given.output / "wer_evaluations.png")
    plot(rows, True, given.output / "wer_speed.png")
    print(text)


if __name__ == "__main__":
    main()
