"""`run`: the steps of an experiment, in order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rescore.errors import ScoreError
from rescore.experiment.folder import Clock, claimed, identity
from rescore.experiment.inputs import Halves, check_inputs, read_halves
from rescore.experiment.options import Inputs, Options, ScorePlan, Workplace
from rescore.experiment.results import Results, compare
from rescore.experiment.scoring import score_halves
from rescore.formats.files import PathLike
from rescore.fusion import RANK, recogniser_scores
from rescore.wer import Unit

__all__ = ["run", "run_experiment"]


def _ignore(_line: str) -> None:
    return None


def run(
    dev: PathLike,
    test: PathLike,
    output: PathLike,
    *,
    format_name: str | None = None,
    refs_dev: PathLike | None = None,
    refs_test: PathLike | None = None,
    say: Callable[[str], object] = _ignore,
    cache: PathLike | None = None,
    grows: bool = False,
    **settings: Any,
) -> Results:
    """Score the lists of both files, tune on `dev`, evaluate on `test`, write all into `output`.

    `output` is a folder; a run that was stopped resumes there. `settings` are `Options` as
    keywords. `say` gets a line for each completed step; on a terminal there is a progress bar too.
    `cache` names a directory of scores that runs share. With `grows`, `output` may be the folder of
    the same experiment with fewer scorers, whose scores are not computed again.

    Raises FormatError for broken lists, a missing reference, utterances that are in both sets, or
    the folder of another experiment; ScoreError for a score that is missing or already exists;
    ModelError for an unusable model; RescoreError for an unknown scorer.
    Exact check: tests/experiment/test_run.py::test_the_numbers_are_those_of_the_steps_one_by_one.
    """
    inputs = Inputs(dev, test, format_name, refs_dev, refs_test)
    workplace = Workplace(cache, grows)
    return run_experiment(inputs, Options(**settings), Path(output), say, workplace)


def run_experiment(
    inputs: Inputs,
    options: Options,
    folder: Path,
    say: Callable[[str], object] = _ignore,
    workplace: Workplace | None = None,
) -> Results:
    """Do what `run` does, with its keywords as records."""
    halves = read_halves(inputs, options.depth)
    base = options.base or _common_scores(halves, say)
    origin = "" if options.base else " (found in the lists)"
    say(f"the recogniser's scores: {', '.join(base)}{origin}")
    plans = options.plans()
    check_inputs(halves, base, plans)
    _say_warnings(halves, plans[0], options.unit, say)
    workplace = workplace or Workplace()
    with claimed(folder, identity(halves, base, plans, options), grows=workplace.grows):
        clock = Clock(folder)
        halves = score_halves(halves, plans, folder, clock, say, workplace.cache)
        results = compare(halves, base, [plan.name for plan in plans], options, clock, folder)
    say(f"scored lists, weights, tables, plots and report.html are in {folder}")
    return results


def _common_scores(halves: Halves, say: Callable[[str], object]) -> tuple[str, ...]:
    """The recogniser's scores that dev and test have; those of one half alone are named.

    Raises ScoreError where the halves have scores and none in common.
    """
    common = recogniser_scores([*halves.dev, *halves.test])
    by_half = {half: recogniser_scores(lists) for half, lists in halves}
    if common == (RANK,) != by_half["dev"] and by_half["test"] != (RANK,):
        names = "; ".join(f"{half} has {', '.join(scores)}" for half, scores in by_half.items())
        raise ScoreError(
            f"dev and test have no score in common: {names}; give the same scores the same names, "
            "or take the order of the lists alone with --base rank"
        )
    for half, scores in by_half.items():
        alone = [name for name in scores if name not in common and name != RANK]
        if alone:
            say(f"warning: only {half} has the score {', '.join(alone)}: it is left out")
    return common


def _say_warnings(
    halves: Halves, plan: ScorePlan, unit: Unit, say: Callable[[str], object]
) -> None:
    """Say what `dlmrescore check` warns of, with the vocabulary of a scorer that has one."""
    from rescore.checking import check  # noqa: PLC0415 - torch
    from rescore.checking.findings import findings  # noqa: PLC0415
    from rescore.scorers import load_vocabulary  # noqa: PLC0415

    try:
        vocabulary = load_vocabulary(plan.family, plan.settings)
    except ScoreError:
        return
    for half, lists in halves:
        for finding in findings(check(lists, vocabulary, unit=unit)):
            if finding.level == "warning":
                say(f"{half}: {finding}")
