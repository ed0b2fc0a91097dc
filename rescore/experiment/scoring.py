"""Scoring both halves with every scorer, resumed from journals, under one progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from rescore.experiment.folder import Clock
from rescore.experiment.inputs import Half, Halves
from rescore.experiment.options import ScorePlan
from rescore.formats import jsonl
from rescore.formats.files import PathLike
from rescore.pipeline import Journal, Progress, score
from rescore.progress import progress_bar
from rescore.scorers import command_of
from rescore.types import NBest, Score

__all__ = ["score_halves", "stage_name"]

_INTERVAL = 2.0  # seconds between two writings of the clock


def stage_name(half: Half, score_name: str) -> str:
    """The stage of one score on one half, as the clock calls it."""
    return f"{half} {score_name}"


def score_halves(
    halves: Halves,
    plans: Sequence[ScorePlan],
    folder: Path,
    clock: Clock,
    say: Callable[[str], object],
    cache: PathLike | None = None,
) -> Halves:
    """Return both halves with every score, which are also written into the folder.

    `cache` names a directory of scores that runs share.
    """
    total = sum(plan.evaluations(nbest) for plan in plans for _, lists in halves for nbest in lists)
    scored: dict[Half, list[NBest]] = dict(halves)
    steps = len(plans) * len(scored) + 1  # the last one tunes and evaluates
    with progress_bar(
        total=total, description="scoring", unit="evaluations", unit_scale=True, smoothing=0.1
    ) as bar:
        for number, plan in enumerate(plans):
            for step, (half, lists) in enumerate(scored.items(), 2 * number + 1):
                stage = _Stage(plan, half, bar, clock)
                bar.set_description_str(f"{step}/{steps} {stage.name}", refresh=False)
                scored[half] = stage.score(lists, folder, cache)
                say(f"{step}/{steps} {stage.summary(lists)}")
    say(f"{steps}/{steps} tuning on dev, evaluating test")
    for half, lists in scored.items():
        jsonl.write(lists, folder / f"{half}.scored.jsonl")
    return Halves(scored["dev"], scored["test"])


class _Stage:
    """One score on one half; the time that earlier processes spent on it counts."""

    def __init__(self, plan: ScorePlan, half: Half, bar: tqdm[None], clock: Clock) -> None:
        self._plan, self._half, self._bar, self._clock = plan, half, bar, clock
        self._stage = stage_name(half, plan.name)
        self.name = f"{plan.name} on {half}"
        self._hypotheses = 0
        self._started = self._recorded = time.monotonic()
        self._earlier = clock.seconds(self._stage) or 0.0

    def score(self, lists: Sequence[NBest], folder: Path, cache: PathLike | None) -> list[NBest]:
        """Score the lists, as far as the journal does not hold the scores already."""
        journal: Journal[Score]
        path = folder / "scores" / f"{self._half}.{self._plan.name}.journal"
        with Journal(path) as journal:
            scored = score(
                lists,
                self._plan.scorer,
                name=self._plan.name,
                journal=journal,
                cache=cache,
                command=command_of(self._plan.family, self._plan.settings.given),
                progress=Progress(advance=self._advance),
            )
            scored_lists = list(scored)
            if journal.added:
                self._record()
        return scored_lists

    def summary(self, lists: Sequence[NBest]) -> str:
        """What was scored, and how long it took."""
        hypotheses = sum(len(nbest.hyps) for nbest in lists)
        seconds = self._clock.seconds(self._stage) or 0.0
        return f"{self.name}: {len(lists)} utterances, {hypotheses} hypotheses, {seconds:.0f} s"

    def _advance(self, nbest: NBest) -> None:
        self._hypotheses += len(nbest.hyps)
        speed = self._hypotheses / max(1e-3, time.monotonic() - self._started)
        self._bar.set_postfix_str(f"{speed:.0f} hypotheses/s", refresh=False)
        self._bar.update(self._plan.evaluations(nbest))
        if time.monotonic() - self._recorded > _INTERVAL:
            self._record()

    def _record(self) -> None:
        self._recorded = time.monotonic()
        self._clock.record(self._stage, self._earlier + self._recorded - self._started)
