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
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from rescore.errors import ModelError, RescoreError
from rescore.models.network import Network, NetworkConfig
from rescore.models.objectives import OBJECTIVES, ModelPrediction, objective_named
from rescore.models.tokenizer import Tokenizer, read_tokenizer
from rescore.text import normalizer

__all__ = ["Checkpoint", "load", "load_weights", "read_vocabulary", "replace_file", "save"]

_FORMAT, _VERSION = "dlmrescore-model", 1


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
        state = {
            name: weight.detach().cpu().contiguous()
            for name, weight in self.network.state_dict().items()
        }
        whole = hashlib.blake2b(safetensors.torch.save(dict(sorted(state.items()))), digest_size=8)
        whole.update(self.tokenizer.serialized)
        whole.update(f"{self.objective} {self.prediction} {self.normalizer}".encode())
        return whole.hexdigest()


def save(checkpoint: Checkpoint, directory: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a checkpoint directory; each file appears whole or not at all, config.json last."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {
        name: weight.detach().to(dtype).contiguous()
        for name, weight in checkpoint.network.state_dict().items()
    }
    config = {
        "format": _FORMAT,
        "version": _VERSION,
        "objective": checkpoint.objective,
        "prediction": checkpoint.prediction,
        "normalizer": checkpoint.normalizer,
        "network": dataclasses.asdict(checkpoint.network.config),
        "card": dict(checkpoint.card),
    }
    replace_file(directory / "model.safetensors", safetensors.torch.save(weights))
    replace_file(directory / "tokenizer.model", checkpoint.tokenizer.serialized)
    replace_file(directory / "config.json", (json.dumps(config, indent=2) + "\n").encode())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def load(directory: Path, objective: str | None = None) -> Checkpoint:
    """Load a checkpoint directory onto the CPU in float32, ready to evaluate.

    Raises ModelError, one line that names the file, if a file is missing or broken, if a tensor is
    missing, spare or misshapen, or if the checkpoint has another objective than the one asked for.
    """
    config, tokenizer = _read(directory, objective)
    network = Network(config["network"])
    load_weights(network, directory / "model.safetensors")
    rows, needed = network.config.vocab_size, objective_named(config["objective"])
    if rows != needed.rows(tokenizer.size):
        raise ModelError(
            f"{directory}: the network has {rows} output rows, its tokenizer needs "
            f"{needed.rows(tokenizer.size)}; files of two models are mixed"
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


def _read(directory: Path, objective: str | None) -> tuple[dict[str, Any], Tokenizer]:
    config = _read_config(directory / "config.json")
    if objective is not None and config["objective"] != objective:
        raise ModelError(
            f"{directory}: checkpoint holds objective {config['objective']!r}, expected "
            f"{objective!r}; pass --scorer {config['objective']} or another --model"
        )
    return config, read_tokenizer(directory / "tokenizer.model")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{path}: cannot read the model's configuration ({error.strerror}); "
            "give a checkpoint directory"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}); restore the file") from error
    if isinstance(config, dict) and config.get("format") == "dlmrescore-recogniser":
        raise ModelError(
            f"{path}: a CTC recogniser, expected a language model; `dlmrescore posteriors` runs it"
        )
    if not isinstance(config, dict) or config.get("format") != _FORMAT:
        raise ModelError(
            f"{path}: not a {_FORMAT} configuration; for a Hugging Face model use --scorer mlm "
            "or --scorer ar with its id or path"
        )
    if config.get("version") != _VERSION:
        raise ModelError(
            f"{path}: checkpoint version {config.get('version')!r}, this release reads {_VERSION}; "
            "update dlmrescore"
        )
    _check_objective(config, path)
    try:
        normalizer(config["normalizer"])
        return {
            **config,
            "network": NetworkConfig(**config["network"]),
            "card": dict(config.get("card") or {}),
        }
    except (KeyError, TypeError, RescoreError) as error:
        raise ModelError(
            f"{path}: the configuration does not fit ({error}); restore the file"
        ) from error


def _check_objective(config: Mapping[str, Any], path: Path) -> None:
    objective, prediction = config.get("objective"), config.get("prediction")
    if objective not in OBJECTIVES or prediction not in OBJECTIVES[objective].predictions:
        names = ", ".join(
            f"{name} ({' or '.join(entry.predictions)})" for name, entry in OBJECTIVES.items()
        )
        raise ModelError(
            f"{path}: objective {objective!r} with prediction {prediction!r} is unknown; "
            f"known: {names}"
        )


def load_weights(network: nn.Module, path: Path) -> None:
    """Load safetensors into a network, in float32.

    Raises ModelError, naming the file, if it is broken, or a tensor is missing, spare or misshapen.
    """
    try:
        weights: dict[str, Tensor] = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: cannot read the weights ({error}); restore the file") from error
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise ModelError(f"{path}: tensor {name!r} is missing; restore the file")
        if weights[name].shape != tensor.shape:
            raise ModelError(
                f"{path}: tensor {name!r} has shape {tuple(weights[name].shape)}, "
                f"expected {tuple(tensor.shape)}; files of two models are mixed"
            )
    spare = sorted(set(weights) - set(expected))
    if spare:
        raise ModelError(
            f"{path}: tensor {spare[0]!r} belongs to no part of the network; "
            "files of two models are mixed"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
