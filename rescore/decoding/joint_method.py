"""`joint` and `joint_mdlm`: joint decoding as methods of `dlmrescore decode`.

    joint       CTC with a USDM: `rescore.decoding.joint.joint_uniform`
    joint_mdlm  CTC with an MDLM: `rescore.decoding.joint.joint_masked`

A list holds what joint decoding makes of an utterance and then the drafts that it began with: the
greedy transcript, and where more drafts are asked for the best others of a beam search, which have
other lengths. Each text is there once, with its exact CTC score.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rescore.acoustic.ctc_paths import LabelledPath, align
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search
from rescore.decoding.base import DecoderFamily, DecoderOptions
from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import CommitName, CommitRule, commit_rule
from rescore.decoding.ctc import BEAM_PER_COUNT, greedy_transcript
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

__all__ = ["JOINT", "JOINT_MDLM", "commit_of", "ctc_draft", "draft_paths"]

#: Labels that CTC gives less than this are hidden; so many nats may be decided at once.
HIDE_BELOW = 0.9
COMMIT: CommitName = "entropy_bound"
COMMIT_VALUE = 0.1

#: The sampler of a draft of an utterance, by its id and the number of the candidate.
MakeSampler = Callable[[Draft, str, int], Sampler[Canvas]]

_SHARED = frozenset({"bpe", "ctc_scale", "device", "drafts", "frame", "lm_scale", "model", "spans"})


def ctc_draft(
    posteriors: Posteriors, path: LabelledPath, vocabulary: JointVocabulary, frame: Frame
) -> Draft:
    """The transcript of a path as a draft.

    `frame` says which frame of a label speaks for it: its first, or the one of its highest
    posterior.
    """
    frames = path.first if frame == "first" else path.peak
    tokens = vocabulary.to_tokens(path.labels.tolist())
    rows = vocabulary.log_probs(posteriors.log_probs[frames])
    return Draft(Canvas.of_text(tokens), rows, path.confidence)


def draft_paths(utterances: Sequence[Posteriors], count: int) -> list[list[LabelledPath]]:
    """The greedy path of every utterance, and the best paths of the likeliest other texts.

    `count` paths at most; the texts are those of a prefix beam search, so they have other lengths.
    """
    paths = [[greedy_transcript(posteriors)] for posteriors in utterances]
    if count == 1:
        return paths
    rows = [posteriors.log_probs for posteriors in utterances]
    symbols = utterances[0].symbols
    beam = BeamOptions(BEAM_PER_COUNT * count)
    beams = prefix_beam_search(rows, symbols.blank, beam, never=sorted(symbols.special))
    for of_one, prefixes, log_probs in zip(paths, beams, rows, strict=True):
        greedy = tuple(of_one[0].labels.tolist())
        others = [prefix.labels for prefix in prefixes if prefix.labels != greedy]
        of_one += [align(log_probs, labels, symbols.blank) for labels in others[: count - 1]]
    return paths


@dataclass(frozen=True)
class JointSearch:
    """A `Search`: what samplers make of `drafts` transcripts, each `candidates` times."""

    origin: str
    model: DenoisingModel
    vocabulary: JointVocabulary
    frame: Frame
    drafts: int
    candidates: int
    sampler: MakeSampler
    device: str

    def __call__(self, utterances: Sequence[Posteriors], /) -> list[list[Proposal]]:
        """What becomes of the greedy text, of the other drafts, and the drafts themselves."""
        drafts = [
            [ctc_draft(posteriors, path, self.vocabulary, self.frame) for path in paths]
            for posteriors, paths in zip(
                utterances, draft_paths(utterances, self.drafts), strict=True
            )
        ]
        samplers = [
            self.sampler(draft, posteriors.id, number * self.candidates + candidate)
            for of_one, posteriors in zip(drafts, utterances, strict=True)
            for number, draft in enumerate(of_one)
            for candidate in range(self.candidates)
        ]
        canvases = iter(run_samplers(self.model.denoiser, samplers, device=self.device))
        proposals = []
        for of_one in drafts:
            decoded = itertools.islice(canvases, len(of_one) * self.candidates)
            proposals.append(
                [
                    *(self._proposal(canvas, self.origin) for canvas in decoded),
                    self._proposal(of_one[0].canvas, "ctc_greedy"),
                    *(self._proposal(draft.canvas, "ctc_beam") for draft in of_one[1:]),
                ]
            )
        return proposals

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
    name, value, rule = commit_of(options)
    hide_below = _or(options.hide_below, HIDE_BELOW)
    model, scales = _open("mdlm", options), _scales(options)
    mask = mask_symbol(model.denoiser)

    def sampler(draft: Draft, utterance: str, candidate: int) -> Sampler[Canvas]:
        del utterance, candidate  # nothing is drawn
        return joint_masked(draft, mask, scales, rule, hide_below, model.vocabulary.window)

    settings = {"hide_below": hide_below, "commit": name, "commit_value": value}
    return _decoder("joint_mdlm", path, model, options, sampler, settings)


def commit_of(options: DecoderOptions) -> tuple[CommitName, float, CommitRule]:
    """The rule that options name, with its number. Raises ScoreError for one it cannot have."""
    name, value = options.commit or COMMIT, _or(options.commit_value, COMMIT_VALUE)
    return name, value, commit_rule(name, value)


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
    frame, drafts = options.frame or "first", options.drafts or 1
    candidates = options.candidates or 1
    vocabulary = joint_vocabulary(
        scorer.spelling.symbols, model.vocabulary.tokenizer, model.denoiser.vocab_size, path
    )
    search = JointSearch(
        name, model, vocabulary, frame, drafts, candidates, sampler, options.device
    )
    settings = {
        "lm": model.digest,
        "ctc_scale": scales.ctc,
        "lm_scale": scales.lm,
        "frame": frame,
        "drafts": drafts,
        "candidates": candidates,
        **settings,
    }
    return PosteriorDecoder(
        name,
        scorer,
        search,
        settings,
        drafts * (candidates + 1),
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
