"""`train --objective ngram`: text files to a modified Kneser-Ney model and its perplexity."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rescore.errors import TrainError
from rescore.models.ngram import NgramModel, make_directory, save
from rescore.text import normalizer
from rescore.train.corpus import joined, read_text
from rescore.train.kneser_ney import encode, estimate, thresholds

__all__ = ["NgramOptions", "Perplexity", "perplexity", "train_ngram"]


@dataclass(frozen=True)
class NgramOptions:
    """What decides a model. prune: see `kneser_ney.estimate`; min_count: rarer words become <unk>; join: see `corpus.joined`."""

    order: int = 3
    prune: tuple[int, ...] = (0, 0, 1)
    min_count: int = 1
    join: float = 0.5
    normalizer: str = "librispeech"


@dataclass(frozen=True)
class Perplexity:
    """What a text costs: `nats` summed over words and sentence ends, of which `unknown_nats` for the `unknown` words."""

    nats: float
    words: int
    sentences: int
    unknown: int
    unknown_nats: float

    @property
    def per_word(self) -> float:
        """exp(nats / words): sentence ends cost, but only words count. What the neural models report."""
        return math.exp(self.nats / self.words)

    @property
    def per_token(self) -> float:
        """exp(nats / (words + sentence ends)): SRILM's and KenLM's perplexity, unknown words included."""
        return math.exp(self.nats / (self.words + self.sentences))

    @property
    def per_known_token(self) -> float:
        """The same without unknown words."""
        return math.exp(
            (self.nats - self.unknown_nats) / (self.words + self.sentences - self.unknown)
        )

    def __str__(self) -> str:
        return (
            f"{self.nats:.0f} nats, {self.words} words, {self.sentences} sentence ends, {self.unknown} unknown words ({self.unknown_nats:.0f} nats); "
            f"PPL per word {self.per_word:.2f}, per word and sentence end {self.per_token:.2f}, without unknown words {self.per_known_token:.2f}"
        )


def perplexity(model: NgramModel, lines: Iterable[str], chunk: int = 2000) -> Perplexity:
    """The perplexity of normalised lines, one sentence each; at least one line has a word."""
    nats, unknown_nats, words, sentences, unknown = 0.0, 0.0, 0, 0, 0
    remaining = iter(lines)
    while block := [line.split() for line in itertools.islice(remaining, chunk)]:
        values, is_unknown = model.token_log_probs(block)
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
    """Estimate a model of `text`, write it into `directory` with the perplexities of `valid` in its card, and return both.

    The perplexity `lines` is that of the lines as they are, `joined` that of the lines joined as those of the training text: fewer sentence ends.
    Raises TrainError on unusable text or options.
    """
    clean = normalizer(options.normalizer)
    thresholds(options.prune, options.order)
    held_out = list(read_text(valid, clean))
    if not held_out:
        raise TrainError("the validation text holds no words; check --valid")
    make_directory(directory)
    lines = tqdm(read_text(text, clean), desc="read the text", unit="line", mininterval=5)
    words, tokens = encode(joined(lines, options.join, 0), options.min_count)
    with tqdm(total=options.order, desc="estimate", unit="order") as progress:
        model, discounts = estimate(words, tokens, options.order, options.prune, progress.update)
    found = {
        "lines": perplexity(model, held_out),
        "joined": perplexity(model, joined(held_out, options.join, 0)),
    }
    training = {
        **asdict(options),
        "words": len(tokens) - 2 * int((tokens == 1).sum()),
        "entries": list(map(len, model.log_probs)),
        "discounts": discounts,
    }
    report = {
        name: {**asdict(cost), "valid_perplexity_per_word": cost.per_word}
        for name, cost in found.items()
    }
    model = replace(
        model,
        normalizer=options.normalizer,
        card={**card, "training": training, "validation": report},
    )
    save(model, directory)
    return model, found
