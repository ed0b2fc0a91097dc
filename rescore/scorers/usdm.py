"""`usdm`: a uniform-state diffusion LM.

Estimators: `pll` (one evaluation, the default) and `nelbo` (Monte Carlo).
"""

from __future__ import annotations

from dataclasses import dataclass

from rescore.diffusion import uniform
from rescore.diffusion.draws import Draws
from rescore.diffusion.plans import Plan
from rescore.interfaces import Denoiser
from rescore.scorers.denoising import DenoisingScorer, Estimator, denoising_scorer, open_denoiser
from rescore.scorers.family import ScorerFamily
from rescore.scorers.networks import NETWORK_OPTIONS, open_checkpoint_vocabulary
from rescore.scorers.options import DRAWS, NOISE_LEVEL, SEED, ScorerOptions
from rescore.scorers.sequences import TokenSequence

__all__ = ["FAMILY", "uniform_estimator"]

#: Of the importance sampling of noise levels: t = u^2.
_POWER = 2

#: Raised whenever a number changes for equal settings.
_PLL_VERSION = 2
_NELBO_VERSION = 3


@dataclass(frozen=True)
class PllPlanner:
    """One evaluation of the hypothesis itself at noise level `t`."""

    t: float

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window."""
        del utterance
        return uniform.plan_pll(window.scored_sequence, self.t)

    def evaluations(self, words: int, /) -> int:
        """One, whatever the length."""
        del words
        return 1


@dataclass(frozen=True)
class NelboPlanner:
    """`draws` corrupted sequences."""

    vocab_size: int
    draws: int
    seed: int

    def __call__(self, window: TokenSequence, utterance: int, /) -> Plan:
        """The plan of one window."""
        random = Draws(self.seed, utterance, window.anchors, window.offsets)
        return uniform.plan_nelbo(
            window.scored_sequence, self.vocab_size, random, draws=self.draws, power=_POWER
        )

    def evaluations(self, words: int, /) -> int:
        """The draws, whatever the length."""
        del words
        return self.draws


def _pll(denoiser: Denoiser, options: ScorerOptions) -> Estimator:
    t = NOISE_LEVEL if options.t is None else options.t
    readout = uniform.read_token(denoiser.prediction)
    return Estimator("pll", "pll", PllPlanner(t), readout, {"t": t}, _PLL_VERSION)


def _nelbo(denoiser: Denoiser, options: ScorerOptions) -> Estimator:
    draws = DRAWS if options.draws is None else options.draws
    seed = SEED if options.seed is None else options.seed
    return Estimator(
        "nelbo",
        "neg_nelbo",
        NelboPlanner(denoiser.vocab_size, draws, seed),
        uniform.read_loss(denoiser.prediction),
        {"draws": draws, "seed": seed, "power": _POWER},
        _NELBO_VERSION,
        scope="list",
    )


def uniform_estimator(denoiser: Denoiser, options: ScorerOptions) -> Estimator:
    """The estimator that the options name, for any denoiser without a mask symbol."""
    return (_nelbo if options.estimator == "nelbo" else _pll)(denoiser, options)


def _build(options: ScorerOptions) -> DenoisingScorer:
    model = open_denoiser("usdm", options)
    return denoising_scorer("usdm", model, uniform_estimator(model.denoiser, options), options)


FAMILY = ScorerFamily(
    "usdm",
    _build,
    NETWORK_OPTIONS | {"compile"},
    {"pll": frozenset({"t"}), "nelbo": frozenset({"draws", "seed"})},
    lambda options: open_checkpoint_vocabulary("usdm", options),
)
