"""The options of scorers: plain data, checked where they are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rescore.errors import RescoreError, ScoreError

__all__ = [
    "DRAWS",
    "DTYPES",
    "FOLDS",
    "IMPOSSIBLE",
    "NOISE_LEVEL",
    "SEED",
    "DType",
    "Impossible",
    "ScorerOptions",
    "absolute_path",
    "flag",
    "parse_spec",
]

#: dtype of a network's body; log-probabilities are float32 or wider in any case.
#: auto: bfloat16 on a GPU that computes in it, float32 elsewhere.
DType = Literal["auto", "float32", "bfloat16", "float64"]
DTYPES = get_args(DType)

#: What happens to a hypothesis that CTC cannot emit.
Impossible = Literal["error", "drop"]
IMPOSSIBLE = get_args(Impossible)

#: What None stands for in `ScorerOptions.draws`, `seed` and `t`.
DRAWS, SEED, NOISE_LEVEL = 8, 0, 0.1

#: Folds of `mdlm` where neither estimator nor folds are given.
FOLDS = 2

_SPEC = re.compile(
    r"(?:(?P<name>\w[\w.-]*)=)?(?P<scorer>\w[\w-]*)(?::(?P<estimator>\w+))?(?:@(?P<model>.+))?"
)


@dataclass(frozen=True)
class ScorerOptions:
    """Options of a scorer; an option at its default counts as not given.

    A scorer refuses an option that it does not read (`rescore.scorers.family`).

    model: directory or Hub id (None: the embedded model).
    estimator: see the scorer (None: its first).
    draws, seed: of Monte-Carlo estimators (None: 8 and 0).
    folds: of the pseudo-log-likelihood of `mdlm` and `mlm` (None: one token at a time, but 2 for
        `mdlm` without an estimator).
    t: noise level of the one-pass pseudo-log-likelihood of `usdm`, in (0, 1) (None: 0.1).
    device: torch device of the network.
    dtype: of the network's body.
    normalizer: what a text goes through first (None: the model's own).
    window: longest token sequence, BOS and EOS included (None: what the model allows).
    score_eos: whether the end of the sentence is part of the score.
    per_token: also say what each token adds to the score.
    remote_code: run code that a Hub model brings with it.
    compile: torch.compile the network.
    posteriors: file of a CTC recogniser's posteriors.
    bpe: the recogniser's SentencePiece model (None: the one in the file of posteriors).
    impossible: what happens to a hypothesis that CTC cannot emit.

    Raises ScoreError for a value out of range.
    """

    model: str | None = None
    estimator: str | None = None
    draws: int | None = None
    seed: int | None = None
    folds: int | None = None
    t: float | None = None
    device: str = "cpu"
    dtype: DType = "auto"
    normalizer: str | None = None
    window: int | None = None
    score_eos: bool = True
    per_token: bool = False
    remote_code: bool = False
    compile: bool = False
    posteriors: str | None = None
    bpe: str | None = None
    impossible: Impossible = "error"

    def __post_init__(self) -> None:
        if self.draws is not None and self.draws < 1:
            raise ScoreError(f"draws must be at least 1, got {self.draws}")
        if self.folds is not None and self.folds < 1:
            raise ScoreError(f"folds must be at least 1, got {self.folds}")
        if self.t is not None and not 0 < self.t < 1:
            raise ScoreError(f"t must lie between 0 and 1, got {self.t}")
        if self.window is not None and self.window < 8:
            raise ScoreError(f"window must be at least 8 tokens, got {self.window}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ScorerOptions:
        """Make options of keywords. Raises ScoreError for an unknown name."""
        known = [option.name for option in fields(cls)]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise ScoreError(f"scorer option {unknown[0]!r} is unknown; known: {', '.join(known)}")
        return cls(**options)

    @property
    def changed(self) -> frozenset[str]:
        """The names of the options that differ from their defaults."""
        return frozenset(
            option.name for option in fields(self) if getattr(self, option.name) != option.default
        )

    def absolute(self) -> ScorerOptions:
        """These options with absolute paths, for a process in another working directory."""
        return replace(
            self,
            model=absolute_path(self.model),
            posteriors=absolute_path(self.posteriors),
            bpe=absolute_path(self.bpe),
        )

    def only(self, names: frozenset[str]) -> ScorerOptions:
        """These options, all others at their defaults."""
        return type(self)(**{name: getattr(self, name) for name in self.changed & names})


def absolute_path(path: str | None) -> str | None:
    """The absolute path of what exists; anything else, such as a Hub id, as it is."""
    return str(Path(path).absolute()) if path is not None and Path(path).exists() else path


def flag(option: str) -> str:
    """How the command line writes an option."""
    return "--no-score-eos" if option == "score_eos" else "--" + option.replace("_", "-")


def parse_spec(
    spec: str, options: ScorerOptions | None = None
) -> tuple[str | None, str, ScorerOptions]:
    """Parse `[NAME=]SCORER[:ESTIMATOR][@MODEL]`.

    Returns (name of the score or None, scorer, `options` with estimator and model replaced).
    Raises RescoreError for anything else.
    """
    match = _SPEC.fullmatch(spec.strip())
    if match is None:
        raise RescoreError(
            f"scorer {spec!r} is not written as [NAME=]SCORER[:ESTIMATOR][@MODEL],"
            " such as ar, mdlm:pll or gpt2=ar@openai-community/gpt2"
        )
    return (
        match["name"],
        match["scorer"],
        replace(options or ScorerOptions(), model=match["model"], estimator=match["estimator"]),
    )
