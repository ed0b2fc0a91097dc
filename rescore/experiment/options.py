"""What is run: the files, the options that decide the numbers, the scores to add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from rescore.formats.files import PathLike
from rescore.scorers import Scorer, ScorerOptions, Spec, load_scorer
from rescore.scorers.loading import read_options
from rescore.scorers.options import DType
from rescore.types import NBest
from rescore.wer import Unit

__all__ = [
    "FAST",
    "FAST_DEPTH",
    "SCORERS",
    "Inputs",
    "Options",
    "OptionsKeywords",
    "ScorePlan",
    "Workplace",
]

#: The scorers of an experiment by default.
SCORERS = ("ar", "mdlm", "usdm:pll", "usdm:nelbo")
#: Those with one network evaluation per hypothesis, and the depth of the lists with `--fast`.
FAST = ("ar", "usdm:pll")
FAST_DEPTH = 20


@dataclass(frozen=True)
class Inputs:
    """The files of an experiment: lists for dev and test, perhaps with references of their own.

    `format_name` is the format of both lists; None: the content decides.
    """

    dev: PathLike
    test: PathLike
    format_name: str | None = None
    refs_dev: PathLike | None = None
    refs_test: PathLike | None = None


class OptionsKeywords(TypedDict, total=False):
    """`Options` as keywords, so that type checkers see a misspelt one."""

    scorers: Sequence[str] | None
    base: Sequence[str] | None
    depth: int | None
    keep: float
    unit: Unit
    normalizer: str
    draws: int
    folds: int | None
    seed: int
    per_token: bool
    device: str
    dtype: DType


@dataclass(frozen=True)
class Options:
    """What decides the numbers of an experiment, besides the lists.

    `scorers` are `[NAME=]SCORER[:ESTIMATOR][@MODEL]`, as in `rescore.scorers.Spec`, where NAME
    becomes the name of the score; None stands for SCORERS. `base` names the recogniser's scores,
    the first with scale 1; None stands for `rescore.fusion.recogniser_scores`. `depth` limits the
    hypotheses of each list to the first ones. `keep` is the probability, on held-out
    folds of dev, with which a system has to beat a simpler one to be chosen. `unit` and
    `normalizer` say how errors are counted; `draws`, `folds`, `seed`, `per_token`, `device` and
    `dtype` apply to every scorer that reads them.
    """

    scorers: tuple[str, ...] | None = None
    base: tuple[str, ...] | None = None
    depth: int | None = None
    keep: float = 0.9
    unit: Unit = "word"
    normalizer: str = "none"
    draws: int = 8
    folds: int | None = None
    seed: int = 0
    per_token: bool = False
    device: str = "cpu"
    dtype: DType = "auto"

    def plans(self) -> list[ScorePlan]:
        """Build the scorers, so that a broken one is refused before you spend compute."""
        specs = SCORERS if self.scorers is None else self.scorers
        return [ScorePlan.of(spec, self) for spec in specs]


@dataclass(frozen=True)
class Workplace:
    """How the folder of an experiment is worked in; no number depends on it but for rounding.

    `cache` is a directory of scores that runs share. `grows`: the folder may belong to the same
    experiment with fewer scorers.
    """

    cache: PathLike | None = None
    grows: bool = False


@dataclass(frozen=True)
class ScorePlan:
    """One score to add: its name, the scorer, and the family and settings it was built from."""

    name: str
    scorer: Scorer
    family: str
    settings: ScorerOptions

    @classmethod
    def of(cls, text: str, options: Options) -> ScorePlan:
        """Build the scorer of a specification."""
        common = ScorerOptions(
            draws=options.draws,
            folds=options.folds,
            seed=options.seed,
            per_token=options.per_token,
            device=options.device,
            dtype=options.dtype,
        )
        spec = Spec.parse(text)
        settings = read_options(spec.scorer, spec.options(common))
        scorer = load_scorer(spec.scorer, settings)
        return cls(spec.name or scorer.name, scorer, spec.scorer, settings)

    def evaluations(self, nbest: NBest) -> int:
        """About how many network evaluations a list costs: the unit of the progress bar."""
        return self.scorer.evaluations(nbest)
