"""All that `check` counts, list by list: texts, tokens, repetitions, references, scores."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from rescore.checking.counts import ErrorRates, ScoreSummary, Tally
from rescore.scorers import Vocabulary
from rescore.scorers.sequences import cut
from rescore.text import identity, librispeech
from rescore.types import NBest
from rescore.wer import Unit, units
from rescore.wer.counts import misnamed_reference

__all__ = ["Inspection"]

#: What recognisers write that is not a word: <unk>, [noise], and pieces that were not joined, as
#: in SentencePiece, BPE and WordPiece.
_TAG = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]|\u2581|@@(?:\s|$)|(?:^|\s)##\w")


class _CharacterKinds(dict[str, str]):
    """The kind of each character, computed once: digit, punctuation, cjk or other.

    Symbols are punctuation; apostrophes are not.
    """

    def __missing__(self, char: str) -> str:
        self[char] = kind = _character_kind(char)
        return kind


def _character_kind(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Nd":
        return "digit"
    if category[0] in "PS" and char not in "'\u2019":
        return "punctuation"
    is_unit_alone = len(units(f"a{char}a", "mixed")) > 2
    return "cjk" if is_unit_alone else "other"


def _case(text: str) -> str:
    """lower, upper or mixed; none for a text in a script without case."""
    if text.islower():
        return "lower"
    if text.isupper():
        return "upper"
    return "mixed" if text.lower() != text.upper() else "none"


@dataclass
class Inspection:
    """Everything that `check` counts.

    `sizes` maps a number of hypotheses to the number of lists of that size, `cases` a case to a
    number of hypotheses. `words` counts the words of hypotheses (each CJK character is one),
    `tokens` those of the model without BOS and EOS, `sequences` what the network sees: the
    hypotheses, over-long ones cut into windows. The `raw_` counts are those of texts that skip the
    model's normaliser. `as_written` are errors against the references as they are, `normalized`
    those with the normaliser `librispeech` on both sides. `tallies` go by name; `findings.py`
    explains them.
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
    as_written: ErrorRates = field(default_factory=ErrorRates)
    normalized: ErrorRates = field(default_factory=ErrorRates)
    scores: dict[str, ScoreSummary] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)
    _kinds: _CharacterKinds = field(default_factory=_CharacterKinds)
    _known: dict[str, bool] = field(default_factory=dict)

    @property
    def utterances(self) -> int:
        """The number of lists."""
        return sum(self.sizes.values())

    @property
    def hypotheses(self) -> int:
        """The number of hypotheses."""
        return sum(size * lists for size, lists in self.sizes.items())

    @property
    def normalizer(self) -> str:
        """The registry's name of the model's normaliser."""
        name = self.vocabulary.normalize.__name__
        return "none" if name == "identity" else name.replace("_", "-")

    @cached_property
    def tells_case(self) -> bool:
        """Whether the model tells upper case from lower case."""
        upper, lower = self.vocabulary.tokenizer.encode(
            [self.vocabulary.normalize("A"), self.vocabulary.normalize("a")]
        )
        return upper != lower

    @property
    def ranked_unknown_characters(self) -> list[tuple[str, int]]:
        """The unknown characters with their counts, most frequent first; ties by character."""
        return sorted(self.unknown_characters.items(), key=lambda entry: (-entry[1], entry[0]))

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
        self.cases[_case(text)] += 1
        characters = set(text)
        kinds = {self._kinds[char] for char in characters}
        properties = {
            "empty": not text,
            "digit": "digit" in kinds,
            "punctuation": "punctuation" in kinds,
            "tag": "punctuation" in kinds and _TAG.search(text) is not None,
            "replacement": "\ufffd" in characters,
            "rewritten": seen != text,
            "upper": seen.isupper() and "cjk" not in kinds and self.tells_case,
        }
        for name, is_true in properties.items():
            if is_true:
                self._tally(name, nbest, index)
        words = len(units(text, "mixed" if "cjk" in kinds else "word"))
        if words > len(units(text)):
            self._tally("unspaced", nbest, index)
        self.words += words
        self.longest_words = max(self.longest_words, words)
        return words

    def _add_repetitions(self, nbest: NBest, written: Sequence[str], seen: Sequence[str]) -> None:
        """Count texts that repeat an earlier one, as written or as the model sees them."""
        texts: set[str] = set()
        model_texts: set[str] = set()
        for index, (text, model_text) in enumerate(zip(written, seen, strict=True)):
            if text in texts:
                self._tally("duplicate", nbest, index)
            elif model_text in model_texts:
                self._tally("alike", nbest, index)
            texts.add(text)
            model_texts.add(model_text)

    def _add_tokens(self, nbest: NBest, written: Sequence[str], seen: Sequence[str]) -> None:
        """Count tokens, of the texts as the model sees them and as they are written."""
        encode, window = self.vocabulary.tokenizer.encode, self.vocabulary.window
        rewritten = [index for index, text in enumerate(written) if text != seen[index]]
        raw_tokens = encode([written[index] for index in rewritten])
        raw_by_index = dict(zip(rewritten, raw_tokens, strict=True))
        for index, tokens in enumerate(encode(seen)):
            unknown = self._unknown_count(tokens)
            length = len(tokens) + 2  # with BOS and EOS
            if unknown:
                self._tally("unknown", nbest, index)
                self.unknown_characters.update(self._unknown_in(seen[index]))
            if length > window:
                self._tally("over_long", nbest, index)
            self.sequences += len(cut(length, window))
            self.tokens += len(tokens)
            self.longest_tokens = max(self.longest_tokens, len(tokens))
            self.unknown_tokens += unknown
            raw = raw_by_index.get(index, tokens)
            self.raw_tokens += len(raw)
            self.raw_unknown_tokens += self._unknown_count(raw)

    def _unknown_count(self, tokens: Sequence[int]) -> int:
        unk_id = self.vocabulary.tokenizer.unk_id
        return 0 if unk_id is None else tokens.count(unk_id)

    def _unknown_in(self, text: str) -> list[str]:
        """The different characters of a text that the model does not know."""
        return [char for char in set(text) if not self._is_known(char)]

    def _is_known(self, char: str) -> bool:
        if char not in self._known:
            [tokens] = self.vocabulary.tokenizer.encode([char])
            self._known[char] = not self._unknown_count(tokens)
        return self._known[char]

    def _add_reference(self, nbest: NBest, written: Sequence[str], seen: Sequence[str]) -> None:
        if misnamed_reference(nbest) is not None:
            self._tally("misnamed_reference", nbest)
        if nbest.ref is None:
            self._tally("no_reference", nbest)
            return
        self.references += 1
        if not nbest.ref.strip():
            self._tally("empty_reference", nbest)
        self.as_written.add(nbest.ref, written, self.unit)
        is_normalized = self.vocabulary.normalize is librispeech
        plain = seen if is_normalized else [librispeech(text) for text in written]
        self.normalized.add(librispeech(nbest.ref), plain, self.unit)

    def _add_scores(self, nbest: NBest, words: Sequence[int]) -> None:
        for index, hyp in enumerate(nbest.hyps):
            if "score" in hyp.raw and not hyp.scores:
                self._tally("misnamed_scores", nbest, index)
            for name in hyp.scores:
                if name not in self.scores:  # all hypotheses of earlier lists lack it
                    self.scores[name] = ScoreSummary(missing=Tally(self.hypotheses, self.first))
        for name, score in self.scores.items():
            score.add(nbest, name, words)
