"""`ngram`: a back-off word n-gram: a model of ours, an ARPA file or a KenLM binary.

score = sum_i log p(w_i | the words before it), </s> included. An unknown word scores p(<unk>) as
the model has it: in our models and KenLM's a uniform share of what smoothing leaves, about e^-16
and more when backed off.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rescore.errors import ModelError, ScoreError
from rescore.interfaces import Cost, Scope, WordModel
from rescore.models.arpa import read_arpa
from rescore.models.kenlm_binary import KenlmModel, is_kenlm
from rescore.models.ngram import load
from rescore.scorers.chunks import score_lists
from rescore.scorers.family import ScorerFamily
from rescore.scorers.options import ScorerOptions
from rescore.scorers.sequences import regroup
from rescore.scorers.signature import normalizer_title, signature
from rescore.text import Normalizer, normalizer
from rescore.types import NBest, Score, ScoreKind, TokenScores

__all__ = ["FAMILY", "NgramScorer", "open_ngram"]

logger = logging.getLogger("rescore")

#: Raised whenever a number changes for equal settings.
_VERSION = 1

#: Lists with the words of their hypotheses.
Prepared = list[tuple[NBest, list[list[str]]]]


@dataclass
class NgramScorer:
    """Scores lists with an n-gram model."""

    model: WordModel
    normalize: Normalizer
    score_eos: bool = True
    per_token: bool = False
    kind: ScoreKind = "log_prob"
    scope: Scope = "text"
    budget: None = None
    device: str = "cpu"
    words: int = field(default=0, init=False)
    unknown: int = field(default=0, init=False)

    @property
    def name(self) -> str:
        """`ngram3` for order 3: lists often have the recogniser's own score under `ngram`."""
        return f"ngram{self.model.order}"

    @property
    def signature(self) -> str:
        """Everything a score depends on."""
        settings = {"normalizer": normalizer_title(self.normalize), "eos": int(self.score_eos)}
        return signature("ngram.log_prob", self.model.digest, settings, _VERSION)

    def evaluations(self, nbest: NBest, /) -> int:
        """One lookup a hypothesis."""
        return len(nbest.hyps)

    def score(self, lists: Iterable[NBest]) -> Iterator[Score]:
        """Yield one Score per list, in order. Raises as `evaluate`."""
        return score_lists(self, lists)

    def prepare(self, lists: Sequence[NBest], /) -> Prepared:
        """The words of every hypothesis."""
        return [
            (nbest, [self.normalize(hyp.text).split() for hyp in nbest.hyps]) for nbest in lists
        ]

    def cost(self, prepared: Prepared, /) -> Cost:
        """What `evaluate` would cost: a token is a word or the end."""
        sizes = [len(words) + 1 for _, hypotheses in prepared for words in hypotheses]
        return Cost(len(sizes), sum(sizes), 0)

    def warn(self) -> None:
        """Log how many words the model does not know, if there are any."""
        if self.unknown:
            logger.warning(
                "%d of %d words are unknown to the model and were scored as <unk>;"
                " are its words spelled like these?",
                self.unknown,
                self.words,
            )

    def evaluate(self, prepared: Prepared, /) -> list[Score]:
        """One Score per list.

        Raises ScoreError naming utterance and hypothesis where a value is not finite.
        """
        sentences = [words for _, hypotheses in prepared for words in hypotheses]
        if not sentences:
            return []
        values, unknown = self.model.token_log_probs(sentences)
        self.words += len(values) - len(sentences)
        self.unknown += int(unknown.sum())
        sizes = np.array([len(words) + 1 for words in sentences])
        ends = np.cumsum(sizes) - 1
        starts = ends - sizes + 1
        if not self.score_eos:
            values[ends[sizes > 1]] = 0.0  # an empty hypothesis is </s> alone, and scored
        totals = np.add.reduceat(values, starts).tolist()
        of_sentences = np.split(values, starts[1:])
        counts = [len(hypotheses) for _, hypotheses in prepared]
        return [
            self._score(nbest, hypotheses, of_list, of_words)
            for (nbest, hypotheses), of_list, of_words in zip(
                prepared, regroup(totals, counts), regroup(of_sentences, counts), strict=True
            )
        ]

    def _score(
        self,
        nbest: NBest,
        hypotheses: Sequence[Sequence[str]],
        totals: Sequence[float],
        values: Sequence[np.ndarray],
    ) -> Score:
        for number, total in enumerate(totals):
            if not math.isfinite(total):
                raise ScoreError(
                    f"{nbest.place(number)}: a word is unknown and the model has no <unk>,"
                    f" so its score is {total}; use a model with <unk>"
                )
        tokens: tuple[TokenScores, ...] | None = None
        if self.per_token:
            tokens = tuple(map(self._tokens, hypotheses, values))
        return Score(tuple(totals), self.signature, self.kind, len(hypotheses), token_scores=tokens)

    def _tokens(self, words: Sequence[str], values: np.ndarray) -> TokenScores:
        """Every word and its nats, then `</s>` where it is scored."""
        scored = [*words, "</s>"] if self.score_eos or not words else words
        return tuple(zip(scored, values[: len(scored)].tolist(), strict=True))


def open_ngram(path: Path) -> WordModel:
    """Open a model of any of the three kinds, found out from its content. Raises ModelError."""
    if path.is_dir():
        return load(path)
    if not path.is_file():
        raise ModelError(
            f"{path}: no such file or directory; give what `dlmrescore train ngram`"
            " made, an ARPA file or a KenLM binary"
        )
    return KenlmModel(path) if is_kenlm(path) else read_arpa(path)


def _build(options: ScorerOptions) -> NgramScorer:
    """The scorer of a model directory, an ARPA file (.gz too) or a KenLM binary."""
    if options.model is None:
        raise ModelError(
            "--scorer ngram needs --model: what `dlmrescore train ngram` made,"
            " an ARPA file or a KenLM binary"
        )
    model = open_ngram(Path(options.model))
    return NgramScorer(
        model,
        normalizer(options.normalizer or model.normalizer),
        options.score_eos,
        options.per_token,
    )


FAMILY = ScorerFamily("ngram", _build, frozenset({"model", "normalizer", "score_eos", "per_token"}))
