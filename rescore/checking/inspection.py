"""What `check` counts: texts, tokens, repetitions, references and scores, added up list by list."""

from __future__ import annotations

import random
import re
import unicodedata
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from statistics import StatisticsError, correlation, median_low

from rescore.scorers import Vocabulary
from rescore.scorers.sequences import cut
from rescore.text import identity, librispeech
from rescore.types import NBest
from rescore.wer import Unit, edit_distances, reference_length, units

__all__ = ["Rates", "Report", "ScoreSummary", "Tally"]

_SAMPLE = 100_000  # values of a score that are kept for its median: 0.8 MB

#: What recognisers write that is no word: <unk>, [noise], and pieces that were not joined, as in SentencePiece, WordPiece and BPE.
_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|\u2581|@@(?:\s|$)|(?:^|\s)##\w")


@dataclass
class Tally:
    """How many hypotheses (or lists) something is true of, and the place of the first."""

    count: int = 0
    first: str = ""

    def add(self, nbest: NBest, index: int | None = None) -> None:
        """Count one."""
        if not self.count:
            self.first = nbest.place(index)
        self.count += 1


@dataclass
class Rates:
    """Errors of the first hypotheses and of the best ones, against `reference_length` words or other units."""

    reference_length: int = 0
    first: int = 0
    oracle: int = 0

    def add(self, ref: str, texts: Sequence[str], unit: Unit) -> None:
        """Count one list."""
        errors = edit_distances([ref] * len(texts), texts, unit)
        self.reference_length += reference_length(ref, unit)
        self.first += int(errors[0])
        self.oracle += int(errors.min())

    @property
    def wer(self) -> float | None:
        """The error rate of the first hypotheses, a fraction; None without reference words."""
        return self.first / self.reference_length if self.reference_length else None

    @property
    def oracle_wer(self) -> float | None:
        """The error rate of the best hypotheses, a fraction; None without reference words."""
        return self.oracle / self.reference_length if self.reference_length else None


@dataclass
class ScoreSummary:
    """The values of one named score.

    `missing` counts hypotheses without it, `lists` lists of at least two values, `varied` those among them whose values differ, `first_highest`
    and `first_lowest` those of the last whose first hypothesis has the highest or the lowest value. `sample` holds all values, or a random
    100,000 of them; `words` says how many words each of the texts has.
    """

    count: int = 0
    low: float = inf
    high: float = -inf
    positive: Tally = field(default_factory=Tally)
    zero: Tally = field(default_factory=Tally)
    missing: Tally = field(default_factory=Tally)
    lists: int = 0
    varied: int = 0
    first_highest: int = 0
    first_lowest: int = 0
    sample: array[float] = field(default_factory=lambda: array("d"))
    words: array[float] = field(default_factory=lambda: array("d"))
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - chooses what is kept

    def add(self, nbest: NBest, name: str, words: Sequence[int]) -> None:
        """Count the values of one list, whose texts have this many words."""
        values = []
        for index, hyp in enumerate(nbest.hyps):
            value = hyp.scores.get(name)
            if value is None:
                self.missing.add(nbest, index)
                continue
            values.append(value)
            self._keep(value, words[index])
            if value >= 0:
                (self.positive if value > 0 else self.zero).add(nbest, index)
        if values:
            self._compare(values, nbest.hyps[0].scores.get(name))

    def _keep(self, value: float, words: int) -> None:
        """Add to the sample; once it is full, every value so far has the same chance to be in it (reservoir sampling)."""
        self.count += 1
        if len(self.sample) < _SAMPLE:
            self.sample.append(value)
            self.words.append(words)
        elif (place := self._random.randrange(self.count)) < _SAMPLE:
            self.sample[place], self.words[place] = value, words

    def _compare(self, values: Sequence[float], first: float | None) -> None:
        low, high = min(values), max(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.lists += len(values) > 1
        if low < high:
            self.varied += 1
            self.first_highest += first == high
            self.first_lowest += first == low

    @property
    def negative(self) -> int:
        """How many values are below 0."""
        return self.count - self.positive.count - self.zero.count

    @property
    def median(self) -> float:
        """The median of the sample, of two in the middle the lower."""
        return median_low(self.sample)

    @property
    def length_correlation(self) -> float | None:
        """Pearson's correlation of the sample with its numbers of words; None where one of them never changes."""
        largest = max(abs(self.low), abs(self.high)) or 1.0  # so that no square overflows
        try:
            return correlation([value / largest for value in self.sample], self.words)
        except StatisticsError:
            return None


class _Kinds(dict[str, str]):
    """What a character is, looked up once: a digit, punctuation or a symbol, a CJK character, or something else."""

    def __missing__(self, char: str) -> str:
        category = unicodedata.category(char)
        is_mark = category[0] in "PS" and char not in "'\u2019"
        self[char] = (
            "digit"
            if category == "Nd"
            else "punctuation"
            if is_mark
            else "cjk"
            if len(units(f"a{char}a", "mixed")) > 2
            else "other"
        )
        return self[char]


@dataclass
class Report:
    """Everything `check` counts. `sizes` maps a number of hypotheses to a number of lists; `tallies` are by name, as in `findings.py`.

    `words` counts the words of hypotheses (every CJK character is one), `tokens` those of the model without BOS and EOS, `sequences` what the
    network sees: the hypotheses, over-long ones cut into windows. The `raw_` figures are those of texts that skip the model's normaliser.
    `as_written` are errors against the references as they are, `normalized` those with the normaliser `librispeech` on both sides.
    """

    vocabulary: Vocabulary
    unit: Unit = "word"
    first: str = ""
    sizes: Counter[int] = field(default_factory=Counter)
    cases: Counter[str] = field(default_factory=Counter)
    words: int = 0
    longest_words: int = 0
    tokens: int = 0
    longest_tokens: int = 0
    sequences: int = 0
    unknown_tokens: int = 0
    raw_tokens: int = 0
    raw_unknown_tokens: int = 0
    unknown_characters: Counter[str] = field(default_factory=Counter)
    references: int = 0
    as_written: Rates = field(default_factory=Rates)
    normalized: Rates = field(default_factory=Rates)
    scores: dict[str, ScoreSummary] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    _kinds: _Kinds = field(default_factory=_Kinds)
    _known: dict[str, bool] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        """How many lists there are."""
        return sum(self.sizes.values())

    @property
    def hypotheses(self) -> int:
        """How many hypotheses there are."""
        return sum(size * lists for size, lists in self.sizes.items())

    @property
    def normalizer(self) -> str:
        """The name of the model's normaliser, as the registry has it."""
        name = self.vocabulary.normalize.__name__
        return "none" if name == "identity" else name.replace("_", "-")

    @cached_property
    def minds_case(self) -> bool:
        """Whether the model sees upper case as something else than lower case."""
        upper, lower = self.vocabulary.tokenizer.encode(
            [self.vocabulary.normalize("A"), self.vocabulary.normalize("a")]
        )
        return upper != lower

    def tally(self, name: str) -> Tally:
        """How many hypotheses or lists something is true of."""
        return self.tallies.get(name, Tally())

    def add(self, nbest: NBest) -> None:
        """Count one list."""
        written = [identity(hyp.text) for hyp in nbest.hyps]
        seen = [self.vocabulary.normalize(text) for text in written]
        words = [
            self._add_text(nbest, index, text, model_text)
            for index, (text, model_text) in enumerate(zip(written, seen, strict=True))
        ]
        if len(written) == 1:
            self._tally("one_hypothesis", nbest)
        self._add_repetitions(nbest, written, seen)
        self._add_tokens(nbest, written, seen)
        self._add_reference(nbest, written, seen)
        self._add_scores(nbest, words)
        self.first = self.first or nbest.place(0)
        self.sizes[len(written)] += 1

    def _tally(self, name: str, nbest: NBest, index: int | None = None) -> None:
        self.tallies.setdefault(name, Tally()).add(nbest, index)

    def _add_text(self, nbest: NBest, index: int, text: str, seen: str) -> int:
        """Count one text, which the model sees as `seen`, and return its number of words."""
        self.cases[
            "lower"
            if text.islower()
            else "upper"
            if text.isupper()
            else "mixed"
            if text.lower() != text.upper()
            else "none"
        ] += 1
        characters = set(text)
        kinds = set(map(self._kinds.__getitem__, characters))
        of_text = {
            "empty": not text,
            "digit": "digit" in kinds,
            "punctuation": "punctuation" in kinds,
            "tag": "punctuation" in kinds and _TAG.search(text) is not None,
            "replacement": "\ufffd" in characters,
            "rewritten": seen != text,
            "upper": seen.isupper() and "cjk" not in kinds and self.minds_case,
        }
        for name, is_true in of_text.items():
            if is_true:
                self._tally(name, nbest, index)
        words = len(units(text, "mixed" if "cjk" in kinds else "word"))
        if words > len(units(text)):
            self._tally("unspaced", nbest, index)
        self.words += words
        self.longest_words = max(self.longest_words, words)
        return words

    def _add_repetitions(self, nbest: NBest, written: Sequence[str], seen: Sequence[str]) -> None:
        """Count texts that stood in the list before, as they are or as the model sees them."""
        texts: set[str] = set()
        alike: set[str] = set()
        for index, (text, model_text) in enumerate(zip(written, seen, strict=True)):
            if text in texts:
                self._tally("duplicate", nbest, index)
            elif model_text in alike:
                self._tally("alike", nbest, index)
            texts.add(text)
            alike.add(model_text)

    def _add_tokens(self, nbest: NBest, written: Sequence[str], seen: Sequence[str]) -> None:
        encode, window = self.vocabulary.tokenizer.encode, self.vocabulary.window
        changed = [index for index, text in enumerate(written) if text != seen[index]]
        raw = dict(zip(changed, encode([written[index] for index in changed]), strict=True))
        for index, tokens in enumerate(encode(seen)):
            unknown, length = self._unknown(tokens), len(tokens) + 2
            if unknown:
                self._tally("unknown", nbest, index)
                self.unknown_characters.update(
                    char for char in set(seen[index]) if not self._knows(char)
                )
            if length > window:
                self._tally("over_long", nbest, index)
            self.sequences += len(cut(length, window))
            self.tokens += len(tokens)
            self.longest_tokens = max(self.longest_tokens, len(tokens))
            self.unknown_tokens += unknown
            self.raw_tokens += len(raw.get(index, tokens))
            self.raw_unknown_tokens += self._unknown(raw[index]) if index in raw else unknown

    def _unknown(self, tokens: Sequence[int]) -> int:
        return (
            0
            if self.vocabulary.tokenizer.unk_id is None
            else tokens.count(self.vocabulary.tokenizer.unk_id)
        )

    def _knows(self, char: str) -> bool:
        if char not in self._known:
            self._known[char] = not self._unknown(self.vocabulary.tokenizer.encode([char])[0])
        return self._known[char]

    def _add_reference(self, nbest: NBest, written: Sequence[str], seen: Sequence[str]) -> None:
        if nbest.ref is None:
            self._tally("no_reference", nbest)
            return
        self.references += 1
        if not nbest.ref.strip():
            self._tally("empty_reference", nbest)
        self.as_written.add(nbest.ref, written, self.unit)
        plain = (
            seen
            if self.vocabulary.normalize is librispeech
            else [librispeech(text) for text in written]
        )
        self.normalized.add(librispeech(nbest.ref), plain, self.unit)

    def _add_scores(self, nbest: NBest, words: Sequence[int]) -> None:
        for name in (name for hyp in nbest.hyps for name in hyp.scores):
            if name not in self.scores:  # the hypotheses before this list lack it
                self.scores[name] = ScoreSummary(missing=Tally(self.hypotheses, self.first))
        for name, score in self.scores.items():
            score.add(nbest, name, words)
