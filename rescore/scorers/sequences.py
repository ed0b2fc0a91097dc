"""Hypotheses to token sequences: normalised, tokenised, aligned to the first hypothesis, cut into windows where they are too long."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from rapidfuzz.distance import Levenshtein

from rescore.text import Normalizer
from rescore.types import NBest, TokenScores

__all__ = ["Encoder", "Sequencer", "TokenSequence", "align", "cut"]

logger = logging.getLogger("rescore")


class Encoder(Protocol):
    """The part of a tokenizer that scoring needs."""

    @property
    def bos_id(self) -> int:
        """Begins every sequence; never scored."""

    @property
    def eos_id(self) -> int:
        """Ends every sequence."""

    @property
    def unk_id(self) -> int | None:
        """Stands for what the vocabulary does not know; None for vocabularies that know everything."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without BOS and EOS."""

    def words(self, tokens: Sequence[int]) -> np.ndarray:
        """The word index of every token, (length,) int64."""

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it."""


@dataclass(frozen=True)
class TokenSequence:
    """One window of a hypothesis; arrays of shape (length,).

    `scored` is False for BOS and for context that another window scores. `words` numbers the words; `anchors`, `offsets` are the keys of the
    common random numbers (rescore.diffusion.draws).
    """

    tokens: np.ndarray
    scored: np.ndarray
    words: np.ndarray
    anchors: np.ndarray
    offsets: np.ndarray

    def __getitem__(self, part: slice) -> TokenSequence:
        return TokenSequence(
            self.tokens[part],
            self.scored[part],
            self.words[part],
            self.anchors[part],
            self.offsets[part],
        )


def align(first: Sequence[int], tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Anchor and offset of every token, (length,) int64 each.

    A token aligned to position i of the first hypothesis has anchor i and offset 0; the k-th token inserted after position i has anchor i and offset k.
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
    """Windows (start, end, first scored, end of scored) with a stride of half a window; each position is scored once, where it lies most central."""
    if length <= window:
        return [(0, length, 0, length)]
    stride = window // 2
    starts = [*range(0, length - window, stride), length - window]
    edges = [0, *((a + window + b) // 2 for a, b in itertools.pairwise(starts)), length]
    return [
        (start, start + window, a, b)
        for start, a, b in zip(starts, edges[:-1], edges[1:], strict=True)
    ]


@dataclass
class Sequencer:
    """Turns lists into token sequences and counts what the vocabulary does not know."""

    encoder: Encoder
    normalize: Normalizer
    window: int
    score_eos: bool = True
    tokens: int = field(default=0, init=False)
    unknown: int = field(default=0, init=False)

    def __call__(self, nbest: NBest) -> list[list[TokenSequence]]:
        """The windows of every hypothesis. An empty hypothesis is BOS EOS, with EOS scored whatever `score_eos` says."""
        encoded = self.encoder.encode([self.normalize(hyp.text) for hyp in nbest.hyps])
        self.tokens += sum(map(len, encoded))
        if self.encoder.unk_id is not None:
            self.unknown += sum(tokens.count(self.encoder.unk_id) for tokens in encoded)
        rows = [[self.encoder.bos_id, *tokens, self.encoder.eos_id] for tokens in encoded]
        return [self._windows(row, *align(rows[0], row)) for row in rows]

    def _windows(
        self, row: list[int], anchors: np.ndarray, offsets: np.ndarray
    ) -> list[TokenSequence]:
        scored = np.ones(len(row), dtype=bool)
        scored[0] = False
        scored[-1] = self.score_eos or len(row) == 2
        whole = TokenSequence(
            np.array(row, dtype=np.int64), scored, self.encoder.words(row), anchors, offsets
        )
        windows = []
        for start, end, first, last in cut(len(row), self.window):
            central = np.zeros(len(row), dtype=bool)
            central[first:last] = True
            part = TokenSequence(whole.tokens, scored & central, whole.words, anchors, offsets)[
                start:end
            ]
            if part.scored.any():
                windows.append(part)
        return windows

    def token_scores(self, windows: Sequence[TokenSequence], values: np.ndarray) -> TokenScores:
        """The scored tokens of a hypothesis, window after window, each with its value of `values` (scored tokens,)."""
        pieces = self.encoder.pieces(
            [token for window in windows for token in window.tokens[window.scored].tolist()]
        )
        return tuple(
            zip(pieces, (values + 0.0).tolist(), strict=True)
        )  # + 0.0: no token adds minus zero

    def warn(self) -> None:
        """Say once how many tokens the vocabulary did not know."""
        if self.unknown:
            logger.warning(
                "%d of %d tokens are unknown to the model's vocabulary and were scored as its unknown token",
                self.unknown,
                self.tokens,
            )
