"""The whole experiment: check the lists, score them, tune on dev, fuse and evaluate on test, a table and plots. `dlmrescore run` is this.

Everything goes into one folder, which belongs to one experiment: `run.json` says which, and another is refused. Scores are written as they are made
(rescore.pipeline.journal), so a run that was killed goes on from the last chunk and ends with the files it would have written anyway; only the
seconds it reports are those it was measured at.
Reading order: `Options` and `Results`, `run`, `_Progress`, `_score`, `_compare`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.formats import jsonl
from rescore.formats import read_lists as read
from rescore.formats.files import PathLike, atomic_writer, try_lock
from rescore.formats.references import join_references, read_references
from rescore.fusion import (
    DevSet,
    Fusion,
    ScoreTable,
    Sweep,
    fuse,
    recogniser_scores,
    save,
    sweep,
    tune,
)
from rescore.pipeline import Journal, Progress, score
from rescore.report.figures import check_plot
from rescore.report.sweep import plot_sweep, sweep_csv
from rescore.report.systems import System, plot_systems, systems_csv, systems_table
from rescore.scorers import Scorer, ScorerOptions, load_scorer
from rescore.scorers.loading import read_options
from rescore.scorers.options import DType, parse_spec
from rescore.types import NBest, Score
from rescore.wer import UNIT_NAMES, Unit, evaluate, reference

__all__ = ["FAST", "FAST_DEPTH", "SCORERS", "Options", "Results", "run"]

#: What is scored by default, and with one network evaluation a hypothesis.
SCORERS = ("ar", "mdlm:nelbo", "usdm:pll", "usdm:nelbo")
FAST = ("ar", "usdm:pll")
FAST_DEPTH = 20

_CLOCK = 2.0  # seconds between two writings of the seconds that scoring took
_STEPS = 40  # of an axis of the sweep
_FOLDS = 5  # of the sweep's cross-validation


@dataclass(frozen=True)
class Options:
    """What decides the numbers of an experiment, besides the lists.

    `scorers` are `[NAME=]SCORER[:ESTIMATOR][@MODEL]`, as in `rescore.scorers.options.parse_spec`; NAME becomes the score's name. `base` names the
    recogniser's scores (None: `rescore.fusion.recogniser_scores`), the first with scale 1. `depth` keeps the first hypotheses of each list.
    `unit` and `normalizer` say what an error is; `draws`, `seed`, `device` and `dtype` go to every scorer.
    """

    scorers: tuple[str, ...] = SCORERS
    base: tuple[str, ...] | None = None
    depth: int | None = None
    unit: Unit = "word"
    normalizer: str = "none"
    draws: int = 8
    seed: int = 0
    device: str = "cpu"
    dtype: DType = "auto"


@dataclass(frozen=True)
class Results:
    """What `run` found: the recogniser's scores, the systems from the first of the list to all scores, the table, a sweep of dev, the folder."""

    base: tuple[str, ...]
    systems: tuple[System, ...]
    table: str
    sweep: Sweep
    folder: Path


def run(
    dev: PathLike,
    test: PathLike,
    output: PathLike,
    *,
    format_name: str | None = None,
    refs_dev: PathLike | None = None,
    refs_test: PathLike | None = None,
    say: Callable[[str], object] = lambda line: None,
    **settings: Any,
) -> Results:
    """Score both sets of lists, tune on `dev`, evaluate on `test`, write everything into the folder `output`; go on where an earlier run stopped.

    `settings` are `Options` as keywords. `say` gets a line for each step that is done; on a terminal a progress bar runs beside it.
    Raises FormatError for broken lists, a missing reference, utterances that are in both sets, or a folder of another experiment; ScoreError for
    a score that is missing or already there; ModelError for an unusable model; RescoreError for an unknown scorer.
    """
    options = Options(**settings)
    halves = {
        "dev": _lists(dev, format_name, refs_dev, options.depth),
        "test": _lists(test, format_name, refs_test, options.depth),
    }
    base = options.base or recogniser_scores([*halves["dev"], *halves["test"]])
    say(
        f"the recogniser's scores: {', '.join(base)}{'' if options.base else ' (found in the lists)'}"
    )
    plans = [_Plan.of(spec, options) for spec in options.scorers]
    _check(halves, base, plans)
    _look(halves, plans[0], options, say)
    folder = Path(output)
    with _claimed(folder, _settings(halves, base, plans, options)):
        seconds = _score(halves, plans, folder, say)
        results = _compare(halves, base, plans, options, seconds, folder)
    say(f"scored lists, weights, tables and plots are in {folder}")
    return results


def _lists(
    path: PathLike, format_name: str | None, refs: PathLike | None, depth: int | None
) -> list[NBest]:
    lists = read(path, format_name)
    if refs is not None:
        lists = join_references(lists, read_references(refs))
    found = [replace(nbest, hyps=nbest.hyps[:depth]) for nbest in lists]
    if not found:
        raise FormatError(f"{os.fspath(path)}: holds no list; expected at least one utterance")
    return found


@dataclass(frozen=True)
class _Plan:
    """One score to add: how its scorer is built, what it is called, and the scorer, whose signature goes into `run.json`."""

    scorer: str
    options: ScorerOptions
    name: str
    built: Scorer

    @classmethod
    def of(cls, spec: str, options: Options) -> _Plan:
        """Build the scorer, so that what cannot work is known before anything is paid for."""
        chosen = ScorerOptions(
            draws=options.draws, seed=options.seed, device=options.device, dtype=options.dtype
        )
        name, scorer, settings = parse_spec(spec, chosen)
        settings = read_options(scorer, settings)
        built = load_scorer(scorer, settings)
        return cls(scorer, settings, name or built.name, built)

    def evaluations(self, nbest: NBest) -> int:
        """About how many network evaluations a list costs: what the progress bar counts."""
        return self.built.evaluations(nbest)


def _check(halves: dict[str, list[NBest]], base: Sequence[str], plans: Sequence[_Plan]) -> None:
    """Everything that can be wrong with the inputs, before a network evaluation is paid for."""
    names = [plan.name for plan in plans]
    for name in names:
        if names.count(name) > 1 or name in (*base, "base", "all"):
            raise RescoreError(
                f'two scores would be called "{name}"; name one of them: NAME=SCORER'
            )
    if not names:
        raise RescoreError("there is no scorer; name at least one, such as ar")
    known = {nbest.id for nbest in halves["dev"]}
    shared = [nbest for nbest in halves["test"] if nbest.id in known]
    if shared:
        raise FormatError(
            f"{shared[0].place()}: this utterance is among the dev lists too, as {len(shared)} of {len(halves['test'])} are;"
            " weights are tuned and tested on different utterances"
        )
    for lists in halves.values():
        ScoreTable.of(lists, base)
        for nbest in lists:
            reference(nbest)
            for name in names:
                if any(name in hyp.scores for hyp in nbest.hyps):
                    raise ScoreError(
                        f'{nbest.place()}: score "{name}" is there already; call the new one otherwise (NAME=SCORER) or start from the bare lists'
                    )


def _look(
    halves: dict[str, list[NBest]], plan: _Plan, options: Options, say: Callable[[str], object]
) -> None:
    """Say what `dlmrescore check` warns of, with the first scorer's vocabulary; a scorer without one is not looked through."""
    from rescore.checking import check  # noqa: PLC0415 - torch
    from rescore.checking.findings import findings  # noqa: PLC0415
    from rescore.scorers import load_vocabulary  # noqa: PLC0415

    try:
        vocabulary = load_vocabulary(plan.scorer, plan.options)
    except ScoreError:
        return
    for half, lists in halves.items():
        for finding in findings(check(lists, vocabulary, unit=options.unit)):
            if finding.level == "warning":
                say(f"{half}: {finding}")


def _settings(
    halves: dict[str, list[NBest]], base: Sequence[str], plans: Sequence[_Plan], options: Options
) -> dict[str, object]:
    """What makes one experiment another: settings first, then digests of the lists as they were read."""
    digests = {
        f"{half} lists": blake2b(b"\n".join(map(jsonl.encode, lists)), digest_size=16).hexdigest()
        for half, lists in halves.items()
    }
    chosen = {
        **asdict(options),
        "base": base,
        "scorers": {plan.name: plan.built.signature for plan in plans},
        **digests,
    }
    plain: dict[str, object] = json.loads(json.dumps(chosen))
    return plain


@contextmanager
def _claimed(folder: Path, settings: dict[str, object]) -> Iterator[None]:
    """Make the folder this experiment's, or find that it is. Raises FormatError if it is another's, or another process is at work in it."""
    card = folder / "run.json"
    if not card.exists():
        if folder.exists() and (
            not folder.is_dir() or any(not file.name.endswith(".part") for file in folder.iterdir())
        ):
            raise FormatError(
                f"{folder}: holds other files and no run.json; name a new or an empty folder"
            )
        (folder / "scores").mkdir(parents=True, exist_ok=True)
        with atomic_writer(card) as output:
            output.write(json.dumps(settings, indent=2, ensure_ascii=False).encode() + b"\n")
    with card.open("rb") as file:
        if not try_lock(file.fileno()):
            raise FormatError(
                f"{folder}: another run is at work in this folder; wait for it or use another folder"
            )
        try:
            before = json.loads(file.read())
        except ValueError as error:
            raise FormatError(
                f"{card}: broken JSON; it is what tells experiments apart, so use a new folder"
            ) from error
        for name, here in settings.items():
            there = before.get(name) if isinstance(before, dict) else None
            if there != here or not isinstance(before, dict):
                raise FormatError(
                    f"{folder}: belongs to another experiment, with {name} {_short(there)} and not {_short(here)}; use another folder"
                )
        for part in folder.glob(".*.part"):  # what a killed run left
            part.unlink()
        yield


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else f"{text[:77]}..."


# ------------------------------------------------------------------------------------------------------------------------------- scoring


@dataclass
class _Progress:
    """One bar over all scores, in network evaluations, and the seconds of each score in a small file beside them."""

    bar: tqdm[None]
    path: Path
    seconds: dict[str, float]
    hypotheses: int = 0
    started: float = field(default_factory=time.monotonic)

    def begin(self, stage: str) -> None:
        """Name what is being done."""
        self.bar.set_description(stage)
        self.hypotheses, self.started = 0, time.monotonic()

    def add(self, nbest: NBest, plan: _Plan) -> None:
        """Count one list."""
        self.hypotheses += len(nbest.hyps)
        self.bar.set_postfix_str(
            f"{self.hypotheses / max(1e-3, time.monotonic() - self.started):.0f} hypotheses/s",
            refresh=False,
        )
        self.bar.update(plan.evaluations(nbest))

    def spent(self, stage: str, seconds: float) -> None:
        """Note how long a stage has taken so far."""
        self.seconds[stage] = round(seconds, 3)
        with atomic_writer(self.path) as output:
            output.write(json.dumps(self.seconds, indent=2).encode() + b"\n")


def _score(
    halves: dict[str, list[NBest]],
    plans: Sequence[_Plan],
    folder: Path,
    say: Callable[[str], object],
) -> dict[str, float]:
    """Add every score to the lists of both halves, in place; the seconds each took, by `half name`."""
    total = sum(
        plan.evaluations(nbest) for plan in plans for lists in halves.values() for nbest in lists
    )
    clock = folder / "seconds.json"
    try:
        seconds = json.loads(clock.read_bytes()) if clock.exists() else {}
    except ValueError:  # nothing depends on it
        seconds = {}
    with tqdm(
        total=total, unit="evaluation", unit_scale=True, smoothing=0.1, disable=None
    ) as bar:  # None: only on a terminal
        progress = _Progress(bar, clock, seconds)
        for plan in plans:
            for half, lists in halves.items():
                halves[half] = _scored(lists, plan, half, folder, progress)
                hypotheses = sum(len(nbest.hyps) for nbest in lists)
                say(
                    f"{plan.name} on {half}: {len(lists)} utterances, {hypotheses} hypotheses, {seconds.get(f'{half} {plan.name}', 0.0):.0f} s"
                )
    for half, lists in halves.items():
        jsonl.write(lists, folder / f"{half}.scored.jsonl")
    return seconds


def _scored(
    lists: list[NBest], plan: _Plan, half: str, folder: Path, progress: _Progress
) -> list[NBest]:
    """One score on one half, from its journal as far as it goes; the time an earlier process spent counts."""
    stage, last = f"{half} {plan.name}", time.monotonic()
    began = last - progress.seconds.get(stage, 0.0)
    progress.begin(f"{plan.name} on {half}")

    def advance(nbest: NBest) -> None:
        nonlocal last
        progress.add(nbest, plan)
        if time.monotonic() - last > _CLOCK:
            last = time.monotonic()
            progress.spent(stage, last - began)

    journal: Journal[Score]
    with Journal(folder / "scores" / f"{half}.{plan.name}.journal") as journal:
        scored = list(
            score(
                lists,
                plan.built,
                name=plan.name,
                journal=journal,
                progress=Progress(advance=advance),
            )
        )
        if journal.added:
            progress.spent(stage, time.monotonic() - began)
    return scored


# ------------------------------------------------------------------------------------------------------------------------------- results


def _compare(
    halves: dict[str, list[NBest]],
    base: tuple[str, ...],
    plans: Sequence[_Plan],
    options: Options,
    seconds: dict[str, float],
    folder: Path,
) -> Results:
    """Tune every system on dev, evaluate it on test, and write all there is to see."""
    unit, normalizer = options.unit, options.normalizer
    dev = DevSet.of(halves["dev"], unit=unit, normalizer=normalizer)
    test = halves["test"]
    names = [plan.name for plan in plans]
    groups: dict[str, tuple[str, ...]] = {
        "base": (),
        **{name: (name,) for name in names},
        **({"all": tuple(names)} if len(names) > 1 else {}),
    }
    labels = {"base": f"{' + '.join(base)}, retuned", "all": "+ all of them"}
    first = evaluate(test, unit=unit, normalizer=normalizer)
    systems, weights, retuned = (
        [System("first of the list", (), dev.first_pass_wer, first)],
        {},
        None,
    )
    for group, scores in groups.items():
        weights[group] = tune(dev, [*base, *scores], seed=options.seed)
        best = list(fuse(test, weights[group]))
        save(weights[group], folder / f"fusion.{group}.json")
        jsonl.write(best, folder / f"best.{group}.jsonl")
        result = evaluate(best, retuned, unit=unit, normalizer=normalizer)
        cost = sum(_evaluations(test, name) for name in scores) if scores else None
        taken = (
            sum(seconds.get(f"test {name}", math.nan) for name in scores) if scores else math.nan
        )
        systems.append(
            System(
                labels.get(group, f"+ {group}"),
                scores,
                _dev_wer(weights[group]),
                result,
                cost,
                None if math.isnan(taken) else taken,
            )
        )
        retuned = retuned or best
    swept = _sweep(dev, base, names, weights, options)
    table = _write(
        systems,
        dev.oracle_wer,
        swept,
        folder,
        f"{_size(dev.lists, 'dev')}; {_size(test, 'test')}; {first.errors.reference_words} test {UNIT_NAMES[unit]}",
    )
    return Results(base, tuple(systems), table, swept, folder)


def _size(lists: Sequence[NBest], half: str) -> str:
    return f"{half}: {len(lists)} utterances, {sum(len(nbest.hyps) for nbest in lists)} hypotheses"


def _dev_wer(fusion: Fusion) -> float:
    return math.nan if fusion.dev is None else fusion.dev.wer


def _evaluations(lists: Sequence[NBest], name: str) -> float:
    """Network evaluations a hypothesis."""
    spent = sum(nbest.provenance[name].evaluations or 0 for nbest in lists)
    return spent / sum(len(nbest.hyps) for nbest in lists)


def _sweep(
    dev: DevSet,
    base: Sequence[str],
    names: Sequence[str],
    weights: dict[str, Fusion],
    options: Options,
) -> Sweep:
    """A sweep of the two scores that help dev most, from 0 to twice their tuned scales and a little more, all else tuned with them."""
    chosen = sorted(names, key=lambda name: _dev_wer(weights[name]))[:2]
    joint = tune(dev, [*base, *chosen], seed=options.seed)
    axes = {name: _axis(2 * max(joint.scales[name], weights[name].scales[name])) for name in chosen}
    folds = min(_FOLDS, len(dev.lists)) if len(dev.lists) > 1 else 0
    held = {name: joint.scales[name] for name in base}
    return sweep(
        dev,
        axes,
        base=held,
        word_bonus=joint.word_bonus,
        cross_validate=folds,
        seed=options.seed,
    )


def _axis(top: float) -> list[float]:
    """0 to a round number that is not below `top`, in 40 steps; to 1 where the tuned scale is 0."""
    power = 10.0 ** math.floor(math.log10(top)) if top > 0 else 1.0
    end = next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= top)
    return [float(value) for value in np.linspace(0, end, _STEPS + 1)]


def _write(
    systems: Sequence[System], oracle_dev: float, swept: Sweep, folder: Path, size: str
) -> str:
    """The table, the CSV files and the plots that draw them; the table is returned."""
    table = f"{size}; weights tuned on dev\n\n{systems_table(systems)}\n"
    texts = {"systems": systems_csv(systems, oracle_dev), "sweep": sweep_csv(swept)}
    for name, text in (
        ("table.md", table),
        *((f"{name}.csv", text) for name, text in texts.items()),
    ):
        with atomic_writer(folder / name) as output:
            output.write(text.encode())
    try:
        check_plot("systems.png")
    except RescoreError as error:
        logging.getLogger("rescore").warning("%s (the CSV files are there)", error)
    else:
        plot_systems(texts["systems"], folder / "systems.png")
        plot_sweep(texts["sweep"], folder / "sweep.png")
    return table
