"""`ctc`: how likely a recogniser's posteriors make a text; `ctc_prior`: its label prior.

    ctc         log P(text | audio) = -ctc_loss: summed over all CTC paths that spell the text
    ctc_prior   sum of the log-priors of the text's labels, whatever the audio; fused with a
                negative scale, it takes away the recogniser's own language model

A text goes through the normaliser and the recogniser's symbols: characters, or the pieces of its
SentencePiece model. CTC cannot emit a text that needs more frames than there are or that holds what
no symbol spells: that is an error naming it, or the hypothesis is dropped; never a number.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rescore.acoustic.ctc import frames_needed, text_log_probs
from rescore.acoustic.label_prior import label_prior
from rescore.acoustic.posterior_file import PosteriorFile, read_posteriors
from rescore.acoustic.symbols import Symbols, with_segmenter
from rescore.errors import ScoreError
from rescore.interfaces import Cost, Scope
from rescore.scorers.chunks import score_lists
from rescore.scorers.family import ScorerFamily
from rescore.scorers.options import Impossible, ScorerOptions
from rescore.scorers.signature import normalizer_title, signature
from rescore.text import Normalizer, normalizer
from rescore.types import NBest, Score, ScoreKind

__all__ = [
    "FAMILY",
    "PRIOR",
    "CtcPriorScorer",
    "CtcScorer",
    "Spelling",
]

logger = logging.getLogger("rescore")

#: Raised whenever a number changes for equal settings.
_VERSION = 1

#: Lists with the labels of their hypotheses.
Prepared = list[tuple[NBest, list[list[int]]]]


@dataclass(frozen=True)
class Spelling:
    """How a text becomes labels: a normaliser, then the recogniser's symbols."""

    symbols: Symbols
    normalize: Normalizer

    def labels(self, text: str, at: str) -> list[int]:
        """The labels of a text. Raises ScoreError naming `at` and what no symbol spells."""
        return self.symbols.encode(self.normalize(text), at)

    def settings(self) -> dict[str, object]:
        """What a signature says of it."""
        segmenter = self.symbols.segmenter
        return {
            "symbols": self.symbols.digest,
            "segmenter": "none" if segmenter is None else _digest(segmenter.serialized),
            "normalizer": normalizer_title(self.normalize),
        }


@dataclass
class CtcScorer:
    """Scores lists by the posteriors of their utterances."""

    posteriors: PosteriorFile
    spelling: Spelling
    impossible: Impossible = "error"
    name: str = "am"
    kind: ClassVar[ScoreKind] = "log_prob"
    scope: ClassVar[Scope] = "utterance"
    per_token: ClassVar[bool] = False
    budget: ClassVar[None] = None
    device: ClassVar[str] = "cpu"

    @property
    def signature(self) -> str:
        """Everything a score depends on besides the audio: the recogniser and the spelling."""
        model = self.posteriors.signature or "unknown"
        return signature("ctc.log_prob", model, self.spelling.settings(), _VERSION)

    def condition(self, utterance: str) -> str:
        """A digest of the utterance's posteriors; the id alone where there are none."""
        if utterance not in self.posteriors:
            return utterance
        return _digest(np.ascontiguousarray(self.posteriors[utterance].log_probs).data)

    def select(self, lists: Iterable[NBest]) -> Iterator[NBest]:
        """The lists without hypotheses that CTC cannot emit, if these are to be dropped.

        Logs at the end how many there were. Raises ScoreError for a list of which none is left.
        """
        if self.impossible == "error":
            yield from lists
            return
        dropped = shortened = 0
        for nbest in lists:
            problems = [self._problem(nbest, index) for index in range(len(nbest.hyps))]
            kept = [index for index, problem in enumerate(problems) if problem is None]
            if not kept:
                raise ScoreError(
                    f"{problems[0]}; none of the {len(problems)} hypotheses of this list can be "
                    "emitted: leave the utterance out"
                )
            dropped += len(problems) - len(kept)
            shortened += len(kept) < len(problems)
            yield nbest if len(kept) == len(problems) else nbest.only(kept)
        if dropped:
            logger.warning(
                "%d hypotheses of %d lists were dropped: CTC cannot emit them", dropped, shortened
            )

    def evaluations(self, nbest: NBest, /) -> int:
        """One a hypothesis."""
        return len(nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order. Raises as `evaluate`.

        With `impossible="drop"` the lists must have gone through `select`.
        """
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest], /) -> Prepared:
        """The labels of every hypothesis. Raises ScoreError for one that CTC cannot emit."""
        return [
            (nbest, [self._labels(nbest, index) for index in range(len(nbest.hyps))])
            for nbest in lists
        ]

    def cost(self, prepared: Prepared, /) -> Cost:
        """What `evaluate` would cost: a token is a label."""
        return _cost(prepared)

    def warn(self) -> None:
        """Nothing to say."""

    def evaluate(self, prepared: Prepared, /) -> list[Score]:
        """One Score per list."""
        return [self._score(nbest, texts) for nbest, texts in prepared]

    def _score(self, nbest: NBest, texts: Sequence[Sequence[int]]) -> Score:
        posteriors = self.posteriors.of(nbest.id, nbest.place())
        values = text_log_probs(posteriors.log_probs, texts, posteriors.symbols.blank)
        return Score(tuple(values.tolist()), self.signature, self.kind, len(texts))

    def _labels(self, nbest: NBest, index: int) -> list[int]:
        """The labels of a hypothesis.

        Raises ScoreError for an utterance without posteriors, and for a text that CTC cannot emit.
        """
        if nbest.id not in self.posteriors:
            self.posteriors.of(nbest.id, nbest.place())  # raises
        at = nbest.place(index)
        try:
            labels = self.spelling.labels(nbest.hyps[index].text, at)
        except ScoreError as error:
            raise _ImpossibleError(str(error)) from error
        frames = self.posteriors.frames(nbest.id)
        if frames_needed(labels) > frames:
            raise _ImpossibleError(
                f"{at}: CTC cannot emit {len(labels)} labels in {frames} frames, they need "
                f"{frames_needed(labels)}; leave the hypothesis out (--impossible drop)"
            )
        return labels

    def _problem(self, nbest: NBest, index: int) -> str | None:
        """Why CTC cannot emit a hypothesis; None where it can."""
        try:
            self._labels(nbest, index)
        except _ImpossibleError as error:
            return str(error)
        return None


@dataclass
class CtcPriorScorer:
    """Scores texts by the label prior of a recogniser, (V,) nats."""

    prior: np.ndarray
    spelling: Spelling
    name: str = "ctc_prior"
    kind: ClassVar[ScoreKind] = "log_prob"
    scope: ClassVar[Scope] = "text"
    per_token: ClassVar[bool] = False
    budget: ClassVar[None] = None
    device: ClassVar[str] = "cpu"

    @property
    def signature(self) -> str:
        """Everything a score depends on."""
        model = _digest(np.ascontiguousarray(self.prior).data)
        return signature("ctc_prior.log_prob", model, self.spelling.settings(), _VERSION)

    def evaluations(self, nbest: NBest, /) -> int:
        """One a hypothesis."""
        return len(nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order. Raises as `prepare`."""
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest], /) -> Prepared:
        """The labels of every hypothesis. Raises ScoreError for what no symbol spells."""
        return [
            (
                nbest,
                [
                    self.spelling.labels(hyp.text, nbest.place(index))
                    for index, hyp in enumerate(nbest.hyps)
                ],
            )
            for nbest in lists
        ]

    def cost(self, prepared: Prepared, /) -> Cost:
        """What `evaluate` would cost: a token is a label."""
        return _cost(prepared)

    def warn(self) -> None:
        """Nothing to say."""

    def evaluate(self, prepared: Prepared, /) -> list[Score]:
        """One Score per list: the sums of the labels' priors, 0 for an empty text."""
        scores = []
        for _, texts in prepared:
            values = tuple(float(self.prior[labels].sum()) for labels in texts)
            scores.append(Score(values, self.signature, self.kind, len(texts)))
        return scores


class _ImpossibleError(ScoreError):
    """A text that CTC cannot emit."""


def _cost(prepared: Prepared) -> Cost:
    sizes = [len(labels) for _, texts in prepared for labels in texts]
    return Cost(len(sizes), sum(sizes), 0)


def _digest(data: bytes | memoryview) -> str:
    """16 hex digits."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _open(options: ScorerOptions, scorer: str) -> tuple[PosteriorFile, Spelling]:
    if options.posteriors is None:
        raise ScoreError(
            f"--scorer {scorer} needs --posteriors: a file that `dlmrescore posteriors` made"
        )
    posteriors = read_posteriors(options.posteriors)
    symbols = with_segmenter(posteriors.symbols, options.bpe)
    return posteriors, Spelling(symbols, normalizer(options.normalizer or "none"))


def _build(options: ScorerOptions) -> CtcScorer:
    posteriors, spelling = _open(options, "ctc")
    return CtcScorer(posteriors, spelling, options.impossible)


def _build_prior(options: ScorerOptions) -> CtcPriorScorer:
    """The prior of all frames of the file."""
    posteriors, spelling = _open(options, "ctc_prior")
    rows = (utterance.log_probs for utterance in posteriors.values())
    return CtcPriorScorer(label_prior(rows, posteriors.symbols.blank), spelling)


_OPTIONS = frozenset({"posteriors", "bpe", "normalizer"})
FAMILY = ScorerFamily("ctc", _build, _OPTIONS | {"impossible"})
PRIOR = ScorerFamily("ctc_prior", _build_prior, _OPTIONS)
