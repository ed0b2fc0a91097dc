"""`mdm`: decoders that listen, as a method of `dlmrescore decode`; its FILE is audio.

A masked decoder fills a canvas (`rescore.decoding.mdm`); with --hide-below, the greedy CTC
transcript with gaps (Mask-CTC). A causal one, the autoregressive twin, searches with a beam.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rescore.acoustic.audio import seconds_of
from rescore.acoustic.ctc_paths import greedy_path
from rescore.acoustic.listening import AudioDenoiser, HeardUtterance, Listened, hear_all
from rescore.acoustic.manifests import read_utterances
from rescore.acoustic.transcriber import Transcriber, load_transcriber
from rescore.acoustic.transcription import until_end
from rescore.decoding.autoregressive import ListeningPrefixes, beam_search
from rescore.decoding.base import DecoderFamily, DecoderInput, DecoderOptions
from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import (
    POSITION_DECAY,
    CommitName,
    CommitRule,
    commit_rule,
    position_biased,
    top_k,
)
from rescore.decoding.driver import Counted, Sampler, counted, run_samplers, together
from rescore.decoding.mdm import EVALUATIONS, MdmSampling, draft_canvas, open_canvas, transcribe
from rescore.diffusion.draws import SamplingDraws, utterance_key
from rescore.errors import ScoreError
from rescore.interfaces import Cost
from rescore.scorers.signature import signature
from rescore.types import Hypothesis, NBest

__all__ = ["MDM", "MdmDecoder"]

#: Raised whenever a list changes for equal settings.
_VERSION = 1

#: Places of a canvas besides the symbols that CTC expects and EOS.
_MARGIN = 8

#: Nats that may be decided at once, gamma of arXiv:2602.18952.
_GAMMA = 0.05

_CAUSAL = frozenset({"beam"})
_MASKED = frozenset(
    {
        "candidates",
        "canvas",
        "commit",
        "commit_value",
        "guidance",
        "hide_below",
        "position_decay",
        "position_index",
        "remask",
        "seed",
        "steps",
    }
)


class Transcribing(Protocol):
    """How the texts of a chunk are found."""

    def __call__(self, conditions: Sequence[Listened], /) -> list[Counted[list[list[int]]]]:
        """The symbols of each utterance's texts, best or first drawn first."""


@dataclass
class MdmDecoder:
    """A `Decoder` of audio."""

    path: str
    transcriber: Transcriber
    transcribing: Transcribing
    settings: Mapping[str, object]
    audio: Mapping[str, Listened]
    digest: str
    device: str = "cpu"
    name: str = "mdm"
    budget: None = None

    @property
    def signature(self) -> str:
        """Everything a list depends on besides the audio."""
        return signature(self.name, self.digest, self.settings, _VERSION)

    def inputs(self) -> Iterator[DecoderInput]:
        """The utterances of the manifest."""
        for condition in self.audio.values():
            utterance = condition.utterance
            yield DecoderInput(utterance.id, seconds_of(utterance), self.path)

    def condition(self, utterance: str, /) -> str:
        """A digest of the utterance's samples."""
        return self.audio[utterance].key

    def evaluations(self, item: DecoderInput, /) -> int:
        """Encoder frames of 40 ms, which a chunk is measured in."""
        return max(1, math.ceil(item.seconds * 25))

    def prepare(self, items: Sequence[DecoderInput], /) -> list[Listened]:
        """The audio of every utterance."""
        return [self.audio[item.id] for item in items]

    def cost(self, prepared: Sequence[Listened], /) -> Cost:
        """What `evaluate` costs at most, in evaluations."""
        return Cost(EVALUATIONS * len(prepared))

    def warn(self) -> None:
        """Nothing is noticed."""

    def evaluate(self, prepared: Sequence[Listened], /) -> list[NBest]:
        """The list of every utterance: each text once."""
        lists = []
        for condition, found in zip(prepared, self.transcribing(prepared), strict=True):
            utterance = condition.utterance
            texts = [self.transcriber.symbols.decode(row) for row in found.result]
            hyps = tuple(
                Hypothesis(text, {}, {"origin": self.name}) for text in dict.fromkeys(texts)
            )
            raw: dict[str, Any] = {"evaluations": found.evaluations}
            lists.append(
                NBest(utterance.id, hyps, ref=utterance.text, raw=raw, where=utterance.where)
            )
        return lists


@dataclass(frozen=True)
class _Masked:
    """Fills canvases: `Transcribing`. Candidate 0 takes the likeliest tokens, others draw."""

    denoiser: AudioDenoiser
    sampling: MdmSampling
    candidates: int
    seed: int
    places: int | None
    hide_below: float | None

    def __call__(self, conditions: Sequence[Listened], /) -> list[Counted[list[list[int]]]]:
        """See Transcribing."""
        heard = self.denoiser.hear(conditions)
        samplers = [counted(self._texts(one, heard[one.key])) for one in conditions]
        return run_samplers(self.denoiser, samplers, device=self.denoiser.device)

    def _texts(self, condition: Listened, heard: HeardUtterance) -> Sampler[list[list[int]]]:
        canvas, utterance = self._canvas(heard), utterance_key(condition.utterance.id)
        canvases = yield from together(
            [
                transcribe(
                    canvas,
                    self.sampling,
                    condition,
                    SamplingDraws(self.seed, utterance, candidate),
                    sample=candidate > 0,
                )
                for candidate in range(self.candidates)
            ]
        )
        return [until_end(one.tokens[1:].tolist(), self.sampling.rows) for one in canvases]

    def _canvas(self, heard: HeardUtterance) -> Canvas:
        rows = self.sampling.rows
        if self.hide_below is not None:
            log_probs = heard.log_probs.double().cpu().numpy()
            return draft_canvas(greedy_path(log_probs, rows.padding), self.hide_below, rows)
        places = round(heard.expected) + 1 + _MARGIN if self.places is None else self.places
        return open_canvas(places, rows)


@dataclass(frozen=True)
class _Causal:
    """Searches with a beam: `Transcribing`."""

    transcriber: Transcriber
    beam: int
    device: str

    def __call__(self, conditions: Sequence[Listened], /) -> list[Counted[list[list[int]]]]:
        """See Transcribing."""
        heard = hear_all(self.transcriber, conditions, self.device)
        longest = [round(one.expected) + _MARGIN for one in heard]
        prefixes = ListeningPrefixes(self.transcriber.network, heard)
        results = beam_search(prefixes, self.beam, longest)
        return [
            Counted([list(text.tokens) for text in result.texts], result.evaluations)
            for result in results
        ]


def _build(path: str, options: DecoderOptions) -> MdmDecoder:
    if options.model is None:
        raise ScoreError("--method mdm needs --model: a directory that `train mdm` made")
    transcriber = load_transcriber(Path(options.model))
    digest = transcriber.signature
    unread = sorted(options.changed & (_MASKED if transcriber.is_causal else _CAUSAL))
    if unread:
        kind = "autoregressive" if transcriber.is_causal else "masked"
        raise ScoreError(
            f"--method mdm with a decoder that is {kind} does not read "
            f"--{unread[0].replace('_', '-')}; leave it out"
        )
    transcriber.network.to(options.device)
    if transcriber.is_causal:
        beam = options.beam or 1
        transcribing: Transcribing = _Causal(transcriber, beam, options.device)
        settings: dict[str, object] = {"beam": beam}
    else:
        transcribing = _masked(transcriber, options)
        settings = {name: getattr(options, name) for name in sorted(_MASKED & options.changed)}
    audio = {
        utterance.id: Listened(utterance, transcriber.sampling_rate)
        for utterance in read_utterances(path)
    }
    return MdmDecoder(path, transcriber, transcribing, settings, audio, digest, options.device)


def _masked(transcriber: Transcriber, options: DecoderOptions) -> _Masked:
    rounds = options.steps or EVALUATIONS
    sampling = MdmSampling(
        _rule_of(options, rounds),
        transcriber.rows,
        rounds,
        options.remask or (),
        options.guidance or 0.0,
    )
    return _Masked(
        AudioDenoiser(transcriber, options.device),
        sampling,
        options.candidates or 1,
        options.seed or 0,
        options.canvas,
        options.hide_below,
    )


def _rule_of(options: DecoderOptions, rounds: int) -> Callable[[int], CommitRule]:
    """The commit rule of a filling, from the number of its open positions.

    top_k without a number decides as many a round as end after `rounds`.
    """
    name: CommitName = options.commit or "position_biased"
    value = options.commit_value
    if name == "top_k" and value is None:
        return lambda count: top_k(max(1, math.ceil(count / rounds)))
    if name == "position_biased":
        decay = POSITION_DECAY if options.position_decay is None else options.position_decay
        rule = position_biased(_or(value, _GAMMA), decay, options.position_index or "rank")
        return partial(_always, rule)
    if value is None and name != "entropy_bound":
        raise ScoreError(f"--commit {name} needs --commit-value; give its number")
    return partial(_always, commit_rule(name, _or(value, _GAMMA)))


def _always(rule: CommitRule, _count: int) -> CommitRule:
    return rule


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


MDM = DecoderFamily(
    "mdm",
    _build,
    _MASKED | _CAUSAL | {"device", "model"},
)
