"""Deliberation: what of a list is doubtful, and what a diffusion LM would say in its place.

The draft is the first hypothesis. Some of its tokens are opened (`open_tokens`):

    disagree  tokens that another hypothesis replaces or leaves out
    random    a share of 30 to 90 %, another one for every candidate
    unsure    the half that the network, seeing the other half, finds least likely
    block     a run of a third of the tokens, another one for every candidate

and filled by the network from the text alone. The length is that of the draft.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import CommitRule
from rescore.decoding.driver import Sampler
from rescore.decoding.joint import fill
from rescore.diffusion.draws import SamplingDraws, Stream
from rescore.scorers.networks import WINDOW
from rescore.scorers.sequences import align

__all__ = ["Opening", "Reconsidered", "deliberate", "disagreement"]

Opening = Literal["disagree", "random", "unsure", "block"]

#: The shares of tokens that `random` opens, and that of `block`.
_SHARES, _BLOCK = (0.3, 0.9), 1 / 3


@dataclass(frozen=True)
class Reconsidered:
    """The tokens of a list, BOS and EOS included: those of its first hypothesis, and of others."""

    first: np.ndarray
    others: Sequence[np.ndarray]

    @property
    def canvas(self) -> Canvas:
        """The first hypothesis; everything but BOS and EOS may change."""
        return Canvas.of_text(self.first)

    @cached_property
    def disputed(self) -> np.ndarray:
        """`disagreement`, found once for all candidates."""
        return disagreement(self)


def disagreement(these: Reconsidered) -> np.ndarray:
    """Where another hypothesis replaces or leaves out a token of the first, bool (L,).

    Exact check: tests/decoding/test_deliberation.py::test_hypotheses_disagree_where_they_differ.
    """
    differs = np.zeros(len(these.first), dtype=bool)
    for tokens in these.others:
        anchors, offsets = align(these.first.tolist(), tokens.tolist())
        agrees = np.zeros(len(these.first), dtype=bool)
        same = (offsets == 0) & (these.first[anchors] == tokens)
        agrees[anchors[same]] = True
        differs |= ~agrees
    return differs


def deliberate(
    these: Reconsidered,
    opening: Opening,
    proposable: np.ndarray,
    mask_id: int,
    rule: CommitRule,
    draws: SamplingDraws,
    window: int = WINDOW,
) -> Sampler[Canvas]:
    """One new hypothesis. Candidate 0 takes the likeliest tokens, the others draw theirs.

    `proposable` (V,) bool: the tokens that may be put in.
    """
    canvas = these.canvas

    def combined(_positions: np.ndarray, log_probs: np.ndarray) -> Tensor:
        allowed = np.where(proposable, log_probs, -np.inf)
        return torch.log_softmax(torch.from_numpy(allowed), -1)

    if opening == "unsure":
        opened = yield from _unsure(canvas, mask_id, window)
    else:
        opened = _opened(these, opening, draws)
    canvas = canvas.opened(opened & canvas.editable, mask_id)
    drawn = draws if draws.candidate else None
    return (yield from fill(canvas, combined, rule, window, drawn))


def _opened(these: Reconsidered, opening: Opening, draws: SamplingDraws) -> np.ndarray:
    """The positions to open, bool (L,); nothing is asked of the network."""
    length = len(these.first)
    if opening == "disagree":
        return these.disputed
    u = draws.positions(length, 0, Stream.REMASK)
    if opening == "random":  # the first number says which share, those of the tokens which ones
        low, high = _SHARES
        shared: np.ndarray = u < low + (high - low) * u[0]
        return shared
    size = max(1, round(_BLOCK * (length - 2)))
    start = 1 + int(u[0] * max(1, length - 1 - size))
    return (np.arange(length) >= start) & (np.arange(length) < start + size)


def _unsure(canvas: Canvas, mask_id: int, window: int) -> Sampler[np.ndarray]:
    """The half of the editable positions whose tokens are least likely, each half seen in turn."""
    positions = np.flatnonzero(canvas.editable)
    if not len(positions):
        return canvas.open
    parity = np.zeros(len(canvas.tokens), dtype=bool)
    parity[positions[::2]] = True
    halves = [half for half in (canvas.editable & parity, canvas.editable & ~parity) if half.any()]
    asked = [
        canvas.opened(half, mask_id).queries(canvas.noise(half), half, window) for half in halves
    ]
    answers = iter((yield list(itertools.chain.from_iterable(asked))))
    log_probs = np.zeros(len(canvas.tokens))
    for half, queries in zip(halves, asked, strict=True):
        rows = np.concatenate(list(itertools.islice(answers, len(queries))))
        log_probs[half] = rows[np.arange(len(rows)), canvas.tokens[half]]
    least = positions[np.argsort(log_probs[positions], kind="stable")[: (len(positions) + 1) // 2]]
    opened = np.zeros(len(canvas.tokens), dtype=bool)
    opened[least] = True
    return opened
