"""`dlmrescore train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rescore.cli.options import Sections

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
    headings={"--objective": "What to train", "--tokenizer": "Tokens", "--steps": "Training", "--width": "Network", "--start-from": "Run"},
)
@click.option("--objective", type=click.Choice(["mdlm", "usdm", "ar"]), required=True, help="What to train.")
@click.option("--text", multiple=True, required=True, type=_FILE, help="Training text, a sentence a line; may be repeated.")
@click.option("--valid", multiple=True, required=True, type=_FILE, help="Validation text.")
@click.option("--corpus", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where the tokenised text is kept; models may share it.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Run directory; becomes the checkpoint.")
@click.option("--tokenizer", type=_FILE, help="A SentencePiece model; default: train one.")
@click.option("--vocab-size", type=click.IntRange(32), default=4096, show_default=True, help="Pieces of a vocabulary trained here.")
@click.option("--join", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Probability that a line continues the text before it.")
@click.option("--steps", type=click.IntRange(1), default=3000, show_default=True, help="Batches to train on.")
@click.option("--batch-tokens", type=click.IntRange(64), default=4096, show_default=True, help="Tokens in a batch.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=2e-3, show_default=True, help="Highest rate of the schedule.")
@click.option("--warmup", type=click.IntRange(1), default=150, show_default=True, help="Steps until the rate is highest.")
@click.option("--width", type=click.IntRange(8), default=256, show_default=True, help="Width of the hidden states.")
@click.option("--layers", type=click.IntRange(1), default=6, show_default=True, help="Number of Transformer blocks.")
@click.option("--heads", type=click.IntRange(1), default=4, show_default=True, help="Attention heads of a block.")
@click.option("--feed-forward", type=click.IntRange(8), default=704, show_default=True, help="Width inside the feed-forward parts.")
@click.option("--start-from", type=click.Path(exists=True, file_okay=False), help="A checkpoint of the same shape whose weights the run starts with.")
@click.option("--bf16/--float32", default=True, show_default=True, help="Arithmetic of the network's body.")
@click.option("--save-every", type=click.IntRange(1), default=250, show_default=True, help="Steps between evaluations, each of which is saved.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, batches and noise.")
@click.option("--card", default="{}", show_default=True, callback=_object, help="JSON object kept in config.json: text, licence, remarks.")
def command(
    text: tuple[Path, ...],
    valid: tuple[Path, ...],
    corpus: Path,
    output: Path,
    tokenizer: Path | None,
    vocab_size: int,
    join: float,
    card: dict[str, Any],
    **options: Any,
) -> None:
    """Train a small model, resuming where a run in the same directory stopped.

    \b
    Example: dlmrescore train --objective mdlm --text books.txt --valid held_out.txt --corpus runs/corpus -o runs/mdlm
    """
    from rescore.train.trainer import TrainOptions, prepare, train  # noqa: PLC0415 - torch

    settings = TrainOptions(**options, evaluate_every=options["save_every"])
    prepare(text, valid, corpus, vocab_size=vocab_size, tokenizer_path=tokenizer, join=join, seed=0, normalize=settings.normalizer)
    train(corpus, output, settings, card)
