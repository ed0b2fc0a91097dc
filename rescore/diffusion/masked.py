"""Likelihoods of masked diffusion language models: NELBO, pseudo-log-likelihood, exact chains.

Sources: Sahoo et al. 2024 (MDLM), arXiv:2406.07524; Ou et al. 2024 (RADD), arXiv:2406.03736; Nie et al. 2025 (LLaDA), arXiv:2502.09992;
Salazar et al. 2020 (PLL), arXiv:1910.14659; Kauf & Ivanova 2023 (within-word PLL), arXiv:2305.10588.

S is the number of scored tokens, n the number of hidden ones; hidden tokens are a subset of the scored ones, everything else is visible context.
A time-conditioned network always receives the noise level n / S of the sequence it sees. With g(n) the mean over all hidden sets M of size n of
(1/n) sum_{i in M} log p(x_i | x with M hidden), -NELBO = sum_{n=1..S} g(n): the mean over all orders of an any-order autoregressive model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from rescore.diffusion.draws import Draws, Stream
from rescore.diffusion.queries import Denoiser, Plan, Query, check_tokens, run
from rescore.errors import ScoreError
from rescore.types import Estimate

__all__ = [
    "ESTIMATORS",
    "NORMALIZATIONS",
    "chain",
    "nelbo",
    "nelbo_exact",
    "paper_score",
    "plan_chain",
    "plan_nelbo",
    "plan_pll",
    "pll",
    "read_token",
]

EXACT_LIMIT = 16  # 2^16 - 1 evaluations


def read_token(log_probs: Tensor, noisy: Tensor, clean: Tensor, noise: Tensor) -> Tensor:
    """log p of the true token, (M,): the read-out of every masked estimator."""
    del noisy, noise
    return log_probs.gather(-1, clean[:, None]).squeeze(-1)


def _mask_id(denoiser: Denoiser) -> int:
    if denoiser.mask_id is None or denoiser.prediction != "masked":
        raise ScoreError(
            f"masked estimators need a denoiser with a mask symbol, got prediction {denoiser.prediction!r}; use rescore.diffusion.uniform"
        )
    return denoiser.mask_id


def _query(
    tokens: np.ndarray, hidden: np.ndarray, size: int, mask_id: int, read: np.ndarray | None = None
) -> Query:
    """Hide `hidden` (bool or indices) and read at `read` (default: everywhere hidden)."""
    noisy = tokens.copy()
    noisy[hidden] = mask_id
    where = np.flatnonzero(hidden) if hidden.dtype == bool else hidden
    positions = where if read is None else read
    return Query(noisy, len(where) / size, positions, tokens[positions])


def _one(denoiser: Denoiser, plan: Plan) -> Estimate:
    return plan.combine(run(denoiser, [plan], read_token)[0])


# ---------------------------------------------------------------------------------------------------------------------- NELBO by Monte Carlo

# An estimator turns uniform numbers into hidden sets with weights: (levels (K,), u (K, S)) -> [(draw, hidden (S,) bool, weight)].
# The estimate of one draw is the sum of weight x (sum of the hidden tokens' negative log-probabilities).
_Sets = list[tuple[int, np.ndarray, float]]


def _smallest(u: np.ndarray, count: int) -> np.ndarray:
    """(S,) bool: the `count` smallest of u (S,). A stable order breaks ties, which have probability zero."""
    hidden = np.zeros(len(u), dtype=bool)
    hidden[np.argsort(u, kind="stable")[:count]] = True
    return hidden


def _exact_count(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """n uniform over 1..S, weight S / n: unbiased (LLaDA, eq. 14)."""
    size = u.shape[1]
    counts = np.maximum(1, np.ceil(size * levels)).astype(int)
    return [(k, _smallest(u[k], n), size / n) for k, n in enumerate(counts)]


def _bernoulli(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """Every token hidden with probability t, weight 1 / t: unbiased with infinite variance (MDLM, eq. 10)."""
    return [(k, u[k] < t, 1 / t) for k, t in enumerate(levels)]


def _realised(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """Bernoulli sets weighted by the realised ratio S / n, as arXiv:2604.14001's public code does: biased by S / (S + 1), for n = 0 scores 0."""
    size = u.shape[1]
    return [(k, u[k] < t, size / max(1, int((u[k] < t).sum()))) for k, t in enumerate(levels)]


def _realised_unbiased(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """The realised ratio with weight (S + 1) / n, which pays for the empty sets: unbiased."""
    size = u.shape[1]
    return [(k, hidden, weight * (size + 1) / size) for k, hidden, weight in _realised(levels, u)]


def _pair(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """A set and its complement, n uniform over 1..S-1, weights S / (2 n): the published pair, biased because n = S is never drawn."""
    size = u.shape[1]
    if size == 1:
        return _exact_count(levels, u)
    sets: _Sets = []
    for k, n in enumerate(1 + np.minimum((levels * (size - 1)).astype(int), size - 2)):
        hidden = _smallest(u[k], int(n))
        sets += [(k, hidden, size / (2 * n)), (k, ~hidden, size / (2 * (size - n)))]
    return sets


def _pair_empty(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """A set and its complement, n uniform over 0..S, (S + 1) / 2 times each mean, an empty side counting 0: unbiased."""
    size = u.shape[1]
    sets: _Sets = []
    for k, n in enumerate(np.minimum((levels * (size + 1)).astype(int), size)):
        hidden = _smallest(u[k], int(n))
        sets += [
            (k, side, (size + 1) / (2 * count))
            for side, count in ((hidden, int(n)), (~hidden, size - int(n)))
            if count
        ]
    return sets


def _pair_full(levels: np.ndarray, u: np.ndarray) -> _Sets:
    """n uniform over 1..S-1, (S - 1) / 2 times the mean of each side, plus g(S), the all-hidden mean, once: unbiased."""
    size = u.shape[1]
    if size == 1:
        return _exact_count(levels, u)
    shrink = (size - 1) / size
    full: _Sets = [
        (0, np.ones(size, dtype=bool), len(levels) / size)
    ]  # draws are averaged: one evaluation stands for all of them
    return full + [(k, hidden, weight * shrink) for k, hidden, weight in _pair(levels, u)]


#: Names of `estimator`; all but `realised_ratio` and `pair` are unbiased.
ESTIMATORS: dict[str, Callable[[np.ndarray, np.ndarray], _Sets]] = {
    "exact_count": _exact_count,
    "bernoulli": _bernoulli,
    "realised_ratio": _realised,
    "realised_ratio_unbiased": _realised_unbiased,
    "pair": _pair,
    "pair_empty": _pair_empty,
    "pair_full": _pair_full,
}


def _sets_plan(
    tokens: np.ndarray, scored: np.ndarray, sets: _Sets, draws: int, mask_id: int, strata: bool
) -> Plan:
    """The plan of hidden sets over the scored tokens; empty sets contribute 0 and cost nothing."""
    where = np.flatnonzero(scored)
    kept = [(k, where[hidden], weight) for k, hidden, weight in sets if hidden.any()]
    queries = [_query(tokens, hidden, len(where), mask_id) for _, hidden, _ in kept]
    weights = -np.array([weight for _, _, weight in kept], dtype=float)
    return Plan(
        queries, weights, np.array([k for k, _, _ in kept], dtype=np.int64), draws, strata=strata
    )


def plan_nelbo(
    tokens: np.ndarray,
    scored: np.ndarray,
    mask_id: int,
    random: Draws,
    *,
    draws: int = 8,
    estimator: str = "exact_count",
    strata: bool = True,
) -> Plan:
    """The plan of `nelbo` for tokens (length,) and scored (length,) that have been checked."""
    if estimator not in ESTIMATORS:
        raise ScoreError(f"estimator {estimator!r} is unknown; known: {', '.join(ESTIMATORS)}")
    levels = random.levels(draws, strata)
    u = random.tokens(len(tokens), draws, Stream.HIDE)[:, scored]
    return _sets_plan(tokens, scored, ESTIMATORS[estimator](levels, u), draws, mask_id, strata)


def nelbo(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
    estimator: str = "exact_count",
    strata: bool = True,
) -> Estimate:
    """Estimate the negative evidence lower bound of tokens (length,) int64, conditional on the length.

    Returns a cost in nats, summed over the `scored` tokens (bool (length,), default all), >= 0 in expectation; inf where the denoiser gives a true token
    probability zero. Cost: `draws` evaluations (twice that for pairs). `strata` draws the noise levels one in each of `draws` strata.
    Raises ScoreError if nothing is scored or the network returns NaN.
    Source: MDLM, eq. 10; exact counts: LLaDA, eq. 14. Exact check: tests/diffusion/test_masked.py::test_every_unbiased_estimator_agrees_with_enumeration.
    """
    mask_id = _mask_id(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    return _one(
        denoiser,
        plan_nelbo(
            ids, mask, mask_id, Draws(seed), draws=draws, estimator=estimator, strata=strata
        ),
    )


def nelbo_exact(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    scored: np.ndarray | None = None,
) -> Estimate:
    """The exact NELBO of a short sequence, by all 2^S - 1 hidden sets: a cost in nats.

    Equals -log p(tokens) where the denoiser's conditionals are those of one joint distribution. Raises ScoreError above 16 scored tokens.
    Source: RADD, eq. 3.6. Exact check: tests/diffusion/test_masked.py::test_nelbo_exact_is_minus_log_p_of_a_known_joint.
    """
    mask_id = _mask_id(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    where = np.flatnonzero(mask)
    size = len(where)
    if size > EXACT_LIMIT:
        raise ScoreError(
            f"the exact NELBO of {size} tokens needs 2^{size} - 1 evaluations; at most {EXACT_LIMIT} tokens, use nelbo with draws"
        )
    queries, weights = [], []
    for count in range(1, size + 1):
        subsets = list(itertools.combinations(where, count))
        queries += [_query(ids, np.array(subset), size, mask_id) for subset in subsets]
        weights += [-1 / (count * len(subsets))] * len(subsets)
    return _one(denoiser, _exact(queries, weights))


def _exact(queries: list[Query], weights: Sequence[float] | np.ndarray) -> Plan:
    return Plan(
        queries,
        np.asarray(weights, dtype=float),
        np.zeros(len(queries), dtype=np.int64),
        1,
        exact=True,
    )


# ---------------------------------------------------------------------------------------------------- the normalisations of arXiv:2604.14001

#: The four normalisations of arXiv:2604.14001. Only the first estimates score / S; each needs a scale of its own.
NORMALIZATIONS = ("sequence_length", "sample_level", "global", "coupled")


def paper_score(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    normalization: str,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
    estimator: Literal["realised_ratio", "exact_count"] = "realised_ratio",
) -> Estimate:
    """A normalised score of arXiv:2604.14001, for comparison: per-token nats, higher is better, biased as published (no padding is counted here).

    With raw_k = (S / n_k) x (sum of the hidden tokens' log-probabilities): sequence_length = mean_k raw_k / S; sample_level = mean_k raw_k / n_k;
    global = sum_k raw_k / sum_k n_k; coupled = mean_k (raw(M_k) + raw(not M_k)) / S.
    Draws are independent, as published. Raises ScoreError for an unknown normalisation.
    """
    mask_id = _mask_id(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    if normalization not in NORMALIZATIONS:
        raise ScoreError(
            f"normalization {normalization!r} is unknown; known: {', '.join(NORMALIZATIONS)}"
        )
    random, size = Draws(seed), int(mask.sum())
    u = random.tokens(len(ids), draws, Stream.HIDE)[:, mask]
    sets = ESTIMATORS[estimator](random.levels(draws, strata=False), u)
    if normalization == "coupled":
        sets = [
            (k, side, size / max(1, int(side.sum())))
            for k, hidden, _ in sets
            for side in (hidden, ~hidden)
        ]
    counts = np.array([int(hidden.sum()) for _, hidden, _ in sets])
    divisors = {
        "sample_level": counts,
        "global": np.full(len(sets), max(1, counts.sum()) / draws),
    }.get(normalization, np.full(len(sets), size))
    scaled = [
        (k, hidden, -weight / max(1, d))
        for (k, hidden, weight), d in zip(sets, divisors, strict=True)
    ]
    return _one(denoiser, _sets_plan(ids, mask, scaled, draws, mask_id, strata=False))


# ---------------------------------------------------------------------------------------------------------------------------- exact scores


def plan_pll(
    tokens: np.ndarray, scored: np.ndarray, mask_id: int, words: np.ndarray | None = None
) -> Plan:
    """The plan of `pll` for checked tokens; `words` (length,) word indices for the within-word variant."""
    where = np.flatnonzero(scored)
    hidden = [
        np.array([i]) if words is None else where[(where >= i) & (words[where] == words[i])]
        for i in where
    ]
    return _exact(
        [
            _query(tokens, sets, len(where), mask_id, np.array([i]))
            for i, sets in zip(where, hidden, strict=True)
        ],
        np.ones(len(where)),
    )


def pll(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    scored: np.ndarray | None = None,
    words: np.ndarray | None = None,
) -> Estimate:
    """Pseudo-log-likelihood: sum_i log p(x_i | everything else), a score in nats (<= 0), in S evaluations and without variance.

    With `words` (length,) int64, the later tokens of the same word are hidden too (within-word left-to-right), which corrects the inflated scores of
    rare words of many pieces. Not a log-probability. Source: arXiv:1910.14659, eq. 1; within-word: arXiv:2305.10588, section 3.
    Exact check: tests/diffusion/test_masked.py::test_pll_equals_its_definition.
    """
    mask_id = _mask_id(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    if words is not None and np.shape(words) != ids.shape:
        raise ScoreError(f"words must have shape {ids.shape}, got {np.shape(words)}")
    return _one(
        denoiser, plan_pll(ids, mask, mask_id, None if words is None else np.asarray(words))
    )


def plan_chain(
    tokens: np.ndarray, scored: np.ndarray, mask_id: int, order: np.ndarray, block: int = 1
) -> Plan:
    """The plan of `chain` for checked tokens; `order` (S,) ranks the scored tokens, first revealed first."""
    sequence = np.flatnonzero(scored)[order]
    starts = range(0, len(sequence), block)
    return _exact(
        [
            _query(tokens, np.sort(sequence[a:]), len(sequence), mask_id, sequence[a : a + block])
            for a in starts
        ],
        np.ones(len(starts)),
    )


def chain(
    denoiser: Denoiser,
    tokens: Sequence[int] | np.ndarray | Tensor,
    *,
    scored: np.ndarray | None = None,
    order: Sequence[int] | np.ndarray | Literal["left_to_right", "random"] = "left_to_right",
    block: int = 1,
    seed: int = 0,
) -> Estimate:
    """The exact chain rule in one order, `block` tokens revealed at a time: a normalised log-probability in nats (<= 0) of its own model.

    `order` is a permutation of 0..S-1 over the scored tokens, or a name. Costs ceil(S / block) evaluations. With block 1 it equals log p for
    consistent conditionals; a larger block is below log p only on average. Raises ScoreError if `order` is no permutation.
    Exact check: tests/diffusion/test_masked.py::test_a_chain_of_a_known_joint_is_log_p_in_every_order.
    """
    mask_id = _mask_id(denoiser)
    ids, mask = check_tokens(tokens, scored, denoiser.vocab_size)
    size = int(mask.sum())
    if isinstance(order, str):
        if order not in ("left_to_right", "random"):
            raise ScoreError(
                f"order {order!r} is unknown; known: left_to_right, random, or a permutation"
            )
        random = Draws(seed).tokens(size, 1, Stream.ORDER)[0]
        order = np.arange(size) if order == "left_to_right" else np.argsort(random, kind="stable")
    permutation = np.asarray(order)
    if not np.array_equal(np.sort(permutation), np.arange(size)):
        raise ScoreError(
            f"order must be a permutation of 0..{size - 1}, got {permutation.tolist()}"
        )
    if block < 1:
        raise ScoreError(f"block must be at least 1, got {block}")
    return _one(denoiser, plan_chain(ids, mask, mask_id, permutation, block))
