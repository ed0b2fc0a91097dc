"""Small random checkpoints and lists, made in a moment."""

from __future__ import annotations

from pathlib import Path

import torch

from rescore.models.checkpoint import Checkpoint, save
from rescore.models.network import Network, NetworkConfig
from rescore.models.objectives import OBJECTIVES
from rescore.models.tokenizer import Tokenizer, train_tokenizer
from rescore.types import Hypothesis, NBest

LINES = [
    "the old house stood at the end of the lane",
    "she wrote a letter to her brother in the morning",
    "there was no light in the window when they came",
    "he asked whether the weather would change before night",
    "we walked along the river and talked of other things",
    "nobody knew what the new master wanted from them",
] * 3


def small_tokenizer() -> Tokenizer:
    return train_tokenizer(LINES, 64)


def small_checkpoint(
    objective: str,
    prediction: str | None = None,
    seed: int = 0,
    time_input: bool | None = None,
    tokenizer: Tokenizer | None = None,
) -> Checkpoint:
    """A random network with weights large enough to have opinions."""
    tokenizer = tokenizer or small_tokenizer()
    torch.manual_seed(seed)
    time_input = objective == "usdm" if time_input is None else time_input
    config = NetworkConfig(
        tokenizer.size + (objective == "mdlm"), 32, 2, 2, 48, objective == "ar", time_input
    )
    network = Network(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    prediction = prediction or OBJECTIVES[objective].predictions[0]
    return Checkpoint(network.eval(), tokenizer, objective, prediction)  # type: ignore[arg-type]


def save_small(directory: Path, objective: str, **options) -> Path:
    save(small_checkpoint(objective, **options), directory)
    return directory


def nbest(*texts: str, id: str = "utt-1", ref: str | None = None, **scores: float) -> NBest:
    return NBest(id, tuple(Hypothesis(text, dict(scores)) for text in texts), ref)
