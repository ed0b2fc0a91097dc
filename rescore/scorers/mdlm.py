"""`mdlm`: a masked diffusion LM.

Estimators: `pll` (in 2 folds by default, with `folds` in others, without in none), `nelbo` (Monte
Carlo), `pll_within_word`, `chain`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rescore.diffusion import masked
from rescore.diffusion.draws import Draws
from rescore.diffusion.plans import Plan
from rescore.errors import ScoreError
from rescore.interfaces import Denoiser
from rescore.scorers.denoising import DenoisingScorer, Estimator, denoising_scorer, open_denoiser
from rescore.scorers.family import ScorerFamily
from rescore.scorers.networks import NETWORK_OPTIONS, open_checkpoint_vocabulary
from rescore.scorers.options import DRAWS, FOLDS, SEED, ScorerOptions
from rescore.scorers.sequences import TokenSequence
from rescore.types import ScoreKind

__all__ = ["FAMILY", "MASKED_ESTIMATORS", "MaskedPlanner", "masked_estimator", "with_defaults"]

#: The estimators of every masked denoiser: the options that each reads besides the common ones.
MASKED_ESTIMATORS: dict[str, frozenset[str]] = {
    "pll": frozenset({"folds"}),
    "nelbo": frozenset({"draws", "seed"}),
    "pll_within_word": frozenset(),
    "chain": frozenset(),
}

_KINDS: dict[str, ScoreKind] = {
    "nelbo": "neg_nelbo",
    "pll": "pll",
    "pll_within_word": "pll",
    "chain": "log_prob",
}

#: Raised whenever a number changes for equal settings.
_VERSION = 3


@dataclass(frozen=True)
class MaskedPlanner:
    """An estimator of masked denoisers with its settings.

    `nelbo` reads `draws` and `seed`, `pll` reads `folds`.
    """

    estimator: str
    mask_id: int
    draws: int = DRAWS
    seed: int = SEED
    folds: int | None = None

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window."""
        if self.estimator == "nelbo":
            random = Draws(self.seed, utterance, window.anchors, window.offsets)
            return masked.plan_nelbo(window.scored_sequence, self.mask_id, random, draws=self.draws)
        if self.estimator == "chain":
            left_to_right = np.arange(int(window.scored.sum()))
            return masked.plan_chain(window.scored_sequence, self.mask_id, left_to_right)
        if self.folds is not None:
            folds = (window.anchors + window.offsets) % self.folds
            return masked.plan_kfold_pll(window.scored_sequence, self.mask_id, folds)
        words = window.words if self.estimator == "pll_within_word" else None
        return masked.plan_pll(window.scored_sequence, self.mask_id, words)

    def evaluations(self, words: int, /) -> int:
        """The draws, or about one evaluation a token, and no more than there are folds."""
        if self.estimator == "nelbo":
            return self.draws
        tokens = 1 + words * 13 // 10
        return tokens if self.folds is None else min(self.folds, tokens)


def masked_estimator(name: str, denoiser: Denoiser, options: ScorerOptions) -> Estimator:
    """The estimator of this name for any masked denoiser.

    Raises ScoreError for a denoiser without a mask symbol.
    """
    if denoiser.mask_id is None:
        raise ScoreError(f"estimator {name} needs a model with a mask symbol; use --scorer usdm")
    draws = DRAWS if options.draws is None else options.draws
    seed = SEED if options.seed is None else options.seed
    settings: dict[str, object] = {}
    if name == "nelbo":
        settings = {"draws": draws, "seed": seed, "set_sampler": "exact_count"}
    elif options.folds is not None:
        settings = {"folds": options.folds}
    return Estimator(
        name,
        _KINDS[name],
        MaskedPlanner(name, denoiser.mask_id, draws, seed, options.folds),
        masked.read_token,
        settings,
        _VERSION,
        scope="list" if settings else "text",
    )


def with_defaults(options: ScorerOptions) -> ScorerOptions:
    """The options with the default estimator, the PLL in folds, where they name none."""
    if options.estimator is not None:
        return options
    return replace(options, estimator="pll", folds=options.folds or FOLDS)


def _build(options: ScorerOptions) -> DenoisingScorer:
    options = with_defaults(options)
    model = open_denoiser("mdlm", options)
    estimator = masked_estimator(options.estimator or "pll", model.denoiser, options)
    return denoising_scorer("mdlm", model, estimator, options)


FAMILY = ScorerFamily(
    "mdlm",
    _build,
    NETWORK_OPTIONS | {"compile"},
    MASKED_ESTIMATORS,
    lambda options: open_checkpoint_vocabulary("mdlm", options),
)
