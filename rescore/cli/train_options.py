"""Options that the commands of `dlmrescore train` share."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rescore.cli.options import SEED_RANGE

__all__ = [
    "batch_seconds_option",
    "card_option",
    "listening_options",
    "network_options",
    "run_options",
    "schedule_options",
    "spec_augment_options",
    "text_options",
    "training_options",
]

_F = TypeVar("_F", bound=Callable[..., Any])

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, file_okay=False)


def _object(_context: click.Context, _parameter: click.Parameter, value: str) -> dict[str, Any]:
    try:
        card = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"got {value!r}, which is not JSON ({error})") from error
    if not isinstance(card, dict):
        raise click.BadParameter(f"got {value!r}, expected a JSON object")
    return card


_CARD = click.option(
    "--card",
    default="{}",
    show_default=True,
    callback=_object,
    help="JSON object kept in config.json: text, licence, remarks.",
)

_OUTPUT = click.option(
    "-o", "--output", required=True, type=_FOLDER, help="Directory that becomes the model."
)

_TEXT = [
    click.option(
        "--text",
        multiple=True,
        required=True,
        type=_FILE,
        help="Training text, one sentence a line; may be repeated.",
    ),
    click.option("--valid", multiple=True, required=True, type=_FILE, help="Validation text."),
    _OUTPUT,
    click.option(
        "--join",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        help="Probability that a line continues the text before it.",
    ),
    _CARD,
]

_START = [
    click.option(
        "--start-from",
        metavar="MODEL",
        help="Fine-tune this checkpoint directory or embedded model (mdlm, usdm, ar).",
    ),
    click.option(
        "--tokenizer",
        type=click.Path(path_type=Path, exists=True),
        help="A SentencePiece model, or a recogniser's folder or file of posteriors, for joint "
        "decoding (embeddings of --start-from are moved to it); default: that of --start-from, or "
        "train one.",
    ),
    click.option(
        "--vocab-size",
        type=click.IntRange(32),
        default=4096,
        show_default=True,
        help="Pieces of a vocabulary trained here.",
    ),
    click.option(
        "--corpus",
        type=_FOLDER,
        help="Where the tokenised text is kept; runs may share it. Default: OUTPUT/corpus.",
    ),
]

_TRAINING = [
    click.option(
        "--steps",
        type=click.IntRange(1),
        default=3000,
        show_default=True,
        help="Optimiser steps; may be changed until the learning rate begins to fall.",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(["adamw", "muon"]),
        default="adamw",
        show_default=True,
        help="muon learns in fewer steps.",
    ),
    click.option(
        "--learning-rate",
        type=click.FloatRange(0, min_open=True),
        default=2e-3,
        show_default=True,
        help="Highest rate of the schedule.",
    ),
    click.option(
        "--warmup",
        type=click.IntRange(1),
        default=150,
        show_default=True,
        help="Steps of rising learning rate.",
    ),
    click.option(
        "--decay",
        type=click.FloatRange(0, 1),
        default=0.5,
        show_default=True,
        help="Share of the steps with a falling learning rate.",
    ),
    click.option(
        "--average",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.995,
        show_default=True,
        help="Decay of the moving average of the weights.",
    ),
]

_BATCH_TOKENS = click.option(
    "--batch-tokens",
    type=click.IntRange(64),
    default=4096,
    show_default=True,
    help="Tokens in a batch.",
)

_SIZES = [
    click.option(
        "--width", type=click.IntRange(8), help="Width of the hidden states. Default: 256."
    ),
    click.option("--layers", type=click.IntRange(1), help="Transformer blocks. Default: 6."),
    click.option("--heads", type=click.IntRange(1), help="Attention heads of a block. Default: 4."),
    click.option(
        "--feed-forward",
        type=click.IntRange(8),
        help="Width inside the feed-forward parts. Default: 704.",
    ),
]

_RUN = [
    click.option(
        "--bf16/--float32",
        default=None,
        help="Arithmetic of the network. Default: bf16 where the device has instructions for it.",
    ),
    click.option("--device", default="cpu", show_default=True, help="torch device."),
    click.option(
        "--compile", is_flag=True, help="torch.compile the network: pays on GPUs and long runs."
    ),
    click.option(
        "--save-every",
        type=click.IntRange(1),
        default=250,
        show_default=True,
        help="Steps between two validations, each with a saved state.",
    ),
    click.option(
        "--save-minutes",
        type=click.FloatRange(0, min_open=True),
        default=5.0,
        show_default=True,
        help="Most minutes between two saved states.",
    ),
    click.option(
        "--seed",
        type=SEED_RANGE,
        default=0,
        show_default=True,
        help="Seed of weights, batches and noise.",
    ),
]


def _decorated(command: _F, *options: Callable[[_F], _F]) -> _F:
    """Add options to a command, in the order in which --help lists them."""
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), command)


def text_options(command: _F) -> _F:
    """Add what every model is trained on, networks and n-grams, and where it is written."""
    return _decorated(command, *_TEXT)


def network_options(command: _F) -> _F:
    """Add where a network starts from, how it is trained, and its sizes."""
    steps, *others = _TRAINING
    return _decorated(command, *_START, steps, _BATCH_TOKENS, *others, *_SIZES)


def training_options(command: _F) -> _F:
    """Add how long and by which optimiser any network is trained, and its sizes."""
    return _decorated(command, *_TRAINING, *_SIZES)


def schedule_options(command: _F) -> _F:
    """Add how long and by which optimiser a network of given sizes is trained."""
    return _decorated(command, *_TRAINING)


def card_option(command: _F) -> _F:
    """Add what is kept in config.json beside the figures of the run."""
    return _decorated(command, _CARD)


def listening_options(name: str) -> Callable[[_F], _F]:
    """Add corpus, output, card and start of `train NAME`, which needs a recogniser."""
    folder = click.Path(path_type=Path, exists=True, file_okay=False)
    options = (
        click.option(
            "--corpus",
            required=True,
            type=folder,
            help="Speech that `train ctc` prepared: its --corpus folder.",
        ),
        _OUTPUT,
        _CARD,
        click.option(
            "--start-from",
            required=True,
            metavar="MODEL",
            type=folder,
            help="A recogniser of `train ctc`, whose encoder is taken; or a model of "
            f"`train {name}`.",
        ),
    )
    return lambda command: _decorated(command, *options)


def batch_seconds_option(command: _F) -> _F:
    """Add `--batch-seconds`, of everything that trains on speech."""
    return _decorated(
        command,
        click.option(
            "--batch-seconds",
            type=click.FloatRange(1),
            default=60.0,
            show_default=True,
            help="Audio in a batch, padding included.",
        ),
    )


def spec_augment_options(command: _F) -> _F:
    """Add what SpecAugment hides, of everything that trains on speech."""
    return _decorated(
        command,
        click.option(
            "--time-masks",
            type=click.IntRange(0),
            default=5,
            show_default=True,
            help="Stretches of time that SpecAugment hides, each up to 5 % of the utterance.",
        ),
        click.option(
            "--frequency-masks",
            type=click.IntRange(0),
            default=2,
            show_default=True,
            help="Bands that SpecAugment hides, each up to 27 of 80 bins.",
        ),
    )


def run_options(command: _F) -> _F:
    """Add where and in which arithmetic a network is trained, and how often its state is saved."""
    return _decorated(command, *_RUN)
