"""Score two sets of lists with every model, tune on one, print a table for the other. `make demo` runs it on our own lists.

Everything here is the public Python interface; the same steps as commands are in the README. Each score is written as soon as it is done, and a
second run in the same folder goes on from there.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import click
from tqdm import tqdm

import rescore
from rescore.formats import jsonl
from rescore.fusion import save
from rescore.types import NBest
from rescore.wer import Evaluation

DATA = Path(__file__).parent / "demo_data"

#: name of a score -> (scorer, estimator, what the table calls it)
SCORES = {
    "ar": ("ar", None, "AR"),
    "mdlm_nelbo": ("mdlm", "nelbo", "MDLM (NELBO, 8 draws)"),
    "mdlm_pll": ("mdlm", "pll", "MDLM (PLL)"),
    "usdm_pll": ("usdm", "pll", "USDM (one-pass PLL)"),
    "usdm_nelbo": ("usdm", "nelbo", "USDM (NELBO, 8 draws)"),
}


@dataclass
class Cost:
    """What a score cost on the test lists."""

    evaluations: float = 0.0
    seconds: float = 0.0


def score(path: Path, lists: list[NBest], name: str, dtype: str) -> tuple[list[NBest], Cost]:
    """Add one score to the lists and keep them in `path`, or read them from there."""
    started = time.monotonic()
    if not path.exists():
        scorer, estimator, _ = SCORES[name]
        options = rescore.ScorerOptions(estimator=estimator, dtype=dtype)  # type: ignore[arg-type]
        built = rescore.load_scorer(scorer, options)
        jsonl.write(tqdm(rescore.score(lists, built), total=len(lists), desc=path.stem, unit="utt"), path)
        path.with_suffix(".seconds").write_text(f"{time.monotonic() - started:.1f}\n")
    scored = list(rescore.read(path))
    evaluations = sum(nbest.raw["meta"]["scores"][name]["evaluations"] for nbest in scored)
    return scored, Cost(evaluations / sum(len(nbest.hyps) for nbest in scored), float(path.with_suffix(".seconds").read_text()))


def row(system: str, result: Evaluation, cost: Cost | None) -> str:
    """One line of the table."""
    low, high = result.ci95
    better, closed = "", ""
    if result.comparison is not None:
        better = f"{result.comparison.probability_better:.3f}"
        gap = result.comparison.oracle_gap_closed
        closed = "" if gap is None else f"{100 * gap:.0f} %"
    spent = "" if cost is None else f"{cost.evaluations:.1f} | {cost.seconds:.0f}"
    return f"| {system:26} | {100 * result.wer:5.2f} | [{100 * low:.2f}, {100 * high:.2f}] | {better} | {closed} | {spent or '|'} |"


def report(dev: list[NBest], test: list[NBest], base: list[str], costs: dict[str, Cost], folder: Path) -> list[str]:
    """Tune every system on dev and evaluate it on test."""
    first = rescore.evaluate(test)
    lines = [
        f"test: {first.utterances} utterances, {first.errors.reference_words} words; weights tuned on {len(dev)} dev utterances",
        "",
        "| system | WER % | 95 % interval | better | closed | evaluations a hypothesis | seconds |",
        "|---|---|---|---|---|---|---|",
        row("first of the list", first, None),
    ]
    systems: dict[str, list[str]] = {" + ".join(base) + ", retuned": [], **{f"+ {SCORES[name][2]}": [name] for name in costs}}
    if len(costs) > 1:
        systems["+ all of them"] = list(costs)
    retuned = None
    for system, names in systems.items():
        fusion = rescore.tune(dev, [*base, *names])
        save(fusion, folder / f"fusion.{'-'.join(names) or 'base'}.json")
        best = list(rescore.fuse(test, fusion))
        jsonl.write(best, folder / f"best.{'-'.join(names) or 'base'}.jsonl")
        spent = Cost(sum(costs[n].evaluations for n in names), sum(costs[n].seconds for n in names)) if names else None
        lines.append(row(system, rescore.evaluate(best, retuned), spent))
        retuned = retuned or best
    lines += [f"| {'oracle of the lists':26} | {100 * first.oracle_wer:5.2f} | | | | | |", ""]
    return [*lines, "better: share of paired bootstrap resamples with fewer errors than the retuned recogniser; closed: share of its gap to the oracle."]


@click.command()
@click.option("--dev", default=str(DATA / "dev.jsonl"), help="Lists to tune on.")
@click.option("--test", "test_path", default=str(DATA / "test.jsonl"), help="Lists to report on.")
@click.option("--base", default="am,ngram", show_default=True, help="The recogniser's own scores; `rank` for lists without any.")
@click.option("--scores", default=",".join(SCORES), show_default=True, help="Which scores to add.")
@click.option("--depth", type=click.IntRange(1), help="Use only the first N hypotheses of every list.")
@click.option("--dtype", default="float32", show_default=True, help="Of the networks' bodies.")
@click.option("-o", "--output", default="demo", show_default=True, help="Folder for the scored lists, the weights and the table.")
def main(dev: str, test_path: str, base: str, scores: str, depth: int | None, dtype: str, output: str) -> None:
    """Score, tune on DEV, evaluate on TEST."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    halves = {half: [replace(nbest, hyps=nbest.hyps[:depth]) for nbest in rescore.read(path)] for half, path in (("dev", dev), ("test", test_path))}
    costs: dict[str, Cost] = {}
    for number, name in enumerate(scores.split(",")):
        for half, lists in list(halves.items()):
            halves[half], costs[name] = score(folder / f"{half}.{number}.{name}.jsonl", lists, name, dtype)
    table = report(halves["dev"], halves["test"], base.split(","), costs, folder)
    (folder / "table.md").write_text("\n".join(table) + "\n")
    click.echo("\n" + "\n".join(table) + f"\n\nscored lists, weights and results are in {folder}/")


if __name__ == "__main__":
    main()
