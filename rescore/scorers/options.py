"""The options of scorers: plain data, checked where they are made."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypedDict, get_args

from rescore.arguments import kind_of, refuse_unknown
from rescore.errors import ArgumentError, RescoreError, ScoreError

__all__ = [
    "DRAWS",
    "DTYPES",
    "FOLDS",
    "IMPOSSIBLE",
    "NOISE_LEVEL",
    "SEED",
    "DType",
    "Impossible",
    "ScorerKeywords",
    "ScorerOptions",
    "Spec",
    "absolute_path",
    "flag",
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


#: What the options that are not strings must be.
_TYPES: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("draws", "seed", "folds", "window"), (Integral, "a whole number")),
    "t": (Real, "a number between 0 and 1"),
    **dict.fromkeys(("score_eos", "per_token", "remote_code", "compile"), (bool, "True or False")),
}


class ScorerKeywords(TypedDict, total=False):
    """`ScorerOptions` as keywords, so that type checkers see a misspelt one."""

    model: str | os.PathLike[str] | None
    estimator: str | None
    draws: int | None
    seed: int | None
    folds: int | None
    t: float | None
    device: str
    dtype: DType
    normalizer: str | None
    window: int | None
    score_eos: bool
    per_token: bool
    remote_code: bool
    compile: bool
    audio: str | os.PathLike[str] | None
    posteriors: str | os.PathLike[str] | None
    bpe: str | os.PathLike[str] | None
    impossible: Impossible


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
    audio: manifest of the lists' audio, for scorers that listen to it.
    posteriors: file of a CTC recogniser's posteriors.
    bpe: the recogniser's SentencePiece model (None: the one in the file of posteriors).
    impossible: what happens to a hypothesis that CTC cannot emit.

    Raises ArgumentError for a value of another type, ScoreError for one out of range.
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
    audio: str | None = None
    posteriors: str | None = None
    bpe: str | None = None
    impossible: Impossible = "error"

    def __post_init__(self) -> None:
        self._check_types()
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
        """Make options of keywords; paths become strings. Raises ScoreError for an unknown name."""
        known = [option.name for option in fields(cls)]
        refuse_unknown(options, known, "scorer option", ScoreError)
        values = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in options.items()
        }
        return cls(**values)

    def _check_types(self) -> None:
        """Raise ArgumentError for a value that is not of the type of its field."""
        for name in self.changed:
            value = getattr(self, name)
            kind, expected = _TYPES.get(name, (str, "a string"))
            is_flag = isinstance(value, bool)
            if not isinstance(value, kind) or (is_flag and kind is not bool):
                raise ArgumentError(
                    f"scorer option {name!r} is {kind_of(value)}, expected {expected}"
                )

    @property
    def changed(self) -> frozenset[str]:
        """The names of the options that differ from their defaults."""
        return frozenset(
            option.name for option in fields(self) if getattr(self, option.name) != option.default
        )

    @property
    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, as keywords."""
        return {name: getattr(self, name) for name in sorted(self.changed)}

    def absolute(self) -> ScorerOptions:
        """These options with absolute paths, for a process in another working directory."""
        return replace(
            self,
            model=absolute_path(self.model),
            audio=absolute_path(self.audio),
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


@dataclass(frozen=True)
class Spec:
    """Which scorer, as one text: `[NAME=]SCORER[:ESTIMATOR][@MODEL]`.

    `mdlm`, `mdlm:nelbo`, `usdm:pll@DIR`, `gpt2=ar@openai-community/gpt2`. `name` is that of the
    score. None: the text does not say.
    """

    scorer: str
    name: str | None = None
    estimator: str | None = None
    model: str | None = None

    @classmethod
    def parse(cls, text: str) -> Spec:
        """Raises RescoreError for a text that is not written so."""
        match = _SPEC.fullmatch(text.strip())
        if match is None:
            raise RescoreError(
                f"scorer {text!r} is not written as [NAME=]SCORER[:ESTIMATOR][@MODEL],"
                " such as ar, mdlm:pll or gpt2=ar@openai-community/gpt2"
            )
        return cls(**match.groupdict())

    def options(self, options: ScorerOptions | None = None) -> ScorerOptions:
        """The options with estimator and model of this specification.

        Raises ScoreError for one that both give, and differently.
        """
        options = options or ScorerOptions()
        for option in ("estimator", "model"):
            specified, given = getattr(self, option), getattr(options, option)
            if None not in (specified, given) and specified != given:
                raise ScoreError(
                    f"scorer {self.scorer} is specified with the {option} {specified}, and"
                    f" {flag(option)} is {given}; give it once"
                )
        return replace(
            options,
            estimator=self.estimator or options.estimator,
            model=self.model or options.model,
        )
