"""What decides a corpus and a run: plain records, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rescore.models.objectives import ModelPrediction

__all__ = ["NETWORK_SIZES", "CorpusOptions", "OptimizerName", "TrainOptions"]

OptimizerName = Literal["adamw", "muon"]

#: The fields of TrainOptions, and of NetworkConfig, that are sizes of the network.
NETWORK_SIZES = ("width", "layers", "heads", "feed_forward")


@dataclass(frozen=True)
class CorpusOptions:
    """Which text is tokenised into `directory`, and how.

    `tokenizer` is a SentencePiece model; None: train one of `vocab_size` pieces on the text.
    `join` is the probability that a line continues the text before it, drawn from `seed`.
    """

    text: tuple[Path, ...]
    valid: tuple[Path, ...]
    directory: Path
    tokenizer: Path | None = None
    vocab_size: int = 4096
    join: float = 0.5
    seed: int = 0
    normalizer: str = "librispeech"


@dataclass(frozen=True)
class TrainOptions:
    """What decides a run. Runs with equal options on the same machine have the same curve.

    `prediction` None: the objective's default. `learning_rate` is the highest of the schedule,
    `warmup` the steps in which it rises, `decay` the share of the steps in which it falls. `clip`
    is the largest norm of the gradient. `average` is the decay of the moving average of the
    weights, which is what is validated and saved (0: none). `time_input` None: only where the
    objective needs it. `start_from` is a checkpoint directory whose weights the run starts with,
    of any objective with the same sizes. `evaluate_every` and `save_every` are in steps.
    `save_minutes`: a state is saved at least this often, too; None: by steps alone.
    """

    objective: str
    prediction: ModelPrediction | None = None
    steps: int = 3000
    batch_tokens: int = 4096
    optimizer: OptimizerName = "adamw"
    learning_rate: float = 2e-3
    warmup: int = 150
    decay: float = 0.5
    weight_decay: float = 0.1
    clip: float = 1.0
    average: float = 0.995
    seed: int = 0
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 704
    time_input: bool | None = None
    normalizer: str = "librispeech"
    bf16: bool = True
    device: str = "cpu"
    compile: bool = False
    start_from: str | None = None
    evaluate_every: int = 250
    save_every: int = 250
    save_minutes: float | None = None
