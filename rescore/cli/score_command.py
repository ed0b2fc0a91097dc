"""`dlmrescore score`."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from rescore.cli.options import (
    Reader,
    Sections,
    input_options,
    lists_argument,
    named,
    output_option,
    shard_option,
)
from rescore.formats import jsonl
from rescore.pipeline import Journal, Progress, Shard, forecast, score
from rescore.pipeline.engine import InProcess
from rescore.pipeline.ray_pool import ray_pool
from rescore.scorers import Scorer, ScorerOptions, load_scorer
from rescore.scorers.options import DRAWS, DTYPES, NOISE_LEVEL, SEED
from rescore.types import Score

__all__ = ["command"]


@click.command(
    "score",
    cls=Sections,
    headings={
        "--from": "Input and output", "--scorer": "Model", "--estimator": "Estimate", "--name": "New score", "--device": "Network", "--dry-run": "Large runs",
    },
)  # fmt: skip
@lists_argument()
@input_options
@output_option
@click.option(
    "--scorer",
    type=named("scorer"),
    default="mdlm",
    show_default=True,
    help="Family of the language model.",
)
@click.option(
    "--model",
    type=click.Path(),
    help="Checkpoint directory or Hugging Face id; ngram: ARPA or KenLM file, too. Default: the embedded model.",
)
@click.option(
    "--estimator",
    help="mdlm, mlm: nelbo, pll, pll_within_word, chain. usdm: pll, nelbo. Default: nelbo for mdlm, pll for others.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    help=f"Monte-Carlo draws of a NELBO; default: {DRAWS}.",
)
@click.option("--seed", type=int, help=f"Seed of the draws; default: {SEED}.")
@click.option(
    "--t",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help=f"Noise level of the one-pass usdm pll; default: {NOISE_LEVEL}.",
)
@click.option("--name", help="Name of the new score; default: scorer and estimator.")
@click.option("--overwrite", is_flag=True, help="Replace a score of the same name.")
@click.option("--device", default="cpu", show_default=True, help="torch device.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="auto",
    show_default=True,
    help="Of the network's body; auto: bfloat16 on a GPU that has it.",
)
@click.option(
    "--compile",
    is_flag=True,
    help="torch.compile the network (ours only): half a minute, then about 1.3 times as fast on a CPU.",
)
@click.option(
    "--normalizer",
    type=named("normaliser"),
    help="What texts go through before the model; default: the model's own. The output text is never changed.",
)
@click.option(
    "--window",
    type=click.IntRange(8),
    help="Longest token sequence; longer texts are scored in overlapping windows.",
)
@click.option(
    "--score-eos/--no-score-eos",
    default=True,
    show_default=True,
    help="Whether the end of the sentence is part of the score.",
)
@click.option(
    "--per-token",
    is_flag=True,
    help="Also write what each token adds to the score, as token_scores.",
)
@click.option(
    "--remote-code",
    is_flag=True,
    help="Run code that comes with a Hub model. Only for repositories you trust.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say what it would take: tokens, evaluations, memory, time.",
)
@shard_option
@click.option(
    "--cache",
    type=click.Path(file_okay=False),
    help="Directory of scores that other runs may use again.",
)
@click.option(
    "--ray",
    "workers",
    type=click.IntRange(1),
    help="Evaluate in so many Ray workers (docs/large_runs.md).",
)
@click.option(
    "--ray-address",
    help="Of a running Ray cluster, or auto; default: one is started on this machine for the run.",
)
def command(path: str, output: str, **options: Any) -> None:
    """Add one named score to every hypothesis of LISTS; everything else stays as it is.

    \b
    Stopped or killed, the same command goes on where it was: scores are in OUTPUT.journal until
    the output is whole. A {shard} in OUTPUT's name becomes the number of the shard.

    \b
    Example: dlmrescore score nbest.jsonl --scorer usdm --estimator nelbo --draws 16 -o scored.jsonl
    """
    shard: Shard | None = options.pop("shard")
    output = _of_shard(output, shard)
    reader = Reader.take(path, output, options)
    family, is_dry = options.pop("scorer"), options.pop("dry_run")
    run = {key: options.pop(key) for key in ("name", "overwrite", "cache")}
    options["device"] = _device(options["device"], shard)
    run["evaluator"], settings = _evaluator(family, output, options), ScorerOptions(**options)
    with nullcontext() if is_dry else _journal(output) as journal:
        scorer = load_scorer(family, settings)
        if is_dry:
            click.echo(str(forecast(reader, scorer, shard=shard)))
        else:
            _score(reader, scorer, output, journal, shard=shard, **run)


def _device(device: str, shard: Shard | None) -> str:
    """`cuda` for the processes of one machine: a GPU each."""
    if shard is None or device != "cuda":
        return device
    import torch  # noqa: PLC0415 - takes seconds

    return shard.device(device, torch.cuda.device_count())


def _evaluator(family: str, output: str, options: dict[str, Any]) -> Any:
    """Where chunks are evaluated; takes the options that say so out of the scorer's."""
    workers, address = options.pop("workers"), options.pop("ray_address")
    if workers is None:
        if address is not None:
            raise click.UsageError("--ray-address is of a cluster for --ray N workers; give --ray")
        return InProcess
    if output == "-":
        raise click.UsageError(
            "--ray needs a file for the result, since Ray writes messages of its own to standard output; give -o FILE"
        )
    return ray_pool(family, ScorerOptions(**options), workers, address)


def _score(
    reader: Reader, scorer: Scorer, output: str, journal: Journal[Score] | None, **run: Any
) -> None:
    """Score and write; a run that is interrupted says where it resumes."""
    started = time.monotonic()
    name = run["name"] or scorer.name
    with tqdm(total=reader.total(), desc=name, unit="utt", disable=None) as bar:  # None: terminal
        progress = Progress(advance=lambda _nbest: _show(bar, progress, started))
        try:
            scored = score(reader, scorer, progress=progress, journal=journal, **run)
            jsonl.write(scored, output)
        except KeyboardInterrupt:
            kept = ""
            if journal is not None and len(journal):
                kept = f"; the scores so far are in {journal.path}"
            raise KeyboardInterrupt(
                f"interrupted after {progress.utterances} utterances{kept}; "
                "run the same command again to resume"
            ) from None
    if journal is not None:
        journal.discard()
    click.echo(_summary(progress, time.monotonic() - started), err=True)


def _show(bar: tqdm[None], progress: Progress, started: float) -> None:
    speed = progress.hypotheses / max(1e-3, time.monotonic() - started)
    bar.set_postfix_str(f"{speed:.0f} hypotheses/s", refresh=False)
    bar.update()


def _of_shard(output: str, shard: Shard | None) -> str:
    """The output of one shard: `{shard}` and `{shards}` in its name become the numbers."""
    return (
        output
        if shard is None
        else output.replace("{shard}", str(shard.index)).replace("{shards}", str(shard.count))
    )


def _journal(output: str) -> Journal[Score] | nullcontext[None]:
    """The journal beside a file; what goes to standard output, a device or nowhere cannot be resumed."""
    is_file = (
        output != "-"
        and Path(output).parent.is_dir()
        and (Path(output).is_file() or not Path(output).exists())
    )
    return Journal(f"{output}.journal") if is_file else nullcontext()


def _summary(progress: Progress, seconds: float) -> str:
    per_hypothesis = progress.evaluations / max(1, progress.hypotheses)
    return f"{progress.utterances} utterances, {progress.hypotheses} hypotheses, {per_hypothesis:.1f} evaluations a hypothesis, {seconds:.1f} s"
