"""`dlmrescore score`."""

from __future__ import annotations

import time
from typing import Any

import click
from tqdm import tqdm

from rescore.cli.options import Reader, Sections, input_options, lists_argument, named, output_option
from rescore.formats import jsonl
from rescore.pipeline import Work, score
from rescore.scorers import ScorerOptions, load_scorer

__all__ = ["command"]


@click.command(
    "score",
    cls=Sections,
    headings={"--from": "Input and output", "--scorer": "Model", "--estimator": "Estimate", "--name": "New score", "--device": "Network"},
)
@lists_argument()
@input_options
@output_option
@click.option("--scorer", type=named("scorer"), default="mdlm", show_default=True, help="Family of the language model.")
@click.option("--model", type=click.Path(), help="Checkpoint directory or Hugging Face id; ngram: ARPA or KenLM file, too. Default: the embedded model.")
@click.option("--estimator", help="mdlm, mlm: nelbo, pll, pll_within_word, chain. usdm: pll, nelbo. Default: nelbo for mdlm, pll for others.")
@click.option("--draws", type=click.IntRange(1), default=8, show_default=True, help="Monte-Carlo draws of a NELBO.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the draws.")
@click.option("--t", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.1, show_default=True, help="Noise level of the one-pass usdm pll.")
@click.option("--name", help="Name of the new score; default: scorer and estimator.")
@click.option("--overwrite", is_flag=True, help="Replace a score of the same name.")
@click.option("--device", default="cpu", show_default=True, help="torch device.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float64"]), default="float32", show_default=True, help="Of the network's body.")
@click.option(
    "--normalizer", type=named("normaliser"), help="What texts go through before the model; default: the model's own. The output text is never changed."
)
@click.option("--window", type=click.IntRange(8), help="Longest token sequence; longer texts are scored in overlapping windows.")
@click.option("--score-eos/--no-score-eos", default=True, show_default=True, help="Whether the end of the sentence is part of the score.")
@click.option("--per-token", is_flag=True, help="Also write what each token adds to the score, as token_scores.")
@click.option("--remote-code", is_flag=True, help="Run code that comes with a Hub model. Only for repositories you trust.")
def command(path: str, output: str, **options: Any) -> None:
    """Add one named score to every hypothesis of LISTS; everything else stays as it is.

    \b
    Example: dlmrescore score nbest.jsonl --scorer usdm --estimator nelbo --draws 16 -o scored.jsonl
    """
    reader = Reader.take(path, output, options)
    family, name, overwrite = (options.pop(key) for key in ("scorer", "name", "overwrite"))
    scorer = load_scorer(family, ScorerOptions(**options))
    started = time.monotonic()
    with tqdm(total=reader.total(), desc=name or scorer.name, unit="utt", disable=None) as progress:  # None: only on a terminal
        work = Work(advance=progress.update)
        jsonl.write(score(reader, scorer, name=name, overwrite=overwrite, work=work), output)
    seconds = time.monotonic() - started
    click.echo(_summary(work, seconds), err=True)


def _summary(work: Work, seconds: float) -> str:
    per_hypothesis = work.evaluations / max(1, work.hypotheses)
    return f"{work.utterances} utterances, {work.hypotheses} hypotheses, {per_hypothesis:.1f} evaluations a hypothesis, {seconds:.1f} s"
