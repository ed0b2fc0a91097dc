"""The options of `dlmrescore posteriors`, as records: recogniser, windows, run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import click

from rescore.acoustic.loading import DTYPES, EncoderOptions
from rescore.acoustic.posteriors import DTYPES as STORED_DTYPES
from rescore.acoustic.utterance import Utterance
from rescore.acoustic.windows import Windows
from rescore.cli.options import (
    RAY_OPTIONS,
    collected,
    device_of,
    remote_code_option,
    shard_option,
    uses_ray,
)
from rescore.pipeline import Shard
from rescore.pipeline.engine import InProcess
from rescore.pipeline.recognition import MakeEvaluator, posterior_pool

__all__ = ["HEADINGS", "RunOptions", "encoder_options", "run_options", "window_options"]

#: The option that begins a section of --help, and the heading of the section.
HEADINGS = {
    "--output": "Files",
    "--model": "Recogniser",
    "--window": "Long audio",
    "--store": "Output",
    "--shard": "Large runs",
}


def _or_nothing(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str:
    """The name of a recogniser, or "" with --from, which needs none."""
    return value or ""


#: Add the options of a recogniser; the command gets them as `encoder`, `EncoderOptions`.
encoder_options = collected(
    EncoderOptions,
    "encoder",
    [
        click.option(
            "--model",
            callback=_or_nothing,
            help="CTC model: a checkpoint directory of `train ctc`, or a Hugging Face directory "
            "or id.",
        ),
        click.option("--device", default="cpu", show_default=True, help="torch device."),
        click.option(
            "--dtype",
            type=click.Choice(DTYPES),
            default="auto",
            show_default=True,
            help="dtype of the network's body; auto: bfloat16 on a GPU that supports it.",
        ),
        remote_code_option,
    ],
)

#: Add --window and --overlap; the command gets them as `windows`, `Windows`.
window_options = collected(
    Windows,
    "windows",
    [
        click.option(
            "--window",
            "length",
            type=click.FloatRange(0, min_open=True),
            default=Windows.length,
            show_default=True,
            metavar="SECONDS",
            help="The most audio that the network sees at once; longer audio is cut.",
        ),
        click.option(
            "--overlap",
            type=click.FloatRange(0),
            show_default="a sixth of a window",
            metavar="SECONDS",
            help="What neighbouring windows share; frames nearest a cut are dropped.",
        ),
    ],
)


@dataclass(frozen=True)
class RunOptions:
    """What is stored, what bad audio means, and where the run takes place."""

    store: str | None
    on_error: Literal["stop", "skip"]
    shard: Shard | None
    workers: int | None
    ray_address: str | None

    def output(self, template: str) -> str:
        """The output of this shard: `{shard}` and `{shards}` in the name become numbers."""
        if template == "-" or template.endswith(".gz"):
            raise click.UsageError(
                f"-o {template}: posteriors are read in place, from a file that is not compressed;"
                " name one such as dev.safetensors"
            )
        return template if self.shard is None else self.shard.named(template)

    def of_shard(self, utterances: Iterable[Utterance]) -> list[Utterance]:
        """The utterances of this shard."""
        return [u for u in utterances if self.shard is None or u.id in self.shard]

    def device(self, device: str) -> str:
        """The device of this shard: the processes of one machine get a GPU each for `cuda`."""
        return device_of(self.shard, device)

    def evaluator(self, encoder: EncoderOptions, windows: Windows) -> MakeEvaluator:
        """Where chunks are evaluated: in this process, or in Ray workers."""
        if not uses_ray(self.workers, self.ray_address) or self.workers is None:
            return InProcess
        return posterior_pool(encoder, windows, self.workers, self.ray_address)


#: Add the options of a run; the command gets them as `run`, `RunOptions`.
run_options = collected(
    RunOptions,
    "run",
    [
        click.option(
            "--store",
            type=click.Choice(STORED_DTYPES),
            show_default="float32; with --from, that of the input",
            help="dtype of the stored log-probabilities; float16 takes half the space.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(["stop", "skip"]),
            default="stop",
            show_default=True,
            help="At audio that cannot be used: stop, or skip it and report the count.",
        ),
        shard_option,
        *RAY_OPTIONS,
    ],
)
