"""The checkpoint format: `config.json`, `model.safetensors` and `tokenizer.model` in a directory.

Data only, no code. config.json:

    {"format": "dlmrescore-model", "version": 1,
     "objective": "mdlm",             a name of rescore.models.objectives
     "prediction": "masked",          what the output means: one of the objective's predictions
     "normalizer": "librispeech",     what a text goes through before the tokenizer
     "network": {...},                the fields of NetworkConfig
     "card": {...}}                   free text and figures: training text, licence, quality
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from rescore.errors import ModelError, RescoreError
from rescore.formats.files import make_folder, replace_file
from rescore.formats.strict_json import short
from rescore.models import opening
from rescore.models.network import Network, NetworkConfig, tensor_shapes
from rescore.models.objectives import OBJECTIVES, ModelPrediction, objective_named
from rescore.models.opening import FORMAT, VERSION, checked_field, network_config, read_config
from rescore.models.tokenizer import Tokenizer, read_tokenizer
from rescore.text import normalizer

__all__ = [
    "Checkpoint",
    "build_network",
    "load",
    "read_objective",
    "read_vocabulary",
    "save",
    "serialized_weights",
]

Built = TypeVar("Built", bound=nn.Module)


@dataclass
class Checkpoint:
    """A network with everything that belongs to it."""

    network: Network
    tokenizer: Tokenizer
    objective: str
    prediction: ModelPrediction
    normalizer: str = "librispeech"
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mask_id(self) -> int | None:
        """The id of the mask symbol, which follows the pieces; None for models without one."""
        return self.tokenizer.size if objective_named(self.objective).has_mask_symbol else None

    @property
    def digest(self) -> str:
        """16 hex digits over weights, vocabulary and meaning: the model's part of a signature."""
        whole = hashlib.blake2b(serialized_weights(self.network), digest_size=8)
        whole.update(self.tokenizer.serialized)
        whole.update(f"{self.objective} {self.prediction} {self.normalizer}".encode())
        return whole.hexdigest()


def serialized_weights(network: nn.Module, dtype: torch.dtype | None = None) -> bytes:
    """The weights as a safetensors file, in the order of their names; None keeps their dtypes."""
    weights = {
        name: weight.detach().to("cpu", dtype).contiguous()
        for name, weight in sorted(network.state_dict().items())
    }
    return safetensors.torch.save(weights)


def save(checkpoint: Checkpoint, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint directory; each file appears whole or not at all, config.json last."""
    make_folder(directory)
    config = {
        "format": FORMAT,
        "version": VERSION,
        "objective": checkpoint.objective,
        "prediction": checkpoint.prediction,
        "normalizer": checkpoint.normalizer,
        "network": dataclasses.asdict(checkpoint.network.config),
        "card": dict(checkpoint.card),
    }
    replace_file(directory / "model.safetensors", serialized_weights(checkpoint.network, dtype))
    replace_file(directory / "tokenizer.model", checkpoint.tokenizer.serialized)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def load(directory: Path, objective: str | None = None) -> Checkpoint:
    """Load a checkpoint directory onto the CPU in float32, ready to evaluate.

    Raises ModelError, one line that names the file, if a file is missing or broken, if a tensor is
    missing, spare or misshapen, or if the checkpoint has another objective than the one asked for.
    """
    config, tokenizer = _read(directory, objective)
    rows, needed = config["network"].vocab_size, objective_named(config["objective"])
    if rows != needed.rows(tokenizer.size):
        raise ModelError(
            f"{directory}: the network has {rows} output rows, its tokenizer needs "
            f"{needed.rows(tokenizer.size)}; files of two models are mixed"
        )
    network = build_network(
        lambda: Network(config["network"]),
        tensor_shapes(config["network"]),
        directory / "model.safetensors",
    )
    return Checkpoint(
        network.eval(),
        tokenizer,
        config["objective"],
        config["prediction"],
        config["normalizer"],
        config["card"],
    )


def read_vocabulary(directory: Path, objective: str) -> tuple[Tokenizer, str]:
    """Load the tokenizer of a checkpoint directory and the name of its normaliser, not its weights.

    Raises ModelError as `load` does.
    """
    config, tokenizer = _read(directory, objective)
    return tokenizer, config["normalizer"]


def read_objective(directory: Path) -> str:
    """The objective of a checkpoint directory. Raises ModelError as `load` does."""
    objective: str = _read_config(directory / "config.json")["objective"]
    return objective


def _read(directory: Path, objective: str | None) -> tuple[dict[str, Any], Tokenizer]:
    config = _read_config(directory / "config.json")
    if objective is not None and config["objective"] != objective:
        raise ModelError(
            f"{directory}: checkpoint holds objective {config['objective']!r}, expected "
            f"{objective!r}; pass --scorer {config['objective']} or another --model"
        )
    return config, read_tokenizer(directory / "tokenizer.model")


def _read_config(path: Path) -> dict[str, Any]:
    config = read_config(
        path, "give a checkpoint directory; for a Hugging Face model use --scorer mlm or ar"
    )
    for name in ("objective", "prediction", "normalizer"):
        checked_field(config, name, str, path)
    _check_objective(config, path)
    network = network_config(NetworkConfig, config, path)
    if network.causal != objective_named(config["objective"]).is_causal:
        raise ModelError(
            f"{path}: objective {config['objective']!r} and causal {network.causal} exclude each "
            "other; restore the file"
        )
    card = {} if config.get("card") is None else checked_field(config, "card", dict, path)
    try:
        normalizer(config["normalizer"])
    except RescoreError as error:
        raise ModelError(
            f"{path}: the configuration does not fit ({error}); restore the file"
        ) from error
    return {**config, "network": network, "card": card}


def _check_objective(config: Mapping[str, Any], path: Path) -> None:
    objective, prediction = config["objective"], config["prediction"]
    if objective not in OBJECTIVES or prediction not in OBJECTIVES[objective].predictions:
        names = ", ".join(
            f"{name} ({' or '.join(entry.predictions)})" for name, entry in OBJECTIVES.items()
        )
        raise ModelError(
            f"{path}: objective {short(objective)!r} with prediction {short(prediction)!r} is "
            f"unknown; known: {names}"
        )


def build_network(
    build: Callable[[], Built], shapes: Iterable[tuple[str, tuple[int, ...]]], path: Path
) -> Built:
    """Build a network and load its weights from safetensors, in float32.

    `shapes` of its tensors, by arithmetic, are compared with the file before it is built. Raises
    ModelError, naming the file, if it is broken, or a tensor is missing, spare or misshapen.
    """
    actual, expected = opening.tensor_shapes(path), set()
    for name, shape in shapes:  # lazy: stops at the first that the file lacks
        if name not in actual:
            raise ModelError(f"{path}: tensor {name!r} is missing; restore the file")
        if actual[name] != shape:
            raise ModelError(
                f"{path}: tensor {name!r} has shape {actual[name]}, expected {shape}; "
                "files of two models are mixed"
            )
        expected.add(name)
    spare = sorted(set(actual) - expected)
    if spare:
        raise ModelError(
            f"{path}: tensor {spare[0][:60]!r} belongs to no part of the network; "
            "files of two models are mixed"
        )
    with opening.opening(path, "restore the file"):
        weights: dict[str, Tensor] = safetensors.torch.load_file(path)
        network = build()
        network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network
