"""MDM-ASR: a canvas of masks becomes a text, some positions a round, by what the audio says.

Every round asks the network about all open positions, and a commit rule decides some of them; the
last round that is allowed decides the rest. Once an EOS is decided, nothing after it is asked about
again: it is EOS. Mask-CTC (Higuchi et al. 2020, arXiv:2005.08700) begins with the greedy CTC
transcript instead, masked where CTC is unsure; its length stays.

Sources: arXiv:2602.18952; random remasking as in Whisfusion (arXiv:2508.07048); classifier-free
guidance, Ho & Salimans 2022, arXiv:2207.12598, in the logarithmic form.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from rescore.acoustic.ctc_paths import LabelledPath
from rescore.decoding.canvas import Canvas
from rescore.decoding.commit import CommitRule, random_remask
from rescore.decoding.driver import Sampler
from rescore.decoding.joint import choose
from rescore.diffusion.draws import SamplingDraws, Stream
from rescore.interfaces import Condition
from rescore.models.audio_network import SpecialRows

__all__ = ["EVALUATIONS", "MdmSampling", "draft_canvas", "guided", "open_canvas", "transcribe"]

#: Rounds of a filling, at most (arXiv:2602.18952).
EVALUATIONS = 32


@dataclass(frozen=True)
class MdmSampling:
    """How a canvas is filled.

    `rule_of(n)` is the commit rule of a filling that begins with n open positions, `rounds` what it
    takes at most. `remask`: once all are decided, each share opens that many up to the first EOS
    again. `guidance` w: log-probabilities are (1 + w) those with audio less w those without.
    """

    rule_of: Callable[[int], CommitRule]
    rows: SpecialRows
    rounds: int = EVALUATIONS
    remask: tuple[float, ...] = ()
    guidance: float = 0.0


def open_canvas(places: int, rows: SpecialRows) -> Canvas:
    """BOS and `places` masks."""
    tokens = np.full(1 + places, rows.mask)
    tokens[0] = rows.bos
    is_open = tokens == rows.mask
    return Canvas(tokens, is_open, is_open, np.zeros(1 + places, dtype=bool))


def draft_canvas(path: LabelledPath, hide_below: float, rows: SpecialRows) -> Canvas:
    """The greedy CTC transcript between BOS and EOS; labels of a lower confidence are masked."""
    canvas = Canvas.of_text(np.array([rows.bos, *path.labels, rows.eos]))
    is_hidden = np.zeros(len(canvas.tokens), dtype=bool)
    is_hidden[1:-1] = path.confidence < hide_below
    return canvas.opened(is_hidden, rows.mask)


def transcribe(
    canvas: Canvas,
    sampling: MdmSampling,
    condition: Condition,
    draws: SamplingDraws,
    sample: bool = False,
) -> Sampler[Canvas]:
    """Fill the open positions of a canvas; with `sample`, tokens are drawn.

    Exact check: tests/decoding/test_mdm.py::test_one_position_a_round_draws_from_the_chain.
    """
    length = len(canvas.tokens)
    for number, share in enumerate((1.0, *sampling.remask)):
        if number:
            u = draws.positions(length, number, Stream.REMASK)
            text = canvas.editable & ~_after_end(canvas, sampling.rows)
            canvas = canvas.opened(random_remask(u, text, share), sampling.rows.mask)
        rule = sampling.rule_of(int(canvas.open.sum()))
        for step in itertools.count():
            if not canvas.open.any():
                break
            positions = np.flatnonzero(canvas.open)
            queries = canvas.queries(canvas.noise(canvas.open), canvas.open, length, condition)
            if sampling.guidance:
                queries += [replace(query, condition=None) for query in queries]
            log_probs = guided((yield queries), sampling.guidance)
            numbers: np.ndarray | None = None
            if sample:
                numbers = draws.positions(length, number * length + step, Stream.STATE)[positions]
            choices = choose(log_probs, positions, numbers)
            decided = rule(choices)
            if step == sampling.rounds - 1:
                decided = np.ones(len(positions), dtype=bool)
            canvas = canvas.committed(positions[decided], choices.tokens[decided])
            canvas = _ended(canvas, sampling.rows)
    return canvas


def guided(answers: Sequence[np.ndarray], guidance: float) -> Tensor:
    """Log-probabilities (M, V) of answers with audio, and, for guidance, of those without."""
    if not guidance:
        return torch.log_softmax(torch.from_numpy(np.concatenate(answers)), -1)
    half = len(answers) // 2
    heard, deaf = (np.concatenate(part) for part in (answers[:half], answers[half:]))
    possible = np.isfinite(heard)
    moved = (1 + guidance) * heard - guidance * np.where(possible, deaf, 0.0)
    return torch.log_softmax(torch.from_numpy(np.where(possible, moved, -np.inf)), -1)


def _after_end(canvas: Canvas, rows: SpecialRows) -> np.ndarray:
    """(L,) bool: behind the first EOS that is decided."""
    is_end = (canvas.tokens == rows.eos) & ~canvas.open
    after: np.ndarray = np.cumsum(is_end) - is_end > 0
    return after


def _ended(canvas: Canvas, rows: SpecialRows) -> Canvas:
    """With EOS on all that follows the first EOS."""
    after = _after_end(canvas, rows) & canvas.editable
    tokens = np.where(after, rows.eos, canvas.tokens)
    return replace(canvas, tokens=tokens, open=canvas.open & ~after)
