"""`mdlm`: a masked diffusion LM. Estimators: `nelbo` (Monte Carlo, the default), `pll`, `pll_within_word`, `chain`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from rescore.diffusion import masked
from rescore.diffusion.draws import Draws
from rescore.diffusion.queries import Denoiser, Plan
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkDenoiser
from rescore.models.embedded import open_checkpoint
from rescore.scorers.denoising import DiffusionScorer, trial
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.scorers.signature import WINDOW, budget, signature, torch_dtype
from rescore.text import normalizer
from rescore.types import ScoreKind

__all__ = ["build", "masked_scorer"]

_ESTIMATORS: dict[str, ScoreKind] = {
    "nelbo": "neg_nelbo",
    "pll": "pll",
    "pll_within_word": "pll",
    "chain": "log_prob",
}


@dataclass(frozen=True)
class MaskedPlanner:
    """An estimator of masked denoisers with its settings; `draws`, `seed` are of `nelbo`."""

    estimator: str
    mask_id: int
    draws: int
    seed: int

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window."""
        if self.estimator == "nelbo":
            random = Draws(self.seed, utterance, window.anchors, window.offsets)
            return masked.plan_nelbo(
                window.tokens, window.scored, self.mask_id, random, draws=self.draws
            )
        if self.estimator == "chain":
            return masked.plan_chain(
                window.tokens, window.scored, self.mask_id, np.arange(int(window.scored.sum()))
            )
        words = window.words if self.estimator == "pll_within_word" else None
        return masked.plan_pll(window.tokens, window.scored, self.mask_id, words)

    def evaluations(self, words: int, /) -> int:
        """The draws, or about one pass a token."""
        return self.draws if self.estimator == "nelbo" else 1 + words * 13 // 10


def masked_scorer(
    scorer: str,
    digest: str,
    denoiser: Denoiser,
    sequencer: Sequencer,
    estimator: str,
    options: ScorerOptions,
) -> DiffusionScorer:
    """A scorer of any masked denoiser, for `mdlm` and `mlm`. Raises ScoreError for an unknown estimator."""
    if estimator not in _ESTIMATORS:
        raise ScoreError(
            f"estimator {estimator!r} of --scorer {scorer} is unknown; known: {', '.join(_ESTIMATORS)}"
        )
    if denoiser.mask_id is None:
        raise ScoreError(f"--scorer {scorer} needs a model with a mask symbol")
    settings = (
        {"draws": options.draws, "seed": options.seed, "strata": "exact_count"}
        if estimator == "nelbo"
        else {}
    )
    return DiffusionScorer(
        name=f"{scorer}_{estimator}",
        kind=_ESTIMATORS[estimator],
        signature=signature(scorer, digest, estimator, settings, sequencer, options),
        denoiser=denoiser,
        sequencer=sequencer,
        planner=MaskedPlanner(estimator, denoiser.mask_id, options.draws, options.seed),
        readout=masked.read_token,
        negate=estimator == "nelbo",
        device=options.device,
        per_token=options.per_token,
        budget=budget(options.device, partial(trial, denoiser)),
    )


def build(options: ScorerOptions) -> DiffusionScorer:
    """The scorer of a checkpoint with objective `mdlm`; by default the embedded one with `nelbo`."""
    checkpoint = open_checkpoint(options.model, "mdlm")
    digest = checkpoint.digest
    sequencer = Sequencer(
        checkpoint.tokenizer,
        normalizer(options.normalizer or checkpoint.normalizer),
        options.window or WINDOW,
        options.score_eos,
    )
    denoiser = NetworkDenoiser(checkpoint, options.device, torch_dtype(options), options.compile)
    return masked_scorer("mdlm", digest, denoiser, sequencer, options.estimator or "nelbo", options)
