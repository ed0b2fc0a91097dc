"""The bound of a network on validation text."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from rescore.models.tokenizer import Tokenizer
from rescore.train.corpus import Corpus
from rescore.train.learner import Learner
from rescore.train.text import TextBatches

__all__ = ["Validation", "Validator"]

#: Validation while training reads the first batches of this size; the last one reads all.
_FEW_BATCHES, _BATCH_TOKENS = 16, 4096


@dataclass(frozen=True)
class Validation:
    """Sums over validation text: `nats` (a bound for diffusion), scored `tokens`, `words`."""

    nats: float
    tokens: int
    words: int

    @property
    def nats_per_token(self) -> float:
        """The mean over scored tokens, EOS included."""
        return self.nats / self.tokens

    @property
    def perplexity_per_word(self) -> float:
        """exp(nats / words): EOS adds to the nats but is not counted as a word."""
        return math.exp(min(700.0, self.nats / self.words))

    def figures(self) -> dict[str, str]:
        """Its columns of the log."""
        return {
            "valid_nats_per_token": f"{self.nats_per_token:.4f}",
            "valid_perplexity_per_word": f"{self.perplexity_per_word:.2f}",
        }


class Validator:
    """Evaluates a learner on the same batches with the same noise every time."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        size = min(_BATCH_TOKENS, int(corpus.lengths.sum()))
        self._text = TextBatches(corpus, tokenizer, size)
        self._batches = self._text.epoch(seed=0)

    def quick(self, learner: Learner) -> Validation:
        """The bound on the first few batches."""
        return self._evaluate(learner, _FEW_BATCHES)

    def whole(self, learner: Learner) -> Validation:
        """The bound on the whole text."""
        return self._evaluate(learner, len(self._batches))

    @torch.no_grad()
    def _evaluate(self, learner: Learner, count: int) -> Validation:
        """The bound of the learner's current weights on the first `count` batches."""
        learner.network.eval()
        nats, scored, words = 0.0, 0, 0
        for number, rows in enumerate(self._batches[:count]):
            batch = self._text.batch(rows)
            generator = torch.Generator().manual_seed(number)
            nats += float(learner.evaluate(learner.bound, batch, generator)[0])
            scored += batch.scored
            words += self._tokenizer.count_words(batch.inputs[0].numpy())
        learner.network.train()
        return Validation(nats, scored, words)
