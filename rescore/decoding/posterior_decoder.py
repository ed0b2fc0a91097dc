"""Lists of posteriors: what a search proposes for every utterance, as texts with exact scores.

A search proposes sequences of labels. What it makes of a text on its way is not its score: `am` is
log P(text | audio) over all paths, as `score --scorer ctc` computes it, and `ngram` is what
`score --scorer ngram` computes (of the symbols, where these are the model's units).

Symbol sequences that spell one text ("a||b" and "a|b", or pieces cut in another way) are one
hypothesis: the text as the recogniser's symbols spell it. Where the pieces of words come without a
SentencePiece model it is the most likely of the sequences proposed, and the signature says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rescore.acoustic.ctc import frames_needed, text_log_probs
from rescore.acoustic.ctc_paths import LabelledPath, align
from rescore.acoustic.posterior_file import read_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.prefix_ngram import NgramFusion, symbol_names
from rescore.acoustic.symbols import with_segmenter
from rescore.decoding.base import DecoderInput, DecoderOptions
from rescore.errors import ScoreError
from rescore.formats.record import with_score
from rescore.interfaces import BatchBudget, Cost
from rescore.scorers.ctc import CtcScorer, Spelling
from rescore.scorers.ngram import NgramScorer
from rescore.scorers.signature import signature
from rescore.text import identity, normalizer
from rescore.types import Hypothesis, NBest, Score

__all__ = ["PosteriorDecoder", "Proposal", "Proposals", "Search", "ctc_scorer"]

logger = logging.getLogger("rescore")

#: Raised whenever a list changes for equal settings.
_VERSION = 1


class Proposal(NamedTuple):
    """A sequence of labels (columns of the posteriors), and the method that proposes it."""

    labels: tuple[int, ...]
    origin: str


class Proposals(NamedTuple):
    """What a search proposes for an utterance, best first.

    `evaluations`: network evaluations that it took; None for a search without a network.
    """

    sequences: Sequence[Proposal]
    evaluations: int | None = None


#: The proposals for each of several utterances.
Search = Callable[[Sequence[Posteriors]], list[Proposals]]


class _Text(NamedTuple):
    """A proposed text: the labels that spell it, log P(text | audio), who proposed it first."""

    text: str
    labels: Sequence[int]
    log_prob: float
    origin: str


@dataclass
class PosteriorDecoder:
    """A `Decoder`: lists of the utterances of a file of posteriors, by a search.

    `settings` is what a signature says of the search. With `sort`, a list is sorted by am +
    ngram_scale * ngram + ngram_bonus * units; otherwise it keeps the order of the proposals.
    `budget` and `device` are those of the search's network, if it has one.
    """

    name: str
    scorer: CtcScorer
    search: Search
    settings: Mapping[str, object]
    count: int
    fusion: NgramFusion | None = None
    spans: bool = False
    sort: bool = True
    budget: BatchBudget | None = None
    device: str = "cpu"
    dropped: int = 0

    @property
    def signature(self) -> str:
        """Everything a list depends on besides the posteriors of its utterance."""
        model = self.scorer.posteriors.signature or "unknown"
        spelling = self.scorer.spelling.settings()
        settings = {**spelling, **self.settings, "count": self.count, "spans": int(self.spans)}
        return signature(self.name, model, settings, _VERSION)

    def inputs(self) -> Iterator[DecoderInput]:
        """The utterances of the file."""
        file = self.scorer.posteriors
        for utterance in file:
            seconds = file.frames(utterance) * file.frame_shift
            yield DecoderInput(utterance, seconds, file.name)

    def condition(self, utterance: str, /) -> str:
        """A digest of the utterance's posteriors."""
        return self.scorer.condition(utterance)

    def evaluations(self, item: DecoderInput, /) -> int:
        """The frames of an utterance."""
        return self.scorer.posteriors.frames(item.id)

    def prepare(self, items: Sequence[DecoderInput], /) -> list[Posteriors]:
        """The posteriors of every utterance. Raises FormatError if they are broken."""
        return [self.scorer.posteriors[item.id] for item in items]

    def cost(self, prepared: Sequence[Posteriors], /) -> Cost:
        """What `evaluate` of this would cost: a token is a frame."""
        frames = sum(len(posteriors.log_probs) for posteriors in prepared)
        return Cost(len(prepared), frames, 0)

    def warn(self) -> None:
        """Log how many texts were proposed but cannot be emitted as the symbols spell them."""
        if self.dropped:
            logger.warning(
                "%d texts were dropped: CTC cannot emit them as the symbols spell them",
                self.dropped,
            )

    def evaluate(self, prepared: Sequence[Posteriors], /) -> list[NBest]:
        """The list of every utterance. Raises ScoreError naming one without a hypothesis."""
        return self.lists(prepared, self.search(prepared))

    def lists(
        self, utterances: Sequence[Posteriors], proposals: Sequence[Proposals]
    ) -> list[NBest]:
        """The list of every utterance from what is proposed for it. Raises as `evaluate`."""
        return [
            self._list(posteriors, of_one)
            for posteriors, of_one in zip(utterances, proposals, strict=True)
        ]

    def _list(self, posteriors: Posteriors, proposals: Proposals) -> NBest:
        """The list of one utterance: proposals as texts, scored and sorted."""
        texts = self._texts(posteriors, proposals.sequences)
        if not texts:
            raise ScoreError(
                f"{posteriors.place()}: none of {len(proposals.sequences)} proposed texts can be "
                "emitted as the symbols spell them; is the SentencePiece model the recogniser's?"
            )
        ngram = None if self.fusion is None else self._ngram(self.fusion, texts)
        order = list(range(len(texts)))
        if self.sort:
            totals = np.array([text.log_prob for text in texts])
            if self.fusion is not None and ngram is not None:
                totals = totals + _weighted(self.fusion, ngram, texts)
            order = np.argsort(-totals, kind="stable").tolist()
        order = order[: self.count]
        hyps = [Hypothesis(texts[k].text, {}, self._details(posteriors, texts[k])) for k in order]
        asked = proposals.evaluations
        raw = {} if asked is None else {"evaluations": asked}
        nbest = NBest(posteriors.id, tuple(hyps), raw=raw, where=posteriors.where)
        nbest = with_score(nbest, "am", self._am([texts[k].log_prob for k in order]))
        if ngram is not None:
            picked = tuple(ngram.values[k] for k in order)
            score = Score(picked, ngram.signature, ngram.kind, len(picked))
            nbest = with_score(nbest, "ngram", score)
        return nbest

    def _texts(self, posteriors: Posteriors, proposals: Sequence[Proposal]) -> list[_Text]:
        """Every text that was proposed, once."""
        if self._spells:
            proposals = self._spelled(posteriors, proposals)
        sequences = [proposal.labels for proposal in proposals]
        values = text_log_probs(posteriors.log_probs, sequences, posteriors.symbols.blank)
        best: dict[str, _Text] = {}
        for (labels, origin), value in zip(proposals, values.tolist(), strict=True):
            text = self.scorer.spelling.symbols.decode(labels)
            if text not in best:
                best[text] = _Text(text, labels, value, origin)
            elif value > best[text].log_prob:
                best[text] = _Text(text, labels, value, best[text].origin)
        return list(best.values())

    def _spelled(self, posteriors: Posteriors, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Every text that was proposed, once, as the symbols spell it."""
        symbols = self.scorer.spelling.symbols
        origins: dict[str, str] = {}
        for labels, origin in proposals:
            origins.setdefault(symbols.decode(labels), origin)
        spelled = []
        for text, origin in origins.items():
            try:
                labels = tuple(symbols.encode(text, posteriors.place()))
            except ScoreError:  # a piece of no character, or one that the model cuts differently
                self.dropped += 1
                continue
            if frames_needed(labels) > len(posteriors.log_probs):
                self.dropped += 1
            else:
                spelled.append(Proposal(labels, origin))
        return spelled

    @property
    def _spells(self) -> bool:
        """Whether texts become labels by a rule: characters, or pieces with a model to cut them."""
        symbols = self.scorer.spelling.symbols
        return symbols.word_rule == "boundary" or symbols.segmenter is not None

    def _am(self, values: Sequence[float]) -> Score:
        """The score `am`; its signature is the scorer's where the scorer gives the same numbers."""
        made_by = self.scorer.signature
        if not self._spells:
            made_by += "|spelling=found"
        return Score(tuple(values), made_by, self.scorer.kind, len(values))

    def _ngram(self, fusion: NgramFusion, texts: Sequence[_Text]) -> Score:
        """The n-gram score of texts, whatever its weight."""
        if fusion.unit == "word":
            scorer = NgramScorer(fusion.model, normalizer(fusion.model.normalizer))
            nbest = NBest("list", tuple(Hypothesis(text.text) for text in texts))
            [score] = scorer.evaluate(
                scorer.prepare([nbest])
            )  # misspellings are no news: no warn()
            return score
        names = symbol_names(fusion.symbols)
        sentences = [[names[k] for k in text.labels] for text in texts]
        nats, _ = fusion.model.token_log_probs(sentences)
        ends = np.cumsum([len(sentence) + 1 for sentence in sentences])  # each with its </s>
        values = np.add.reduceat(nats, [0, *ends[:-1]]).tolist()
        settings = {"unit": "symbol", "symbols": fusion.symbols.digest}
        made_by = signature("ngram.log_prob", fusion.model.digest, settings, _VERSION)
        return Score(tuple(values), made_by, "log_prob", len(values))

    def _details(self, posteriors: Posteriors, text: _Text) -> dict[str, Any]:
        """Further fields of a hypothesis."""
        details: dict[str, Any] = {"origin": text.origin}
        if self.spans:
            path = align(posteriors.log_probs, text.labels, posteriors.symbols.blank)
            details["spans"] = _spans(posteriors, path)
        return details


def ctc_scorer(path: str, options: DecoderOptions) -> CtcScorer:
    """What gives the proposals for a file of posteriors their exact scores.

    Raises FormatError for a file that is no posteriors, ModelError for a broken segmenter.
    """
    posteriors = read_posteriors(path)
    symbols = with_segmenter(posteriors.symbols, options.bpe)
    return CtcScorer(posteriors, Spelling(symbols, identity))


def _weighted(fusion: NgramFusion, ngram: Score, texts: Sequence[_Text]) -> np.ndarray:
    """What the n-gram model adds to the totals that sort a list."""
    units = [
        len(text.text.split()) if fusion.unit == "word" else len(text.labels) for text in texts
    ]
    added: np.ndarray = fusion.scale * np.array(ngram.values) + fusion.bonus * np.array(units)
    return added


def _spans(posteriors: Posteriors, path: LabelledPath) -> list[dict[str, object]]:
    """The symbols of a path with start, end and peak in seconds, and confidence."""
    shift = posteriors.frame_shift
    return [
        {
            "symbol": posteriors.symbols.pieces[label],
            "start": round(first * shift, 6),
            "end": round(end * shift, 6),
            "peak": round(peak * shift, 6),
            "confidence": round(confidence, 6),
        }
        for label, first, end, peak, confidence in zip(
            path.labels.tolist(),
            path.first.tolist(),
            path.end.tolist(),
            path.peak.tolist(),
            path.confidence.tolist(),
            strict=True,
        )
    ]
