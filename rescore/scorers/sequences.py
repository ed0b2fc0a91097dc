"""Hypotheses to token sequences: normalised, tokenised, aligned to the first one, windowed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from rapidfuzz.distance import Levenshtein

from rescore.diffusion.sequence import ScoredSequence
from rescore.scorers.family import Vocabulary
from rescore.types import NBest, TokenScores

__all__ = ["Sequencer", "TokenSequence", "align", "cut", "regroup"]

logger = logging.getLogger("rescore")

T = TypeVar("T")


@dataclass(frozen=True)
class TokenSequence:
    """One window of a hypothesis; arrays of shape (L,).

    `scored` is False for BOS and for context that another window scores. `fixed` is True for BOS
    alone, which takes no part in the diffusion. `words` numbers the words. `anchors` and `offsets`
    are the keys of the common random numbers (rescore.diffusion.draws).
    """

    tokens: np.ndarray
    scored: np.ndarray
    fixed: np.ndarray
    words: np.ndarray
    anchors: np.ndarray
    offsets: np.ndarray

    @property
    def scored_sequence(self) -> ScoredSequence:
        """What the estimators of `rescore.diffusion` take."""
        return ScoredSequence(self.tokens, self.scored, self.fixed)


def align(first: Sequence[int], tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Anchor and offset of every token, (L,) int64 each.

    A token aligned to position i of the first hypothesis has anchor i and offset 0; the k-th token
    inserted after position i has anchor i and offset k.
    """
    anchors, offsets = np.zeros(len(tokens), dtype=np.int64), np.zeros(len(tokens), dtype=np.int64)
    for op in Levenshtein.opcodes(first, tokens):
        span, count = slice(op.dest_start, op.dest_end), op.dest_end - op.dest_start
        if op.tag == "insert":
            anchors[span], offsets[span] = op.src_start - 1, 1 + np.arange(count)
        elif op.tag != "delete":
            anchors[span] = op.src_start + np.arange(count)
    return anchors, offsets


def cut(length: int, window: int) -> list[tuple[int, int, int, int]]:
    """Windows (start, end, first scored, end of scored) with a stride of half a window.

    Each position is scored once, where it lies most central.
    """
    if length <= window:
        return [(0, length, 0, length)]
    stride = window // 2
    starts = [*range(0, length - window, stride), length - window]
    middles = [(left + window + right) // 2 for left, right in itertools.pairwise(starts)]
    edges = [0, *middles, length]
    return [
        (start, start + window, first, end)
        for start, first, end in zip(starts, edges[:-1], edges[1:], strict=True)
    ]


def regroup(items: Sequence[T], sizes: Iterable[int]) -> list[Sequence[T]]:
    """Cut a flat sequence into consecutive parts of these sizes."""
    parts, start = [], 0
    for size in sizes:
        parts.append(items[start : start + size])
        start += size
    return parts


@dataclass
class Sequencer:
    """Turns lists into token sequences and counts what the vocabulary does not know."""

    vocabulary: Vocabulary
    score_eos: bool = True
    tokens: int = field(default=0, init=False)
    unknown: int = field(default=0, init=False)

    def __call__(self, nbest: NBest) -> list[list[TokenSequence]]:
        """The windows of every hypothesis.

        An empty hypothesis is BOS EOS, with EOS scored whatever `score_eos` says.
        """
        tokenizer, normalize = self.vocabulary.tokenizer, self.vocabulary.normalize
        encoded = tokenizer.encode([normalize(hyp.text) for hyp in nbest.hyps])
        self.tokens += sum(map(len, encoded))
        if tokenizer.unk_id is not None:
            self.unknown += sum(tokens.count(tokenizer.unk_id) for tokens in encoded)
        rows = [[tokenizer.bos_id, *tokens, tokenizer.eos_id] for tokens in encoded]
        return [self._windows(row, *align(rows[0], row)) for row in rows]

    def _windows(
        self, row: list[int], anchors: np.ndarray, offsets: np.ndarray
    ) -> list[TokenSequence]:
        tokens, words = np.array(row, dtype=np.int64), self.vocabulary.tokenizer.words(row)
        fixed = np.arange(len(row)) == 0
        scored = ~fixed
        scored[-1] = self.score_eos or len(row) == 2
        windows = []
        for start, end, first_scored, end_scored in cut(len(row), self.vocabulary.window):
            scored_here = np.zeros(len(row), dtype=bool)
            scored_here[first_scored:end_scored] = scored[first_scored:end_scored]
            arrays = (tokens, scored_here, fixed, words, anchors, offsets)
            if scored_here.any():
                windows.append(TokenSequence(*(array[start:end] for array in arrays)))
        return windows

    def token_scores(self, windows: Sequence[TokenSequence], values: np.ndarray) -> TokenScores:
        """The scored tokens of a hypothesis, window after window, with their values (scored,)."""
        tokens = [token for window in windows for token in window.tokens[window.scored].tolist()]
        pieces = self.vocabulary.tokenizer.pieces(tokens)
        without_minus_zero = values + 0.0
        return tuple(zip(pieces, without_minus_zero.tolist(), strict=True))

    def warn(self) -> None:
        """Log how many tokens the vocabulary did not know, if there were any."""
        if self.unknown:
            logger.warning(
                "%d of %d tokens are unknown to the model's vocabulary"
                " and were scored as its unknown token",
                self.unknown,
                self.tokens,
            )
