"""`dlmrescore train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rescore.cli.options import Sections
from rescore.cli.train_ngram import or_ngram

__all__ = ["command"]

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


def _object(_context: click.Context, _parameter: click.Parameter, value: str) -> dict[str, Any]:
    try:
        card = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, which is not JSON ({error})") from error
    if not isinstance(card, dict):
        raise click.BadParameter(f"got {value!r}, expected a JSON object")
    return card


@click.command(
    "train",
    cls=Sections,
    headings={
        "--objective": "What to train",
        "--start-from": "Start and vocabulary",
        "--steps": "Training",
        "--width": "Network",
        "--device": "Run",
        "--order": "n-grams",
    },
)
@click.option(
    "--objective",
    type=click.Choice(["mdlm", "usdm", "ar", "ngram"]),
    required=True,
    help="What to train.",
)
@click.option(
    "--prediction",
    type=click.Choice(["leave_one_out", "posterior"]),
    help="usdm: train the bound (leave_one_out, default) or cross-entropy.",
)
@click.option(
    "--text",
    multiple=True,
    required=True,
    type=_FILE,
    help="Training text, a sentence a line; may be repeated.",
)
@click.option("--valid", multiple=True, required=True, type=_FILE, help="Validation text.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Run directory; becomes the checkpoint.",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the tokenised text is kept; runs may share it. Default: OUTPUT/corpus.",
)
@click.option(
    "--start-from",
    metavar="MODEL",
    help="Fine-tune this checkpoint directory or embedded model (mdlm, usdm, ar).",
)
@click.option(
    "--tokenizer",
    type=_FILE,
    help="A SentencePiece model; default: that of --start-from, or train one.",
)
@click.option(
    "--vocab-size",
    type=click.IntRange(32),
    default=4096,
    show_default=True,
    help="Pieces of a vocabulary trained here.",
)
@click.option(
    "--join",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Probability that a line continues the text before it.",
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=3000,
    show_default=True,
    help="May be changed on the way until the learning rate begins to fall.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(64),
    default=4096,
    show_default=True,
    help="Tokens in a batch.",
)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "muon"]),
    default="adamw",
    show_default=True,
    help="muon needs torch 2.9.",
)
@click.option(
    "--learning-rate",
    type=click.FloatRange(0, min_open=True),
    default=2e-3,
    show_default=True,
    help="Highest rate of the schedule.",
)
@click.option(
    "--warmup",
    type=click.IntRange(1),
    default=150,
    show_default=True,
    help="Steps of rising learning rate.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the steps with a falling learning rate.",
)
@click.option(
    "--average",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.995,
    show_default=True,
    help="Decay of the moving average of the weights.",
)
@click.option("--width", type=click.IntRange(8), help="Width of the hidden states. Default: 256.")
@click.option("--layers", type=click.IntRange(1), help="Transformer blocks. Default: 6.")
@click.option("--heads", type=click.IntRange(1), help="Attention heads of a block. Default: 4.")
@click.option(
    "--feed-forward",
    type=click.IntRange(8),
    help="Width inside the feed-forward parts. Default: 704.",
)
@click.option(
    "--time-input/--no-time-input",
    default=None,
    help="Whether the network is told the noise level. Default: usdm only.",
)
@click.option(
    "--bf16/--float32", default=True, show_default=True, help="Arithmetic of the network's body."
)
@click.option("--device", default="cpu", show_default=True, help="torch device.")
@click.option(
    "--compile", is_flag=True, help="torch.compile the network: pays on GPUs and long runs."
)
@click.option(
    "--save-every",
    type=click.IntRange(1),
    default=250,
    show_default=True,
    help="Steps between two validations, each with a saved state.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Seed of weights, batches and noise."
)
@click.option(
    "--card",
    default="{}",
    show_default=True,
    callback=_object,
    help="JSON object kept in config.json: text, licence, remarks.",
)
@or_ngram
def command(output: Path, card: dict[str, Any], **options: Any) -> None:
    """Train a small model, resuming where a run in the same directory stopped.

    \b
    Example: dlmrescore train --objective mdlm --text books.txt --valid held_out.txt -o runs/mdlm
    Fine-tune: dlmrescore train --objective mdlm --start-from mdlm --text ours.txt --valid held_out.txt -o runs/ours
    Words: dlmrescore train --objective ngram --text books.txt --valid held_out.txt -o runs/ngram --arpa 3gram.arpa.gz
    """
    from rescore.train.curve import plot_curves  # noqa: PLC0415 - torch
    from rescore.train.trainer import TrainOptions, prepare, start_of, train  # noqa: PLC0415

    start = start_of(options.pop("start_from"), options)
    text = {name: options.pop(name) for name in ("text", "valid", "vocab_size", "join")}
    corpus, tokenizer = (
        options.pop("corpus") or output / "corpus",
        options.pop("tokenizer") or (start and start / "tokenizer.model"),
    )
    settings = TrainOptions(
        **options,
        start_from=None if start is None else str(start),
        evaluate_every=options["save_every"],
    )
    prepare(
        **text, directory=corpus, tokenizer_path=tokenizer, seed=0, normalize=settings.normalizer
    )
    checkpoint = train(corpus, output, settings, card)
    plot_curves({output.name: output / "log.csv"}, output / "log.png")
    found = checkpoint.card["training"]
    click.echo(
        f"{found['valid_nats_per_token']:.3f} nats a token, perplexity {found['valid_perplexity_per_word']:.1f} a word on the validation text",
        err=True,
    )
