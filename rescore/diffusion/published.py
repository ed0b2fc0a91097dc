"""Variants that only comparisons need: other set samplers, and the scores of arXiv:2604.14001.

Set samplers for `masked.nelbo(..., set_sampler=...)`; SET_SAMPLERS names them. All but
`realised_ratio` and `pair` are unbiased.

The paper's scores are per-token nats, higher is better. Each needs a scale of its own. The paper
and its public code differ, so there are two readings:

    mdlm_as_printed   the noise level is fixed, t = 0.5; no weight in sample_level and coupled
    mdlm_as_coded     t is drawn; the weight is S / n, and the network is told the realised n / L
    usdm_as_printed   the loss of uniform-state diffusion at t = 0.5

The public code counts padding; nothing here does.
Source: arXiv:2604.14001 and its public code.
"""

from __future__ import annotations

import numpy as np

from rescore.diffusion import uniform
from rescore.diffusion.draws import Draws, Stream
from rescore.diffusion.forward import corrupt_uniform
from rescore.diffusion.hidden_sets import HiddenSet, SetSampler, exact_count, smallest
from rescore.diffusion.masked import mask_symbol, plan_of_sets
from rescore.diffusion.plans import EVERY_DRAW, Plan, estimate
from rescore.diffusion.queries import Query
from rescore.diffusion.readouts import read_token
from rescore.diffusion.sequence import ScoredSequence, Tokens, scored_sequence
from rescore.errors import ScoreError
from rescore.interfaces import Denoiser
from rescore.types import Estimate

__all__ = [
    "NORMALIZATIONS",
    "SET_SAMPLERS",
    "bernoulli",
    "exact_count",
    "mdlm_as_coded",
    "mdlm_as_printed",
    "pair",
    "pair_empty",
    "pair_full",
    "realised_ratio",
    "realised_ratio_unbiased",
    "usdm_as_printed",
]

# ------------------------------------------------------------------------------ set samplers


def bernoulli(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """Hide every token with probability t, weight 1 / t: unbiased, of infinite variance.

    Source: MDLM, arXiv:2406.07524, eq. 10.
    """
    return [HiddenSet(draw, u[draw] < t, 1 / t) for draw, t in enumerate(levels)]


def realised_ratio(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """Bernoulli sets with weight S / n: biased by S / (S + 1), because n = 0 adds 0.

    Source: the public code of arXiv:2604.14001.
    """
    size = u.shape[1]
    sets = []
    for draw, t in enumerate(levels):
        hidden = u[draw] < t
        sets.append(HiddenSet(draw, hidden, size / max(1, int(hidden.sum()))))
    return sets


def realised_ratio_unbiased(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """Bernoulli sets with weight (S + 1) / n, which makes up for the empty ones: unbiased."""
    size = u.shape[1]
    return [
        HiddenSet(draw, hidden, weight * (size + 1) / size)
        for draw, hidden, weight in realised_ratio(levels, u)
    ]


def pair(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """A set and its complement, n uniform over 1..S-1, weights S / (2 n) and S / (2 (S - n)).

    As published; biased, because n = S is never drawn. One token alone is hidden.
    """
    size = u.shape[1]
    if size == 1:
        return exact_count(levels, u)
    counts = 1 + np.minimum((levels * (size - 1)).astype(int), size - 2)
    sets = []
    for draw, count in enumerate(counts.tolist()):
        hidden = smallest(u[draw], count)
        sets.append(HiddenSet(draw, hidden, size / (2 * count)))
        sets.append(HiddenSet(draw, ~hidden, size / (2 * (size - count))))
    return sets


def pair_empty(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """A set and its complement, n uniform over 0..S, (S + 1) / 2 times each mean: unbiased.

    An empty side adds 0.
    """
    size = u.shape[1]
    counts = np.minimum((levels * (size + 1)).astype(int), size)
    sets = []
    for draw, count in enumerate(counts.tolist()):
        hidden = smallest(u[draw], count)
        if count > 0:
            sets.append(HiddenSet(draw, hidden, (size + 1) / (2 * count)))
        if count < size:
            sets.append(HiddenSet(draw, ~hidden, (size + 1) / (2 * (size - count))))
    return sets


def pair_full(levels: np.ndarray, u: np.ndarray) -> list[HiddenSet]:
    """(S - 1) / 2 times the mean of each side, n uniform over 1..S-1, plus g(S): unbiased.

    g(S), the all-hidden mean, is a term of every draw and evaluated once.
    """
    size = u.shape[1]
    if size == 1:
        return exact_count(levels, u)
    every_token = np.ones(size, dtype=bool)
    sets = [HiddenSet(EVERY_DRAW, every_token, 1 / size)]
    for draw, hidden, weight in pair(levels, u):
        sets.append(HiddenSet(draw, hidden, weight * (size - 1) / size))
    return sets


SET_SAMPLERS: dict[str, SetSampler] = {
    "exact_count": exact_count,
    "bernoulli": bernoulli,
    "realised_ratio": realised_ratio,
    "realised_ratio_unbiased": realised_ratio_unbiased,
    "pair": pair,
    "pair_empty": pair_empty,
    "pair_full": pair_full,
}

# ------------------------------------------------------------------------------ the paper's scores

#: Only `sequence_length` as coded estimates score / S, but for the bias of its sets.
NORMALIZATIONS = ("sequence_length", "sample_level", "global", "coupled")

#: The fixed noise level of the paper's formulas.
_PRINTED_T = 0.5


def mdlm_as_printed(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    normalization: str,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
) -> Estimate:
    """A score of a masked diffusion LM by the paper's formulas, the noise level fixed at t = 0.5.

    With M_k the hidden tokens of draw k, n_k their number and log p_j the hidden tokens'
    log-probabilities:

        sequence_length   mean_k (1/S) (1/t) sum_{j in M_k} log p_j, the weight is 1/t = 2
        sample_level      mean_k (1/n_k) sum_{j in M_k} log p_j, an empty set adding 0
        global            sum_k sum_{j in M_k} log p_j / sum_k n_k
        coupled           mean_k (1/S) (sum over M_k + sum over its complement)

    Raises ScoreError for an unknown normalisation, or if no draw hides a token.
    Exact check: tests/diffusion/test_published.py::test_scores_as_printed_are_the_formulas.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    levels = np.full(_at_least_one(draws), _PRINTED_T)
    sets = _paper_sets(sequence, bernoulli, levels, Draws(seed), normalization)
    divisors = _divisors(sequence, sets, normalization, draws)
    terms = []
    for (draw, hidden, weight), divisor in zip(sets, divisors, strict=True):
        factor = weight if normalization == "sequence_length" else 1.0
        terms.append(HiddenSet(draw, hidden, -factor / divisor))
    plan = plan_of_sets(sequence, terms, mask_id, draws=draws, strata=False, noise=_PRINTED_T)
    return estimate(denoiser, plan, read_token)


def mdlm_as_coded(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    normalization: str,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
    set_sampler: SetSampler = realised_ratio,
) -> Estimate:
    """A score of a masked diffusion LM as the paper's public code computes it, t drawn anew.

    With raw_k = (S / n_k) sum_{j in M_k} log p_j, and n_k / L what the network is told:

        sequence_length   mean_k raw_k / S
        sample_level      mean_k raw_k / n_k
        global            sum_k raw_k / sum_k n_k
        coupled           mean_k (raw(M_k) + raw(its complement)) / S

    Draws are independent. An empty set adds 0, as in the code. `std_error` takes the total count of
    `global` for a constant. Raises ScoreError for an unknown normalisation, or if no draw hides a
    token.
    Exact check: tests/diffusion/test_published.py::test_scores_as_coded_are_the_formulas.
    """
    mask_id = mask_symbol(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    random = Draws(seed)
    levels = random.levels(draws, strata=False)
    sets = _paper_sets(sequence, set_sampler, levels, random, normalization)
    divisors = _divisors(sequence, sets, normalization, draws)
    size = len(sequence.positions)
    terms = []
    for (draw, hidden, _), divisor in zip(sets, divisors, strict=True):
        count = max(1, int(hidden.sum()))  # an empty set adds 0 whatever its weight
        terms.append(HiddenSet(draw, hidden, -size / count / divisor))
    plan = plan_of_sets(sequence, terms, mask_id, draws=draws, strata=False)
    return estimate(denoiser, plan, read_token)


def usdm_as_printed(
    denoiser: Denoiser,
    tokens: Tokens,
    *,
    draws: int = 8,
    seed: int = 0,
    scored: np.ndarray | None = None,
) -> Estimate:
    """A score of a uniform-state LM by the paper's formula: its loss at t = 0.5, not integrated.

    -mean_k (1/S) sum_i loss_i(z_k, t), i over the scored tokens: per-token nats, <= 0. A posterior
    network is converted first.
    Exact check: tests/diffusion/test_published.py::test_usdm_as_printed_is_the_loss_at_one_half.
    """
    uniform.check_prediction(denoiser)
    sequence = scored_sequence(tokens, scored, vocab_size=denoiser.vocab_size)
    levels = np.full(_at_least_one(draws), _PRINTED_T)
    noisy = corrupt_uniform(
        sequence.tokens, levels, Draws(seed), denoiser.vocab_size, sequence.fixed
    )
    positions = sequence.positions
    clean = sequence.tokens[positions]
    queries = [Query(row, _PRINTED_T, positions, clean) for row in noisy]
    plan = Plan(queries, np.full(draws, -1 / len(positions)), np.arange(draws), draws)
    return estimate(denoiser, plan, uniform.read_loss(denoiser.prediction))


def _at_least_one(draws: int) -> int:
    if draws < 1:
        raise ScoreError(f"draws must be at least 1, got {draws}")
    return draws


def _paper_sets(
    sequence: ScoredSequence,
    set_sampler: SetSampler,
    levels: np.ndarray,
    random: Draws,
    normalization: str,
) -> list[HiddenSet]:
    """The hidden sets of all draws; with `coupled` each is followed by its complement."""
    if normalization not in NORMALIZATIONS:
        raise ScoreError(
            f"normalization {normalization!r} is unknown; known: {', '.join(NORMALIZATIONS)}"
        )
    u = random.tokens(len(sequence.tokens), len(levels), Stream.HIDE)[:, sequence.scored]
    sets = set_sampler(levels, u)
    if normalization == "coupled":
        couples = []
        for draw, hidden, weight in sets:
            couples += [HiddenSet(draw, hidden, weight), HiddenSet(draw, ~hidden, weight)]
        return couples
    if not any(hidden_set.hidden.any() for hidden_set in sets):
        raise ScoreError(f"none of {len(levels)} draws hides a token; take more draws")
    return sets


def _divisors(
    sequence: ScoredSequence, sets: list[HiddenSet], normalization: str, draws: int
) -> np.ndarray:
    """What each set's sum is divided by before draws are averaged, (sets,) float64."""
    counts = np.array([hidden_set.hidden.sum() for hidden_set in sets], dtype=float)
    if normalization == "sample_level":
        counts[counts == 0] = 1  # an empty set adds 0 whatever it is divided by
        return counts
    if normalization == "global":
        return np.full(len(sets), counts.sum() / draws)
    return np.full(len(sets), float(len(sequence.positions)))
