"""`dlmrescore train mdlm`, `usdm`, `ar`: the commands that train networks."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from rescore.cli.options import Sections
from rescore.cli.train_options import network_options, run_options, text_options
from rescore.cli.train_results import evaluation_interval, few_tokens, say_result, score_command
from rescore.models.objectives import OBJECTIVES
from rescore.progress import announce
from rescore.train.options import CorpusOptions, TrainOptions

__all__ = ["network_command"]

_HEADINGS = {
    "--text": "Text and output",
    "--start-from": "Start and vocabulary",
    "--steps": "Training",
    "--width": "Network",
    "--bf16": "Run",
}


def network_command(name: str) -> click.Command:
    """Make the command that trains the objective called `name`."""
    objective = OBJECTIVES[name]
    train = run_options(functools.partial(_train_network, name))
    if len(objective.predictions) > 1:
        train = click.option(
            "--prediction",
            type=click.Choice(objective.predictions),
            help=f"What the network predicts. Default: {objective.predictions[0]}.",
        )(train)
    if not objective.is_causal:
        default = "it is" if objective.needs_time_input else "it is not"
        train = click.option(
            "--time-input/--no-time-input",
            default=None,
            help=f"Whether the noise level is an input of the network. Default: {default}.",
        )(train)
    train = text_options(network_options(train))
    return click.command(name, cls=Sections, headings=_HEADINGS, help=_help(name))(train)


def _help(name: str) -> str:
    title, command = OBJECTIVES[name].title, f"dlmrescore train {name}"
    article = "an" if title[0] in "aeio" else "a"
    return (
        f"Train {article} {title}.\n\n\b\n"
        f"Example: {command} --text books.txt --valid held_out.txt -o runs/{name}\n"
        f"Fine-tune: {command} --start-from {name} "
        "--text ours.txt --valid held_out.txt -o runs/ours\n\n"
        "From scratch a network needs millions of words and hours; with less, fine-tune, or try "
        "`dlmrescore train ngram` first: minutes, and often as good (docs/models.md)."
    )


def _train_network(
    objective: str,
    text: tuple[Path, ...],
    valid: tuple[Path, ...],
    output: Path,
    join: float,
    card: dict[str, Any],
    start_from: str | None,
    tokenizer: Path | None,
    vocab_size: int,
    corpus: Path | None,
    **training: Any,
) -> None:
    """Prepare the corpus and train; `training` holds fields of TrainOptions, None: not given."""
    announce(f"train {objective}: preparing the text in {corpus or output / 'corpus'}")
    from rescore.train.curve import plot_curves  # noqa: PLC0415 - torch
    from rescore.train.speed import multiplies_bfloat16  # noqa: PLC0415
    from rescore.train.start import find_start, sizes_of  # noqa: PLC0415
    from rescore.train.trainer import prepare, train  # noqa: PLC0415

    fields = {name: value for name, value in training.items() if value is not None}
    fields.setdefault("bf16", multiplies_bfloat16(training["device"]))
    interval = evaluation_interval(training["steps"], training["save_every"])
    if start_from is not None:
        start = find_start(start_from)
        tokenizer = tokenizer or start / "tokenizer.model"
        fields = {**sizes_of(start), **fields, "start_from": str(start)}
    options = TrainOptions(objective, **fields, evaluate_every=interval)
    source = CorpusOptions(text, valid, corpus or output / "corpus", tokenizer, vocab_size, join)
    prepare(source)
    checkpoint = train(source.directory, output, options, card)
    plot_curves({output.name: output / "log.csv"}, output / "log.png")
    result = checkpoint.card["training"]
    say_result(
        f"{result['valid_nats_per_token']:.3f} nats a token, perplexity "
        f"{result['valid_perplexity_per_word']:.1f} a word on the validation text",
        score_command(objective, output),
        few_tokens(objective, result["tokens"], start_from),
    )
