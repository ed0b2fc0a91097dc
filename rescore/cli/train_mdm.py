"""`dlmrescore train mdm`: decoders that listen, masked (MDM-ASR) or autoregressive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from rescore.cli.options import Sections
from rescore.cli.train_options import (
    batch_seconds_option,
    listening_options,
    run_options,
    spec_augment_options,
    training_options,
)
from rescore.cli.train_results import evaluation_interval, say_result
from rescore.train.options import MdmOptions

__all__ = ["mdm_command"]

_HEADINGS = {
    "--corpus": "Speech and output",
    "--start-from": "Start",
    "--causal": "Loss",
    "--steps": "Training",
    "--width": "Decoder",
    "--bf16": "Run",
}

#: What the loss of masks alone reads.
_MASKED = ("self_correction", "lowest_mask", "margin", "canvas")


def _refuse_unread(training: dict[str, Any]) -> None:
    """Raise UsageError for an option that nothing would read."""
    source = click.get_current_context().get_parameter_source
    typed = [name for name in training if source(name) is ParameterSource.COMMANDLINE]
    is_frozen = training["encoder"] == "frozen"
    for name in typed:
        option = "--" + name.replace("_", "-")
        if training["causal"] and name in _MASKED:
            raise click.UsageError(f"{option} is not read with --causal; leave it out")
        if is_frozen and name == "ctc_weight":
            raise click.UsageError(
                f"{option} is not read with --encoder frozen, which learns nothing; leave it out"
            )
    if training["state_draws"] and not is_frozen:
        raise click.UsageError(
            f"--state-draws needs --encoder frozen, got {training['encoder']}: the states of an "
            "encoder that learns change; leave it out"
        )


@click.command("mdm", cls=Sections, headings=_HEADINGS)
@listening_options("mdm")
@click.option(
    "--encoder",
    type=click.Choice(["frozen", "warm", "fresh"]),
    default="warm",
    show_default=True,
    help="frozen: it learns nothing; warm: it learns on; fresh: it is drawn anew.",
)
@click.option(
    "--state-draws",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="With --encoder frozen: make its states once, for this many draws of SpecAugment of every "
    "utterance and speed, and keep them in the corpus; 0: make them at every step.",
)
@click.option(
    "--decoder-from",
    metavar="MODEL",
    help="Start the decoder with the blocks of this text model of the same sizes.",
)
@click.option(
    "--causal", is_flag=True, help="Train the autoregressive twin: the same decoder, causal."
)
@click.option(
    "--ctc-weight",
    type=click.FloatRange(0),
    default=0.3,
    show_default=True,
    help="Share of the CTC loss on the encoder.",
)
@click.option(
    "--self-correction",
    type=click.Choice(["off", "argmax", "sample", "gradient"]),
    default="argmax",
    show_default=True,
    help="Fill in the prediction, mask again and predict again; gradient: through the prediction.",
)
@click.option(
    "--lowest-mask",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Smallest share of hidden tokens; 0.7 for a last stage that starts from the model.",
)
@click.option(
    "--margin",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Half of the canvases have up to this many EOS more than one.",
)
@click.option(
    "--canvas", type=click.IntRange(2), help="All canvases are padded with EOS to these places."
)
@click.option(
    "--audio-dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of utterances without audio; for guidance while decoding.",
)
@batch_seconds_option
@spec_augment_options
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of the decoder's hidden states that are zeroed before each block.",
)
@training_options
@run_options
def mdm_command(
    corpus: Path, output: Path, card: dict[str, Any], start_from: Path, **training: Any
) -> None:
    """Train a decoder of masked diffusion that listens to a recogniser's encoder.

    \b
    Example: dlmrescore train mdm --corpus runs/ctc/corpus --start-from runs/ctc -o runs/mdm
    The autoregressive twin: add --causal. A last stage: --start-from runs/mdm --lowest-mask 0.7
    The decoder alone, without the time of the encoder: --encoder frozen --state-draws 4
    """
    from rescore.acoustic.recogniser import is_recogniser  # noqa: PLC0415 - torch
    from rescore.train.curve import plot_curves  # noqa: PLC0415
    from rescore.train.mdm import sizes_of_decoder, train_mdm  # noqa: PLC0415
    from rescore.train.speech_corpus import prepared_speech  # noqa: PLC0415
    from rescore.train.speed import multiplies_bfloat16  # noqa: PLC0415

    _refuse_unread(training)
    fields = {name: value for name, value in training.items() if value is not None}
    fields.setdefault("bf16", multiplies_bfloat16(training["device"]))
    if not is_recogniser(start_from):
        fields = {**sizes_of_decoder(start_from), **fields}
    interval = evaluation_interval(training["steps"], training["save_every"])
    options = MdmOptions(**fields, start_from=str(start_from), evaluate_every=interval)
    transcriber = train_mdm(prepared_speech(corpus), output, options, card)
    plot_curves({output.name: output / "log.csv"}, output / "log.png")
    result = transcriber.card["training"]
    say_result(
        f"{result['valid_nats_per_token']:.3f} nats a token, "
        f"WER {100 * result['valid_wer']:.1f} % (decoder), "
        f"{100 * result['valid_ctc_wer']:.1f} % (CTC) on the validation speech",
        f"dlmrescore decode AUDIO --method mdm --model {output} -o lists.jsonl",
    )
