"""`dlmrescore score`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import click
from tqdm import tqdm

from rescore.cli.journals import journal_beside, resumable
from rescore.cli.lists import InputOptions, ListReader
from rescore.cli.options import Sections, input_options, output_option, scorer_option
from rescore.cli.score_options import (
    HEADINGS,
    MakeEvaluator,
    RunOptions,
    run_options,
    scorer_options,
)
from rescore.formats import jsonl
from rescore.pipeline import Journal, Progress, forecast, score
from rescore.pipeline.scoring import selected
from rescore.progress import announce, progress_bar
from rescore.scorers import Scorer, ScorerOptions, Spec, command_of, load_scorer
from rescore.types import NBest, Score

__all__ = ["command"]

logger = logging.getLogger("rescore")


@click.command("score", cls=Sections, headings=HEADINGS)
@input_options()
@output_option
@scorer_option("The language model:")
@scorer_options
@run_options
def command(
    source: InputOptions, output: str, scorer: Spec, settings: ScorerOptions, run: RunOptions
) -> None:
    """Add one named score to every hypothesis of LISTS; everything else stays as it is.

    \b
    After an interruption or a kill, run the same command again: it resumes from OUTPUT.journal,
    which holds the scores until OUTPUT is complete. {shard} in the name of OUTPUT becomes the
    number of the shard.

    \b
    Example: dlmrescore score nbest.jsonl --scorer usdm --estimator nelbo -o scored.jsonl
    """
    output = run.output(output)
    lists = source.reader(output)
    settings = replace(scorer.options(settings), device=run.device(settings.device))
    run = replace(run, name=run.name or scorer.name)
    evaluator = run.evaluator(scorer.scorer, settings, output)
    if run.dry_run:
        built = load_scorer(scorer.scorer, settings)
        click.echo(str(forecast(selected(lists, built), built, shard=run.shard)))
        return
    announce(f"{run.name or scorer.scorer}: loading the model")
    with journal_beside(output) as journal:
        command = command_of(scorer.scorer, settings.given)
        built = load_scorer(scorer.scorer, settings)
        _score(lists, built, output, journal, run, evaluator, command)


def _score(
    lists: ListReader,
    scorer: Scorer,
    output: str,
    journal: Journal[Score] | None,
    run: RunOptions,
    evaluator: MakeEvaluator,
    command: str | None,
) -> None:
    """Score the lists and write them."""
    with _reported(run.name or scorer.name, lists.total(), journal) as progress:
        scored = score(
            lists,
            scorer,
            name=run.name,
            overwrite=run.overwrite,
            stream=run.stream,
            progress=progress,
            shard=run.shard,
            journal=journal,
            cache=run.cache,
            evaluator=evaluator,
            command=command,
        )
        if run.shard is None and not run.stream:
            scored = _tell_of_unused_posteriors(scored, scorer)
        (jsonl.write_live if run.stream else jsonl.write)(scored, output)


def _tell_of_unused_posteriors(scored: Iterable[NBest], scorer: Scorer) -> Iterator[NBest]:
    """The lists; after them it is logged how many utterances with posteriors have none."""
    from rescore.scorers.ctc import CtcScorer  # noqa: PLC0415 - torch takes seconds

    if not isinstance(scorer, CtcScorer):
        yield from scored
        return
    unused = set(scorer.posteriors)
    for nbest in scored:
        unused.discard(nbest.id)
        yield nbest
    if unused:
        logger.warning(
            "%d of the %d utterances of %s have no list, %s for one",
            len(unused),
            len(scorer.posteriors),
            scorer.posteriors.name,
            min(unused),
        )


@contextmanager
def _reported(name: str, total: int | None, journal: Journal[Score] | None) -> Iterator[Progress]:
    """Report a run: a bar on terminals while it goes, a summary, or where it can be resumed."""
    started = time.monotonic()
    with progress_bar(total=total, description=name, unit="utterances") as bar:
        progress = Progress(advance=lambda _nbest: _advance(bar, progress, started))
        with resumable(progress, journal, "scores"):
            yield progress
    click.echo(_summary(progress, time.monotonic() - started), err=True)


def _advance(bar: tqdm[None], progress: Progress, started: float) -> None:
    speed = progress.hypotheses / max(1e-3, time.monotonic() - started)
    bar.set_postfix_str(f"{speed:.0f} hypotheses/s", refresh=False)
    bar.update()


def _summary(progress: Progress, seconds: float) -> str:
    per_hypothesis = progress.evaluations / max(1, progress.hypotheses)
    return (
        f"{progress.utterances} utterances, {progress.hypotheses} hypotheses,"
        f" {per_hypothesis:.1f} evaluations a hypothesis, {seconds:.1f} s"
    )
