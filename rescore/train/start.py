"""The network that a run starts with: freshly drawn, or with the weights of a checkpoint."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from rescore.arguments import close_to
from rescore.errors import ModelError
from rescore.models.checkpoint import load
from rescore.models.embedded import embedded_directory, embedded_models
from rescore.models.network import Network, NetworkConfig
from rescore.models.objectives import objective_named
from rescore.models.tokenizer import Tokenizer
from rescore.train.options import NETWORK_SIZES, TrainOptions
from rescore.train.vocabulary import transplanted

__all__ = ["build_network", "copy_weights", "find_start", "sizes_of"]

logger = logging.getLogger("rescore")


def build_network(options: TrainOptions, tokenizer: Tokenizer) -> Network:
    """Build a network for the objective, its weights drawn from the seed."""
    torch.manual_seed(options.seed)
    objective = objective_named(options.objective)
    time_input = options.time_input
    return Network(
        NetworkConfig(
            vocab_size=objective.rows(tokenizer.size),
            width=options.width,
            layers=options.layers,
            heads=options.heads,
            feed_forward=options.feed_forward,
            causal=objective.is_causal,
            time_input=objective.needs_time_input if time_input is None else time_input,
        )
    )


def find_start(model: str) -> Path:
    """The directory of a checkpoint: `model` is its path or the name of an embedded model.

    Raises ModelError if there is no such checkpoint.
    """
    directory = embedded_directory(model) or Path(model)
    if not (directory / "config.json").is_file():
        names = [path.name for path in embedded_models()]
        raise ModelError(
            f"--start-from {model}: no such checkpoint; give a directory that `dlmrescore train` "
            f"made, or one of {', '.join(names)}{close_to(model, names)}"
        )
    return directory


def sizes_of(directory: Path) -> dict[str, int]:
    """The sizes of a checkpoint's network, by the names of NETWORK_SIZES. Raises ModelError."""
    config = load(directory).network.config
    return {name: getattr(config, name) for name in NETWORK_SIZES}


def copy_weights(network: Network, directory: Path, tokenizer: Tokenizer) -> None:
    """Copy into `network` every weight that it shares with the checkpoint in `directory`.

    The row of a mask symbol is dropped where `network` has none and stays fresh where the
    checkpoint has none; so does a time input. Embeddings of another vocabulary are moved to
    `tokenizer` (rescore.train.vocabulary). Raises ModelError if the checkpoint's sizes differ.
    """
    checkpoint = load(directory)
    for name in NETWORK_SIZES:
        size, expected = getattr(checkpoint.network.config, name), getattr(network.config, name)
        if size != expected:
            raise ModelError(
                f"{directory}: its {name} is {size}, expected {expected}; "
                "start from a model of the same size"
            )
    weights, loaded = network.state_dict(), checkpoint.network.state_dict()
    embedding, old = loaded.pop("embedding.weight"), checkpoint.tokenizer
    if old.serialized != tokenizer.serialized:
        logger.info("%s: its embeddings are moved to the vocabulary of the corpus", directory)
        mask_row = embedding[old.size :]
        embedding = torch.cat((transplanted(embedding, old, tokenizer), mask_row))
    rows = min(len(weights["embedding.weight"]), len(embedding))
    weights["embedding.weight"][:rows] = embedding[:rows]
    for name, weight in loaded.items():
        if name in weights:
            weights[name] = weight
    network.load_state_dict(weights)
