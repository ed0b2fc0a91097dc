"""Every system tuned on dev and evaluated on test: weights, best lists, a table, plots, a page."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np

from rescore.errors import RescoreError
from rescore.experiment.folder import Clock
from rescore.experiment.inputs import Halves
from rescore.experiment.options import Options
from rescore.experiment.scoring import stage_name
from rescore.formats import jsonl
from rescore.formats.files import atomic_writer
from rescore.fusion import DevSet, Fusion, SearchSettings, Sweep, fuse, save, sweep, tune
from rescore.fusion.selection import ORIGINAL, Choice, choose, first_pass
from rescore.fusion.tuning import Tuned, tune_and_validate
from rescore.report.figures import check_plot
from rescore.report.page import source_of_folder, write_report
from rescore.report.sweep import plot_sweep, sweep_csv
from rescore.report.systems import System, plot_systems, systems_csv, systems_table
from rescore.report.verdict import verdict
from rescore.types import NBest
from rescore.wer import UNIT_NAMES, evaluate

__all__ = ["Results", "axis", "compare"]

_STEPS = 40  # of an axis of the sweep
_FOLDS = 5  # of cross-validation
_LOG = logging.getLogger("rescore")


@dataclass(frozen=True)
class Results:
    """What `run` returns.

    `base` names the recogniser's scores. `systems` are the rows of `table`, from the first of the
    list to all scores. `choice` says which of them dev chose, and why. `sweep` is a sweep of dev.
    `folder` holds the files.
    """

    base: tuple[str, ...]
    systems: tuple[System, ...]
    choice: Choice
    table: str
    sweep: Sweep
    folder: Path


def compare(
    halves: Halves,
    base: tuple[str, ...],
    names: Sequence[str],
    options: Options,
    clock: Clock,
    folder: Path,
) -> Results:
    """Tune every system on dev, evaluate it on test, and write all files of the results.

    `names` are the added scores: each makes a system with the base, and all of them make one more.
    """
    unit, normalizer = options.unit, options.normalizer
    dev = DevSet.of(halves.dev, unit=unit, normalizer=normalizer)
    groups = _groups(names)
    tuned = {group: _tuned(dev, [*base, *added], options) for group, added in groups.items()}
    choice = choose(dev, tuned, _simpler(names), options.keep, options.seed)
    untuned = dev.first_pass_wer
    first = evaluate(halves.test, unit=unit, normalizer=normalizer)
    systems = {ORIGINAL: System("first of the list", (), untuned, first, untuned)}
    retuned: list[NBest] | None = None
    for group, added in groups.items():
        fusion = tuned[group].fusion
        best = _write_system(fusion, halves.test, folder, f".{group}")
        systems[group] = System(
            _label(group, base),
            added,
            _dev_wer(fusion),
            evaluate(best, retuned, unit=unit, normalizer=normalizer),
            None if fusion.dev is None else fusion.dev.cross_validated_wer,
            choice.verdicts[group],
            _evaluations(halves.test, added),
            _seconds(clock, added),
        )
        retuned = retuned or best
    chosen = first_pass() if choice.system == ORIGINAL else tuned[choice.system].fusion
    _write_system(chosen, halves.test, folder)
    swept = _sweep(dev, base, names, {group: tuned[group].fusion for group in groups}, options)
    rows = tuple(systems.values())
    sentence = verdict(systems[choice.system], systems[ORIGINAL], options.keep)
    table = _table(halves, rows, sentence)
    _write(table, systems_csv(rows, dev.oracle_wer), sweep_csv(swept), folder)
    write_report(source_of_folder(folder), folder / "report.html")
    return Results(base, rows, choice, table, swept, folder)


def _tuned(dev: DevSet, names: Sequence[str], options: Options) -> Tuned:
    """Weights and their errors on held-out folds; a single utterance cannot validate anything."""
    if len(dev.lists) > 1:
        folds = min(_FOLDS, len(dev.lists))
        return tune_and_validate(dev, names, folds, SearchSettings(seed=options.seed))
    return Tuned(tune(dev, names, seed=options.seed), dev.errors[dev.offsets[:-1]])


def _simpler(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The systems that each has to beat, besides the first pass."""
    simpler: dict[str, tuple[str, ...]] = {"base": ()}
    for name in names:
        simpler[name] = ("base",)
    simpler["all"] = ("base", *names)
    return simpler


def _write_system(fusion: Fusion, test: list[NBest], folder: Path, group: str = "") -> list[NBest]:
    """Write the weights and the lists that they reorder; return these."""
    weights = f"fusion{group}.json"
    save(fusion, folder / weights)
    best = list(fuse(test, fusion, command=f"dlmrescore fuse --fusion {weights}"))
    jsonl.write(best, folder / f"best{group}.jsonl")
    return best


def _groups(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The systems by name: the scores that each adds to the base."""
    groups: dict[str, tuple[str, ...]] = {"base": ()}
    for name in names:
        groups[name] = (name,)
    if len(names) > 1:
        groups["all"] = tuple(names)
    return groups


def _label(group: str, base: Sequence[str]) -> str:
    """What a system is called in the table."""
    if group == "base":
        return f"{' + '.join(base)}, retuned"
    return "+ all of them" if group == "all" else f"+ {group}"


def _table(halves: Halves, systems: Sequence[System], sentence: str) -> str:
    """The tables and the verdict, below lines about the sizes of the lists."""
    test = systems[0].test
    words = f"{test.errors.reference_words} test {UNIT_NAMES[test.unit]}"
    sizes = f"{_size('dev', halves.dev)}\n{_size('test', halves.test)}, {words}"
    verdict_lines = fill(sentence, 80)
    return f"{sizes}\nweights tuned on dev\n\n{systems_table(systems)}\n\n{verdict_lines}\n"


def _size(half: str, lists: Sequence[NBest]) -> str:
    return f"{half}: {len(lists)} utterances, {_hypotheses(lists)} hypotheses"


def _hypotheses(lists: Sequence[NBest]) -> int:
    return sum(len(nbest.hyps) for nbest in lists)


def _dev_wer(fusion: Fusion) -> float:
    return math.nan if fusion.dev is None else fusion.dev.wer


def _evaluations(lists: Sequence[NBest], names: Sequence[str]) -> float | None:
    """Network evaluations per hypothesis for these scores; None without any score."""
    if not names:
        return None
    per_score = [
        sum(nbest.provenance[name].evaluations or 0 for nbest in lists) / _hypotheses(lists)
        for name in names
    ]
    return sum(per_score)


def _seconds(clock: Clock, names: Sequence[str]) -> float | None:
    """The seconds that these scores took on test; None where one was not measured."""
    seconds = [clock.seconds(stage_name("test", name)) for name in names]
    measured = [value for value in seconds if value is not None]
    return sum(measured) if names and len(measured) == len(names) else None


def _sweep(
    dev: DevSet,
    base: Sequence[str],
    names: Sequence[str],
    fusions: dict[str, Fusion],
    options: Options,
) -> Sweep:
    """Sweep the two scores that help dev most.

    Their axes go from 0 to about twice their tuned scales; everything else is tuned with them and
    then held.
    """
    by_dev_wer = sorted(names, key=lambda name: _dev_wer(fusions[name]))
    swept = by_dev_wer[:2]
    joint = tune(dev, [*base, *swept], seed=options.seed)
    axes = {name: axis(2 * max(joint.scales[name], fusions[name].scales[name])) for name in swept}
    return sweep(
        dev,
        axes,
        base={name: joint.scales[name] for name in base},
        word_bonus=joint.word_bonus,
        cross_validate=min(_FOLDS, len(dev.lists)) if len(dev.lists) > 1 else 0,
        seed=options.seed,
    )


def axis(top: float) -> list[float]:
    """Return 40 steps from 0 to a round number that is `top` or more; to 1 where `top` is 0.

    Exact check: tests/experiment/test_run.py::test_an_axis_ends_at_a_round_number.
    """
    power = 10.0 ** math.floor(math.log10(top)) if top > 0 else 1.0
    end = next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= top)
    return [float(value) for value in np.linspace(0, end, _STEPS + 1)]


def _write(table: str, systems: str, swept: str, folder: Path) -> None:
    """Write the table, the CSV files, and the plots that draw them."""
    for name, text in (("table.md", table), ("systems.csv", systems), ("sweep.csv", swept)):
        with atomic_writer(folder / name) as output:
            output.write(text.encode())
    try:
        check_plot("systems.png")
    except RescoreError as error:
        _LOG.warning("%s (the CSV files are complete)", error)
        return
    plot_systems(systems, folder / "systems.png")
    plot_sweep(swept, folder / "sweep.png")
