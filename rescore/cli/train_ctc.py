"""`dlmrescore train ctc`: recognisers of speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rescore.cli.options import Sections
from rescore.cli.train_options import (
    batch_seconds_option,
    card_option,
    run_options,
    spec_augment_options,
    training_options,
)
from rescore.cli.train_results import evaluation_interval, say_result
from rescore.progress import announce
from rescore.train.options import CtcOptions, SpeechOptions

__all__ = ["ctc_command"]

_FOLDER = click.Path(path_type=Path, file_okay=False)
_HEADINGS = {
    "--audio": "Speech and output",
    "--start-from": "Start and symbols",
    "--steps": "Training",
    "--width": "Network",
    "--bf16": "Run",
}
_AUDIO = click.Path(path_type=Path, exists=True)


def _speeds(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[float, ...]:
    try:
        speeds = tuple(float(number) for number in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, expected factors such as 1,0.9,1.1") from error
    if not all(0.25 <= speed <= 4 for speed in speeds) or len(set(speeds)) < len(speeds):
        raise click.BadParameter(f"got {value!r}, expected different factors from 0.25 to 4")
    return speeds


@click.command("ctc", cls=Sections, headings=_HEADINGS)
@click.option(
    "--audio",
    multiple=True,
    required=True,
    type=_AUDIO,
    help="Training speech with its texts: lhotse cuts, wav.scp or TSV (id, path, text); "
    "may be repeated.",
)
@click.option("--valid", multiple=True, required=True, type=_AUDIO, help="Validation speech.")
@click.option(
    "-o", "--output", required=True, type=_FOLDER, help="Directory that becomes the recogniser."
)
@card_option
@click.option("--start-from", metavar="MODEL", type=_FOLDER, help="Fine-tune this recogniser.")
@click.option(
    "--tokenizer",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Symbols are the pieces of this SentencePiece model; "
    "joint decoding needs that of the language model.",
)
@click.option(
    "--vocab-size",
    type=click.IntRange(8),
    help="Symbols are this many pieces, trained on the texts. Default: characters.",
)
@click.option(
    "--encoder-from",
    metavar="MODEL",
    help="Train on the states of this frozen encoder of Hugging Face, by id or directory (Whisper, "
    "wav2vec2, Parakeet, ...), in place of log-Mel features; then --layers is 1 by default.",
)
@click.option("--corpus", type=_FOLDER, help="Where the features are kept. Default: OUTPUT/corpus.")
@click.option(
    "--speeds",
    default="1,0.9,1.1",
    show_default=True,
    callback=_speeds,
    help="Factors of speed perturbation; 1: none.",
)
@batch_seconds_option
@spec_augment_options
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    show_default=True,
    help="Share of the hidden states that are zeroed before each block; for little speech.",
)
@training_options
@click.option(
    "--kernel",
    type=click.IntRange(1),
    help="Frames of 40 ms that the depthwise convolutions see, an odd number. Default: 15.",
)
@run_options
def ctc_command(
    audio: tuple[Path, ...],
    valid: tuple[Path, ...],
    output: Path,
    card: dict[str, Any],
    start_from: Path | None,
    tokenizer: Path | None,
    vocab_size: int | None,
    encoder_from: str | None,
    corpus: Path | None,
    speeds: tuple[float, ...],
    **training: Any,
) -> None:
    """Train a CTC recogniser of speech.

    \b
    Example: dlmrescore train ctc --audio train.tsv --valid dev.tsv -o runs/ctc
    Fine-tune: dlmrescore train ctc --start-from runs/ctc --audio our.tsv --valid dev.tsv -o our
    On Whisper: dlmrescore train ctc --encoder-from openai/whisper-small --audio ... -o runs/ctc
    """
    announce(f"train ctc: preparing the speech in {corpus or output / 'corpus'}")
    from rescore.train.ctc import sizes_of_recogniser, train_ctc  # noqa: PLC0415 - torch
    from rescore.train.curve import plot_curves  # noqa: PLC0415
    from rescore.train.speech_corpus import prepare_speech, with_states  # noqa: PLC0415
    from rescore.train.speed import multiplies_bfloat16  # noqa: PLC0415

    if tokenizer is not None and vocab_size is not None:
        raise click.UsageError("--tokenizer and --vocab-size exclude each other; give one of them")
    fields = {name: value for name, value in training.items() if value is not None}
    fields.setdefault("bf16", multiplies_bfloat16(training["device"]))
    interval = evaluation_interval(training["steps"], training["save_every"])
    if start_from is not None:
        fields = {**sizes_of_recogniser(start_from), **fields, "start_from": str(start_from)}
    elif encoder_from is not None:
        fields.setdefault("layers", 1)
    options = CtcOptions(**fields, evaluate_every=interval)
    speech = SpeechOptions(audio, valid, corpus or output / "corpus", tokenizer, vocab_size, speeds)
    if encoder_from is not None:
        speech = with_states(speech, encoder_from)
    prepare_speech(speech, options.device)
    recogniser = train_ctc(speech, output, options, card)
    plot_curves({output.name: output / "log.csv"}, output / "log.png")
    result = recogniser.card["training"]
    say_result(
        f"{result['valid_nats_per_token']:.3f} nats a symbol, "
        f"WER {100 * result['valid_wer']:.1f} % (greedy) on the validation speech",
        f"dlmrescore posteriors AUDIO --model {output} -o posteriors.safetensors, then `decode`",
    )
