"""The table of objectives: what a network is trained for, and everything that follows from it.

Checkpoints read from it how many rows a network has and what its output may mean; the trainer, how
to build, train and validate a network; the command line, which `dlmrescore train` commands there
are. A new objective is one entry here and its loss (docs/models.md, "Adding an objective").
Losses are "module:object" strings, resolved when used, so that this file imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rescore.arguments import close_to
from rescore.errors import ModelError

__all__ = ["OBJECTIVES", "LossNames", "ModelPrediction", "Objective", "objective_named"]

#: What a network's output means. Leave-one-out is not the posterior: see rescore.diffusion.uniform.
ModelPrediction = Literal["masked", "leave_one_out", "posterior", "causal"]


class LossNames(NamedTuple):
    """The `rescore.train.losses.Loss` to train with, and the bound to validate with."""

    loss: str
    bound: str


@dataclass(frozen=True)
class Objective:
    """What a checkpoint, the trainer and the command line must know of an objective.

    `losses`: what the network may predict; the first is the default. `has_mask_symbol`: one more
    row follows the vocabulary. `needs_time_input`: the network must be told the noise level.
    `is_conditioned`: it needs more than text, so `dlmrescore train NAME` on text alone has no use.
    """

    title: str
    losses: Mapping[ModelPrediction, LossNames]
    has_mask_symbol: bool = False
    is_causal: bool = False
    needs_time_input: bool = False
    is_conditioned: bool = False

    @property
    def predictions(self) -> tuple[ModelPrediction, ...]:
        """What the network may predict, the default first."""
        return tuple(self.losses)

    def rows(self, pieces: int) -> int:
        """The rows of a network's embedding and output, for a vocabulary of `pieces` pieces."""
        return pieces + 1 if self.has_mask_symbol else pieces


_LOSSES = "rescore.train.losses"

OBJECTIVES: dict[str, Objective] = {
    "mdlm": Objective(
        title="masked diffusion language model",
        losses={"masked": LossNames(f"{_LOSSES}:mdlm_loss", f"{_LOSSES}:mdlm_loss")},
        has_mask_symbol=True,
    ),
    "usdm": Objective(
        title="uniform-state diffusion language model",
        losses={
            "leave_one_out": LossNames(f"{_LOSSES}:usdm_loss", f"{_LOSSES}:usdm_loss"),
            "posterior": LossNames(f"{_LOSSES}:posterior_loss", f"{_LOSSES}:posterior_nelbo"),
        },
        needs_time_input=True,
    ),
    "ar": Objective(
        title="autoregressive language model",
        losses={"causal": LossNames(f"{_LOSSES}:ar_loss", f"{_LOSSES}:ar_loss")},
        is_causal=True,
    ),
}


def objective_named(name: str) -> Objective:
    """Return the entry of an objective. Raises ModelError if there is none of that name."""
    if name not in OBJECTIVES:
        known = f"{', '.join(OBJECTIVES)}{close_to(name, OBJECTIVES)}"
        raise ModelError(f"objective {name!r} is unknown; known: {known}")
    return OBJECTIVES[name]
