"""Prior-guided denoising: a draft fills the canvas, sure positions leave the loop, the tail goes.

Every round asks about the open positions. Those whose rule says so are decided and leave the loop:
they are computed once more, as the tokens that they are now, and after that their keys stay as they
are (`KeptCanvas`). `refresh` computes all again every so many rounds; 1: every round, exact.

**Ends.** An EOS is decided only if all positions behind it are EOS, decided before or now; and
where a decided token of the text stands behind a position, EOS is impossible there. So the decided
EOS are always a suffix of the canvas, and no text stands behind an EOS.

**Pruning** drops the positions behind the first decided EOS. They are decided, they are EOS, and
nothing open or decided otherwise is among them, as they are part of that suffix. The transcript is
what stands before the first EOS, so it has every decided token with pruning and without: no text is
lost, and no dropped position stands before one that is open.

**Revocation** asks about decided tokens as if they were masked (shadows) and opens those again that
have become unlikely, each once at most, so every run ends.

Sources: dLLM-ASR, arXiv:2601.17902, whose exact rules are not published; shadows as in WINO,
arXiv:2507.18578. Letters in shapes: L positions of the canvas, M open ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from rescore.decoding.canvas_states import CanvasNetwork
from rescore.decoding.commit import Choices, CommitRule
from rescore.decoding.joint import choose
from rescore.models.audio_network import SpecialRows

__all__ = ["Denoised", "PriorGuided", "denoise", "end_rule"]

#: (round, choices at all open positions), before anything is decided.
Watch = Callable[[int, Choices], None]


@dataclass(frozen=True)
class PriorGuided:
    """How a canvas is denoised.

    `rule` says which open positions are sure; `agrees`: only those whose choice is that of the
    round before. `rounds` at most; the last one decides the rest. `prunes` drops the tail.
    `revoke`: decided tokens of a lower probability open again, those of the draft too with
    `revokes_draft`. `refresh`: rounds from one full computation to the next; 0: only the first.
    """

    rule: CommitRule
    rows: SpecialRows
    rounds: int = 32
    agrees: bool = False
    prunes: bool = True
    revoke: float | None = None
    revokes_draft: bool = False
    refresh: int = 0


@dataclass
class Denoised:
    """The tokens of a canvas, all decided, its rounds, and the tokens that were opened again."""

    tokens: np.ndarray
    rounds: int
    revoked: int


@dataclass
class _Canvas:
    """The state of a run: arrays (L,).

    `changed`: its token is not the one that was last computed. `choice`: what the round before
    would have put there, -1: nothing. `revocable`: may be opened again.
    """

    tokens: np.ndarray
    open: np.ndarray
    revocable: np.ndarray
    rows: SpecialRows
    changed: np.ndarray = field(init=False)
    choice: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.changed = np.ones(len(self.tokens), dtype=bool)
        self.choice = np.full(len(self.tokens), -1)

    @property
    def last_text(self) -> int:
        """The place of the last decided token of the text; BOS if there is none."""
        is_text = ~self.open & (self.tokens != self.rows.eos)
        return int(np.flatnonzero(is_text)[-1])

    @property
    def end(self) -> int:
        """Where the suffix of decided EOS begins; L if there is none."""
        other = np.flatnonzero(self.open | (self.tokens != self.rows.eos))
        return int(other[-1]) + 1

    def decide(self, positions: np.ndarray, tokens: np.ndarray) -> None:
        """Put tokens at open positions."""
        self.tokens[positions], self.open[positions] = tokens, False
        self.changed[positions] = True

    def reopen(self, positions: np.ndarray) -> None:
        """Mask decided positions again, the only time."""
        self.tokens[positions], self.open[positions] = self.rows.mask, True
        self.changed[positions], self.choice[positions] = True, -1
        self.revocable[positions] = False

    def prune(self) -> None:
        """Drop what stands behind the first decided EOS."""
        size = min(self.end + 1, len(self.tokens))
        for name in ("tokens", "open", "revocable", "changed", "choice"):
            setattr(self, name, getattr(self, name)[:size])


def denoise(
    network: CanvasNetwork, draft: np.ndarray, settings: PriorGuided, watch: Watch | None = None
) -> Denoised:
    """Decide the masked positions of a draft (L,) int64, which begins with BOS.

    Exact checks: tests/decoding/test_prior_guided.py::test_one_a_round_is_the_exact_chain, and
    ::test_pruning_loses_no_text.
    """
    rows = settings.rows
    is_open = draft == rows.mask
    revocable = np.full(len(draft), settings.revokes_draft) | is_open
    revocable[0] = False
    canvas = _Canvas(draft.copy(), is_open.copy(), revocable, rows)
    rounds = revoked = 0
    while canvas.open.any() or (settings.revoke is not None and canvas.changed.any()):
        opened = np.flatnonzero(canvas.open)
        shadows = _shadows(canvas)[: None if settings.revoke is not None else 0]
        if not len(opened) + len(shadows):
            break
        is_full = rounds == 0 or (settings.refresh and rounds % settings.refresh == 0)
        computed = np.flatnonzero(canvas.open | canvas.changed | bool(is_full))
        log_probs = network.log_probs(canvas.tokens, computed, opened, shadows)
        canvas.changed[:] = False
        doubtful = _doubtful(canvas, log_probs[len(opened) :], shadows, settings.revoke)
        if len(opened):
            choices = _choices(canvas, log_probs[: len(opened)], opened)
            if watch is not None:
                watch(rounds, choices)
            is_last = rounds >= settings.rounds - 1
            decided = _decided(canvas, choices, settings, is_last)
            canvas.choice[opened] = choices.tokens
            canvas.decide(opened[decided], _filled(canvas, choices, is_last)[decided])
        if rounds < settings.rounds - 1:
            canvas.reopen(doubtful)
            revoked += len(doubtful)
        if settings.prunes:
            canvas.prune()
        rounds += 1
        if rounds >= settings.rounds and not canvas.open.any():
            break
    return Denoised(canvas.tokens, rounds, revoked)


def _choices(canvas: _Canvas, log_probs: np.ndarray, opened: np.ndarray) -> Choices:
    """The likeliest tokens at open positions; EOS is impossible before a decided text."""
    log_probs = log_probs.copy()
    log_probs[opened < canvas.last_text, canvas.rows.eos] = -np.inf
    return choose(torch.log_softmax(torch.from_numpy(log_probs), -1), opened, None)


def _decided(canvas: _Canvas, choices: Choices, settings: PriorGuided, is_last: bool) -> np.ndarray:
    """(M,) bool: which open positions are decided in this round, at least one."""
    if is_last:
        return np.ones(len(choices.tokens), dtype=bool)
    opened = np.flatnonzero(canvas.open)
    sure = settings.rule(choices)
    if settings.agrees:
        sure = sure & (choices.tokens == canvas.choice[opened])
    may_end = end_rule(canvas.tokens, canvas.open, choices.tokens, sure, canvas.rows.eos)
    decided: np.ndarray = sure & may_end
    if decided.any():
        return decided
    # The most confident one that may be decided alone: text, or EOS where only EOS follows.
    alone = np.zeros(len(sure), dtype=bool)
    allowed = (choices.tokens != canvas.rows.eos) | (opened == canvas.end - 1)
    alone[int(np.argmax(np.where(allowed, choices.log_probs, -np.inf)))] = True
    return alone


def end_rule(
    tokens: np.ndarray, is_open: np.ndarray, chosen: np.ndarray, sure: np.ndarray, eos: int
) -> np.ndarray:
    """(M,) bool: choices that are no EOS, or behind which every position is EOS.

    tokens, is_open (L,) of the canvas; chosen (M,) tokens at its open positions, sure (M,) bool:
    which would be decided.
    """
    is_end = ~is_open & (tokens == eos)
    is_end[is_open] = sure & (chosen == eos)
    suffix = np.logical_and.accumulate(is_end[::-1])[::-1]
    allowed: np.ndarray = (chosen != eos) | suffix[is_open]
    return allowed


def _filled(canvas: _Canvas, choices: Choices, is_last: bool) -> np.ndarray:
    """The tokens (M,) to decide; in the last round, EOS from the first one on."""
    if not is_last:
        return choices.tokens
    ended: np.ndarray = np.logical_or.accumulate(choices.tokens == canvas.rows.eos)
    return np.where(ended, canvas.rows.eos, choices.tokens)


def _shadows(canvas: _Canvas) -> np.ndarray:
    """Places of decided tokens of the text that may be opened again."""
    return np.flatnonzero(canvas.revocable & ~canvas.open & (canvas.tokens != canvas.rows.eos))


def _doubtful(
    canvas: _Canvas, log_probs: np.ndarray, shadows: np.ndarray, revoke: float | None
) -> np.ndarray:
    """The shadows whose tokens have become less likely than `revoke`."""
    if revoke is None or not len(shadows):
        return shadows[:0]
    with np.errstate(divide="ignore"):
        bound = np.log(revoke)
    now = log_probs[np.arange(len(shadows)), canvas.tokens[shadows]]
    doubtful: np.ndarray = shadows[now < bound]
    return doubtful
