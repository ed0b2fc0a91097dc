"""`dlmrescore train dllm`: language models that listen by a speech prompt, masked or AR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rescore.cli.options import Sections, remote_code_option
from rescore.cli.train_options import (
    batch_seconds_option,
    listening_options,
    run_options,
    schedule_options,
)
from rescore.cli.train_results import evaluation_interval, say_result
from rescore.train.options import DllmOptions

__all__ = ["dllm_command"]

_HEADINGS = {
    "--corpus": "Speech and output",
    "--start-from": "Start",
    "--learn": "What learns",
    "--steps": "Training",
    "--bf16": "Run",
}


@click.command("dllm", cls=Sections, headings=_HEADINGS)
@listening_options("dllm")
@click.option(
    "--language-model",
    metavar="MODEL",
    help="Text model behind the prompt: a checkpoint directory or embedded model; mdlm (the "
    "default), or ar, the autoregressive twin; or a masked diffusion LM of Hugging Face (LLaDA, "
    "Dream), its id or directory.",
)
@remote_code_option
@click.option(
    "--from-scratch",
    is_flag=True,
    help="Draw the weights of the language model anew: what its knowledge of text is worth.",
)
@click.option(
    "--stride",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Encoder frames of 40 ms to one frame of the prompt.",
)
@click.option(
    "--positions",
    type=click.Choice(["emitted", "sequence"]),
    help="Where the prompt stands: at the tokens that CTC expects (the default), or in front of "
    "the text (that of models of Hugging Face).",
)
@click.option(
    "--learn",
    type=click.Choice(["projector", "whole", "low_rank"]),
    help="The projector alone (the default for models of Hugging Face); the language model too "
    "(the default for others); or low-rank adapters in it (peft).",
)
@click.option(
    "--rank", type=click.IntRange(1), default=16, show_default=True, help="Rank of the adapters."
)
@click.option(
    "--ctc-weight",
    type=click.FloatRange(0),
    default=0.3,
    show_default=True,
    help="Share of the CTC loss on the prompt.",
)
@click.option(
    "--fully-masked",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="Share of texts that are hidden whole.",
)
@click.option(
    "--margin",
    type=click.IntRange(0),
    default=8,
    show_default=True,
    help="Half of the canvases have up to this many EOS more than one.",
)
@batch_seconds_option
@schedule_options
@run_options
def dllm_command(
    corpus: Path, output: Path, card: dict[str, Any], start_from: Path, **training: Any
) -> None:
    """Train a diffusion language model that listens by a speech prompt; the encoder is frozen.

    \b
    Example, the projector first, then all:
    dlmrescore train dllm --corpus ctc/corpus --start-from ctc --learn projector -o projector
    dlmrescore train dllm --corpus ctc/corpus --start-from projector -o dllm
    """
    from rescore.train.curve import plot_curves  # noqa: PLC0415 - torch
    from rescore.train.prompted import train_dllm  # noqa: PLC0415
    from rescore.train.speech_corpus import prepared_speech  # noqa: PLC0415
    from rescore.train.speed import multiplies_bfloat16  # noqa: PLC0415

    fields = {name: value for name, value in training.items() if value is not None}
    fields.setdefault("bf16", multiplies_bfloat16(training["device"]))
    interval = evaluation_interval(training["steps"], training["save_every"])
    options = DllmOptions(**fields, start_from=str(start_from), evaluate_every=interval)
    model = train_dllm(prepared_speech(corpus), output, options, card)
    plot_curves({output.name: output / "log.csv"}, output / "log.png")
    result = model.card["training"]
    say_result(
        f"{result['valid_nats_per_token']:.3f} nats a token, "
        f"WER {100 * result['valid_wer']:.1f} % on the validation speech",
        f"dlmrescore decode AUDIO --method prior_guided --model {output} -o lists.jsonl",
    )
