"""The output symbols of a CTC recogniser, and how they spell text.

Two word rules:

    "boundary"   one symbol a character; the symbol `boundary` (`|`, a space) stands between words;
                 without one, as in Chinese, text is its characters
    "mark"       pieces of words; a piece that begins with the mark U+2581 begins a word
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from rescore.errors import FormatError, ModelError, ScoreError
from rescore.formats.files import PathLike, read_bytes
from rescore.installation import install_hint
from rescore.models.opening import one_line

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

__all__ = [
    "WORD_START",
    "Segmenter",
    "SegmenterKind",
    "Symbols",
    "WordRule",
    "WordSpan",
    "with_segmenter",
]

WordRule = Literal["boundary", "mark"]
SegmenterKind = Literal["sentencepiece", "tokenizers"]

WORD_START = "\u2581"

#: The least share of a SentencePiece model's pieces that are symbols (a recogniser may leave out
#: the rare ones), and of the symbols that are its pieces.
_USED_PIECES, _SPELLED_SYMBOLS = 0.5, 0.9


@dataclass(frozen=True)
class Segmenter:
    """Cuts text into pieces: a serialised SentencePiece model, or a `tokenizer.json`.

    `where` is the file that it was in, for messages.
    """

    kind: SegmenterKind
    serialized: bytes = field(repr=False)
    where: str = field(default="", compare=False)

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text. Raises ModelError if the model cannot be read."""
        try:
            segment = _segment(self.kind, self.serialized)
        except ModelError as error:
            raise ModelError(f"{self.where}: {error}" if self.where else str(error)) from error
        return segment(text)


class WordSpan(NamedTuple):
    """A word and the symbols that spell it: `symbols[start:end]`."""

    word: str
    start: int
    end: int


@dataclass(frozen=True)
class Symbols:
    """The columns of posteriors, in order, and how they become words.

    `pieces[k]` is the symbol of column k; `blank` is the column of CTC's blank; `special` are
    columns besides the blank that are never text (padding, unknown, sentence ends). `boundary`
    belongs to the rule "boundary", `segmenter` to the rule "mark": without it, texts cannot be
    encoded. Raises FormatError for columns that contradict each other.
    """

    pieces: tuple[str, ...]
    blank: int
    word_rule: WordRule = "boundary"
    boundary: str | None = None
    special: frozenset[int] = frozenset()
    segmenter: Segmenter | None = None

    def __post_init__(self) -> None:
        last = len(self.pieces) - 1
        for name, column in [("blank", self.blank), *(("special", k) for k in self.special)]:
            if not 0 <= column <= last:
                raise FormatError(f"symbols: {name} is column {column}, expected 0 to {last}")
        hidden = len({self.blank, *self.special})
        if len(self.columns) + hidden < len(self.pieces):
            is_text = set(range(len(self.pieces))) - {self.blank, *self.special}
            [(piece, _)] = Counter(self.pieces[k] for k in sorted(is_text)).most_common(1)
            raise FormatError(f"symbols: {piece!r} has two columns; every symbol needs its own")
        if self.boundary is not None and self.boundary not in self.columns:
            raise FormatError(
                f"symbols: the word boundary {self.boundary!r} is no symbol; name the symbol that "
                "stands between words"
            )

    def __len__(self) -> int:
        """The number of columns, blank and special symbols included."""
        return len(self.pieces)

    @cached_property
    def columns(self) -> dict[str, int]:
        """The column of every symbol that spells text."""
        hidden = {self.blank, *self.special}
        return {piece: k for k, piece in enumerate(self.pieces) if k not in hidden}

    @cached_property
    def digest(self) -> str:
        """16 hex digits over columns and word rule: equal iff the symbols mean the same."""
        meaning = (self.pieces, self.blank, self.word_rule, self.boundary, sorted(self.special))
        return hashlib.blake2b(repr(meaning).encode(), digest_size=8).hexdigest()

    @cached_property
    def case(self) -> Literal["upper", "lower"] | None:
        """The case of all letters; None where symbols have both cases, or letters without case."""
        letters = "".join(piece for piece in self.columns if piece != self.boundary)
        if letters.isupper():
            return "upper"
        return "lower" if letters.islower() else None

    def text_piece(self, symbol: str) -> str:
        """How a vocabulary of text writes a symbol that spells text.

        A word boundary is the mark U+2581; letters are small where all symbols are capitals.
        """
        if symbol == self.boundary:
            return WORD_START
        return symbol.lower() if self.case == "upper" else symbol

    def encode(self, text: str, at: str = "") -> list[int]:
        """The columns that spell a text; nothing for an empty text.

        White space separates words, whatever its kind and length. Symbols of one case take texts
        of either. `at` names the text in messages. Raises ScoreError naming what no symbol spells;
        ModelError where pieces need a segmenter and there is none.
        """
        where = f"{at}: " if at else ""
        words = text.upper().split() if self.case == "upper" else text.split()
        if self.case == "lower":
            words = text.lower().split()
        if not words:
            return []
        pieces = self._spelled(words, where)
        for piece in pieces:
            if piece not in self.columns:
                raise ScoreError(
                    f"{where}the recogniser has no symbol {piece!r}; it cannot emit {text!r}: "
                    "normalise the text, or leave it out"
                )
        return [self.columns[piece] for piece in pieces]

    def decode(self, columns: Sequence[int]) -> str:
        """The text that columns spell (blanks and repetitions removed), one space between words."""
        return " ".join(span.word for span in self.words(columns))

    def words(self, columns: Sequence[int]) -> list[WordSpan]:
        """The words that columns spell, each with its place among them.

        Boundaries and special symbols belong to no word. Without a boundary all is one word.
        """
        spans: list[WordSpan] = []
        starts_word = True
        for k, column in enumerate(columns):
            piece = self.pieces[column]
            if column == self.blank or column in self.special or piece == self.boundary:
                starts_word = True
                continue
            if self.word_rule == "mark" and piece.startswith(WORD_START):
                starts_word, piece = True, piece[len(WORD_START) :]
            if starts_word or not spans:
                spans.append(WordSpan(piece, k, k + 1))
            else:
                spans[-1] = WordSpan(spans[-1].word + piece, spans[-1].start, k + 1)
            starts_word = False
        return [span for span in spans if span.word]

    def _spelled(self, words: Sequence[str], where: str) -> list[str]:
        if self.word_rule == "boundary":
            text = " ".join(words)
            return [self.boundary if c == " " and self.boundary is not None else c for c in text]
        if self.segmenter is None:
            raise ModelError(
                f"{where}pieces of words need the recogniser's SentencePiece model; name it (--bpe)"
            )
        return self.segmenter.pieces(" ".join(words))


def with_segmenter(symbols: Symbols, path: PathLike | None) -> Symbols:
    """The symbols, with the SentencePiece model of a file (None: their own) to cut texts.

    Raises ModelError for a file that cannot be read or does not belong to these symbols.
    """
    if path is None:
        return symbols
    if symbols.word_rule != "mark":
        raise ModelError(
            f"{path}: the recogniser's symbols are characters, which need no SentencePiece model; "
            "leave --bpe out"
        )
    try:
        segmenter = Segmenter("sentencepiece", read_bytes(path), str(path))
        processor = _processor(segmenter.serialized)
    except FormatError as error:
        raise ModelError(str(error)) from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    _check_pieces(symbols, processor, f"{path}")
    return replace(symbols, segmenter=segmenter)


def _check_pieces(symbols: Symbols, processor: SentencePieceProcessor, path: str) -> None:
    """Raise ModelError unless the model's pieces are the symbols, but for a few."""
    pieces = {processor.id_to_piece(k): k for k in range(processor.get_piece_size())}
    spoken = [piece for piece, k in pieces.items() if not _is_unspoken(processor, k)]
    used = sum(piece in symbols.columns for piece in spoken)
    if used < _USED_PIECES * len(spoken):
        raise ModelError(
            f"{path}: {used} of its {len(spoken)} pieces are symbols of the recogniser; give the "
            "recogniser's own SentencePiece model"
        )
    strange = [piece for piece in symbols.columns if piece not in pieces]
    if len(strange) > (1 - _SPELLED_SYMBOLS) * len(symbols.columns):
        raise ModelError(
            f"{path}: lacks {len(strange)} of the recogniser's {len(symbols.columns)} symbols, "
            f"such as {strange[0]!r}; give the recogniser's own SentencePiece model"
        )


def _is_unspoken(processor: SentencePieceProcessor, piece: int) -> bool:
    return any(
        (
            processor.is_control(piece),
            processor.is_unknown(piece),
            processor.is_unused(piece),
            processor.is_byte(piece),
        )
    )


def _processor(serialized: bytes) -> SentencePieceProcessor:
    """Raises ModelError if the model cannot be read."""
    import sentencepiece  # noqa: PLC0415 - slow to import

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=serialized)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"not a SentencePiece model ({one_line(error)}); give another file"
        ) from error


@lru_cache(maxsize=4)
def _segment(kind: SegmenterKind, serialized: bytes) -> Callable[[str], list[str]]:
    if kind == "sentencepiece":
        processor = _processor(serialized)
        return lambda text: list(processor.encode(text, out_type=str))
    try:
        import tokenizers  # noqa: PLC0415 - comes with transformers
    except ImportError as error:
        raise ModelError(
            f"this recogniser's pieces need tokenizers; {install_hint('hf')}"
        ) from error
    try:
        tokenizer = tokenizers.Tokenizer.from_str(serialized.decode())
    except Exception as error:  # all that tokenizers raises
        raise ModelError(f"not a tokenizer.json ({one_line(error)}); give another file") from error
    return lambda text: list(tokenizer.encode(text, add_special_tokens=False).tokens)
