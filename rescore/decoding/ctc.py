"""`ctc_greedy` and `ctc_beam`: hypotheses of CTC posteriors, with exact scores.

    ctc_greedy  the text of the most likely path
    ctc_beam    the texts of the prefixes that a beam search ends with, the best `count` of them;
                an n-gram model may steer the search

What a search makes of a text on its way is not its score. `am` is log P(text | audio) over all
paths, as `score --scorer ctc` computes it, and `ngram` is what `score --scorer ngram` computes
(of the symbols, where these are the model's units). Lists are sorted by

    am + ngram_scale * ngram + ngram_bonus * units

Symbol sequences that spell one text ("a||b" and "a|b", or pieces cut in another way) are one
hypothesis: the text as the recogniser's symbols spell it. Where the pieces of words come without a
SentencePiece model it is the most likely of the sequences found, and the signature says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rescore.acoustic.ctc import frames_needed, text_log_probs
from rescore.acoustic.ctc_paths import LabelledPath, align, greedy_path
from rescore.acoustic.posterior_file import PosteriorFile, read_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search
from rescore.acoustic.prefix_ngram import NgramFusion, symbol_names
from rescore.decoding.base import DecoderFamily, DecoderInput, DecoderOptions
from rescore.errors import ScoreError
from rescore.formats.record import with_score
from rescore.interfaces import Cost
from rescore.scorers.ctc import CtcScorer, Spelling, with_segmenter
from rescore.scorers.ngram import NgramScorer, open_ngram
from rescore.scorers.signature import signature
from rescore.text import identity, normalizer
from rescore.types import Hypothesis, NBest, Score

__all__ = ["BEAM", "GREEDY", "CtcDecoder"]

logger = logging.getLogger("rescore")

#: Raised whenever a list changes for equal settings.
_VERSION = 1

#: Hypotheses of a list by default; by default the beam is wider, for some prefixes spell one text.
COUNT, BEAM_PER_COUNT = 100, 2

#: Sequences of labels, best first, of every utterance.
Search = Callable[[Sequence[np.ndarray]], list[list[tuple[int, ...]]]]


@dataclass
class CtcDecoder:
    """Lists of the utterances of a file of posteriors, by a search.

    `settings` is what a signature says of the search.
    """

    name: str
    scorer: CtcScorer
    search: Search
    settings: Mapping[str, object]
    count: int
    fusion: NgramFusion | None = None
    spans: bool = False
    dropped: int = 0
    budget: ClassVar[None] = None
    device: ClassVar[str] = "cpu"

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
        """Log how many texts were found but cannot be emitted as the symbols spell them."""
        if self.dropped:
            logger.warning(
                "%d texts were dropped: CTC cannot emit them as the symbols spell them",
                self.dropped,
            )

    def evaluate(self, prepared: Sequence[Posteriors], /) -> list[NBest]:
        """The list of every utterance. Raises ScoreError naming one without a hypothesis."""
        sequences = self.search([posteriors.log_probs for posteriors in prepared])
        return [
            self._list(posteriors, labels)
            for posteriors, labels in zip(prepared, sequences, strict=True)
        ]

    def _list(self, posteriors: Posteriors, sequences: Sequence[tuple[int, ...]]) -> NBest:
        """The list of one utterance: the search's sequences as texts, scored and sorted."""
        labels_of, values = self._texts(posteriors, sequences)
        if not labels_of:
            raise ScoreError(
                f"{posteriors.place()}: none of {len(sequences)} texts that were found can be "
                "emitted as the symbols spell them; is the SentencePiece model the recogniser's?"
            )
        texts = list(labels_of)
        ngram = None if self.fusion is None else self._ngram(labels_of)
        totals = values if ngram is None else values + self._weighted(ngram, labels_of)
        order = np.argsort(-totals, kind="stable")[: self.count].tolist()
        hyps = [
            Hypothesis(texts[k], {}, self._details(posteriors, labels_of[texts[k]])) for k in order
        ]
        nbest = NBest(posteriors.id, tuple(hyps), where=posteriors.where)
        nbest = with_score(nbest, "am", self._am(values[order]))
        if ngram is not None:
            picked = tuple(ngram.values[k] for k in order)
            nbest = with_score(
                nbest, "ngram", Score(picked, ngram.signature, ngram.kind, len(picked))
            )
        return nbest

    def _texts(
        self, posteriors: Posteriors, sequences: Sequence[tuple[int, ...]]
    ) -> tuple[dict[str, Sequence[int]], np.ndarray]:
        """The labels of every text that was found, and log P of each (texts,)."""
        if self._spells:
            labels_of = self._spelled(posteriors, sequences)
            return labels_of, self._log_probs(posteriors, list(labels_of.values()))
        return self._found(posteriors, sequences)

    def _spelled(
        self, posteriors: Posteriors, sequences: Sequence[tuple[int, ...]]
    ) -> dict[str, Sequence[int]]:
        """Every text that was found, as the symbols spell it."""
        symbols = self.scorer.spelling.symbols
        labels_of: dict[str, Sequence[int]] = {}
        for text in dict.fromkeys(map(symbols.decode, sequences)):
            try:
                labels = symbols.encode(text, posteriors.place())
            except ScoreError:  # a piece of no character, or one that the model cuts differently
                self.dropped += 1
                continue
            if frames_needed(labels) > len(posteriors.log_probs):
                self.dropped += 1
            else:
                labels_of[text] = labels
        return labels_of

    def _found(
        self, posteriors: Posteriors, sequences: Sequence[tuple[int, ...]]
    ) -> tuple[dict[str, Sequence[int]], np.ndarray]:
        """Every text by the most likely sequence of labels that was found for it."""
        values = self._log_probs(posteriors, sequences)
        best: dict[str, tuple[float, Sequence[int]]] = {}
        for labels, value in zip(sequences, values.tolist(), strict=True):
            text = self.scorer.spelling.symbols.decode(labels)
            if text not in best or value > best[text][0]:
                best[text] = value, labels
        labels_of = {text: labels for text, (_, labels) in best.items()}
        return labels_of, np.array([value for value, _ in best.values()])

    @property
    def _spells(self) -> bool:
        """Whether texts become labels by a rule: characters, or pieces with a model to cut them."""
        symbols = self.scorer.spelling.symbols
        return symbols.word_rule == "boundary" or symbols.segmenter is not None

    def _log_probs(self, posteriors: Posteriors, texts: Sequence[Sequence[int]]) -> np.ndarray:
        return text_log_probs(posteriors.log_probs, texts, posteriors.symbols.blank)

    def _am(self, values: np.ndarray) -> Score:
        """The score `am`; its signature is the scorer's where the scorer gives the same numbers."""
        made_by = self.scorer.signature
        if not self._spells:
            made_by += "|spelling=found"
        return Score(tuple(values.tolist()), made_by, self.scorer.kind, len(values))

    def _ngram(self, labels_of: Mapping[str, Sequence[int]]) -> Score:
        """The n-gram score of texts, whatever its weight."""
        fusion = self.fusion
        if fusion is None:
            raise ScoreError("there is no n-gram model to score texts with")
        if fusion.unit == "word":
            scorer = NgramScorer(fusion.model, normalizer(fusion.model.normalizer))
            nbest = NBest("list", tuple(map(Hypothesis, labels_of)))
            [score] = scorer.evaluate(
                scorer.prepare([nbest])
            )  # misspellings are no news: no warn()
            return score
        names = symbol_names(fusion.symbols)
        sentences = [[names[k] for k in labels] for labels in labels_of.values()]
        nats, _ = fusion.model.token_log_probs(sentences)
        ends = np.cumsum([len(sentence) + 1 for sentence in sentences])  # each with its </s>
        values = np.add.reduceat(nats, [0, *ends[:-1]]).tolist()
        settings = {"unit": "symbol", "symbols": fusion.symbols.digest}
        made_by = signature("ngram.log_prob", fusion.model.digest, settings, _VERSION)
        return Score(tuple(values), made_by, "log_prob", len(values))

    def _weighted(self, ngram: Score, labels_of: Mapping[str, Sequence[int]]) -> np.ndarray:
        """What the n-gram model adds to the totals that sort a list."""
        fusion = self.fusion
        if fusion is None:
            return np.zeros(len(labels_of))
        units = [
            len(text.split()) if fusion.unit == "word" else len(labels)
            for text, labels in labels_of.items()
        ]
        added: np.ndarray = fusion.scale * np.array(ngram.values) + fusion.bonus * np.array(units)
        return added

    def _details(self, posteriors: Posteriors, labels: Sequence[int]) -> dict[str, Any]:
        """Further fields of a hypothesis."""
        details: dict[str, Any] = {"origin": self.name}
        if self.spans:
            path = align(posteriors.log_probs, labels, posteriors.symbols.blank)
            details["spans"] = _spans(posteriors, path)
        return details


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


def _scorer(path: str, options: DecoderOptions) -> CtcScorer:
    posteriors = read_posteriors(path)
    symbols = with_segmenter(posteriors.symbols, options.bpe)
    return CtcScorer(posteriors, Spelling(symbols, identity))


def _build_greedy(path: str, options: DecoderOptions) -> CtcDecoder:
    scorer = _scorer(path, options)
    search = partial(_greedy_labels, file=scorer.posteriors)
    return CtcDecoder("ctc_greedy", scorer, search, {}, 1, spans=options.spans)


def _greedy_labels(
    utterances: Sequence[np.ndarray], file: PosteriorFile
) -> list[list[tuple[int, ...]]]:
    """The labels of the most likely paths without special symbols."""
    symbols = file.symbols
    hidden = sorted(symbols.special - {symbols.blank})
    found = []
    for log_probs in utterances:
        allowed = log_probs
        if hidden:
            allowed = log_probs.copy()
            allowed[:, hidden] = -np.inf
        found.append([tuple(greedy_path(allowed, symbols.blank).labels.tolist())])
    return found


def _build_beam(path: str, options: DecoderOptions) -> CtcDecoder:
    scorer = _scorer(path, options)
    count = options.count or COUNT
    beam = BeamOptions(
        options.beam or BEAM_PER_COUNT * count,
        BeamOptions.min_log_prob if options.min_log_prob is None else options.min_log_prob,
    )
    if beam.beam < count:
        raise ScoreError(
            f"--beam {beam.beam} cannot give {count} hypotheses; widen it, or lower --count"
        )
    fusion = _fusion(scorer, options)
    symbols = scorer.posteriors.symbols
    search = partial(
        _beam_labels,
        blank=symbols.blank,
        options=beam,
        fusion=fusion,
        never=sorted(symbols.special),
    )
    settings: dict[str, object] = {"beam": beam.beam, "min_log_prob": beam.min_log_prob}
    if fusion is not None:
        settings |= {
            "ngram": fusion.model.digest,
            "unit": fusion.unit,
            "scale": fusion.scale,
            "bonus": fusion.bonus,
        }
    return CtcDecoder("ctc_beam", scorer, search, settings, count, fusion, options.spans)


def _beam_labels(
    utterances: Sequence[np.ndarray],
    blank: int,
    options: BeamOptions,
    fusion: NgramFusion | None,
    never: Sequence[int],
) -> list[list[tuple[int, ...]]]:
    beams = prefix_beam_search(utterances, blank, options, fusion, never)
    return [[prefix.labels for prefix in prefixes] for prefixes in beams]


def _fusion(scorer: CtcScorer, options: DecoderOptions) -> NgramFusion | None:
    if options.ngram is None:
        return None
    return NgramFusion(
        open_ngram(Path(options.ngram)),
        scorer.spelling.symbols,
        options.ngram_unit or "word",
        1.0 if options.ngram_scale is None else options.ngram_scale,
        options.ngram_bonus or 0.0,
    )


GREEDY = DecoderFamily("ctc_greedy", _build_greedy, frozenset({"bpe", "spans"}))

BEAM = DecoderFamily(
    "ctc_beam",
    _build_beam,
    frozenset(
        {
            "bpe",
            "beam",
            "count",
            "min_log_prob",
            "ngram",
            "ngram_bonus",
            "ngram_scale",
            "ngram_unit",
            "spans",
        }
    ),
    (("ngram_unit", "ngram"), ("ngram_scale", "ngram"), ("ngram_bonus", "ngram")),
)
