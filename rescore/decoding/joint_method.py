"""`joint` and `joint_mdlm`: joint decoding as methods of `dlmrescore decode`.

    joint       CTC with a USDM: `rescore.decoding.joint.joint_uniform`
    joint_mdlm  CTC with an MDLM: `rescore.decoding.joint.joint_masked`

A list holds what joint decoding makes of an utterance, first candidate first, and then the greedy
transcript that it began with, each text once and with its exact CTC score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from rescore.acoustic.posteriors import Posteriors
from rescore.decoding.base import DecoderFamily, DecoderOptions
from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import CommitName, commit_rule
from rescore.decoding.ctc import greedy_transcript
from rescore.decoding.driver import Sampler, run_samplers
from rescore.decoding.joint import (
    Draft,
    Frame,
    JointScales,
    UniformSteps,
    joint_masked,
    joint_uniform,
)
from rescore.decoding.posterior_decoder import PosteriorDecoder, Proposal, ctc_scorer
from rescore.decoding.vocabulary import JointVocabulary, joint_vocabulary
from rescore.diffusion.draws import SamplingDraws, utterance_key
from rescore.diffusion.masked import mask_symbol
from rescore.scorers.denoising import DenoisingModel, open_denoiser
from rescore.scorers.options import ScorerOptions

__all__ = ["JOINT", "JOINT_MDLM", "ctc_draft"]

#: Labels that CTC gives less than this are hidden; so many nats may be decided at once.
HIDE_BELOW = 0.9
COMMIT: CommitName = "entropy_bound"
COMMIT_VALUE = 0.1

#: The sampler of a draft of an utterance, by its id and the number of the candidate.
MakeSampler = Callable[[Draft, str, int], Sampler[Canvas]]

_SHARED = frozenset({"bpe", "ctc_scale", "device", "frame", "lm_scale", "model", "spans"})


def ctc_draft(posteriors: Posteriors, vocabulary: JointVocabulary, frame: Frame) -> Draft:
    """The greedy transcript of an utterance as a draft.

    `frame` says which frame of a label speaks for it: its first, or the one of its highest
    posterior.
    """
    path = greedy_transcript(posteriors)
    frames = path.first if frame == "first" else path.peak
    tokens = vocabulary.to_tokens(path.labels.tolist())
    editable = np.ones(len(tokens), dtype=bool)
    editable[[0, -1]] = False
    rows = vocabulary.log_probs(posteriors.log_probs[frames])
    return Draft(Canvas.of(tokens, editable), rows, path.confidence)


@dataclass(frozen=True)
class JointSearch:
    """A `Search`: the transcripts that samplers make of the greedy ones."""

    origin: str
    model: DenoisingModel
    vocabulary: JointVocabulary
    frame: Frame
    candidates: int
    sampler: MakeSampler
    device: str

    def __call__(self, utterances: Sequence[Posteriors], /) -> list[list[Proposal]]:
        """Candidates in their order, then the draft."""
        drafts = [ctc_draft(utterance, self.vocabulary, self.frame) for utterance in utterances]
        samplers = [
            self.sampler(draft, utterance.id, candidate)
            for draft, utterance in zip(drafts, utterances, strict=True)
            for candidate in range(self.candidates)
        ]
        canvases = iter(run_samplers(self.model.denoiser, samplers, device=self.device))
        return [
            [
                *(self._proposal(next(canvases), self.origin) for _ in range(self.candidates)),
                self._proposal(draft.canvas, "ctc_greedy"),
            ]
            for draft in drafts
        ]

    def _proposal(self, canvas: Canvas, origin: str) -> Proposal:
        return Proposal(self.vocabulary.to_labels(canvas.tokens[canvas.editable]), origin)


def _build_usdm(path: str, options: DecoderOptions) -> PosteriorDecoder:
    steps = UniformSteps(
        _or(options.t_start, UniformSteps.t_start),
        options.steps or UniformSteps.steps,
        options.update or UniformSteps.update,
        options.final or UniformSteps.final,
        options.start or UniformSteps.start,
    )
    model, scales, seed = _open("usdm", options), _scales(options), options.seed or 0

    def sampler(draft: Draft, utterance: str, candidate: int) -> Sampler[Canvas]:
        draws = SamplingDraws(seed, utterance_key(utterance), candidate)
        return joint_uniform(draft, model.denoiser, scales, steps, draws, model.vocabulary.window)

    return _decoder("joint", path, model, options, sampler, {**asdict(steps), "seed": seed})


def _build_mdlm(path: str, options: DecoderOptions) -> PosteriorDecoder:
    name, value = options.commit or COMMIT, _or(options.commit_value, COMMIT_VALUE)
    rule, hide_below = commit_rule(name, value), _or(options.hide_below, HIDE_BELOW)
    model, scales = _open("mdlm", options), _scales(options)
    mask = mask_symbol(model.denoiser)

    def sampler(draft: Draft, utterance: str, candidate: int) -> Sampler[Canvas]:
        del utterance, candidate  # nothing is drawn
        return joint_masked(draft, mask, scales, rule, hide_below, model.vocabulary.window)

    settings = {"hide_below": hide_below, "commit": name, "commit_value": value}
    return _decoder("joint_mdlm", path, model, options, sampler, settings)


def _decoder(
    name: str,
    path: str,
    model: DenoisingModel,
    options: DecoderOptions,
    sampler: MakeSampler,
    settings: Mapping[str, object],
) -> PosteriorDecoder:
    """The decoder of a file. Raises ModelError if its symbols are not those of the model."""
    scorer, scales = ctc_scorer(path, options), _scales(options)
    frame, candidates = options.frame or "first", options.candidates or 1
    vocabulary = joint_vocabulary(
        scorer.spelling.symbols, model.vocabulary.tokenizer, model.denoiser.vocab_size, path
    )
    search = JointSearch(name, model, vocabulary, frame, candidates, sampler, options.device)
    settings = {
        "lm": model.digest,
        "ctc_scale": scales.ctc,
        "lm_scale": scales.lm,
        "frame": frame,
        "candidates": candidates,
        **settings,
    }
    return PosteriorDecoder(
        name,
        scorer,
        search,
        settings,
        candidates + 1,
        spans=options.spans,
        sort=False,
        device=options.device,
    )


def _open(objective: Literal["mdlm", "usdm"], options: DecoderOptions) -> DenoisingModel:
    return open_denoiser(objective, ScorerOptions(model=options.model, device=options.device))


def _scales(options: DecoderOptions) -> JointScales:
    return JointScales(
        _or(options.ctc_scale, JointScales.ctc), _or(options.lm_scale, JointScales.lm)
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


JOINT = DecoderFamily(
    "joint",
    _build_usdm,
    _SHARED | {"candidates", "final", "seed", "start", "steps", "t_start", "update"},
)

JOINT_MDLM = DecoderFamily(
    "joint_mdlm", _build_mdlm, _SHARED | {"commit", "commit_value", "hide_below"}
)
