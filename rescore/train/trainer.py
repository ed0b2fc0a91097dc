"""Training language models on text: a prepared corpus to a checkpoint.

AdamW or Muon; warm-up, constant and decay; averaged weights; gradient clipping. The main loop is
`rescore.train.run`.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rescore.errors import TrainError
from rescore.formats.files import make_folder
from rescore.models.checkpoint import Checkpoint, load, save
from rescore.models.tokenizer import Tokenizer, read_tokenizer
from rescore.train.corpus import open_corpus
from rescore.train.options import CorpusOptions, TrainOptions
from rescore.train.prepare import prepare
from rescore.train.run import Run
from rescore.train.state import writing_to
from rescore.train.text import TextBatches, prediction_of, text_learner
from rescore.train.validation import Validation, Validator

__all__ = ["CorpusOptions", "TrainOptions", "prepare", "text_run", "train"]


def train(corpus: Path, directory: Path, options: TrainOptions, card: dict[str, Any]) -> Checkpoint:
    """Train on a prepared corpus and write the checkpoint into `directory`.

    A run that was stopped is resumed from `directory/state.pt`. Raises TrainError if the corpus is
    too small, the state belongs to other options or the disk is full (the last state stays).
    """
    _check_directory(directory, options.objective)
    tokenizer = read_tokenizer(corpus / "tokenizer.model")
    run = text_run(corpus, directory, options, tokenizer)
    validator = Validator(open_corpus(corpus / "valid", tokenizer), tokenizer)
    run.resume()
    run.main_loop(validator)
    run.learner.keep_average()
    checkpoint = _checkpoint(run, options, tokenizer, validator.whole(run.learner), card)
    with writing_to(directory):
        save(checkpoint, directory, torch.float16)
    return checkpoint


def text_run(corpus: Path, directory: Path, options: TrainOptions, tokenizer: Tokenizer) -> Run:
    """The run on a prepared corpus, at its beginning."""
    examples = TextBatches(
        open_corpus(corpus / "train", tokenizer), tokenizer, options.batch_tokens
    )
    return Run(options, text_learner(options, tokenizer), examples, directory)


def _checkpoint(
    run: Run,
    options: TrainOptions,
    tokenizer: Tokenizer,
    validation: Validation,
    card: dict[str, Any],
) -> Checkpoint:
    """The current weights, on the CPU, with a card that says how they were trained."""
    network = run.learner.network.to("cpu").eval()
    training = {
        **asdict(options),
        "tokens": run.progress.tokens,
        "valid_nats_per_token": validation.nats_per_token,
        "valid_perplexity_per_word": validation.perplexity_per_word,
    }
    parameters = sum(weight.numel() for weight in network.parameters())
    return Checkpoint(
        network,  # type: ignore[arg-type]
        tokenizer,
        options.objective,
        prediction_of(options),
        options.normalizer,
        {**card, "parameters": parameters, "training": training},
    )


def _check_directory(directory: Path, objective: str) -> None:
    """Make the run directory.

    Raises TrainError if it holds a checkpoint of another objective, or one without its run.
    """
    make_folder(directory)
    if not (directory / "config.json").exists():
        return
    existing = load(directory).objective
    if existing != objective:
        raise TrainError(
            f"{directory}: holds a checkpoint of objective {existing}, expected {objective}; "
            "give another --output"
        )
    if not (directory / "state.pt").exists():
        raise TrainError(
            f"{directory}: holds a checkpoint but no run to continue; give another --output, "
            "or fine-tune it with --start-from"
        )
