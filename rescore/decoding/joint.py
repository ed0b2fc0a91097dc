"""Joint decoding: the acoustic and the language model choose every symbol of a draft together.

The draft is the greedy CTC transcript y of S labels; label i has a frame, and the posteriors there
say P_ctc(v) (blank taken out). At every position the two distributions are combined,

    S_i(v) = ctc_scale log P_ctc,i(v) + lm_scale log P_lm,i(v | z)

Uniform states (`joint_uniform`): z is y at noise level t_start; L steps go down to 0, each draws
every position anew. Masked states (`joint_masked`): positions that CTC is unsure of are hidden and
filled with what S says, most confident first. The length is that of the draft: only substitutions
are mended. A draft longer than the network's window is read in windows.

P_lm is the network's own prediction of the clean token. For a leave-one-out network (the embedded
USDM) that is log p(x_i | z without z_i): the draft's symbol is counted once, by CTC.

Source: arXiv:2604.14001, section on joint decoding (uniform states). As printed, each step draws
from softmax(S) (`update="combined"`); `update="ancestral"` takes softmax(S) as the prediction of a
reverse step. Not said there: whether the draft is noised, how the last step decides, and ctc_scale.
Letters in shapes: S labels, V rows of the language model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import Choices, CommitRule, random_remask
from rescore.decoding.driver import Sampler
from rescore.diffusion.draws import SamplingDraws, Stream
from rescore.diffusion.forward import uniform_tokens
from rescore.diffusion.reverse import draw_tokens, reverse_step
from rescore.diffusion.schedule import LINEAR
from rescore.errors import ScoreError
from rescore.interfaces import Denoiser
from rescore.scorers.networks import WINDOW

__all__ = [
    "Combine",
    "Draft",
    "Filling",
    "Final",
    "Frame",
    "JointScales",
    "Start",
    "UniformSteps",
    "Update",
    "choose",
    "fill",
    "joint_masked",
    "joint_uniform",
]

Update = Literal["combined", "ancestral"]
Final = Literal["argmax", "sample", "ancestral"]
Start = Literal["clean", "noised"]
#: Which frame of a label speaks for it.
Frame = Literal["first", "peak"]

#: (positions (n,), what the network says there (n, V)) -> log-probabilities to decide by, (n, V).
Combine = Callable[[np.ndarray, np.ndarray], Tensor]


@dataclass(frozen=True)
class Draft:
    """A transcript to work on. `ctc` (S, V): log P_ctc at the S editable positions of `canvas`.

    `confidence` (S,): the probability of each label of the draft.
    """

    canvas: Canvas
    ctc: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class JointScales:
    """What each side's log-probability is multiplied by. Raises ScoreError if both are 0."""

    ctc: float = 1.0
    lm: float = 0.3

    def __post_init__(self) -> None:
        if self.ctc < 0 or self.lm < 0 or self.ctc + self.lm == 0:
            raise ScoreError(
                f"ctc_scale is {self.ctc} and lm_scale {self.lm}; expected numbers from 0 on, "
                "not both 0"
            )

    def combined(self, ctc: np.ndarray, lm: np.ndarray) -> Tensor:
        """log softmax(S), (S, V) float64; -inf where CTC has no symbol.

        Raises ScoreError for a position where the two sides have no symbol in common.
        """
        allowed = np.isfinite(ctc)
        total = np.where(allowed, 0.0, -np.inf)
        for scale, log_probs in ((self.ctc, ctc), (self.lm, lm)):
            if scale:  # 0 times -inf is no number
                total = total + scale * np.where(allowed, log_probs, 0.0)
        if not np.isfinite(total).any(axis=1).all():
            raise ScoreError("the language model finds every symbol impossible at some position")
        return torch.log_softmax(torch.from_numpy(total), -1)


@dataclass(frozen=True)
class UniformSteps:
    """How uniform states are decoded; see the module.

    `t_start` in (0, 1], `steps` from 1 on. `final` is how the last step decides. Raises ScoreError
    for other numbers.
    """

    t_start: float = 0.3
    steps: int = 1
    update: Update = "combined"
    final: Final = "argmax"
    start: Start = "clean"

    def __post_init__(self) -> None:
        if not 0 < self.t_start <= 1:
            raise ScoreError(f"t_start is {self.t_start}, expected a time in (0, 1]")
        if self.steps < 1:
            raise ScoreError(f"steps is {self.steps}, expected at least 1")

    def levels(self) -> list[tuple[float, float]]:
        """Noise levels 1 - alpha before and after every step; the last one is 0."""
        times = [self.t_start * (self.steps - k) / self.steps for k in range(self.steps + 1)]
        noise = [float(LINEAR.noise(t)) for t in times]
        return list(itertools.pairwise(noise))


def joint_uniform(
    draft: Draft,
    denoiser: Denoiser,
    scales: JointScales,
    steps: UniformSteps,
    draws: SamplingDraws,
    window: int = WINDOW,
) -> Sampler[Canvas]:
    """Steps of a uniform-state model from a draft to a transcript of the same length.

    Exact check: tests/decoding/test_joint.py::test_without_ctc_it_samples_the_reverse_process,
    tests/decoding/test_joint.py::test_without_a_language_model_it_is_greedy.
    """
    canvas, editable = draft.canvas, draft.canvas.editable
    levels = steps.levels() if editable.any() else []
    if steps.start == "noised" and levels:
        canvas = _noised(canvas, levels[0][0], denoiser.vocab_size, draws)
    for step, (noise, next_noise) in enumerate(levels):
        answers = yield canvas.queries(noise, editable, window)
        combined = scales.combined(draft.ctc, np.concatenate(answers))
        is_last = step == len(levels) - 1
        how: str = steps.update if not is_last else steps.final
        if how == "argmax":
            canvas = canvas.filled(combined.argmax(-1).numpy())
            continue
        probabilities = combined.exp()
        if how == "ancestral":
            noisy = torch.from_numpy(canvas.tokens[editable])
            before, after = (torch.full((len(noisy),), level) for level in (noise, next_noise))
            probabilities = reverse_step(
                denoiser.prediction, combined, noisy, before.double(), after.double()
            )
        u = draws.positions(len(canvas.tokens), step, Stream.STATE)[editable]
        canvas = canvas.filled(draw_tokens(probabilities, torch.from_numpy(u)).numpy())
    return canvas


@dataclass(frozen=True)
class Filling:
    """How the open positions of masked states are filled.

    `rule` says which are decided in a round. `remask`: once all are, each share opens that many of
    them at random again, and they are filled anew. `window` is the network's.
    """

    mask_id: int
    rule: CommitRule
    remask: tuple[float, ...] = ()
    window: int = WINDOW


def joint_masked(
    draft: Draft, scales: JointScales, filling: Filling, hide_below: float, draws: SamplingDraws
) -> Sampler[Canvas]:
    """Hides what CTC gives less than `hide_below`, fills it with argmax S.

    Exact check: tests/decoding/test_joint.py::test_masked_filling_is_the_rule_by_hand.
    """
    editable = np.flatnonzero(draft.canvas.editable)
    unsure = np.zeros(len(draft.canvas.tokens), dtype=bool)
    unsure[editable] = draft.confidence < hide_below
    row_of = np.full(len(unsure), -1)
    row_of[editable] = np.arange(len(editable))

    def combined(positions: np.ndarray, lm: np.ndarray) -> Tensor:
        return scales.combined(draft.ctc[row_of[positions]], lm)

    return fill(draft.canvas.opened(unsure, filling.mask_id), combined, filling, draws)


def fill(
    canvas: Canvas,
    combine: Combine,
    filling: Filling,
    draws: SamplingDraws,
    sample: bool = False,
) -> Sampler[Canvas]:
    """Fills the open positions of masked states, and again those that are masked anew.

    A position gets its likeliest token, or with `sample` one that is drawn.
    """
    opened, length = canvas.open, len(canvas.tokens)
    for number, share in enumerate((1.0, *filling.remask)):
        if number:
            u = draws.positions(length, number, Stream.REMASK)
            canvas = canvas.opened(random_remask(u, opened, share), filling.mask_id)
        steps = itertools.count(number * length)  # a filling takes `length` rounds at most
        while canvas.open.any():
            canvas = yield from _decide(
                canvas, combine, filling, next(steps), draws if sample else None
            )
    return canvas


def _decide(
    canvas: Canvas, combine: Combine, filling: Filling, step: int, draws: SamplingDraws | None
) -> Sampler[Canvas]:
    """One round: the rule decides some of the open positions."""
    positions = np.flatnonzero(canvas.open)
    answers = yield canvas.queries(canvas.noise(canvas.open), canvas.open, filling.window)
    log_probs = combine(positions, np.concatenate(answers))
    u = None
    if draws is not None:
        u = draws.positions(len(canvas.tokens), step, Stream.STATE)[positions]
    choices = choose(log_probs, positions, u)
    decided = filling.rule(choices)
    return canvas.committed(positions[decided], choices.tokens[decided])


def choose(log_probs: Tensor, positions: np.ndarray, u: np.ndarray | None = None) -> Choices:
    """What log-probabilities (M, V) at positions (M,) put there: the likeliest tokens.

    With numbers u (M,), tokens that are drawn.
    """
    tokens = log_probs.argmax(-1)
    if u is not None:
        tokens = draw_tokens(log_probs.exp(), torch.from_numpy(u))
    confidence = log_probs.gather(-1, tokens[:, None])[:, 0]
    entropies = torch.special.entr(log_probs.exp()).sum(-1)
    return Choices(tokens.numpy(), confidence.numpy(), entropies.numpy(), positions)


def _noised(canvas: Canvas, noise: float, vocab_size: int, draws: SamplingDraws) -> Canvas:
    """The forward process from 0 to this noise level, at the editable positions."""
    length, editable = len(canvas.tokens), canvas.editable
    moves = draws.positions(length, 0, Stream.START)[editable] < noise
    targets = uniform_tokens(draws.positions(length, 0, Stream.MOVE)[editable], vocab_size)
    return canvas.filled(np.where(moves, targets, canvas.tokens[editable]))
