"""Drafts: what a canvas holds before the first round, and how sure CTC is of it.

A draft is a text with the confidence of each of its tokens: the lowest posterior that CTC gives a
label of its word, the word's boundary included, as one wrong letter makes all tokens of a word
wrong. Where tokens are the recogniser's own symbols, each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rescore.acoustic.ctc_paths import LabelledPath
from rescore.acoustic.symbols import Symbols
from rescore.interfaces import TextTokenizer
from rescore.models.audio_network import SpecialRows

__all__ = ["Draft", "draft_canvas", "masked_canvas", "symbol_draft", "token_draft"]


@dataclass(frozen=True)
class Draft:
    """Tokens (n,) int64 of a text and the confidence (n,) of each, a probability."""

    tokens: np.ndarray
    confidence: np.ndarray


def symbol_draft(path: LabelledPath) -> Draft:
    """A path of a recogniser as a draft in its own symbols."""
    return Draft(path.labels, path.confidence)


def token_draft(path: LabelledPath, symbols: Symbols, tokenizer: TextTokenizer, text: str) -> Draft:
    """A path as a draft in the tokens of a language model; `text` is its normalised text.

    Where normalising changes the number of words, no token is sure: confidence 0.
    """
    [tokens] = tokenizer.encode([text])
    words = tokenizer.words(tokens)
    by_word = _word_confidence(path, symbols)
    if len(by_word) != (words[-1] + 1 if len(words) else 0):
        return Draft(np.array(tokens, np.int64), np.zeros(len(tokens)))
    return Draft(np.array(tokens, np.int64), by_word[words])


def _word_confidence(path: LabelledPath, symbols: Symbols) -> np.ndarray:
    """The lowest confidence of a label of each word; what is before a word belongs to it."""
    lowest, before = [], 0
    for span in symbols.words(path.labels.tolist()):
        lowest.append(path.confidence[before : span.end].min())
        before = span.end
    return np.array(lowest)


def draft_canvas(
    draft: Draft, gate: float, margin: int, rows: SpecialRows, hides_end: bool = True
) -> np.ndarray:
    """BOS, tokens of a confidence of at least `gate` and masks for the others, and the end.

    The end is a mask for EOS and `margin` more; EOS itself for networks that never hide it.
    """
    text = np.where(draft.confidence >= gate, draft.tokens, rows.mask)
    return np.concatenate(([rows.bos], text, _end(margin, rows, hides_end)))


def masked_canvas(
    places: int, margin: int, rows: SpecialRows, hides_end: bool = True
) -> np.ndarray:
    """BOS, masks for a text of so many tokens, and the end, as in `draft_canvas`."""
    return np.concatenate(
        ([rows.bos], np.full(places, rows.mask), _end(margin, rows, hides_end))
    ).astype(np.int64)


def _end(margin: int, rows: SpecialRows, hides_end: bool) -> Sequence[int]:
    return [rows.mask] * (1 + margin) if hides_end else [rows.eos]
