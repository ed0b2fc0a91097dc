"""Likelihoods of masked diffusion language models: NELBO, pseudo-log-likelihood, exact chains.

Sources: Sahoo et al. 2024 (MDLM), arXiv:2406.07524; Ou et al. 2024 (RADD), arXiv:2406.03736; Nie et
al. 2025 (LLaDA), arXiv:2502.09992; Salazar et al. 2020 (PLL), arXiv:1910.14659; Kauf & Ivanova 2023
(within-word PLL), arXiv:2305.10588. The K-fold PLL is ours (docs/kfold.md).

S is the number of scored tokens, n the number of hidden ones. Hidden tokens are scored ones, or
later pieces of a scored word; everything else is visible context. A time-conditioned network is
always told n / L, L the number of tokens it sees that can be hidden: all but the fixed ones (BOS).

With g(n) the mean over all hidden sets M of size n of (1/n) sum_{i in M} log p(x_i | x with M
hidden), -NELBO = sum_{n=1..S} g(n): the mean over all orders of an any-order autoregressive model.

The public functions score one sequence. The `plan_...` functions write the plan of a checked
sequence, so that many sequences are evaluated together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np

from rescore.diffusion.draws import Draws, Stream
from rescore.diffusion.forward import hide_tokens
from rescore.diffusion.hidden_sets import HiddenSet, SetSampler, exact_count
from rescore.diffusion.plans import Plan, estimate, exact_plan
from rescore.diffusion.queries import Query
from rescore.diffusion.readouts import read_token
from rescore.diffusion.sequence import ScoredSequence, Tokens, scored_sequence
from rescore.errors import ScoreError
from rescore.interfaces import Denoiser
from rescore.types import Estimate

__all__ = [
    "EXACT_LIMIT",
    "chain",
    "hidden_query",
    "mask_symbol",
    "nelbo",
    "nelbo_exact",
    "plan_chain",
    "plan_kfold_pll",
    "plan_nelbo",
    "plan_of_sets",
    "plan_pll",
    "pll",
    "read_token",
]

#: Most scored tokens of `nelbo_exact`: 2^16 - 1 evaluations.
EXACT_LIMIT = 16


def mask_symbol(denoiser: Denoiser) -> int:
    """The mask symbol of a masked denoiser. Raises ScoreError for a denoiser without one."""
    if denoiser.mask_id is None or denoiser.prediction != "masked":
        raise ScoreError(
            "masked estimators need a denoiser with a mask symbol, got prediction"
            f" {denoiser.prediction!r}; use rescore.diffusion.uniform"
        )
    return denoiser.mask_id


def hidden_query(
    sequence: ScoredSequence,
    hidden: np.ndarray,
    mask_id: int,
    *,
    read: np.ndarray | None = None,
    noise: float | None = None,
) -> Query:
    """The query that hides the positions `hidden` (n,) int64.

    `read`: the positions to read, by default all hidden ones. `noise`: the noise level that the
    network is told, by default n / L.
    """
    positions = hidden if read is None else read
    return Query(
        hide_tokens(sequence.tokens, hidden, mask_id),
        len(hidden) / sequence.diffused if noise is None else noise,
        positions,
        sequence.tokens[positions],
    )


# ------------------------------------------------------------------------------ NELBO


def plan_of_sets(
    sequence: ScoredSequence,
    sets: Sequence[HiddenSet],
    mask_id: int,
    *,
    draws: int,
    strata: bool,
    noise: float | None = None,
) -> Plan:
    """The plan of a cost from hidden sets; empty sets add 0 and cost nothing."""
    kept = [hidden_set for hidden_set in sets if hidden_set.hidden.any()]
    queries = [
        hidden_query(sequence, sequence.positions[hidden_set.hidden], mask_id, noise=noise)
        for hidden_set in kept
    ]
    weights = -np.array([hidden_set.weight for hidden_set in kept], dtype=float)
    numbers = np.array([hidden_set.draw for hidden_set in kept], dtype=np.int64)
    return Plan(queries, weights, numbers, draws, strata=strata)


def plan_nelbo(
    sequence: ScoredSequence,
    mask_id: int,
    random: Draws,
    *,
    draws: int = 8,
    set_sampler: SetSampler = exact_count,
    strata: bool = True,
) -> Plan:
    """The plan of `nelbo` for a checked sequence."""
    levels = random.levels(draws, strata)
    u = random.tokens(len(sequence.tokens), draws, Stream.HIDE)[:, sequence.scored]
    return plan_of_sets(sequence, set_sampler(levels, u), mask_id, draws=draws, strata=strata)


def nelbo(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
    set_sampler: SetSampler = exact_count,
    strata: bool = True,
) -> Estimate:
    """Estimate the negative evidence lower bound of tokens (length,) int64, given the length.

    Returns a cost in nats, summed over the `scored` tokens (bool (length,), default all), >= 0 in
    expectation; inf where the denoiser gives a true token probability zero. Give a ScoredSequence
    as `tokens` where some are fixed (BOS). Costs `draws` evaluations (twice that for pairs).
    `set_sampler`: `exact_count`, or one of `rescore.diffusion.published`. `strata` draws the noise
    levels one in each of `draws` strata.

    Raises ScoreError if nothing is scored or the network returns NaN.
    Source: MDLM, eq. 10; exact counts: LLaDA, eq. 14. Exact check:
    tests/diffusion/test_nelbo.py::test_every_unbiased_set_sampler_agrees_with_enumeration.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    plan = plan_nelbo(
        sequence, mask_id, Draws(seed), draws=draws, set_sampler=set_sampler, strata=strata
    )
    return estimate(denoiser, plan, read_token)


def nelbo_exact(
    denoiser: Denoiser, tokens: Tokens, *, scored: np.ndarray | None = None
) -> Estimate:
    """The exact NELBO of a short sequence, by all 2^S - 1 hidden sets: a cost in nats.

    Equals -log p(tokens) where the denoiser's conditionals are those of one joint distribution.
    Raises ScoreError above 16 scored tokens.
    Source: RADD, eq. 3.6. Exact check:
    tests/diffusion/test_nelbo.py::test_nelbo_exact_is_minus_log_p_of_a_known_joint.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    size = len(sequence.positions)
    if size > EXACT_LIMIT:
        raise ScoreError(
            f"the exact NELBO of {size} tokens needs 2^{size} - 1 evaluations; at most"
            f" {EXACT_LIMIT} tokens, use nelbo with draws"
        )
    queries, weights = [], []
    for count in range(1, size + 1):
        subsets = list(itertools.combinations(sequence.positions, count))
        for subset in subsets:
            queries.append(hidden_query(sequence, np.array(subset), mask_id))
            weights.append(-1 / (count * len(subsets)))
    return estimate(denoiser, exact_plan(queries, weights), read_token)


# ------------------------------------------------------------------------------ exact scores


def plan_pll(sequence: ScoredSequence, mask_id: int, words: np.ndarray | None = None) -> Plan:
    """The plan of `pll` for a checked sequence; `words` (length,) as in `pll`."""
    queries = []
    for position in sequence.positions:
        read = np.array([position])
        hidden = read
        if words is not None:
            in_word = (words == words[position]) & ~sequence.fixed
            hidden = np.flatnonzero(in_word & (np.arange(len(words)) >= position))
        queries.append(hidden_query(sequence, hidden, mask_id, read=read))
    return exact_plan(queries, np.ones(len(queries)))


def plan_kfold_pll(sequence: ScoredSequence, mask_id: int, folds: np.ndarray) -> Plan:
    """The plan of `kfold_pll` for a checked sequence; `folds` (length,) numbers the folds."""
    queries = []
    for fold in np.unique(folds[sequence.scored]):
        hidden = np.flatnonzero(sequence.scored & (folds == fold))
        queries.append(hidden_query(sequence, hidden, mask_id))
    return exact_plan(queries, np.ones(len(queries)))


def kfold_pll(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    folds: int | np.ndarray = 4,
    scored: np.ndarray | None = None,
) -> Estimate:
    """K-fold PLL: sum_i log p(x_i | the tokens of the other folds), a score in nats (<= 0).

    Position i belongs to fold i mod `folds`, or to fold `folds[i]` of an array (length,) int64.
    Each evaluation hides one fold and reads it, so every token is scored once, at a cost of at most
    K evaluations, without variance. K = S is the PLL, K = 1 hides everything. Over random folds of
    equal size its expectation is S g(S / K). Not a log-probability.

    Raises ScoreError if nothing is scored, or `folds` is below 1 or of another shape.
    Source: docs/kfold.md. Exact check:
    tests/diffusion/test_kfold_pll.py::test_the_mean_over_all_balanced_folds_is_s_times_g.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    length = len(sequence.tokens)
    if isinstance(folds, int):
        if folds < 1:
            raise ScoreError(f"folds must be at least 1, got {folds}")
        folds = np.arange(length) % folds
    if folds.shape != (length,):
        raise ScoreError(f"folds must have shape ({length},), got {folds.shape}")
    return estimate(denoiser, plan_kfold_pll(sequence, mask_id, folds), read_token)


def pll(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    scored: np.ndarray | None = None,
    words: np.ndarray | None = None,
) -> Estimate:
    """Pseudo-log-likelihood: sum_i log p(x_i | everything else), a score in nats (<= 0).

    Costs S evaluations and has no variance. With `words` (length,) int64, the later tokens of the
    same word are hidden too, scored or not (within-word left-to-right), which corrects the inflated
    scores of rare words of many pieces. Not a log-probability.

    Raises ScoreError if nothing is scored or `words` has another shape.
    Source: arXiv:1910.14659, eq. 1; within-word: arXiv:2305.10588, section 3.
    Exact check: tests/diffusion/test_pll.py::test_pll_equals_its_definition.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    if words is not None and np.shape(words) != sequence.tokens.shape:
        raise ScoreError(f"words must have shape {sequence.tokens.shape}, got {np.shape(words)}")
    word_indices = None if words is None else np.asarray(words)
    return estimate(denoiser, plan_pll(sequence, mask_id, word_indices), read_token)


def plan_chain(sequence: ScoredSequence, mask_id: int, order: np.ndarray, block: int = 1) -> Plan:
    """The plan of `chain` for a checked sequence; `order` (S,) lists the scored tokens by rank."""
    positions = sequence.positions[order]  # first revealed first
    queries = [
        hidden_query(
            sequence, np.sort(positions[start:]), mask_id, read=positions[start : start + block]
        )
        for start in range(0, len(positions), block)
    ]
    return exact_plan(queries, np.ones(len(queries)))


def chain(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    scored: np.ndarray | None = None,
    order: Sequence[int] | np.ndarray | Literal["left_to_right", "random"] = "left_to_right",
    block: int = 1,
    seed: int = 0,
) -> Estimate:
    """The chain rule in one order, `block` tokens revealed at a time: a score in nats (<= 0).

    It is the normalised log-probability of a model of its own. `order` is a permutation of 0..S-1
    over the scored tokens, or a name. Costs ceil(S / block) evaluations. With block 1 it equals
    log p for consistent conditionals; a larger block is below log p only on average.

    Raises ScoreError if `order` is no permutation.
    Exact check:
    tests/diffusion/test_chain.py::test_a_chain_of_a_known_joint_is_log_p_in_every_order.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    permutation = _permutation(order, len(sequence.positions), seed)
    if block < 1:
        raise ScoreError(f"block must be at least 1, got {block}")
    return estimate(denoiser, plan_chain(sequence, mask_id, permutation, block), read_token)


def _permutation(order: Sequence[int] | np.ndarray | str, size: int, seed: int) -> np.ndarray:
    """The order as a permutation of 0..size - 1, (size,) int64."""
    if isinstance(order, str):
        if order == "left_to_right":
            return np.arange(size)
        if order == "random":
            return np.argsort(Draws(seed).tokens(size, 1, Stream.ORDER)[0], kind="stable")
        raise ScoreError(
            f"order {order!r} is unknown; known: left_to_right, random, or a permutation"
        )
    permutation = np.asarray(order)
    if not np.array_equal(np.sort(permutation), np.arange(size)):
        raise ScoreError(
            f"order must be a permutation of 0..{size - 1}, got {permutation.tolist()}"
        )
    return permutation
