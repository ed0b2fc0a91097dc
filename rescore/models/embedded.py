"""The models that come with the package, and how a name, a directory or nothing becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rescore.arguments import close_to
from rescore.errors import ModelError

if TYPE_CHECKING:
    from rescore.models.checkpoint import Checkpoint
    from rescore.models.tokenizer import Tokenizer

__all__ = [
    "EMBEDDED",
    "embedded_directory",
    "embedded_models",
    "open_checkpoint",
    "open_vocabulary",
    "read_objective",
]

EMBEDDED = Path(__file__).parent / "embedded"


def embedded_models() -> list[Path]:
    """The directories of the embedded models, sorted by name."""
    return sorted(path.parent for path in EMBEDDED.glob("*/config.json"))


def open_checkpoint(model: str | None, objective: str) -> Checkpoint:
    """Load a checkpoint of `objective`.

    `model` is a directory, or the name of an embedded model; None: the embedded one of `objective`.
    Raises ModelError that names the directory if it is missing or has another objective.
    """
    from rescore.models.checkpoint import load  # noqa: PLC0415 - torch; a list of models needs none

    return load(_directory(model, objective), objective)


def open_vocabulary(model: str | None, objective: str) -> tuple[Tokenizer, str]:
    """Load tokenizer and normaliser name of the checkpoint that `open_checkpoint` would load.

    The weights are not read. Raises ModelError as `open_checkpoint` does.
    """
    from rescore.models.checkpoint import read_vocabulary  # noqa: PLC0415 - torch

    return read_vocabulary(_directory(model, objective), objective)


def read_objective(model: str) -> str:
    """What the checkpoint in a directory was trained for; the weights are not read.

    Raises ModelError as `open_checkpoint` does.
    """
    from rescore.models.checkpoint import read_objective  # noqa: PLC0415 - torch

    return read_objective(_directory(model, ""))


def embedded_directory(model: str) -> Path | None:
    """The directory of the embedded model of this name; None for a checkpoint or another name."""
    is_checkpoint = (Path(model) / "config.json").is_file()
    is_name = not is_checkpoint and model in [path.name for path in embedded_models()]
    return EMBEDDED / model if is_name else None


def _directory(model: str | None, objective: str) -> Path:
    if model is None:
        return EMBEDDED / objective
    directory = embedded_directory(model) or Path(model)
    if not directory.is_dir():
        names = [path.name for path in embedded_models()]
        raise ModelError(
            f"{model}: no such checkpoint directory, and no embedded model ({', '.join(names)})"
            f"{close_to(model, names) or '; `dlmrescore train` makes a checkpoint'}"
        )
    return directory
