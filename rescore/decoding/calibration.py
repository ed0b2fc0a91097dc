"""What deciding early costs: confidences against hits, and the lowest tau within a bound.

Utterances of dev are denoised one position a round, each as late as possible, and every round notes
what it would put at every open position, and with which probability (`Trace`).

**Reliability**: of the noted choices in a tenth of the probabilities, the mean probability and the
share that is right. Right is a token that the reference has at this place, by an alignment of the
tokens that were decided last; behind the text, EOS.

**Expected WER loss of tau**: each place gets the first token that reached tau (ends as in
`end_rule`), or else the one that was decided last. The loss is the word errors of these transcripts
less those of the transcripts decided last, over the words of the references. What the early tokens
change in later predictions is left out: tau's own run has these very tokens in its first round.

Letters in shapes: L positions of a canvas, M open ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from rescore.decoding.commit import Choices
from rescore.decoding.prior_guided import end_rule
from rescore.models.audio_network import SpecialRows
from rescore.wer.counts import count_errors

if TYPE_CHECKING:
    from rescore.decoding.guides import Guide

__all__ = ["TAUS", "Calibration", "Example", "Trace", "calibrate", "early_tokens", "right_tokens"]

#: The thresholds that are tried.
TAUS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)

#: Parts of the probabilities in a reliability diagram.
_BINS = 10


@dataclass(frozen=True)
class Trace:
    """A run that decided one position a round: draft and tokens (L,), what each round chose."""

    draft: np.ndarray
    tokens: np.ndarray
    rounds: Sequence[Choices]


@dataclass(frozen=True)
class Example:
    """The trace of an utterance, and its reference."""

    trace: Trace
    reference: str


@dataclass(frozen=True)
class Threshold:
    """What a tau would do: `loss` and its `standard_error` over utterances are shares of words.

    `early` places get a token before it is decided last, `changed` of them another one.
    """

    tau: float
    loss: float
    standard_error: float
    early: int
    changed: int


@dataclass(frozen=True)
class Bin:
    """Choices of probabilities from `low` to `high`: their mean, and the share that is right."""

    low: float
    high: float
    choices: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """All thresholds, in order, and the reliability of `choices`.

    `tau` is the lowest from which on no loss is above `bound`, a share of the words; None: there is
    none. `errors` of `words` are those of the transcripts decided last.
    """

    bound: float
    tau: float | None
    thresholds: list[Threshold]
    bins: list[Bin]
    utterances: int
    words: int
    errors: int

    @property
    def ece(self) -> float:
        """The mean distance of probability and share right (Guo et al. 2017, arXiv:1706.04599)."""
        total = sum(part.choices for part in self.bins)
        distance = sum(part.choices * abs(part.confidence - part.right) for part in self.bins)
        return distance / max(1, total)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {"ece": self.ece, **asdict(self)}


def calibrate(examples: Sequence[Example], guide: Guide, bound: float) -> Calibration:
    """Calibrate tau on utterances; `bound` is the largest loss, a share of the words.

    Exact check: tests/decoding/test_tau_calibration.py::test_the_loss_is_that_of_a_count_by_hand.
    """
    errors = [_errors(one, one.trace.tokens, guide) for one in examples]
    words = sum(len(one.reference.split()) for one in examples)
    thresholds = [_threshold(tau, examples, errors, words, guide) for tau in TAUS]
    tau = None
    for row in reversed(thresholds):
        if row.loss > bound:
            break
        tau = row.tau
    return Calibration(
        bound, tau, thresholds, _bins(examples, guide), len(examples), words, sum(errors)
    )


def _errors(example: Example, tokens: np.ndarray, guide: Guide) -> int:
    """The word errors of a canvas, which begins with BOS."""
    return count_errors(example.reference, guide.text(tokens[1:].tolist())).errors


def _threshold(
    tau: float, examples: Sequence[Example], last: Sequence[int], words: int, guide: Guide
) -> Threshold:
    """What tau would do; `last` are the word errors of the transcripts decided last."""
    added, early, changed = [], 0, 0
    for example, errors in zip(examples, last, strict=True):
        tokens, is_early = early_tokens(example.trace, tau, guide.rows.eos)
        added.append(_errors(example, tokens, guide) - errors)
        early += int(is_early.sum())
        changed += int((is_early & (tokens != example.trace.tokens)).sum())
    spread = float(np.std(added)) * math.sqrt(len(added))
    return Threshold(tau, sum(added) / max(1, words), spread / max(1, words), early, changed)


def early_tokens(trace: Trace, tau: float, eos: int) -> tuple[np.ndarray, np.ndarray]:
    """The canvas (L,) with the first tokens that reach tau, and which places (L,) have them."""
    tokens, is_early = trace.draft.copy(), np.zeros(len(trace.draft), dtype=bool)
    is_open = np.zeros(len(tokens), dtype=bool)
    if trace.rounds:
        is_open[_positions(trace.rounds[0])] = True
    for turn, choices in zip(_turns(trace), trace.rounds, strict=True):
        still = is_open[_positions(choices)]
        positions, chosen = _positions(choices)[still], choices.tokens[still]
        sure = np.exp(choices.log_probs[still]) >= tau
        sure &= end_rule(tokens, is_open, chosen, sure, eos)
        tokens[positions[sure]], is_open[positions[sure]] = chosen[sure], False
        is_early[np.setdiff1d(positions[sure], turn)] = True
        late = turn[is_open[turn]]
        tokens[late], is_open[late] = trace.tokens[late], False
    return tokens, is_early


def _turns(trace: Trace) -> list[np.ndarray]:
    """The places that each round decided: those that the next one does not ask about."""
    asked = [_positions(choices) for choices in trace.rounds]
    following = [*asked[1:], np.zeros(0, np.int64)]
    return [np.setdiff1d(one, other) for one, other in zip(asked, following, strict=True)]


def _positions(choices: Choices) -> np.ndarray:
    if choices.positions is None:
        raise ValueError("choices without positions cannot be traced")
    return choices.positions


def _bins(examples: Sequence[Example], guide: Guide) -> list[Bin]:
    """Mean probability and share right, of all choices in each part of the probabilities."""
    confidence, is_right = [], []
    for example in examples:
        truth = right_tokens(example.trace.tokens, guide.tokens(example.reference), guide.rows)
        for choices in example.trace.rounds:
            confidence.append(np.exp(choices.log_probs))
            is_right.append(choices.tokens == truth[_positions(choices)])
    values, hits = (np.concatenate([*parts, np.zeros(0)]) for parts in (confidence, is_right))
    place = np.minimum((values * _BINS).astype(int), _BINS - 1)
    return [
        Bin(
            number / _BINS,
            (number + 1) / _BINS,
            int((place == number).sum()),
            float(values[place == number].mean()),
            float(hits[place == number].mean()),
        )
        for number in range(_BINS)
        if (place == number).any()
    ]


def right_tokens(tokens: np.ndarray, reference: Sequence[int], rows: SpecialRows) -> np.ndarray:
    """The right token at each place (L,) of a canvas, -1: there is none.

    By an alignment of the text and its EOS with the reference and its EOS; behind them EOS is
    right, before them BOS.
    """
    truth = np.full(len(tokens), rows.eos)
    ends = np.flatnonzero(tokens[1:] == rows.eos)
    size = 1 + int(ends[0]) if len(ends) else len(tokens) - 1
    truth[0], truth[1 : 1 + size] = rows.bos, -1
    expected, text = [*reference, rows.eos], tokens[1 : 1 + size].tolist()
    for block in Levenshtein.opcodes(expected, text):
        if block.tag in ("equal", "replace"):
            truth[1 + block.dest_start : 1 + block.dest_end] = expected[
                block.src_start : block.src_end
            ]
    return truth
