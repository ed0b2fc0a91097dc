"""Hugging Face tokenizers as `rescore.interfaces.TextTokenizer`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rescore.errors import ModelError, ScoreError
from rescore.models.opening import opening

__all__ = ["HubTokenizer"]

logger = logging.getLogger("rescore")


@dataclass(frozen=True)
class _WordMark:
    """How a vocabulary marks words: `text` at the start or the end of some pieces.

    `joins` says whether the mark joins a piece to its neighbour or separates them.
    """

    text: str
    at_end: bool
    joins: bool

    def is_on(self, piece: str) -> bool:
        return piece.endswith(self.text) if self.at_end else piece.startswith(self.text)

    def starts(self, pieces: Sequence[str]) -> np.ndarray:
        """Whether each piece begins a word, (L,) bool."""
        begins = np.array([self.is_on(piece) != self.joins for piece in pieces], dtype=bool)
        if self.at_end:  # what is known of a piece is whether the next one begins a word
            begins = np.append(True, begins)[: len(pieces)]
        return begins


_WORD_MARKS = (
    _WordMark("##", at_end=False, joins=True),  # WordPiece: BERT
    _WordMark("\u0120", at_end=False, joins=False),  # byte-level BPE: RoBERTa, GPT-2, ModernBERT
    _WordMark("\u2581", at_end=False, joins=False),  # SentencePiece: ALBERT, XLM-R, Llama
    _WordMark("</w>", at_end=True, joins=False),  # BPE: XLM, FlauBERT, GPT
    _WordMark("@@", at_end=True, joins=True),  # BPE: BERTweet, CTRL
)


def _word_mark(vocabulary: Iterable[str]) -> _WordMark | None:
    """The mark that most pieces of a vocabulary have; None if none has any.

    Counted, because a byte-level vocabulary knows pieces such as "##" too.
    """
    pieces = list(vocabulary)
    counts = {mark: sum(map(mark.is_on, pieces)) for mark in _WORD_MARKS}
    most = max(_WORD_MARKS, key=counts.__getitem__)
    return most if counts[most] else None


class HubTokenizer:
    """A Hugging Face tokenizer. BOS and EOS are CLS and SEP where a model has those.

    Special tokens that stand in a text, such as "[MASK]", are encoded as plain text, with a
    warning.
    """

    def __init__(self, tokenizer: Any, model: str) -> None:
        self._tokenizer, self._model = tokenizer, model
        bos = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
        eos = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
        if eos is None:
            raise ModelError(
                f"{model}: the tokenizer has neither an end-of-sentence nor a separator token;"
                " set eos_token in its configuration"
            )
        self.eos_id: int = eos
        self.bos_id: int = eos if bos is None else bos  # GPT-2's custom: one symbol for both ends
        ends = {self.bos_id, self.eos_id}
        unk = tokenizer.unk_token_id
        self.unk_id: int | None = None if unk in ends else unk
        self._special = {*ends, *tokenizer.all_special_ids} - {self.unk_id}
        self._mark = _word_mark(tokenizer.get_vocab())
        self._has_warned = False

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without BOS and EOS; special tokens in a text are plain text.

        Raises ScoreError where the vocabulary has no other way to write a special token.
        """
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> list[int]:
        tokens = self._ids(text)
        special = self._special.intersection(tokens)
        if not special:
            return tokens
        self._warn(special)
        tokens = self._ids(text, split_special_tokens=True)
        return [plain for token in tokens for plain in self._as_text(token)]

    def _ids(self, text: str, **options: bool) -> list[int]:
        with opening(self._model, "restore the tokenizer's files", "cannot encode a text"):
            ids = self._tokenizer.encode(text, add_special_tokens=False, **options)
            return [int(token) for token in ids]

    def _as_text(self, token: int) -> list[int]:
        """The token, or a special one spelled by the pieces of its characters.

        Vocabularies of whole words, and SentencePiece, find special tokens in plain text too.
        """
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if token not in self._special or len(piece) == 1:
            return [token]
        spelled = []
        for character in piece:
            plain = self._tokenizer.convert_tokens_to_ids(character)
            plain = self.unk_id if plain is None or plain in self._special else int(plain)
            if plain is None:
                raise ScoreError(
                    f"{self._model}: a text contains {piece!r}, a special token of the model's"
                    " tokenizer, which cannot write it as plain text; take it out of the text"
                )
            spelled.append(plain)
        return spelled

    def _warn(self, special: Iterable[int]) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        names = ", ".join(str(self._tokenizer.convert_ids_to_tokens(i)) for i in sorted(special))
        logger.warning(
            "%s: a text contains %s, special in the model's tokenizer;"
            " special tokens in texts are scored as plain text",
            self._model,
            names,
        )

    @property
    def special(self) -> frozenset[int]:
        """The ids of special tokens, with and without a role, the unknown one included."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {}).items()
        marked = {number for number, token in added if token.special}
        return frozenset({*self._special, *marked, self.unk_id} - {None})

    @property
    def size(self) -> int:
        """One more than the highest id of the vocabulary."""
        return int(max(self._tokenizer.get_vocab().values())) + 1

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens; special ones leave nothing."""
        return str(
            self._tokenizer.decode(
                [int(token) for token in tokens],
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
        )

    def words(self, tokens: Sequence[int]) -> np.ndarray:
        """The word index of every token, (L,) int64, by the vocabulary's own mark of words.

        BOS and EOS are words of their own, and a word begins behind them. Without a mark every
        token is a word; a text without spaces is one word where the mark stands for a space.
        """
        pieces = self.pieces(tokens)
        if not pieces:
            return np.zeros(0, dtype=np.int64)
        starts = (
            np.ones(len(pieces), dtype=bool) if self._mark is None else self._mark.starts(pieces)
        )
        is_end = np.isin(np.asarray(tokens), (self.bos_id, self.eos_id))
        starts |= is_end
        starts[1:] |= is_end[:-1]
        starts[0] = True
        index: np.ndarray = np.cumsum(starts) - 1
        return index

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it."""
        pieces = self._tokenizer.convert_ids_to_tokens([int(token) for token in tokens])
        return [str(piece) for piece in pieces]
