"""`joint` and `joint_mdlm`: joint decoding as methods of `dlmrescore decode`.

    joint       CTC with a USDM: `rescore.decoding.joint.joint_uniform`
    joint_mdlm  CTC with an MDLM: `rescore.decoding.joint.joint_masked`

The search is that of `rescore.decoding.joint_search`; each text of a list is there once, with its
exact CTC score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

from rescore.decoding.base import DecoderFamily, DecoderOptions
from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import CommitName, CommitRule, commit_rule
from rescore.decoding.driver import Sampler
from rescore.decoding.edits import GATE, EditSearch, PseudoLikelihood
from rescore.decoding.joint import (
    Draft,
    Filling,
    JointScales,
    UniformSteps,
    joint_masked,
    joint_uniform,
)
from rescore.decoding.joint_search import JointSearch, MakeSampler
from rescore.decoding.posterior_decoder import PosteriorDecoder, ctc_scorer
from rescore.decoding.vocabulary import JointVocabulary, joint_vocabulary
from rescore.diffusion.draws import SamplingDraws, utterance_key
from rescore.diffusion.masked import mask_symbol
from rescore.diffusion.readouts import NormalisedRows
from rescore.scorers.ctc import CtcScorer
from rescore.scorers.denoising import DenoisingModel, Estimator, open_denoiser
from rescore.scorers.mdlm import masked_estimator
from rescore.scorers.options import FOLDS, ScorerOptions
from rescore.scorers.sequences import Sequencer
from rescore.scorers.usdm import uniform_estimator

__all__ = ["JOINT", "JOINT_MDLM", "commit_of", "steps_of"]

#: Labels that CTC gives less than this are hidden; so many nats may be decided at once.
HIDE_BELOW = 0.9
COMMIT: CommitName = "entropy_bound"
COMMIT_VALUE = 0.1

_Objective = Literal["mdlm", "usdm"]

_SHARED = frozenset(
    {
        "bpe",
        "candidates",
        "ctc_scale",
        "device",
        "drafts",
        "edits",
        "frame",
        "gate",
        "lm_scale",
        "model",
        "seed",
        "spans",
    }
)


@dataclass(frozen=True)
class _Models:
    """The two models of a file, which decoders of several settings share."""

    scorer: CtcScorer
    lm: DenoisingModel
    vocabulary: JointVocabulary
    likelihood: Estimator  #: the pseudo-likelihood that scores edits

    @classmethod
    def of(cls, objective: _Objective, path: str, options: DecoderOptions) -> _Models:
        """Raises ModelError if the symbols of the file are not those of the language model."""
        scorer = ctc_scorer(path, options)
        lm = open_denoiser(objective, ScorerOptions(model=options.model, device=options.device))
        vocabulary = joint_vocabulary(
            scorer.spelling.symbols, lm.vocabulary.tokenizer, lm.denoiser.vocab_size, path
        )
        if objective == "usdm":
            likelihood = uniform_estimator(lm.denoiser, ScorerOptions(estimator="pll"))
        else:
            folds = ScorerOptions(estimator="pll", folds=FOLDS)
            likelihood = masked_estimator("pll", lm.denoiser, folds)
        return cls(scorer, lm, vocabulary, likelihood)


def _build(objective: _Objective, path: str, options: DecoderOptions) -> PosteriorDecoder:
    return _build_every(objective, path, [options])[0]


def _build_every(
    objective: _Objective, path: str, every: Sequence[DecoderOptions]
) -> list[PosteriorDecoder]:
    """A decoder for each of several settings of the same models."""
    models = _Models.of(objective, path, every[0])
    build = {"usdm": _usdm_decoder, "mdlm": _mdlm_decoder}[objective]
    return [build(models, options) for options in every]


def _usdm_decoder(models: _Models, options: DecoderOptions) -> PosteriorDecoder:
    steps, scales, seed = steps_of(options), _scales(options), options.seed or 0
    denoiser, window = models.lm.denoiser, models.lm.vocabulary.window

    def sampler(draft: Draft, utterance: str, candidate: int) -> Sampler[Canvas]:
        draws = SamplingDraws(seed, utterance_key(utterance), candidate)
        return joint_uniform(draft, denoiser, scales, steps, draws, window)

    return _decoder("joint", models, options, sampler, {**asdict(steps), "seed": seed})


def _mdlm_decoder(models: _Models, options: DecoderOptions) -> PosteriorDecoder:
    name, value, rule = commit_of(options)
    hide_below, remask = _or(options.hide_below, HIDE_BELOW), options.remask or ()
    scales, seed = _scales(options), options.seed or 0
    filling = Filling(mask_symbol(models.lm.denoiser), rule, remask, models.lm.vocabulary.window)

    def sampler(draft: Draft, utterance: str, candidate: int) -> Sampler[Canvas]:
        draws = SamplingDraws(seed, utterance_key(utterance), candidate)
        return joint_masked(draft, scales, filling, hide_below, draws)

    settings: dict[str, object] = {"hide_below": hide_below, "commit": name, "commit_value": value}
    if remask:
        settings |= {"remask": ",".join(map(str, remask)), "seed": seed}
    return _decoder("joint_mdlm", models, options, sampler, settings)


def commit_of(options: DecoderOptions) -> tuple[CommitName, float, CommitRule]:
    """The rule that options name, with its number. Raises ScoreError for one it cannot have."""
    name, value = options.commit or COMMIT, _or(options.commit_value, COMMIT_VALUE)
    return name, value, commit_rule(name, value)


def steps_of(options: DecoderOptions, default: UniformSteps | None = None) -> UniformSteps:
    """The steps of uniform states that options name; what they leave open is as in `default`."""
    default = default or UniformSteps()
    return UniformSteps(
        _or(options.t_start, default.t_start),
        options.steps or default.steps,
        options.update or default.update,
        options.final or default.final,
        options.start or default.start,
    )


def _decoder(
    name: str,
    models: _Models,
    options: DecoderOptions,
    sampler: MakeSampler,
    settings: Mapping[str, object],
) -> PosteriorDecoder:
    scales = _scales(options)
    search = JointSearch(
        name,
        models.lm.denoiser,
        models.vocabulary,
        sampler,
        options.frame or "first",
        options.drafts or 1,
        options.candidates or 1,
        _edits(models, options),
        NormalisedRows(models.likelihood.readout),
        options.device,
    )
    settings = {
        "lm": models.lm.digest,
        "ctc_scale": scales.ctc,
        "lm_scale": scales.lm,
        "frame": search.frame,
        "drafts": search.drafts,
        "candidates": search.candidates,
        **settings,
    }
    count = search.drafts * (search.candidates + 1)
    if search.edits is not None:
        settings |= {"edits": search.edits.edits, "gate": search.edits.gate}
        count += search.edits.edits
    return PosteriorDecoder(
        name,
        models.scorer,
        search,
        settings,
        count,
        spans=options.spans,
        sort=False,
        device=options.device,
    )


def _edits(models: _Models, options: DecoderOptions) -> EditSearch | None:
    if options.edits is None:
        return None
    likelihood = PseudoLikelihood(Sequencer(models.lm.vocabulary), models.likelihood)
    symbols, gate = models.scorer.spelling.symbols, _or(options.gate, GATE)
    return EditSearch(symbols, likelihood, _scales(options), options.edits, gate)


def _scales(options: DecoderOptions) -> JointScales:
    return JointScales(
        _or(options.ctc_scale, JointScales.ctc), _or(options.lm_scale, JointScales.lm)
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


JOINT = DecoderFamily(
    "joint",
    partial(_build, "usdm"),
    _SHARED | {"final", "start", "steps", "t_start", "update"},
    (("gate", "edits"),),
    partial(_build_every, "usdm"),
)

JOINT_MDLM = DecoderFamily(
    "joint_mdlm",
    partial(_build, "mdlm"),
    _SHARED | {"commit", "commit_value", "hide_below", "remask"},
    (("gate", "edits"), ("candidates", "remask"), ("seed", "remask")),
    partial(_build_every, "mdlm"),
)
