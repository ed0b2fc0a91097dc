"""`prior_guided`: denoising that begins with a draft, as a method of `dlmrescore decode`.

FILE is audio. Utterances are decoded one by one, as each leaves the loop when it is done. A masked
model denoises (`rescore.decoding.prior_guided`); a causal one, the AR twin of `train dllm`,
searches with a beam.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from rescore.acoustic.audio import seconds_of
from rescore.acoustic.ctc_paths import LabelledPath, align, greedy_path
from rescore.acoustic.listening import Listened
from rescore.acoustic.manifests import read_utterances
from rescore.decoding.base import DecoderFamily, DecoderInput, DecoderOptions
from rescore.decoding.calibration import Trace
from rescore.decoding.canvas_states import CanvasNetwork
from rescore.decoding.commit import Choices, CommitRule, commit_rule, threshold, top_k
from rescore.decoding.drafts import draft_canvas, masked_canvas
from rescore.decoding.guides import Guide, PromptGuide, load_guide
from rescore.decoding.prior_guided import PriorGuided, denoise
from rescore.decoding.prompted_search import search_texts
from rescore.errors import ScoreError
from rescore.formats.reading import read_lists
from rescore.interfaces import Cost
from rescore.scorers.signature import signature
from rescore.types import Hypothesis, NBest

__all__ = ["PRIOR_GUIDED", "Denoising", "Drafting", "PriorGuidedDecoder", "guided_decoder"]

#: Raised whenever a list changes for equal settings.
_VERSION = 1

#: Defaults of --gate, --margin, --tau and --steps.
GATE, MARGIN, TAU, ROUNDS = 0.9, 4, 0.9, 32

_CAUSAL = frozenset({"beam"})
_MASKED = frozenset(
    {
        "agree",
        "canvas",
        "commit",
        "commit_value",
        "draft",
        "gate",
        "lists",
        "margin",
        "prune",
        "refresh",
        "revoke",
        "revoke_draft",
        "steps",
        "tau",
    }
)

#: The texts of an utterance, best first, and what the record says of the work.
Transcribed: TypeAlias = "tuple[list[str], dict[str, Any]]"


class Transcribing(Protocol):
    """How the texts of an utterance are found."""

    def __call__(self, condition: Listened, /) -> Transcribed:
        """The texts and the work. Raises AudioError, ScoreError."""

    def read_besides(self, utterance: str, /) -> str | None:
        """What is read of an utterance besides its audio; None: nothing."""


@dataclass(frozen=True)
class Drafting:
    """How a canvas begins.

    `kind`: the greedy CTC transcript, the first hypothesis of `texts` by id, or masks. Tokens of a
    confidence of at least `gate` are kept. `margin`: places beyond the draft and EOS. `canvas`:
    places of masks; None: what CTC expects.
    """

    kind: Literal["ctc", "nbest", "mask"] = "ctc"
    gate: float = GATE
    margin: int = MARGIN
    canvas: int | None = None
    texts: Mapping[str, str] | None = None

    def __call__(self, guide: Guide, heard: Any, condition: Listened) -> np.ndarray:
        """The canvas of an utterance. Raises ScoreError for a hypothesis that CTC cannot emit."""
        if self.kind == "mask":
            places = round(guide.expected(heard))
            margin = self.margin
            if self.canvas is not None:
                places, margin = self.canvas - 1, 0
            return masked_canvas(places, margin, guide.rows, guide.hides_end)
        path = self._path(guide, heard, condition)
        draft = guide.draft(path)
        return draft_canvas(draft, self.gate, self.margin, guide.rows, guide.hides_end)

    def _path(self, guide: Guide, heard: Any, condition: Listened) -> LabelledPath:
        log_probs, symbols = guide.log_probs(heard), guide.symbols
        if self.texts is None:
            return greedy_path(log_probs, symbols.blank)
        utterance = condition.utterance
        if utterance.id not in self.texts:
            raise ScoreError(
                f"{utterance.place()}: has no list; give the --lists of this very audio"
            )
        try:
            labels = symbols.encode(self.texts[utterance.id])
            return align(log_probs, labels, symbols.blank)
        except ScoreError as error:
            raise ScoreError(f"{utterance.place()}: its first hypothesis: {error}") from error


@dataclass(frozen=True)
class Denoising:
    """Denoises an utterance's canvas."""

    guide: Guide
    drafting: Drafting
    settings: PriorGuided

    def read_besides(self, utterance: str) -> str | None:
        """The first hypothesis of its list, where there are lists."""
        return None if self.drafting.texts is None else self.drafting.texts.get(utterance)

    def _opened(self, condition: Listened) -> tuple[np.ndarray, CanvasNetwork]:
        """The draft of an utterance, and the network on its canvas."""
        heard = self.guide.hear(condition)
        draft = self.drafting(self.guide, heard, condition)
        return draft, self.guide.canvas(heard, len(draft))

    def decided_last(self, condition: Listened) -> Trace:
        """One position a round is decided, and what the others would be is noted."""
        draft, network = self._opened(condition)
        rounds: list[Choices] = []
        slowest = replace(
            self.settings,
            rule=top_k(1),
            rounds=len(draft) + 1,
            agrees=False,
            prunes=False,
            revoke=None,
        )
        result = denoise(network, draft, slowest, lambda _, choices: rounds.append(choices))
        return Trace(draft, result.tokens, rounds)

    def __call__(self, condition: Listened) -> Transcribed:
        """The text, and the work."""
        draft, network = self._opened(condition)
        result = denoise(network, draft, self.settings)
        work = network.work
        raw = {
            "evaluations": work.evaluations,
            "rounds": result.rounds,
            "positions": work.positions,
            "multiplications": work.multiplications,
            "canvas": len(draft),
            "opened": int((draft == self.guide.rows.mask).sum()),
            "revoked": result.revoked,
        }
        return [self.guide.text(result.tokens[1:].tolist())], raw


@dataclass(frozen=True)
class _Searching:
    """Searches with the AR twin."""

    guide: PromptGuide
    beam: int

    def read_besides(self, utterance: str) -> None:
        """Nothing."""

    def __call__(self, condition: Listened) -> Transcribed:
        """The texts, best first, and the work."""
        heard = self.guide.hear(condition)
        longest = 2 * round(self.guide.expected(heard)) + 2 * MARGIN
        result = search_texts(self.guide.model.network, heard, self.beam, longest, self.guide.never)
        raw = {
            "evaluations": result.evaluations,
            "rounds": result.steps,
            "positions": int(heard.frames[0]) + result.evaluations,
            "multiplications": result.multiplications,
        }
        return [self.guide.text(tokens) for _, tokens in result.texts], raw


@dataclass
class PriorGuidedDecoder:
    """A `Decoder` of audio."""

    path: str
    guide: Guide
    transcribe: Transcribing
    settings: Mapping[str, object]
    audio: Mapping[str, Listened]
    device: str = "cpu"
    name: str = "prior_guided"
    budget: None = None

    @property
    def signature(self) -> str:
        """Everything a list depends on besides the audio."""
        return signature(self.name, self.guide.signature, self.settings, _VERSION)

    def inputs(self) -> Iterator[DecoderInput]:
        """The utterances of the manifest."""
        for condition in self.audio.values():
            utterance = condition.utterance
            yield DecoderInput(utterance.id, seconds_of(utterance), self.path)

    def condition(self, utterance: str, /) -> str:
        """A digest of the utterance's samples, and of its first hypothesis where that is read."""
        key, text = self.audio[utterance].key, self.transcribe.read_besides(utterance)
        return key if text is None else f"{key} {text}"

    def evaluations(self, item: DecoderInput, /) -> int:
        """Encoder frames of 40 ms, which a chunk is measured in."""
        return max(1, math.ceil(item.seconds * 25))

    def prepare(self, items: Sequence[DecoderInput], /) -> list[Listened]:
        """The audio of every utterance."""
        return [self.audio[item.id] for item in items]

    def cost(self, prepared: Sequence[Listened], /) -> Cost:
        """What `evaluate` costs at most, in evaluations."""
        return Cost(ROUNDS * len(prepared))

    def warn(self) -> None:
        """Nothing is noticed."""

    def evaluate(self, prepared: Sequence[Listened], /) -> list[NBest]:
        """The list of every utterance: each text once."""
        lists = []
        for condition in prepared:
            texts, raw = self.transcribe(condition)
            utterance = condition.utterance
            hyps = tuple(
                Hypothesis(text, {}, {"origin": self.name}) for text in dict.fromkeys(texts)
            )
            lists.append(
                NBest(utterance.id, hyps, ref=utterance.text, raw=raw, where=utterance.where)
            )
        return lists


def guided_decoder(path: str, options: DecoderOptions) -> PriorGuidedDecoder:
    """The decoder of a manifest. Raises ScoreError for options that do not go together."""
    if options.model is None:
        raise ScoreError(
            "--method prior_guided needs --model: a directory that `train dllm` or `train mdm` made"
        )
    guide = load_guide(Path(options.model), options.device, options.remote_code)
    _check_options(guide, options)
    transcribe: Transcribing
    if guide.is_causal and isinstance(guide, PromptGuide):
        settings: dict[str, object] = {"beam": options.beam or 1}
        transcribe = _Searching(guide, options.beam or 1)
    else:
        settings = {name: getattr(options, name) for name in sorted(_MASKED & options.changed)}
        settings.pop("lists", None)  # a list's text is in the condition of its utterance
        transcribe = Denoising(guide, _drafting(options), _settings(guide, options))
    audio = {
        utterance.id: Listened(utterance, guide.sampling_rate)
        for utterance in read_utterances(path)
    }
    return PriorGuidedDecoder(path, guide, transcribe, settings, audio, options.device)


def _check_options(guide: Guide, options: DecoderOptions) -> None:
    """Raise ScoreError for a model or options that do not fit each other."""
    if guide.is_causal and not isinstance(guide, PromptGuide):
        raise ScoreError(
            f"{options.model}: an autoregressive decoder; search with it by --method mdm"
        )
    unread = sorted(options.changed & (_MASKED if guide.is_causal else _CAUSAL))
    if unread:
        kind = "autoregressive" if guide.is_causal else "masked"
        raise ScoreError(
            f"--method prior_guided with a model that is {kind} does not read "
            f"--{unread[0].replace('_', '-')}; leave it out"
        )
    if options.tau is not None and options.commit not in (None, "threshold"):
        raise ScoreError("--tau is the number of --commit threshold; leave one of them out")
    kind, given = options.draft or "ctc", options.changed
    if (kind == "nbest") != ("lists" in given):
        raise ScoreError("--draft nbest reads --lists; give both, or neither")
    if kind == "mask" and "gate" in given:
        raise ScoreError("--draft mask keeps no tokens: leave --gate out")
    if kind != "mask" and "canvas" in given:
        raise ScoreError("--canvas belongs to --draft mask; a draft has a length")


def _drafting(options: DecoderOptions) -> Drafting:
    texts = None
    if options.lists is not None:
        texts = {nbest.id: nbest.hyps[0].text for nbest in read_lists(options.lists) if nbest.hyps}
    return Drafting(
        options.draft or "ctc",
        GATE if options.gate is None else options.gate,
        MARGIN if options.margin is None else options.margin,
        options.canvas,
        texts,
    )


def _settings(guide: Guide, options: DecoderOptions) -> PriorGuided:
    return PriorGuided(
        _rule(options),
        guide.rows,
        options.steps or ROUNDS,
        options.agree,
        options.prune is not False,
        options.revoke,
        options.revoke_draft,
        options.refresh or 0,
    )


def _rule(options: DecoderOptions) -> CommitRule:
    if options.commit in (None, "threshold") and options.commit_value is None:
        return threshold(TAU if options.tau is None else options.tau)
    if options.commit is None or options.commit_value is None:
        raise ScoreError("--commit and --commit-value belong together; give both, or neither")
    return commit_rule(options.commit, options.commit_value)


PRIOR_GUIDED = DecoderFamily(
    "prior_guided",
    guided_decoder,
    _MASKED | _CAUSAL | {"device", "model", "remote_code"},
    needs=(("revoke_draft", "revoke"),),
)
