"""What the labels of arcs stand for: words of a table (`words.txt`), pieces, or plain words.

`Lattice.symbols` is one of these, or a list of words. `text_of(symbols, words)` makes text of a
sequence of them: words are joined by spaces, pieces by their sentencepiece model.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, overload

import numpy as np

from rescore.errors import FormatError
from rescore.formats.base import ascii_words
from rescore.formats.files import PathLike, name_of, read_bytes, text_lines
from rescore.formats.strict_json import short

__all__ = [
    "Pieces",
    "SymbolTable",
    "Symbols",
    "Vocabulary",
    "chosen_symbols",
    "name_words",
    "number_words",
    "text_of",
]

_NUMBER = re.compile(r"[0-9]{1,18}")


class Symbols(Sequence[str]):
    """The symbols of a recogniser, by the numbers it gives them. `self[0]` is "", no word."""

    def __init__(
        self, numbers: np.ndarray, symbols: Sequence[str], name: str, nonwords: Collection[str] = ()
    ) -> None:
        """`numbers` (N,) int64, ascending from 0, belong to `symbols`; `nonwords` are no words."""
        self._numbers, self._symbols, self._name = numbers, symbols, name
        self._index = np.arange(len(symbols))
        self._index[[i for i, symbol in enumerate(symbols) if symbol in nonwords]] = 0

    def __len__(self) -> int:
        return len(self._symbols)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._symbols[index]

    def indices(self, labels: np.ndarray, place: str) -> np.ndarray:
        """Return the index of every label, int64, 0 where it is no word.

        Raises FormatError naming `place` for a label without a symbol.
        """
        rows = np.minimum(np.searchsorted(self._numbers, labels), len(self._numbers) - 1)
        is_unknown = self._numbers[rows] != labels
        if is_unknown.any():
            raise FormatError(
                f"{place}: label {labels[is_unknown][0]} is not in {self._name}, which has "
                f"{self._range()}; pass the table that belongs to this lattice"
            )
        indices: np.ndarray = self._index[rows]
        return indices

    def text(self, words: Iterable[int]) -> str:
        """Return the text of a sequence of indices."""
        return " ".join(self[word] for word in words if word)

    def _range(self) -> str:
        return f"{len(self)} symbols from 0 to {self._numbers[-1]}"


class SymbolTable(Symbols):
    """A table in OpenFst's text format, `word number` on a line: `words.txt`. 0 is `<eps>`."""

    def __init__(self, path: PathLike, nonwords: Collection[str] = ()) -> None:
        """Raises FormatError naming the line that is not a word and a number of its own."""
        table: dict[int, str] = {}
        for number, line in text_lines(path):
            fields = ascii_words(line)
            if not fields:
                continue
            if len(fields) != 2 or not _NUMBER.fullmatch(fields[1]):
                raise FormatError(
                    f'{name_of(path)}:{number}: the line is "{short(line)}", '
                    "expected a word, a space and its number"
                )
            if table.setdefault(int(fields[1]), fields[0]) != fields[0]:
                raise FormatError(
                    f"{name_of(path)}:{number}: the number {fields[1]} is there twice; "
                    "this is no table of symbols"
                )
        table[0] = ""
        numbers = np.array(sorted(table), np.int64)
        super().__init__(
            numbers,
            [table[number] for number in numbers.tolist()],
            f"the word table {name_of(path)}",
            nonwords,
        )


class Pieces(Symbols):
    """The pieces of a sentencepiece model, which joins them to text. 0 is icefall's blank."""

    def __init__(self, path: PathLike, nonwords: Collection[str] = ()) -> None:
        """Raises FormatError for a file that is no sentencepiece model."""
        import sentencepiece  # noqa: PLC0415 - only pieces need it

        self._model: Any = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(read_bytes(path))
            size = self._model.get_piece_size()
            symbols = ["", *(self._model.id_to_piece(i) for i in range(1, size))]
        except (RuntimeError, ValueError, IndexError) as error:
            raise FormatError(
                f"{name_of(path)}: not a sentencepiece model; pass the bpe.model of this recogniser"
            ) from error
        super().__init__(np.arange(max(size, 1)), symbols, f"the model {name_of(path)}", nonwords)

    def text(self, words: Iterable[int]) -> str:
        """Return the text that these pieces spell."""
        return str(self._model.decode([int(word) for word in words if word]))


class Vocabulary:
    """Words in the order they come, with indices from 1; `nonwords` have the index 0."""

    def __init__(self, nonwords: Iterable[str] = ()) -> None:
        self.symbols: list[str] = [""]
        self._index = {"": 0, **dict.fromkeys(nonwords, 0)}

    def index(self, word: str) -> int:
        """Return the index of a word, a new one if it has none yet."""
        index = self._index.get(word)
        if index is None:
            index = self._index[word] = len(self.symbols)
            self.symbols.append(word)
        return index


def chosen_symbols(
    words: PathLike | None, bpe: PathLike | None, nonwords: Collection[str] = ()
) -> Symbols | None:
    """Open the word table or the sentencepiece model; None without either, or for words "none".

    Raises FormatError if both are named.
    """
    if words is not None and bpe is not None:
        raise FormatError(
            "both a word table and a sentencepiece model are given; the labels of a lattice are "
            "either words or pieces"
        )
    if bpe is not None:
        return Pieces(bpe, nonwords)
    return None if words in (None, "none") else SymbolTable(str(words), nonwords)


def name_words(
    vocabulary: Vocabulary,
    word: np.ndarray,
    symbols: Symbols | None,
    may_be_numbers: bool,
    place: str,
) -> tuple[np.ndarray, Sequence[str]]:
    """Return `word` (A,) int64 and its symbols; numbers in the place of words are looked up.

    Raises FormatError for a word that is no number of the table; without a table, if all words are
    numbers and `may_be_numbers` is false.
    """
    texts = vocabulary.symbols[1:]
    if symbols is None:
        if texts and not may_be_numbers and all(map(_NUMBER.fullmatch, texts)):
            raise FormatError(
                f"{place}: all words are numbers; give the table that names them, "
                "words=words.txt, or words=none if they are words"
            )
        return word, vocabulary.symbols
    for text in texts:
        if not _NUMBER.fullmatch(text):
            raise FormatError(
                f'{place}: the word "{short(text)}" is no number; '
                "leave the word table out if the words are there as text"
            )
    labels = np.array([0, *map(int, texts)], np.int64)
    return symbols.indices(labels, place)[word], symbols


def number_words(
    labels: np.ndarray, symbols: Symbols | None, may_be_numbers: bool, place: str
) -> tuple[np.ndarray, Sequence[str]]:
    """Return `word` (A,) int64 and its symbols, for labels (A,) int64 where 0 is no word.

    Raises FormatError for a label without a symbol; without symbols, unless the numbers may stand
    for themselves.
    """
    if symbols is not None:
        return symbols.indices(labels, place), symbols
    if not may_be_numbers:
        raise FormatError(
            f"{place}: its labels are numbers; give the table that names them, words=words.txt, or "
            "bpe=bpe.model; words=none keeps the numbers"
        )
    numbers = np.unique(np.append(labels, 0))
    if numbers[0] < 0:
        raise FormatError(
            f"{place}: label {numbers[0]} is negative, expected 0 for no word, or a word's number"
        )
    return np.searchsorted(numbers, labels), ["", *map(str, numbers[1:].tolist())]


def text_of(symbols: Sequence[str], words: Iterable[int]) -> str:
    """Return the text of a sequence of a lattice's words."""
    if isinstance(symbols, Symbols):
        return symbols.text(words)
    return " ".join(symbols[word] for word in words if word)
