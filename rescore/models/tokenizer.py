"""A SentencePiece vocabulary with the special ids every model here uses."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from rescore.errors import ModelError
from rescore.models.opening import one_line, read_file

__all__ = ["Tokenizer", "character_tokenizer", "read_tokenizer", "train_tokenizer"]

_WORD_START = "\u2581"


class Tokenizer:
    """Text to token ids and back.

    Ids: `pad_id` 0, `unk_id` 1, `bos_id` 2, `eos_id` 3, then pieces. A mask symbol, where a model
    has one, follows at `size`. `serialized` is the SentencePiece model itself: bytes without code,
    safe to load from anywhere.
    """

    def __init__(self, serialized: bytes, where: str = "tokenizer") -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=serialized)
            self.size: int = self._processor.get_piece_size()
            pieces = [self._processor.id_to_piece(i) for i in range(self.size)]
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise ModelError(
                f"{where}: not a SentencePiece model ({one_line(error)}); "
                "restore the file or train the vocabulary again"
            ) from error
        self.serialized = serialized
        self.pad_id: int = self._processor.pad_id()
        self.unk_id: int = self._processor.unk_id()
        self.bos_id: int = self._processor.bos_id()
        self.eos_id: int = self._processor.eos_id()
        if min(self.pad_id, self.unk_id, self.bos_id, self.eos_id) < 0:
            raise ModelError(
                f"{where}: the vocabulary lacks pad, unk, bos or eos; train it with all four"
            )
        self._starts = np.array([piece.startswith(_WORD_START) for piece in pieces])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without BOS and EOS."""
        encoded: list[list[int]] = self._processor.encode(list(texts), num_threads=1)
        return encoded

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids; special ids leave nothing."""
        text: str = self._processor.decode([int(t) for t in tokens])
        return text

    def words(self, tokens: Sequence[int]) -> np.ndarray:
        """The word index of every token, (length,) int64.

        A new word begins at every piece with a word-start mark, at every special id, and at what
        follows one: a vocabulary of characters has no mark before the first word.
        """
        ids = np.asarray(tokens, dtype=np.int64)
        starts = self._begins_word(ids) | self._is_special(ids)
        starts[:1] = True
        index: np.ndarray = np.cumsum(starts) - 1
        return index

    def count_words(self, tokens: np.ndarray) -> int:
        """The number of words that begin in rows of token ids (..., length).

        Special ids begin none.
        """
        return int(self._begins_word(tokens).sum())

    def _begins_word(self, ids: np.ndarray) -> np.ndarray:
        """Whether a word begins at each id of rows (..., length), bool."""
        is_piece = ids < self.size
        begins: np.ndarray = is_piece & self._starts[np.where(is_piece, ids, 0)]
        begins[..., 1:] |= self._is_special(ids)[..., :-1] & ~self._is_special(ids)[..., 1:]
        return begins

    def _is_special(self, ids: np.ndarray) -> np.ndarray:
        """Whether each id is padding, BOS, EOS or beyond the pieces (a mask), bool."""
        ends = (self.pad_id, self.bos_id, self.eos_id)
        special: np.ndarray = np.isin(ids, ends) | (ids >= self.size)
        return special

    @property
    def special(self) -> tuple[int, int, int, int]:
        """The ids of padding, unknown, BOS and EOS."""
        return self.pad_id, self.unk_id, self.bos_id, self.eos_id

    def scores(self) -> list[tuple[str, float]]:
        """Every piece as the vocabulary spells it, with its log-probability there."""
        return [
            (self._processor.id_to_piece(number), self._processor.get_score(number))
            for number in range(self.size)
        ]

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token as the vocabulary spells it, a word's first piece with its mark."""
        return [self._processor.id_to_piece(int(token)) for token in tokens]

    def __getstate__(self) -> dict[str, bytes]:
        return {"serialized": self.serialized}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self.__init__(state["serialized"])  # type: ignore[misc]


def train_tokenizer(lines: Iterable[str], vocab_size: int, sample: int = 400_000) -> Tokenizer:
    """Train a unigram vocabulary of `vocab_size` pieces on at most `sample` lines.

    Raises ModelError if the text is too small for that many pieces.
    Source: Kudo 2018, arXiv:1804.10959.
    """
    try:
        return _train(
            lines,
            vocab_size=vocab_size,
            model_type="unigram",
            input_sentence_size=sample,
            shuffle_input_sentence=True,
        )
    except RuntimeError as error:
        raise ModelError(
            f"vocabulary of {vocab_size} pieces cannot be trained on this text ({error}); "
            "give more text or a smaller --vocab-size"
        ) from error


def character_tokenizer(characters: Iterable[str]) -> Tokenizer:
    """A vocabulary of single characters; U+2581 among them stands between words.

    Raises ModelError for a piece of several characters.
    """
    pieces = list(characters)
    longer = [piece for piece in pieces if len(piece) != 1]
    if longer:
        raise ModelError(f"a vocabulary of characters cannot have the piece {longer[0]!r}")
    text = "".join(" " if piece == _WORD_START else piece for piece in pieces)
    edge = text.strip()[:1]  # a space at either end would be stripped
    return _train(
        [edge + text + edge], vocab_size=len(pieces) + 4, model_type="char", add_dummy_prefix=False
    )


def _train(lines: Iterable[str], **settings: Any) -> Tokenizer:
    """A vocabulary with our special ids, and text as it is."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        character_coverage=1.0,
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return Tokenizer(model.getvalue())


def read_tokenizer(path: Path) -> Tokenizer:
    """Load `tokenizer.model`. Raises ModelError naming the file if it is missing or broken."""
    return Tokenizer(read_file(path, "the tokenizer", "restore the file"), str(path))
