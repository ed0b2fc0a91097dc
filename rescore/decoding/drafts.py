"""Drafts: what a canvas holds before the first round, and how sure CTC is of it.

A draft is a text with the confidence of each of its tokens: the lowest posterior that CTC gives a
label of its word, the word's boundary included, as one wrong letter makes all tokens of a word
wrong. Where the tokens spell the recogniser's own symbols, each has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rescore.acoustic.ctc_paths import LabelledPath
from rescore.acoustic.symbols import WORD_START, Symbols, WordSpan
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
    spans = _spans(path, symbols)
    pieces, by_piece = _piece_confidence(path, symbols, spans)
    if tokenizer.pieces(tokens) == pieces:
        return Draft(np.array(tokens, np.int64), np.array(by_piece))
    words = tokenizer.words(tokens)
    by_word = np.array([path.confidence[before : span.end].min() for before, span in spans])
    if len(by_word) != (words[-1] + 1 if len(words) else 0):
        return Draft(np.array(tokens, np.int64), np.zeros(len(tokens)))
    return Draft(np.array(tokens, np.int64), by_word[words])


def _spans(path: LabelledPath, symbols: Symbols) -> list[tuple[int, WordSpan]]:
    """The words of a path, each with the end of the word before: what is between belongs to it."""
    words = symbols.words(path.labels.tolist())
    ends = [0, *(span.end for span in words[:-1])]
    return list(zip(ends[: len(words)], words, strict=True))


def _piece_confidence(
    path: LabelledPath, symbols: Symbols, spans: list[tuple[int, WordSpan]]
) -> tuple[list[str], list[float]]:
    """The symbols that spell the text, as a vocabulary writes them, and the confidence of each.

    Boundaries between two words are one symbol, with the lowest confidence of them; those at the
    ends are none.
    """
    pieces: list[str] = []
    confidence: list[float] = []
    for before, span in spans:
        if pieces and before < span.start:
            pieces.append(WORD_START)
            confidence.append(float(path.confidence[before : span.start].min()))
        pieces += [symbols.pieces[label] for label in path.labels[span.start : span.end]]
        confidence += path.confidence[span.start : span.end].tolist()
    return pieces, confidence


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
