"""Deliberation: what of a list is doubtful, and what a diffusion LM would say in its place.

The draft is the first hypothesis. Some of its tokens are opened (`open_tokens`):

    disagree  tokens that another hypothesis replaces or leaves out
    random    a share of 30 to 90 %, another one for every candidate
    unsure    the half that the network finds least likely: a masked one sees each half in turn, one
              of uniform states the whole text
    block     a run of a third of the tokens, another one for every candidate

and drawn anew by the network from the text alone: masked states are hidden and filled (`Filling`);
uniform states are noised and go through the reverse process (`Renoising`). The length is that of
the draft.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rescore.decoding.canvas import Canvas
from rescore.decoding.driver import Sampler
from rescore.decoding.joint import (
    Combine,
    Draft,
    Filling,
    JointScales,
    UniformSteps,
    fill,
    joint_uniform,
)
from rescore.diffusion import uniform
from rescore.diffusion.draws import SamplingDraws, Stream
from rescore.interfaces import Denoiser
from rescore.scorers.networks import WINDOW
from rescore.scorers.sequences import align

__all__ = ["Opening", "Reconsidered", "Renoising", "deliberate", "disagreement"]

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


@dataclass(frozen=True)
class Renoising:
    """How opened tokens of uniform states are drawn anew: noised, then by the reverse process."""

    denoiser: Denoiser
    steps: UniformSteps
    window: int = WINDOW


def deliberate(
    these: Reconsidered,
    opening: Opening,
    proposable: np.ndarray,
    redraw: Filling | Renoising,
    draws: SamplingDraws,
) -> Sampler[Canvas]:
    """One new hypothesis. Candidate 0 takes the likeliest tokens, the others draw theirs.

    `proposable` (V,) bool: the tokens that may be put in.
    Exact check: tests/decoding/test_deliberation.py::test_uniform_states_are_drawn_anew.
    """
    canvas = these.canvas
    if opening != "unsure":
        opened = _opened(these, opening, draws)
    elif isinstance(redraw, Filling):
        opened = yield from _unsure_masked(canvas, redraw)
    else:
        opened = yield from _unsure_uniform(canvas, redraw)
    opened = opened & canvas.editable
    sample = draws.candidate > 0
    if isinstance(redraw, Filling):
        canvas = canvas.opened(opened, redraw.mask_id)
        return (yield from fill(canvas, _proposing(proposable), redraw, draws, sample))
    rows = np.tile(np.where(proposable, 0.0, -np.inf), (int(opened.sum()), 1))
    draft = Draft(Canvas.of(canvas.tokens, opened), rows, np.zeros(len(rows)))
    steps = replace(redraw.steps, final="ancestral" if sample else "argmax")
    scales = JointScales(ctc=0.0, lm=1.0)
    return (yield from joint_uniform(draft, redraw.denoiser, scales, steps, draws, redraw.window))


def _proposing(proposable: np.ndarray) -> Combine:
    """What the network says of the tokens that may be put in."""

    def combined(_positions: np.ndarray, log_probs: np.ndarray) -> Tensor:
        allowed = np.where(proposable, log_probs, -np.inf)
        return torch.log_softmax(torch.from_numpy(allowed), -1)

    return combined


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


def _unsure_masked(canvas: Canvas, filling: Filling) -> Sampler[np.ndarray]:
    """The half of the editable positions whose tokens are least likely, each half seen in turn."""
    positions = np.flatnonzero(canvas.editable)
    parity = np.zeros(len(canvas.tokens), dtype=bool)
    parity[positions[::2]] = True
    halves = [half for half in (canvas.editable & parity, canvas.editable & ~parity) if half.any()]
    asked = [
        canvas.opened(half, filling.mask_id).queries(canvas.noise(half), half, filling.window)
        for half in halves
    ]
    if not asked:
        return canvas.open
    answers = iter((yield list(itertools.chain.from_iterable(asked))))
    log_probs = np.zeros(len(canvas.tokens))
    for half, queries in zip(halves, asked, strict=True):
        rows = np.concatenate(list(itertools.islice(answers, len(queries))))
        log_probs[half] = rows[np.arange(len(rows)), canvas.tokens[half]]
    return _least_likely(canvas, log_probs[positions])


def _unsure_uniform(canvas: Canvas, redraw: Renoising) -> Sampler[np.ndarray]:
    """The half of the editable positions whose tokens are least likely given all others."""
    if not canvas.editable.any():
        return canvas.open
    noise = redraw.steps.levels()[0][0]
    rows = np.concatenate((yield canvas.queries(noise, canvas.editable, redraw.window)))
    tokens = torch.from_numpy(canvas.tokens[canvas.editable])
    log_probs = torch.from_numpy(rows)
    if redraw.denoiser.prediction == "posterior":
        log_probs = uniform.leave_one_out(log_probs, tokens, torch.full(tokens.shape, noise))
    return _least_likely(canvas, log_probs.gather(-1, tokens[:, None])[:, 0].numpy())


def _least_likely(canvas: Canvas, log_probs: np.ndarray) -> np.ndarray:
    """Half of the editable positions, those with the lowest log_probs (editable,), bool (L,)."""
    positions = np.flatnonzero(canvas.editable)
    least = positions[np.argsort(log_probs, kind="stable")[: (len(positions) + 1) // 2]]
    opened = np.zeros(len(canvas.tokens), dtype=bool)
    opened[least] = True
    return opened
