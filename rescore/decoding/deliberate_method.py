"""`deliberate`: new hypotheses of N-best lists, as a method of `dlmrescore decode`.

A list keeps its hypotheses, in their order, and what a diffusion LM, masked (MDLM) or of uniform
states (USDM), proposes joins them (`deliberation`).
A proposal has none of the list's scores, so none is kept: a score that some hypotheses lack cannot
be fused. `score` gives every hypothesis every score again; with posteriors, `am` is there at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from rescore.decoding.base import DecoderFamily, DecoderInput, DecoderOptions
from rescore.decoding.deliberation import Opening, Reconsidered, Renoising, deliberate
from rescore.decoding.driver import Counted, Sampler, counted, run_samplers, together
from rescore.decoding.joint import Filling, UniformSteps
from rescore.decoding.joint_method import commit_of, steps_of
from rescore.diffusion.draws import SamplingDraws, utterance_key
from rescore.diffusion.masked import mask_symbol
from rescore.errors import ModelError, ScoreError
from rescore.formats.reading import read_lists
from rescore.formats.record import with_score
from rescore.ids import each_once
from rescore.interfaces import Cost
from rescore.models.embedded import read_objective
from rescore.models.tokenizer import Tokenizer
from rescore.scorers.ctc import CtcScorer
from rescore.scorers.denoising import DenoisingModel, open_denoiser
from rescore.scorers.loading import load_scorer
from rescore.scorers.options import ScorerOptions
from rescore.scorers.signature import signature
from rescore.types import Hypothesis, NBest

__all__ = ["DELIBERATE", "ListDecoder"]

#: Raised whenever a list changes for equal settings.
_VERSION = 2

#: Proposals of a list, and hypotheses that are looked at for disagreement.
CANDIDATES, DEPTH = 8, 10

#: Steps of uniform states where options do not say.
_STEPS = UniformSteps(t_start=0.5, steps=8, update="ancestral", start="noised")

#: The options that belong to the other kind of model.
_OF_THE_OTHER = {
    "mdlm": frozenset({"steps", "t_start"}),
    "usdm": frozenset({"commit", "commit_value", "remask"}),
}


@dataclass(frozen=True)
class Deliberation:
    """How hypotheses are proposed. `seen_words`: only of words that are in the list."""

    opening: Opening
    redraw: Filling | Renoising
    candidates: int
    seed: int
    seen_words: bool


@dataclass
class ListDecoder:
    """A `Decoder` of N-best lists; all of the file's lists are in memory."""

    path: str
    model: DenoisingModel
    how: Deliberation
    settings: Mapping[str, object]
    am: CtcScorer | None
    device: str = "cpu"
    name: str = "deliberate"
    budget: None = None
    lists: dict[str, NBest] = field(init=False)

    def __post_init__(self) -> None:
        self.lists = {nbest.id: nbest for nbest in each_once(read_lists(self.path), "deliberated")}
        self._proposable = np.ones(self.model.denoiser.vocab_size, dtype=bool)
        self._proposable[[*self._tokenizer.special]] = False
        if self.model.denoiser.mask_id is not None:
            self._proposable[self.model.denoiser.mask_id] = False

    @property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = self.model.vocabulary.tokenizer
        if not isinstance(tokenizer, Tokenizer):
            raise ModelError("deliberation needs a language model of `dlmrescore train`")
        return tokenizer

    @property
    def signature(self) -> str:
        """Everything a list depends on besides the list that it began as."""
        am = "none" if self.am is None else self.am.signature
        settings = {**self.settings, "am": am}
        return signature(self.name, self.model.digest, settings, _VERSION)

    def inputs(self) -> Iterator[DecoderInput]:
        """The utterances of the file."""
        for nbest in self.lists.values():
            yield DecoderInput(nbest.id, 0.0, self.path)

    def condition(self, utterance: str, /) -> str:
        """A digest of the utterance's texts, and of its posteriors where there are any."""
        whole = hashlib.blake2b(digest_size=8)
        for hyp in self.lists[utterance].hyps:
            whole.update(f"{len(hyp.text)}:{hyp.text}".encode())
        if self.am is not None:
            whole.update(self.am.condition(utterance).encode())
        return whole.hexdigest()

    def evaluations(self, item: DecoderInput, /) -> int:
        """The words of the draft: a rule may decide one token a round."""
        return 1 + len(self.lists[item.id].hyps[0].words) * self.how.candidates

    def prepare(self, items: Sequence[DecoderInput], /) -> list[NBest]:
        """The lists."""
        return [self.lists[item.id] for item in items]

    def cost(self, prepared: Sequence[NBest], /) -> Cost:
        """At most what `evaluate` costs: a network evaluation for every token of a draft."""
        words = sum(len(nbest.hyps[0].words) for nbest in prepared)
        return Cost(words * self.how.candidates, words * self.how.candidates, 0)

    def warn(self) -> None:
        """Nothing is noticed."""

    def evaluate(self, prepared: Sequence[NBest], /) -> list[NBest]:
        """Every list with what is proposed for it."""
        samplers = [counted(self._proposed(nbest)) for nbest in prepared]
        proposals = run_samplers(self.model.denoiser, samplers, device=self.device)
        lists = [
            self._joined(nbest, proposed)
            for nbest, proposed in zip(prepared, proposals, strict=True)
        ]
        return lists if self.am is None else self._with_am(self.am, lists)

    def _proposed(self, nbest: NBest) -> Sampler[list[str]]:
        """The texts of all candidates of one list."""
        these, utterance = self._reconsidered(nbest), utterance_key(nbest.id)
        canvases = yield from together(
            [
                deliberate(
                    these,
                    self.how.opening,
                    self._proposable,
                    self.how.redraw,
                    SamplingDraws(self.how.seed, utterance, candidate),
                )
                for candidate in range(self.how.candidates)
            ]
        )
        within = these.canvas.editable
        return [self._tokenizer.decode(canvas.tokens[within].tolist()) for canvas in canvases]

    def _reconsidered(self, nbest: NBest) -> Reconsidered:
        vocabulary, pieces = self.model.vocabulary, self._tokenizer
        texts = [vocabulary.normalize(hyp.text) for hyp in nbest.hyps[:DEPTH]]
        first, *others = (
            np.array([pieces.bos_id, *tokens, pieces.eos_id]) for tokens in pieces.encode(texts)
        )
        return Reconsidered(first, others)

    def _joined(self, nbest: NBest, proposed: Counted[list[str]]) -> NBest:
        """The list without scores, and after its hypotheses the texts that it lacks."""
        normalize = self.model.vocabulary.normalize
        texts = {normalize(hyp.text) for hyp in nbest.hyps}
        words = {word for text in texts for word in text.split()}
        new = [text for text in dict.fromkeys(proposed.result) if text not in texts]
        if self.how.seen_words:
            new = [text for text in new if words.issuperset(text.split())]
        kept = [replace(hyp, scores={}) for hyp in nbest.hyps]
        added = [Hypothesis(text, {}, {"origin": self.name}) for text in new]
        raw = {**nbest.raw, "evaluations": proposed.evaluations}
        return replace(nbest, hyps=(*kept, *added), raw=raw, provenance={}, numbers=None)

    def _with_am(self, scorer: CtcScorer, lists: Sequence[NBest]) -> list[NBest]:
        selected = list(scorer.select(lists))
        scores = scorer.evaluate(scorer.prepare(selected))
        return [
            with_score(nbest, "am", score) for nbest, score in zip(selected, scores, strict=True)
        ]


def _build(path: str, options: DecoderOptions) -> ListDecoder:
    objective = "mdlm" if options.model is None else read_objective(options.model)
    unread = sorted(options.changed & _OF_THE_OTHER.get(objective, frozenset()))
    if unread:
        raise ScoreError(
            f"--method deliberate with a {objective.upper()} does not read "
            f"--{unread[0].replace('_', '-')}; leave it out"
        )
    if objective == "usdm":
        model = _open("usdm", options)
        steps = steps_of(options, _STEPS)
        redraw: Filling | Renoising = Renoising(model.denoiser, steps, model.vocabulary.window)
        settings: dict[str, object] = {"t_start": steps.t_start, "steps": steps.steps}
    else:
        model = _open("mdlm", options)
        name, value, rule = commit_of(options)
        mask, remask = mask_symbol(model.denoiser), options.remask or ()
        redraw = Filling(mask, rule, remask, model.vocabulary.window)
        settings = {"commit": name, "commit_value": value, "remask": ",".join(map(str, remask))}
    how = Deliberation(
        options.open or "disagree",
        redraw,
        options.candidates or CANDIDATES,
        options.seed or 0,
        options.seen_words,
    )
    settings |= {
        "open": how.opening,
        "candidates": how.candidates,
        "seed": how.seed,
        "seen_words": int(how.seen_words),
        "window": model.vocabulary.window,
    }
    return ListDecoder(path, model, how, settings, _am(options), options.device)


def _open(objective: Literal["mdlm", "usdm"], options: DecoderOptions) -> DenoisingModel:
    return open_denoiser(objective, ScorerOptions(model=options.model, device=options.device))


def _am(options: DecoderOptions) -> CtcScorer | None:
    """What gives `am` to every hypothesis; those that CTC cannot emit are dropped."""
    if options.posteriors is None:
        return None
    scorer = load_scorer(
        "ctc", ScorerOptions(posteriors=options.posteriors, bpe=options.bpe, impossible="drop")
    )
    if not isinstance(scorer, CtcScorer):
        raise ScoreError("the scorer called ctc is not ours; it cannot score proposals")
    return scorer


DELIBERATE = DecoderFamily(
    "deliberate",
    _build,
    frozenset(
        {
            "bpe",
            "candidates",
            "commit",
            "commit_value",
            "device",
            "model",
            "open",
            "posteriors",
            "remask",
            "seed",
            "seen_words",
            "steps",
            "t_start",
        }
    ),
    (("bpe", "posteriors"),),
)
