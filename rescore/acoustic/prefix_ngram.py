"""N-gram scores that steer a prefix beam search: of words as they end, or of symbols one by one.

total = log P(labels | audio) + scale * n-gram + bonus * units, a unit being a word or a symbol. A
word counts when the symbol after it shows that it is complete, or when the text ends. `</s>` counts
at the end of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np

from rescore.acoustic.symbols import WORD_START, Symbols
from rescore.errors import ScoreError
from rescore.interfaces import WordModel
from rescore.text import normalizer

__all__ = ["UNITS", "NgramFusion", "NgramUnit", "symbol_names"]

#: What the "words" of the n-gram model are.
NgramUnit = Literal["word", "symbol"]
UNITS: tuple[NgramUnit, ...] = get_args(NgramUnit)

#: The last order - 1 units before a place; fewer at the start of the text.
_History = tuple[str, ...]

#: A history and the units after it.
_Query = tuple[_History, tuple[str, ...]]


@dataclass(frozen=True)
class NgramFusion:
    """An n-gram model, what its units are, and how much it counts in the search.

    Called with a number of utterances it makes their `PrefixScores`. Raises ScoreError for a scale
    that is not positive, for words where the symbols have no word boundary, and for a model of
    symbols whose normaliser changes a symbol.
    Exact check: tests/acoustic/test_prefix_ngram.py::test_a_wide_beam_adds_the_ngram_of_the_text.
    """

    model: WordModel
    symbols: Symbols
    unit: NgramUnit = "word"
    scale: float = 1.0
    bonus: float = 0.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ScoreError(f"the scale of the n-gram is {self.scale}, expected above 0")
        symbols = self.symbols
        if self.unit == "symbol":
            _check_names(self.model, symbols)
        if self.unit == "word" and symbols.word_rule == "boundary" and symbols.boundary is None:
            raise ScoreError(
                "the symbols have no word boundary, so an n-gram of words cannot steer the search; "
                "give one of symbols (--ngram-unit symbol)"
            )

    def __call__(self, utterances: int) -> _WordScores | _SymbolScores:
        """The scores of a batch of utterances."""
        if self.unit == "word":
            return _WordScores(self, utterances)
        return _SymbolScores(self, utterances)


def symbol_names(symbols: Symbols) -> tuple[str, ...]:
    """The symbols as an n-gram of symbols has them: as they are, but U+2581 for a space."""
    return tuple(WORD_START if piece.isspace() else piece for piece in symbols.pieces)


def _check_names(model: WordModel, symbols: Symbols) -> None:
    normalize, names = normalizer(model.normalizer), symbol_names(symbols)
    for column in symbols.columns.values():
        if normalize(names[column]) != names[column]:
            raise ScoreError(
                f"the n-gram model's normaliser {model.normalizer!r} changes the symbol "
                f"{names[column]!r}, so it is no model of symbols; train it with --normalizer none"
            )


class _Lookup:
    """Weighted log-probabilities of units after histories; the model is asked once for each."""

    def __init__(self, fusion: NgramFusion) -> None:
        self._fusion = fusion
        self._longest = fusion.model.order - 1
        self._nats: dict[_Query, float] = {}
        self._end_nats: dict[_History, float] = {}

    def history(self, history: _History, units: Sequence[str]) -> _History:
        """The history after more units."""
        longer = (*history, *units)
        return longer[max(0, len(longer) - self._longest) :]

    def values(self, queries: Sequence[_Query]) -> list[float]:
        """scale * log p(units | history) + bonus * number of units, of every query."""
        self._ask([query for query in queries if query not in self._nats])
        scale, bonus = self._fusion.scale, self._fusion.bonus
        return [scale * self._nats[query] + bonus * len(query[1]) for query in queries]

    def ends(self, histories: Sequence[_History]) -> list[float]:
        """scale * log p(</s> | history), of every history."""
        self._ask([(history, ()) for history in histories if history not in self._end_nats])
        return [self._fusion.scale * self._end_nats[history] for history in histories]

    def forget(self) -> None:
        """Drop all answers; what is asked again is looked up again."""
        self._nats.clear()
        self._end_nats.clear()

    def _ask(self, queries: Sequence[_Query]) -> None:
        if not queries:
            return
        queries = list(dict.fromkeys(queries))
        nats, _ = self._fusion.model.token_log_probs(
            [history + units for history, units in queries]
        )
        end = 0
        for history, units in queries:
            start = end + len(history)
            end = start + len(units) + 1  # and </s>
            self._nats[history, units] = float(nats[start : end - 1].sum())
            self._end_nats[self.history(history, units)] = float(nats[end - 1])


class _Table:
    """Rows of numbers, one for each thing that is numbered so far; new rows hold `fill`."""

    def __init__(self, fill: float, columns: int | None = None) -> None:
        self._fill = fill
        self.values = np.full(self._shape(1024, columns), fill)

    def grow(self, rows: int) -> None:
        """Make room for at least `rows` rows."""
        while len(self.values) < rows:
            self.values = np.concatenate([self.values, np.full_like(self.values, self._fill)])

    def keep(self, rows: np.ndarray) -> None:
        """Drop all rows but these (n,), n >= 1."""
        self.values = self.values[rows]

    @staticmethod
    def _shape(rows: int, columns: int | None) -> tuple[int, ...]:
        return (rows,) if columns is None else (rows, columns)


class _WordScores:
    """The words of every prefix: the complete ones as a history, and the letters since.

    `_completed` (prefixes,) is what the end of the last word adds; NaN: not looked up.
    """

    def __init__(self, fusion: NgramFusion, utterances: int) -> None:
        symbols, normalize = fusion.symbols, normalizer(fusion.model.normalizer)
        self._lookup = _Lookup(fusion)
        self._units = cache(lambda word: tuple(normalize(word).split()))
        self._ends_word = np.array([_ends_word(symbols, k) for k in range(len(symbols))])
        self._letters = [symbols.decode([k]) for k in range(len(symbols))]
        self._histories: list[_History] = [()] * utterances
        self._words = [""] * utterances
        self._completed = _Table(np.nan)

    def gains(self, prefixes: np.ndarray, symbols: np.ndarray) -> np.ndarray | None:
        """See PrefixScores: a symbol that ends a word adds its score."""
        ends_word = self._ends_word[symbols]
        rows = ends_word.any(axis=1)
        if not rows.any():
            return None
        asked = prefixes[rows]
        self._complete(asked[asked >= 0])
        completed = np.where(prefixes >= 0, self._completed.values[prefixes], 0.0)
        return np.where(ends_word[:, None, :], completed[:, :, None], 0.0)

    def append(self, parents: Sequence[int], symbols: Sequence[int]) -> None:
        """See PrefixScores."""
        for parent, symbol in zip(parents, symbols, strict=True):
            history, word = self._histories[parent], self._words[parent]
            if self._ends_word[symbol]:
                history, word = self._lookup.history(history, self._units(word)), ""
            self._histories.append(history)
            self._words.append(word + self._letters[symbol])
        self._completed.grow(len(self._words))

    def keep(self, prefixes: np.ndarray) -> None:
        """See PrefixScores."""
        self._histories = [self._histories[k] for k in prefixes]
        self._words = [self._words[k] for k in prefixes]
        self._completed.keep(prefixes)
        self._units.cache_clear()
        self._lookup.forget()

    def ends(self, prefixes: np.ndarray) -> np.ndarray:
        """See PrefixScores: the last word and the end."""
        self._complete(prefixes)
        histories = [
            self._lookup.history(self._histories[k], self._units(self._words[k])) for k in prefixes
        ]
        added: np.ndarray = self._completed.values[prefixes] + self._lookup.ends(histories)
        return added

    def _complete(self, prefixes: np.ndarray) -> None:
        """Look up what the ends of the prefixes' last words add."""
        completed = self._completed.values
        new = np.unique(prefixes[np.isnan(completed[prefixes])])
        queries = [(self._histories[k], self._units(self._words[k])) for k in new]
        completed[new] = self._lookup.values(queries)


class _SymbolScores:
    """The last symbols of every prefix, as the number of a history.

    `_successors` (histories, V) is what each symbol adds after a history; NaN: not looked up.
    """

    def __init__(self, fusion: NgramFusion, utterances: int) -> None:
        self._lookup, self._names = _Lookup(fusion), symbol_names(fusion.symbols)
        self._histories: list[_History] = [()]
        self._numbers: dict[_History, int] = {(): 0}
        self._prefixes = utterances
        self._history_of_prefix = _Table(0)
        self._successors = _Table(np.nan, len(self._names))

    def gains(self, prefixes: np.ndarray, symbols: np.ndarray) -> np.ndarray | None:
        """See PrefixScores."""
        numbers = np.where(prefixes >= 0, self._history_of_prefix.values[prefixes], 0)
        numbers = numbers.astype(np.int64)
        where = numbers[:, :, None], symbols[:, None, :]
        is_new = np.isnan(self._successors.values[where])
        if is_new.any():
            rows, slots, candidates = np.nonzero(is_new)
            self._look_up(numbers[rows, slots], symbols[rows, candidates])
        added: np.ndarray = self._successors.values[where]
        return added

    def append(self, parents: Sequence[int], symbols: Sequence[int]) -> None:
        """See PrefixScores."""
        self._history_of_prefix.grow(self._prefixes + len(parents))
        of_prefix = self._history_of_prefix.values
        for parent, symbol in zip(parents, symbols, strict=True):
            before = self._histories[int(of_prefix[parent])]
            history = self._lookup.history(before, (self._names[symbol],))
            number = self._numbers.setdefault(history, len(self._histories))
            if number == len(self._histories):
                self._histories.append(history)
            of_prefix[self._prefixes] = number
            self._prefixes += 1
        self._successors.grow(len(self._histories))

    def keep(self, prefixes: np.ndarray) -> None:
        """See PrefixScores."""
        of_prefix = self._history_of_prefix.values[prefixes].astype(np.int64)
        kept, numbers = np.unique(of_prefix, return_inverse=True)
        self._prefixes = len(prefixes)
        self._history_of_prefix.values = numbers.astype(np.float64)
        self._histories = [self._histories[k] for k in kept]
        self._numbers = {history: number for number, history in enumerate(self._histories)}
        self._successors.keep(kept)
        self._lookup.forget()

    def ends(self, prefixes: np.ndarray) -> np.ndarray:
        """See PrefixScores."""
        numbers = self._history_of_prefix.values[prefixes].astype(np.int64)
        return np.array(self._lookup.ends([self._histories[k] for k in numbers]))

    def _look_up(self, numbers: np.ndarray, symbols: np.ndarray) -> None:
        numbers, symbols = np.unique(np.stack([numbers, symbols]), axis=1)
        queries = [
            (self._histories[number], (self._names[symbol],))
            for number, symbol in zip(numbers, symbols, strict=True)
        ]
        self._successors.values[numbers, symbols] = self._lookup.values(queries)


def _ends_word(symbols: Symbols, column: int) -> bool:
    """Whether a symbol shows that the word before it is complete."""
    piece = symbols.pieces[column]
    if column == symbols.blank or column in symbols.special or piece == symbols.boundary:
        return True
    return symbols.word_rule == "mark" and piece.startswith(WORD_START)
