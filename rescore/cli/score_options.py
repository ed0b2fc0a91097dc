"""The options of `dlmrescore score`, as two records: the scorer's settings, and the run's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import click

from rescore.cli.options import (
    RAY_OPTIONS,
    SEED_RANGE,
    collected,
    device_of,
    folds_option,
    named,
    remote_code_option,
    shard_option,
    uses_ray,
)
from rescore.pipeline import Shard
from rescore.pipeline.engine import Evaluator, InProcess
from rescore.pipeline.ray_pool import ray_pool
from rescore.scorers import Scorer, ScorerOptions
from rescore.scorers.options import DRAWS, DTYPES, IMPOSSIBLE, NOISE_LEVEL, SEED
from rescore.types import NBest, Score

__all__ = ["HEADINGS", "MakeEvaluator", "RunOptions", "run_options", "scorer_options"]

#: How `rescore.pipeline.score` makes the evaluator of a scorer's chunks.
MakeEvaluator: TypeAlias = Callable[[Scorer], Evaluator[NBest, Score]]

#: The option that begins a section of --help, and the heading of the section.
HEADINGS = {
    "--from": "Input and output",
    "--scorer": "Model",
    "--estimator": "Estimate",
    "--device": "Network",
    "--audio": "Recogniser",
    "--name": "New score",
    "--dry-run": "Large runs",
}

_MODEL = [
    click.option(
        "--model",
        type=click.Path(),
        help="Checkpoint directory or Hugging Face id; for ngram also an ARPA or KenLM file. "
        "Default: the embedded model.",
    ),
    click.option(
        "--normalizer",
        type=named("normaliser"),
        help="Applied to each text before the model reads it; default: the model's own. "
        "The output keeps the text.",
    ),
    click.option(
        "--window",
        type=click.IntRange(8),
        help="Longest token sequence; longer texts are scored in overlapping windows.",
    ),
    remote_code_option,
]
_ESTIMATE = [
    click.option(
        "--estimator",
        help="mdlm, mlm: pll, nelbo, pll_within_word, chain. usdm: pll, nelbo. "
        "Default: pll; for mdlm in folds (--folds).",
    ),
    click.option(
        "--draws",
        type=click.IntRange(1),
        help=f"Monte-Carlo draws of a NELBO; default: {DRAWS}.",
    ),
    folds_option,
    click.option("--seed", type=SEED_RANGE, help=f"Seed of the draws; default: {SEED}."),
    click.option(
        "--t",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help=f"Noise level of the one-pass PLL of usdm; default: {NOISE_LEVEL}.",
    ),
    click.option(
        "--score-eos/--no-score-eos",
        default=True,
        show_default=True,
        help="Whether the score includes the end of the sentence.",
    ),
    click.option(
        "--per-token",
        is_flag=True,
        help="Also write the contribution of each token, as token_scores.",
    ),
]
_NETWORK = [
    click.option("--device", default="cpu", show_default=True, help="torch device."),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        show_default=True,
        help="dtype of the network's body; auto: bfloat16 on a GPU that supports it.",
    ),
    click.option(
        "--compile",
        is_flag=True,
        help="torch.compile the network (ours only): takes half a minute, then about 1.3 times "
        "as fast on a CPU.",
    ),
]

_RECOGNISER = [
    click.option(
        "--audio",
        type=click.Path(),
        help="The lists' audio, for mdm: a manifest as `dlmrescore posteriors` reads it.",
    ),
    click.option(
        "--posteriors",
        type=click.Path(dir_okay=False),
        help="Posteriors of a CTC recogniser (`dlmrescore posteriors`), for ctc: those of the "
        "lists' audio; for ctc_prior: all frames make the prior.",
    ),
    click.option(
        "--bpe",
        type=click.Path(dir_okay=False),
        help="SentencePiece model of the recogniser; default: the one in the posteriors.",
    ),
    click.option(
        "--impossible",
        type=click.Choice(IMPOSSIBLE),
        default="error",
        show_default=True,
        help="A hypothesis that CTC cannot emit: stop, or drop it from its list.",
    ),
]

#: Add the options of a scorer; the command gets them as `settings`, `ScorerOptions`.
scorer_options = collected(
    ScorerOptions, "settings", [*_MODEL, *_ESTIMATE, *_NETWORK, *_RECOGNISER]
)


@dataclass(frozen=True)
class RunOptions:
    """What a run does besides scoring: the score's name, sharding, cache, Ray."""

    name: str | None
    overwrite: bool
    dry_run: bool
    stream: bool
    shard: Shard | None
    cache: str | None
    workers: int | None
    ray_address: str | None

    def output(self, template: str) -> str:
        """The output of this shard: `{shard}` and `{shards}` in the name become numbers."""
        return template if self.shard is None else self.shard.named(template)

    def device(self, device: str) -> str:
        """The device of this shard: the processes of one machine get a GPU each for `cuda`."""
        return device_of(self.shard, device)

    def evaluator(self, scorer: str, settings: ScorerOptions, output: str) -> MakeEvaluator:
        """Where chunks are evaluated: in this process, or in Ray workers."""
        if not uses_ray(self.workers, self.ray_address) or self.workers is None:
            return InProcess
        if self.stream:
            raise click.UsageError("--stream answers list by list in this process; leave --ray out")
        if output == "-":
            raise click.UsageError(
                "--ray needs an output file, because Ray writes messages of its own to standard"
                " output; give -o FILE"
            )
        return ray_pool(scorer, settings, self.workers, self.ray_address)


_RUN = [
    click.option("--name", help="Name of the new score; default: scorer and estimator."),
    click.option("--overwrite", is_flag=True, help="Replace a score of the same name."),
    click.option(
        "--dry-run",
        is_flag=True,
        help="Report what the run would cost (tokens, evaluations, memory, time), and stop.",
    ),
    click.option(
        "--stream",
        is_flag=True,
        help="Write each list before the next is read, scored by itself: for pipes and services.",
    ),
    shard_option,
    click.option(
        "--cache",
        type=click.Path(file_okay=False),
        help="Directory of scores to reuse between runs.",
    ),
    *RAY_OPTIONS,
]

#: Add the options of a run; the command gets them as `run`, `RunOptions`.
run_options = collected(RunOptions, "run", _RUN)
