"""What every run on speech checks before it begins, and the card that it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rescore.acoustic.recogniser import read_frozen
from rescore.acoustic.symbols import Symbols
from rescore.errors import ModelError, TrainError
from rescore.formats.files import make_folder
from rescore.train.options import RunOptions, SpeechOptions
from rescore.train.run import Run

__all__ = ["card_of_run", "check_features", "check_run_directory", "check_symbols"]


def check_run_directory(directory: Path) -> None:
    """Make the run directory. Raises TrainError if it holds a model without its run."""
    make_folder(directory)
    if (directory / "config.json").exists() and not (directory / "state.pt").exists():
        raise TrainError(
            f"{directory}: holds a model but no run to continue; give another --output, "
            "or start from it with --start-from"
        )


def check_features(start_from: str | None, speech: SpeechOptions) -> None:
    """Raise ModelError if the model that a run starts from hears other features than the corpus."""
    if start_from is None:
        return
    frozen, expected = read_frozen(Path(start_from)), speech.frozen
    if (frozen and frozen.digest) != (expected and expected.digest):
        named = [one.model if one else "log-Mel bins" for one in (frozen, expected)]
        raise ModelError(
            f"{start_from}: it was trained on {named[0]}, the corpus {speech.directory} has "
            f"{named[1]}; give the corpus folder that it was trained on"
        )


def check_symbols(directory: Path, symbols: Symbols, expected: Symbols) -> None:
    """Raise ModelError unless the model in a directory has the symbols of the corpus."""
    if symbols.digest != expected.digest:
        raise ModelError(
            f"{directory}: its symbols are not those of the corpus; give the corpus folder that it "
            "was trained on"
        )


def card_of_run(
    card: dict[str, Any],
    run: Run,
    options: RunOptions,
    speech: SpeechOptions,
    figures: Mapping[str, float],
) -> dict[str, Any]:
    """A card with how the run's network was trained, and its figures on validation speech."""
    training = {
        **asdict(options),
        "speeds": list(speech.speeds),
        "tokens": run.progress.tokens,
        **figures,
    }
    parameters = sum(weight.numel() for weight in run.learner.network.parameters())
    return {**card, "parameters": parameters, "training": training}
