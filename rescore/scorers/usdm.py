"""`usdm`: a uniform-state diffusion LM. Estimators: `pll` (one pass, the default) and `nelbo` (Monte Carlo)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rescore.diffusion import uniform
from rescore.diffusion.draws import Draws
from rescore.diffusion.queries import Plan
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkDenoiser
from rescore.models.embedded import open_checkpoint
from rescore.scorers.denoising import DiffusionScorer, trial
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.scorers.signature import WINDOW, budget, signature, torch_dtype
from rescore.text import normalizer

__all__ = ["build"]


@dataclass(frozen=True)
class UniformPlanner:
    """An estimator of uniform-state denoisers with its settings: `t` is of `pll`, `draws` and `seed` of `nelbo`."""

    estimator: str
    vocab_size: int
    t: float
    draws: int
    seed: int

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window."""
        if self.estimator == "pll":
            return uniform.plan_pll(window.tokens, window.scored, self.t)
        random = Draws(self.seed, utterance, window.anchors, window.offsets)
        return uniform.plan_nelbo(
            window.tokens, window.scored, self.vocab_size, random, draws=self.draws
        )

    def evaluations(self, words: int, /) -> int:
        """One pass, or the draws."""
        del words
        return 1 if self.estimator == "pll" else self.draws


def build(options: ScorerOptions) -> DiffusionScorer:
    """The scorer of a checkpoint with objective `usdm`; by default the embedded one. Raises ScoreError for an unknown estimator."""
    estimator = options.estimator or "pll"
    if estimator not in ("pll", "nelbo"):
        raise ScoreError(f"estimator {estimator!r} of --scorer usdm is unknown; known: pll, nelbo")
    checkpoint = open_checkpoint(options.model, "usdm")
    digest = checkpoint.digest
    sequencer = Sequencer(
        checkpoint.tokenizer,
        normalizer(options.normalizer or checkpoint.normalizer),
        options.window or WINDOW,
        options.score_eos,
    )
    denoiser = NetworkDenoiser(checkpoint, options.device, torch_dtype(options), options.compile)

    is_pll = estimator == "pll"
    settings: dict[str, object] = (
        {"t": options.t} if is_pll else {"draws": options.draws, "seed": options.seed, "power": 2}
    )
    return DiffusionScorer(
        name=f"usdm_{estimator}",
        kind="pll" if is_pll else "neg_nelbo",
        signature=signature("usdm", digest, estimator, settings, sequencer, options),
        denoiser=denoiser,
        sequencer=sequencer,
        planner=UniformPlanner(
            estimator, denoiser.vocab_size, options.t, options.draws, options.seed
        ),
        readout=(uniform.read_token if is_pll else uniform.read_loss)(denoiser.prediction),
        negate=not is_pll,
        device=options.device,
        per_token=options.per_token,
        budget=budget(options.device, partial(trial, denoiser)),
    )
