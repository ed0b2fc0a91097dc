"""Commit rules: which of the open positions are decided in this round.

A rule is a pure function of what the network says of the open positions. Every rule decides at
least one position a round, so a sampler ends after as many rounds as it has open positions.

    top_k            the k most confident ones
    threshold        those whose probability reaches a threshold
    factor           as many as a factor of their doubt allows (Fast-dLLM)
    entropy_bound    as many, most confident first, as keep the sum of their entropies but the
                     largest below gamma (EB-sampler; MDM-ASR)
    position_biased  entropy_bound, where confidence falls with the position (MDM-ASR)
    random_remask    opens decided positions again, a share of them a round (ReMDM)

Sources: Ghazvininejad et al. 2019, arXiv:1904.09324 (top_k); Wu et al. 2025, arXiv:2505.22618
(threshold, factor); Ben-Hamu et al. 2025, arXiv:2505.24857, and arXiv:2602.18952 (entropy_bound);
Wang et al. 2025, arXiv:2503.00307 (random_remask).
Letters in shapes: M open positions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from rescore.errors import ScoreError

__all__ = [
    "Choices",
    "CommitName",
    "CommitRule",
    "PositionIndex",
    "commit_rule",
    "entropy_bound",
    "factor",
    "position_biased",
    "random_remask",
    "threshold",
    "top_k",
]


@dataclass(frozen=True)
class Choices:
    """What the network would put at each open position: arrays (M,), positions from left to right.

    `tokens` int64; `log_probs` their log-probabilities; `entropies` in nats. `positions` int64 on
    the canvas; None: their order alone is known.
    """

    tokens: np.ndarray
    log_probs: np.ndarray
    entropies: np.ndarray
    positions: np.ndarray | None = None


#: Choices at M open positions -> which of them are decided now, bool (M,), at least one.
CommitRule: TypeAlias = Callable[[Choices], np.ndarray]

CommitName: TypeAlias = Literal["top_k", "threshold", "factor", "entropy_bound", "position_biased"]

#: Which position counts: that on the canvas, or the rank among those that are open.
PositionIndex: TypeAlias = Literal["rank", "absolute"]

#: What a position takes off the log of the confidence, in nats (arXiv:2602.18952).
POSITION_DECAY = 0.2


def top_k(k: int) -> CommitRule:
    """The k most confident positions; of equals, those on the left. Raises ScoreError for k < 1."""
    if k < 1:
        raise ScoreError(f"top_k decides {k} positions a round, expected at least 1")
    return lambda choices: _first(choices, k)


def threshold(probability: float) -> CommitRule:
    """All positions whose choice has at least this probability; the most confident one if none has.

    Raises ScoreError for a number outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ScoreError(f"threshold is {probability}, expected a probability")

    def rule(choices: Choices) -> np.ndarray:
        sure = np.exp(choices.log_probs) >= probability
        return sure if sure.any() else _first(choices, 1)

    return rule


def factor(bound: float) -> CommitRule:
    """The n most confident positions, n the largest with (n + 1) (1 - p_n) < bound.

    p_n is the probability of the n-th. Raises ScoreError for a bound that is not above 0.
    """
    if not bound > 0:
        raise ScoreError(f"factor is {bound}, expected a number above 0")

    def rule(choices: Choices) -> np.ndarray:
        falling = -np.sort(-choices.log_probs, kind="stable")
        doubt = np.arange(2, len(falling) + 2) * -np.expm1(falling)
        return _first(choices, _last(doubt < bound))

    return rule


def entropy_bound(gamma: float) -> CommitRule:
    """The longest run, most confident first, with cumsum(H) - cummax(H) <= gamma.

    At gamma = 0 one position a round (and those without entropy), at infinity all. Raises
    ScoreError for a negative gamma.
    Exact check: tests/decoding/test_commit.py::test_the_entropy_bound_is_that_of_the_issue.
    """
    if not gamma >= 0:
        raise ScoreError(f"entropy_bound is {gamma}, expected a number of nats from 0 on")

    def rule(choices: Choices) -> np.ndarray:
        entropies = choices.entropies[_order(choices)]
        excess = np.cumsum(entropies) - np.maximum.accumulate(entropies)
        return _first(choices, _last(excess <= gamma))

    return rule


def position_biased(
    gamma: float, decay: float = POSITION_DECAY, index: PositionIndex = "rank"
) -> CommitRule:
    """entropy_bound in the order of log c_i - decay i: confident positions on the left first.

    i counts the open positions, or is their place on the canvas; the paper does not say which.
    Raises ScoreError for a negative number.
    Exact check: tests/decoding/test_commit.py::test_the_biased_bound_is_that_of_the_paper.
    """
    if not decay >= 0:
        raise ScoreError(f"the decay by position is {decay}, expected a number from 0 on")
    bound = entropy_bound(gamma)

    def rule(choices: Choices) -> np.ndarray:
        places = np.arange(len(choices.tokens))
        if index == "absolute" and choices.positions is not None:
            places = choices.positions
        return bound(replace(choices, log_probs=choices.log_probs - decay * places))

    return rule


def commit_rule(name: CommitName, value: float) -> CommitRule:
    """A rule by its name. Raises ScoreError for a value that it cannot have."""
    if name == "top_k":
        if value != int(value):
            raise ScoreError(f"top_k decides {value} positions a round, expected a whole number")
        return top_k(int(value))
    rules = {
        "threshold": threshold,
        "factor": factor,
        "entropy_bound": entropy_bound,
        "position_biased": position_biased,
    }
    return rules[name](value)


def random_remask(u: np.ndarray, decided: np.ndarray, share: float) -> np.ndarray:
    """Which decided positions open again, bool (L,): about `share` of them, by numbers u (L,).

    `decided` (L,) bool. Exactly round(share n) of n, those with the smallest numbers. Raises
    ScoreError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ScoreError(f"the share of positions to open again is {share}, expected 0 to 1")
    candidates = np.flatnonzero(decided)
    count = round(share * len(candidates))
    opened = np.zeros(len(decided), dtype=bool)
    opened[candidates[np.argsort(u[candidates], kind="stable")[:count]]] = True
    return opened


def _order(choices: Choices) -> np.ndarray:
    """Most confident first; of equals, the left one."""
    return np.argsort(-choices.log_probs, kind="stable")


def _first(choices: Choices, count: int) -> np.ndarray:
    """Marks the `count` most confident positions, at least one."""
    marked = np.zeros(len(choices.tokens), dtype=bool)
    marked[_order(choices)[: max(1, count)]] = True
    return marked


def _last(allowed: np.ndarray) -> int:
    """How many positions the last True of `allowed` takes; 0 if there is none."""
    places = np.flatnonzero(allowed)
    return int(places[-1]) + 1 if len(places) else 0
