"""Text files to a modified Kneser-Ney model and its perplexity: `dlmrescore train ngram`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rescore.errors import TrainError
from rescore.models.ngram import NgramModel, make_directory, save
from rescore.progress import progress_bar
from rescore.text import normalizer
from rescore.train.corpus import chunks, joined, read_text
from rescore.train.kneser_ney import encode, estimate, thresholds
from rescore.train.overlap import Overlap

__all__ = ["NgramOptions", "Perplexity", "perplexity", "train_ngram"]


@dataclass(frozen=True)
class NgramOptions:
    """What decides a model.

    `order`: the length of the longest n-grams, in words. `prune`: see `kneser_ney.thresholds`.
    `min_count`: words seen less often become <unk>. `join`: see `corpus.joined`.
    """

    order: int = 3
    prune: tuple[int, ...] = (0, 0, 1)
    min_count: int = 1
    join: float = 0.5
    normalizer: str = "librispeech"


@dataclass(frozen=True)
class Perplexity:
    """What a model gives a text: sums, from which perplexities follow.

    `nats` are over words and ends of sentences; `unknown_nats` of them belong to the `unknown`
    words.
    """

    nats: float
    words: int
    sentences: int
    unknown: int
    unknown_nats: float

    @property
    def per_word(self) -> float:
        """exp(nats / words): ends of sentences add nats but no words. As the networks report."""
        return math.exp(self.nats / self.words)

    @property
    def per_token(self) -> float:
        """exp(nats / (words + sentences)): SRILM's and KenLM's, unknown words included."""
        return math.exp(self.nats / (self.words + self.sentences))

    @property
    def per_known_token(self) -> float:
        """The same without unknown words."""
        tokens = self.words + self.sentences - self.unknown
        return math.exp((self.nats - self.unknown_nats) / tokens)

    def __str__(self) -> str:
        return (
            f"{self.nats:.0f} nats, {self.words} words, {self.sentences} sentence ends, "
            f"{self.unknown} unknown words ({self.unknown_nats:.0f} nats); "
            f"PPL per word {self.per_word:.2f}, per word and sentence end {self.per_token:.2f}, "
            f"without unknown words {self.per_known_token:.2f}"
        )


def perplexity(model: NgramModel, lines: Iterable[str], chunk: int = 2000) -> Perplexity:
    """The perplexity of normalised lines, one sentence each; at least one line has a word."""
    nats, unknown_nats, words, sentences, unknown = 0.0, 0.0, 0, 0, 0
    for block in chunks(lines, chunk):
        values, is_unknown = model.token_log_probs([line.split() for line in block])
        nats -= float(values.sum())
        unknown_nats -= float(values[is_unknown].sum())
        words += len(values) - len(block)
        sentences += len(block)
        unknown += int(is_unknown.sum())
    return Perplexity(nats, words, sentences, unknown, unknown_nats)


def train_ngram(
    text: Sequence[Path],
    valid: Sequence[Path],
    directory: Path,
    options: NgramOptions,
    card: Mapping[str, Any],
) -> tuple[NgramModel, dict[str, Perplexity]]:
    """Estimate a model of `text` and write it into `directory`; return it and its perplexities.

    Perplexity `lines` is that of `valid` as it stands; `joined` that of its lines joined as those
    of the training text, which leaves fewer ends of sentences. Both go into the model's card.
    Raises TrainError on unusable text or options.
    """
    normalize = normalizer(options.normalizer)
    thresholds(options.prune, options.order)  # refuse wrong options before the text is read
    held_out = list(read_text(valid, normalize))
    if not held_out:
        raise TrainError("the validation text holds no words; check --valid")
    make_directory(directory)
    watched = Overlap(held_out).watched(read_text(text, normalize))
    lines = progress_bar(watched, description="1/2 reading the text", unit="lines", mininterval=5)
    words, tokens = encode(joined(lines, options.join, seed=0), options.min_count)
    with progress_bar(total=options.order, description="2/2 estimating", unit="orders") as progress:
        model, discounts = estimate(words, tokens, options.order, options.prune, progress.update)
    validation = {
        "lines": perplexity(model, held_out),
        "joined": perplexity(model, joined(held_out, options.join, seed=0)),
    }
    training = {
        **asdict(options),
        "words": len(tokens) - 2 * int((tokens == 1).sum()),  # without <s> and </s>
        "entries": [len(values) for values in model.log_probs],
        "discounts": discounts,
    }
    card = {**card, "training": training, "validation": _figures(validation)}
    model = replace(model, normalizer=options.normalizer, card=card)
    save(model, directory)
    return model, validation


def _figures(perplexities: Mapping[str, Perplexity]) -> dict[str, dict[str, float]]:
    """Perplexities as a card holds them."""
    return {
        name: {**asdict(perplexity), "valid_perplexity_per_word": perplexity.per_word}
        for name, perplexity in perplexities.items()
    }
