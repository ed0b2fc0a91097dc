"""Targets of runs: the state and the corpora of a training, and the folder of an experiment."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

from small_runs import TINY, killed_after_saving, prepared
from small_speech import TINY_CTC, speech_options
from target import Target, Use, WrongError

from rescore.experiment.folder import Clock, claimed
from rescore.train.ctc import train_ctc
from rescore.train.options import CorpusOptions
from rescore.train.prepare import prepare
from rescore.train.speech_corpus import prepare_speech
from rescore.train.trainer import train

__all__ = ["TRAINING_TARGETS"]

_TEXT = replace(TINY, steps=4, evaluate_every=2, save_every=2)
_SPEECH = replace(TINY_CTC, steps=2, evaluate_every=1, save_every=2)


def _aside(folder: Path) -> Path:
    """A folder beside that of the target, for what is not attacked."""
    return folder.with_name(f"{folder.name}-aside")


def state(folder: Path) -> Use:
    """What a training leaves that was killed after its first state."""
    corpus = prepared(_aside(folder))
    with killed_after_saving():
        train(corpus, folder / "run", _TEXT, {})

    def use() -> None:
        checkpoint = train(corpus, folder / "run", _TEXT, {})
        loss = checkpoint.card["training"]["valid_nats_per_token"]
        if not math.isfinite(loss):
            raise WrongError(f"a loss of {loss}")

    return use


def text_corpus(folder: Path) -> Use:
    """A vocabulary and tokenised text."""
    aside = _aside(folder)
    corpus = prepared(aside)
    shutil.copytree(corpus, folder / "corpus")
    options = CorpusOptions(
        (aside / "text.txt",), (aside / "valid.txt",), folder / "corpus", vocab_size=64, join=0.0
    )

    def use() -> None:
        shutil.rmtree(aside / "run", ignore_errors=True)
        prepare(options)
        train(folder / "corpus", aside / "run", _TEXT, {})

    return use


def speech_corpus(folder: Path) -> Use:
    """The symbols and features of speech."""
    aside = _aside(folder)
    aside.mkdir()
    options = replace(speech_options(aside, speeds=(1.0,)), directory=folder / "corpus")
    shutil.copytree(aside / "corpus", options.directory)

    def use() -> None:
        shutil.rmtree(aside / "run", ignore_errors=True)
        prepare_speech(options)
        train_ctc(options, aside / "run", _SPEECH, {})

    return use


def experiment(folder: Path) -> Use:
    """The folder of an experiment: whose it is, and the seconds of its stages."""
    settings = {"depth": 2, "scorers": {"ar": "ar|1"}, "draws": 8, "base": ["am"]}

    def use() -> None:
        with claimed(folder / "results", settings):
            seconds = Clock(folder / "results").seconds("ar")
            if seconds is not None and not (type(seconds) is float and math.isfinite(seconds)):
                raise WrongError(f"a stage of {seconds!r} s")

    with claimed(folder / "results", settings):
        Clock(folder / "results").record("ar", 1.25)
    return use


#: Name -> target.
TRAINING_TARGETS: dict[str, Target] = {
    "state of a training": state,
    "corpus of text": text_corpus,
    "corpus of speech": speech_corpus,
    "folder of an experiment": experiment,
}
