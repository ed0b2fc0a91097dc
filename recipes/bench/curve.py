"""WER against evaluations a hypothesis, from a log of `curve_log.py`: a CSV and a plot.

    python recipes/bench/curve.py --dev dev.jsonl.gz --test test.jsonl.gz --log log --output curve

Scales and a word bonus are tuned on the logged dev lists, with the recogniser's `am` and `ngram`;
test, where it is logged, is read with the weights of dev. Of D draws, K of an estimator are every
(D / K)-th, so that strata stay strata: D / K disjoint subsets, at most `--subsets` of which are
tuned apart, and their WERs averaged. `--held-out` adds 10-fold cross-validation on dev.
"""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from curve_log import PATTERN_FOLDS, subset
from matplotlib.figure import Figure

from rescore import NBest
from rescore.fusion.descent import Optimum, SearchSettings, minimize_errors
from rescore.fusion.table import ScoreTable
from rescore.fusion.totals import totals, winners
from rescore.fusion.tuning import cross_validation
from rescore.report.figures import BLUE, DARK, GREY, ORANGE, save_figure
from rescore.wer.counts import list_errors
from rescore.wer.significance import probability_of_improvement

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Part:
    """Dev or test: its lists, their errors, and what is logged of each list."""

    lists: Sequence[NBest]
    errors: np.ndarray  # of all hypotheses
    logged: Sequence[Arrays]
    names: frozenset[str]  # what every list has

    @classmethod
    def of(cls, path: str, folder: Path, options: argparse.Namespace) -> Part:
        lists = subset(path, options.utterances, options.depth, options.every)
        groups = [group for group in sorted(folder.glob("*")) if is_complete(group, lists)]
        logged: list[Arrays] = []
        for nbest in lists:
            arrays: Arrays = {}
            for group in groups:
                arrays.update(np.load(group / f"{nbest.id}.npz"))
            logged.append(with_all_draws(arrays))
        errors = np.concatenate([list_errors(nbest) for nbest in lists])
        return cls(lists, errors, logged, frozenset(logged[0]))

    @property
    def words(self) -> int:
        return sum(len((nbest.ref or "").split()) for nbest in self.lists)

    def table(self, scores: Sequence[np.ndarray] | None) -> ScoreTable:
        """The recogniser's scores, and one more (hypotheses,) of each list."""
        features = [
            np.array([[hyp.scores["am"], hyp.scores["ngram"]] for hyp in nbest.hyps])
            for nbest in self.lists
        ]
        names = ["am", "ngram"]
        if scores is not None:
            features = [np.column_stack(both) for both in zip(features, scores, strict=True)]
            names.append("lm")
        words = [np.array([len(hyp.words) for hyp in nbest.hyps]) for nbest in self.lists]
        return ScoreTable.from_arrays(features, words, names)

    def errors_of_winners(self, table: ScoreTable, optimum: Optimum) -> np.ndarray:
        """The errors of the winner of each list, (utterances,)."""
        total = totals(table, optimum.scales, optimum.word_bonus)
        return np.asarray(self.errors[winners(total, table.offsets)])


def is_complete(group: Path, lists: Sequence[NBest]) -> bool:
    return all((group / f"{nbest.id}.npz").exists() for nbest in lists)


def with_all_draws(arrays: Arrays) -> Arrays:
    """The published code's draws of both groups joined."""
    if "coded_more" in arrays:
        arrays["coded"] = np.hstack((arrays["coded"], arrays["coded_more"]))
    return arrays


# ------------------------------------------------------------------------------ estimators


@dataclass(frozen=True)
class Estimator:
    """An estimator as a function of the log.

    `score`: (arrays of one list, numbers of draws) -> scores (hypotheses,). `draws` are logged;
    `reads` names the arrays it needs. `evaluations`: draws -> evaluations a hypothesis.
    """

    name: str
    score: Callable[[Arrays, np.ndarray], np.ndarray]
    draws: int
    evaluations: Callable[[int], float]
    reads: frozenset[str]


def mean_of(name: str) -> Callable[[Arrays, np.ndarray], np.ndarray]:
    return lambda arrays, draws: arrays[name][:, draws].mean(1)


def published(name: str, normalization: str) -> Callable[[Arrays, np.ndarray], np.ndarray]:
    """The four normalisations, per token, from sums over sets and counts of hidden tokens.

    As coded the weight is S / n, as printed it is 1 / t = 2 or nothing; `sequence_length` and
    `coupled` divide by S.
    """

    def score(arrays: Arrays, draws: np.ndarray) -> np.ndarray:
        sums, counts = arrays[name][:, draws], arrays[f"{name}_counts"][:, draws]
        size = arrays["size"][:, None]
        shown = np.maximum(1, counts)
        weights = size / shown if name == "coded" else np.full(counts.shape, 1.0)
        if normalization == "sequence_length":
            values = (weights if name == "coded" else 2.0) * sums / size
            return np.asarray(values.mean(1))
        if normalization == "sample_level":
            return np.asarray((weights * sums / shown).mean(1))
        if normalization == "global":
            return np.asarray((weights * sums).sum(1) / np.maximum(1, counts.sum(1)))
        others = np.maximum(1, size - counts)
        complement = arrays[f"{name}_complement"][:, draws]
        other_weights = size / others if name == "coded" else np.full(counts.shape, 1.0)
        return np.asarray(((weights * sums + other_weights * complement) / size).mean(1))

    return score


def estimators(part: Part) -> Iterator[Estimator]:
    """Everything that is logged."""
    for name, values in part.logged[0].items():
        if name in ("coded", "printed"):
            yield from published_estimators(name, part.logged[0])
        elif name != "size" and not name.endswith(("_counts", "_complement", "_more")):
            reads = frozenset({name})
            cost = partial(cost_of, name, part)
            yield Estimator(name, mean_of(name), values.shape[1], cost, reads)


def published_estimators(name: str, arrays: Arrays) -> Iterator[Estimator]:
    for normalization in ("sequence_length", "sample_level", "global", "coupled"):
        reads, evaluations = {name, f"{name}_counts"}, 1.0
        if normalization == "coupled":
            reads, evaluations = {*reads, f"{name}_complement"}, 2.0
        yield Estimator(
            f"{name}_{normalization}",
            published(name, normalization),
            min(arrays[read].shape[1] for read in reads),
            lambda draws, evaluations=evaluations: draws * evaluations,
            frozenset(reads),
        )


def cost_of(name: str, part: Part, draws: int) -> float:
    """Evaluations a hypothesis."""
    if name == "pll":
        return float(np.concatenate([arrays["size"] for arrays in part.logged]).mean())
    if name.startswith("folds"):
        return float(name.removeprefix("folds"))
    if name.startswith("pair"):
        return 2.0 * draws + (name == "pair_full")
    if name.startswith(("random", "contiguous", "words", "from_end")):
        return float(PATTERN_FOLDS)
    return float(draws)


# ------------------------------------------------------------------------------ WER


@dataclass(frozen=True)
class Experiment:
    """Both parts; test is None where only dev is looked at."""

    dev: Part
    test: Part | None
    subsets: int
    held_out: int

    def rows(self, estimator: Estimator) -> Iterator[dict[str, object]]:
        """A row for each K = 1, 2, 4, ... of an estimator."""
        draws = 1
        while draws <= estimator.draws:
            step = estimator.draws // draws
            chosen_draws = [
                np.arange(first, estimator.draws, step)[:draws]
                for first in range(min(step, self.subsets))
            ]
            outcomes = [self.outcome(estimator, numbers) for numbers in chosen_draws]
            means = {key: np.mean([row[key] for row in outcomes]) for key in outcomes[0]}
            yield {
                "estimator": estimator.name,
                "draws": draws,
                "evaluations": round(estimator.evaluations(draws), 1),
                "subsets": len(outcomes),
                **{key: round(float(value), 4) for key, value in means.items()},
            }
            draws *= 2

    def outcome(self, estimator: Estimator | None, draws: np.ndarray) -> dict[str, float]:
        """WER in percent on dev, tuned and held out, and on test; without an LM for None."""
        table = self.dev.table(scores_of(estimator, self.dev, draws))
        optimum = minimize_errors(table, self.dev.errors)
        result = {"dev_wer": 100 * optimum.errors / self.dev.words}
        if self.held_out:
            deals = [
                cross_validation(table, self.dev.errors, 10, SearchSettings(seed=seed)).errors
                for seed in range(self.held_out)
            ]
            result["dev_held_out"] = 100 * float(np.mean(deals)) / self.dev.words
        if self.test is None or not (estimator is None or estimator.reads <= self.test.names):
            return result
        test_table = self.test.table(scores_of(estimator, self.test, draws))
        errors = self.test.errors_of_winners(test_table, optimum)
        without = self.test.errors_of_winners(self.test.table(None), self.base)
        return {
            **result,
            "test_wer": 100 * float(errors.sum()) / self.test.words,
            "test_better": probability_of_improvement(errors, without),
        }

    @cached_property
    def base(self) -> Optimum:
        """The weights of the recogniser's own scores."""
        return minimize_errors(self.dev.table(None), self.dev.errors)


def scores_of(
    estimator: Estimator | None, part: Part, draws: np.ndarray
) -> list[np.ndarray] | None:
    """The scores of each list."""
    if estimator is None:
        return None
    return [estimator.score(arrays, draws) for arrays in part.logged]


# ------------------------------------------------------------------------------ output

#: Curve -> how it is drawn. What is not named is in the CSV only.
CURVES = {
    "folds": (BLUE, "o", "MDLM K-fold PLL"),
    "exact_count": (ORANGE, "s", "MDLM NELBO, exact counts"),
    "coded_sequence_length": (GREY, "v", "published code, sequence length"),
    "coded_sample_level": (GREY, "^", "published code, sample level"),
    "printed_coupled": (DARK, "D", "published formula, coupled"),
    "usdm_nelbo": ("#009E73", "x", "USDM NELBO"),
    "pll_t0.1": ("#CC79A7", "*", "USDM one-pass PLL"),
    "pll": (BLUE, "P", "MDLM PLL"),
}


def plot(rows: Sequence[dict[str, Any]], base: dict[str, float], path: Path) -> None:
    """Dev and, where it is logged, test WER against evaluations a hypothesis."""
    parts = [part for part in ("dev", "test") if f"{part}_wer" in base]
    figure = Figure(figsize=(4.5 * len(parts), 4.2), layout="constrained")
    panels = figure.subplots(1, len(parts), squeeze=False)[0]
    for part, axes in zip(parts, panels, strict=True):
        for name, (color, marker, label) in CURVES.items():
            x, y = points(rows, name, f"{part}_wer")
            axes.plot(x, y, color=color, marker=marker, markersize=5, label=label)
        axes.axhline(base[f"{part}_wer"], color=GREY, linestyle=":", label="recogniser, retuned")
        axes.set(xscale="log", xlabel="network evaluations a hypothesis", ylabel=f"{part} WER %")
        ticks = [4**power for power in range(5)]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", frameon=False, fontsize=8, ncol=3)
    save_figure(figure, path)


def points(
    rows: Sequence[dict[str, Any]], name: str, column: str
) -> tuple[list[float], list[float]]:
    """Evaluations and error rates of a curve, by evaluations."""
    pairs = sorted(
        (float(row["evaluations"]), float(row[column]))
        for row in rows
        if re.fullmatch(rf"{re.escape(name)}\d*", row["estimator"]) and row.get(column)
    )
    return [x for x, _ in pairs], [y for _, y in pairs]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dev", required=True)
    parser.add_argument("--test")
    parser.add_argument("--log", type=Path, required=True, help="folder of the log")
    parser.add_argument("--output", type=Path, help="CSV and plot, without suffix")
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--subsets", type=int, default=8)
    parser.add_argument("--held-out", type=int, default=0, help="deals into 10 folds")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    dev = Part.of(options.dev, options.log / "dev", options)
    test = Part.of(options.test, options.log / "test", options) if options.test else None
    experiment = Experiment(dev, test, options.subsets, options.held_out)
    base = experiment.outcome(None, np.arange(0))
    oracle = sum(list_errors(nbest).min() for nbest in dev.lists)
    print(f"{dev.words} dev words; oracle {100 * oracle / dev.words:.2f}; without an LM: {base}")
    rows = []
    for estimator in estimators(dev):
        for row in experiment.rows(estimator):
            rows.append(row)
            print(*(f"{key} {value}" for key, value in row.items()), sep=", ", flush=True)
    if options.output is not None:
        with options.output.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, max((list(row) for row in rows), key=len))
            writer.writeheader()
            writer.writerows(rows)
        plot(rows, base, options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
