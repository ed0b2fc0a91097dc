"""Runs small enough for tests: their options, their corpus, a random network."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
from small import LINES, small_checkpoint

from rescore.models.checkpoint import Checkpoint, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.objectives import OBJECTIVES
from rescore.train.options import CorpusOptions, TrainOptions
from rescore.train.prepare import prepare
from rescore.train.run import Run

TINY = TrainOptions(
    "mdlm",
    steps=12,
    batch_tokens=256,
    learning_rate=5e-3,
    warmup=3,
    width=16,
    layers=1,
    heads=2,
    feed_forward=24,
    bf16=False,
    evaluate_every=4,
    save_every=4,
)
TEXT = "\n".join(LINES)


class Killed(BaseException):
    """Not an Exception: nothing may catch it on the way out."""


@contextmanager
def killed_after_saving() -> Iterator[None]:
    """The run inside is killed when it has saved its first state, and must not end before."""
    save = Run._save

    def killed(run: Run) -> None:
        save(run)
        raise Killed

    with mock.patch.object(Run, "_save", killed), pytest.raises(Killed):
        yield


def prepared(directory: Path, *, text=TEXT, valid=TEXT, vocab_size=64, join=0.0, **options) -> Path:
    """Prepare a corpus of these texts; returns its directory."""
    directory.mkdir(exist_ok=True)
    (directory / "text.txt").write_text(text)
    (directory / "valid.txt").write_text(valid)
    files = (directory / "text.txt",), (directory / "valid.txt",)
    corpus = directory / "corpus"
    prepare(CorpusOptions(*files, corpus, vocab_size=vocab_size, join=join, **options))
    return corpus


def log_of(directory):
    """The log without its last two columns, the speeds."""
    with (directory / "log.csv").open(newline="") as file:
        return [row[:-2] for row in csv.reader(file)]


def opinionated(vocab, *, causal=False, time_input=False):
    torch.manual_seed(0)
    network = Network(NetworkConfig(vocab, 16, 1, 2, 24, causal, time_input))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return network.eval()


def small_start(directory, objective="mdlm", tokenizer=None, **sizes):
    """Save a random checkpoint of the size of TINY; returns its directory."""
    small = small_checkpoint(objective)
    config = replace(
        small.network.config, **{"width": 16, "layers": 1, "heads": 2, "feed_forward": 24, **sizes}
    )
    tokenizer = tokenizer or small.tokenizer
    config = replace(config, vocab_size=OBJECTIVES[objective].rows(tokenizer.size))
    save(Checkpoint(Network(config), tokenizer, objective, small.prediction), directory)
    return str(directory)
