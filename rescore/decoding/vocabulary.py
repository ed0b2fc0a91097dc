"""One vocabulary for a recogniser and a language model: which column is which token.

Joint decoding combines two distributions symbol by symbol, so both must have the same symbols: the
pieces of one SentencePiece model, or single characters. In a vocabulary of characters the word
boundary of the recogniser is the piece U+2581 of the language model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from rescore.acoustic.symbols import Symbols
from rescore.errors import ModelError
from rescore.interfaces import TextTokenizer
from rescore.models.tokenizer import Tokenizer

__all__ = ["JointVocabulary", "joint_vocabulary"]

#: How many symbols a message shows of those that one side lacks.
_SHOWN = 5


@dataclass(frozen=True)
class JointVocabulary:
    """The n symbols that spell text: their columns in posteriors, and their token ids.

    columns, tokens (n,) int64; `size` rows of the language model, `bos_id` and `eos_id` around a
    text, never proposed.
    """

    columns: np.ndarray
    tokens: np.ndarray
    size: int
    bos_id: int
    eos_id: int

    def to_tokens(self, labels: Sequence[int]) -> np.ndarray:
        """BOS, the tokens of labels (columns that spell text), EOS: (labels + 2,) int64."""
        token_of = np.full(int(self.columns.max()) + 1, -1, dtype=np.int64)
        token_of[self.columns] = self.tokens
        return np.array([self.bos_id, *token_of[np.asarray(labels, np.int64)], self.eos_id])

    def to_labels(self, tokens: np.ndarray) -> tuple[int, ...]:
        """The columns of tokens (n,), BOS and EOS left out."""
        column_of = np.full(self.size, -1, dtype=np.int64)
        column_of[self.tokens] = self.columns
        return tuple(column_of[tokens].tolist())

    def log_probs(self, rows: np.ndarray) -> np.ndarray:
        """Rows of posteriors (S, columns) as log-probabilities of tokens (S, size), float64.

        Blank and special symbols are taken out and the rest is normalised; -inf for tokens that are
        no symbol.
        """
        spelling = rows[:, self.columns].astype(np.float64)
        spelling -= np.logaddexp.reduce(spelling, axis=1, keepdims=True)
        log_probs = np.full((len(rows), self.size), -np.inf)
        log_probs[:, self.tokens] = spelling
        return log_probs


def joint_vocabulary(
    symbols: Symbols, tokenizer: TextTokenizer, size: int, where: str
) -> JointVocabulary:
    """The vocabulary that a recogniser's symbols and a language model of ours share.

    `size`: rows of the language model. `where` names the posteriors. Raises ModelError naming what
    one side lacks, with the command that trains a language model of these symbols.
    """
    if not isinstance(tokenizer, Tokenizer):
        raise ModelError("joint decoding needs a language model of `dlmrescore train`")
    ids = np.setdiff1d(np.arange(tokenizer.size), tokenizer.special)
    token_of = dict(zip(tokenizer.pieces(ids.tolist()), ids.tolist(), strict=True))
    column_of = {symbols.text_piece(symbol): column for symbol, column in symbols.columns.items()}
    if token_of.keys() != column_of.keys():
        raise ModelError(
            f"{where}: the recogniser and the language model need one vocabulary; "
            f"{_difference(column_of.keys(), token_of.keys())}; train one with the recogniser's: "
            f"dlmrescore train usdm --tokenizer {where} --text TEXT --valid TEXT -o DIR"
        )
    pieces = sorted(column_of)
    return JointVocabulary(
        np.array([column_of[piece] for piece in pieces], dtype=np.int64),
        np.array([token_of[piece] for piece in pieces], dtype=np.int64),
        size,
        tokenizer.bos_id,
        tokenizer.eos_id,
    )


def _difference(symbols: Collection[str], pieces: Collection[str]) -> str:
    lacking = sorted(set(symbols) - set(pieces)) or sorted(set(pieces) - set(symbols))
    side = "language model" if set(symbols) - set(pieces) else "recogniser"
    shown = ", ".join(map(repr, lacking[:_SHOWN]))
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return f"the {side} lacks {shown}{more}"
