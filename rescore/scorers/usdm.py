"""`usdm`: a uniform-state diffusion LM. Estimators: `pll` (one pass, the default) and `nelbo` (Monte Carlo)."""

from __future__ import annotations

from rescore.diffusion import uniform
from rescore.diffusion.denoiser import Plan
from rescore.diffusion.draws import Draws
from rescore.errors import ScoreError
from rescore.models.adapters import NetworkDenoiser
from rescore.models.embedded import open_checkpoint
from rescore.scorers.diffusion import DiffusionScorer
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import Sequencer, TokenSequence
from rescore.scorers.settings import WINDOW, signature, torch_dtype
from rescore.text import normalizer

__all__ = ["build"]


def build(options: ScorerOptions) -> DiffusionScorer:
    """The scorer of a checkpoint with objective `usdm`; by default the embedded one. Raises ScoreError for an unknown estimator."""
    estimator = options.estimator or "pll"
    if estimator not in ("pll", "nelbo"):
        raise ScoreError(f"estimator {estimator!r} of --scorer usdm is unknown; known: pll, nelbo")
    checkpoint = open_checkpoint(options.model, "usdm")
    digest = checkpoint.digest
    sequencer = Sequencer(checkpoint.tokenizer, normalizer(options.normalizer or checkpoint.normalizer), options.window or WINDOW, options.score_eos)
    denoiser = NetworkDenoiser(checkpoint, options.device, torch_dtype(options))

    def pll(window: TokenSequence, utterance: int) -> Plan:
        del utterance
        return uniform.plan_pll(window.tokens, window.scored, options.t)

    def nelbo(window: TokenSequence, utterance: int) -> Plan:
        random = Draws(options.seed, utterance, window.anchors, window.offsets)
        return uniform.plan_nelbo(window.tokens, window.scored, denoiser.vocab_size, random, draws=options.draws)

    is_pll = estimator == "pll"
    settings: dict[str, object] = {"t": options.t} if is_pll else {"draws": options.draws, "seed": options.seed, "power": 2}
    return DiffusionScorer(
        name=f"usdm_{estimator}",
        kind="pll" if is_pll else "neg_nelbo",
        signature=signature("usdm", digest, estimator, settings, sequencer, options),
        denoiser=denoiser,
        sequencer=sequencer,
        planner=pll if is_pll else nelbo,
        readout=(uniform.read_token if is_pll else uniform.read_loss)(denoiser.prediction),
        negate=not is_pll,
        device=options.device,
        per_token=options.per_token,
    )
