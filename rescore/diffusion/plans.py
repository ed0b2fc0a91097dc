"""Estimators as data: which queries to ask, and with which weights to add their answers.

A plan is a linear estimator. The plans of many sequences are evaluated together
(`token_values`), so an estimator is a few lines of arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rescore.batching import Budget
from rescore.diffusion.queries import Query, evaluate_queries
from rescore.diffusion.readouts import Readout
from rescore.errors import ScoreError
from rescore.interfaces import Condition, Denoiser
from rescore.types import Estimate

__all__ = [
    "EVERY_DRAW",
    "Plan",
    "estimate",
    "estimates",
    "exact_plan",
    "std_error",
    "sums",
    "token_values",
]

#: The draw of a query that stands in every draw: a term that all draws share, evaluated once.
EVERY_DRAW = -1


@dataclass(frozen=True)
class Plan:
    """value = mean over draws of the sum of weight x (sum of token values) over a draw's queries.

    `weights` (Q,) float64; `draw` (Q,) int64 numbers the draw of each query, or is EVERY_DRAW.
    `strata`: draw k lies in the k-th stratum. `is_exact`: nothing is random, so the standard error
    is 0; a plan that is not exact may have a standard error of 0 too (one hidden set is possible).
    """

    queries: Sequence[Query]
    weights: np.ndarray
    draw: np.ndarray
    draws: int
    strata: bool = False
    is_exact: bool = False

    def conditioned(self, condition: Condition | None) -> Plan:
        """The same plan with every query conditioned on `condition`."""
        return replace(
            self, queries=[replace(query, condition=condition) for query in self.queries]
        )

    def combine(self, query_sums: np.ndarray) -> Estimate:
        """The estimate from each query's summed token values (Q,) float64.

        Raises ScoreError if the network returned NaN.
        """
        if np.isnan(query_sums).any():
            raise ScoreError("the network returned NaN; check the model and its dtype")
        terms = self.weights * query_sums
        in_every = self.draw == EVERY_DRAW
        per_draw = np.bincount(self.draw[~in_every], weights=terms[~in_every], minlength=self.draws)
        if in_every.any():
            per_draw = per_draw + terms[in_every].sum()
        value = float(per_draw.mean())
        if self.is_exact:
            return Estimate(value, 0.0, len(self.queries))
        return Estimate(
            value, std_error(per_draw, self.strata), len(self.queries), tuple(per_draw.tolist())
        )

    def shares(self, values: Sequence[np.ndarray], length: int) -> np.ndarray:
        """What each position adds to the value of `combine`, (length,) float64.

        `values`: the queries' token values. The shares sum to the value but for rounding. A
        position that no query reads adds 0.
        """
        totals = np.zeros(length)
        for query, weight, draw, tokens in zip(
            self.queries, self.weights, self.draw, values, strict=True
        ):
            repeats = self.draws if draw == EVERY_DRAW else 1
            totals[query.positions] += repeats * weight * tokens
        return totals / self.draws


def exact_plan(queries: Sequence[Query], weights: Sequence[float] | np.ndarray) -> Plan:
    """The plan of a value without randomness: the weighted sum of its queries."""
    return Plan(
        queries,
        np.asarray(weights, dtype=float),
        np.zeros(len(queries), dtype=np.int64),
        draws=1,
        is_exact=True,
    )


def std_error(per_draw: np.ndarray, strata: bool) -> float:
    """Standard error of the mean of draws; NaN for one draw.

    Independent draws: sd / sqrt(K). Strata: the collapsed-strata estimator (Cochran 1977, Sampling
    Techniques, 5A.12) over neighbours. It overstates the variance only by the squared difference of
    neighbouring means (about 3 % with 8 strata, where sd / sqrt(K) overstates it by 35 %).
    """
    count = len(per_draw)
    if count < 2:
        return math.nan
    if not np.isfinite(per_draw).all():
        return math.inf
    if not strata:
        return float(per_draw.std(ddof=1) / math.sqrt(count))
    starts = list(range(0, count - 1, 2))  # pairs; an odd count ends with three
    ends = [*starts[1:], count]
    variance = 0.0
    for start, end in zip(starts, ends, strict=True):
        variance += (end - start) * float(per_draw[start:end].var(ddof=1))
    return math.sqrt(variance) / count


def token_values(
    denoiser: Denoiser,
    plans: Sequence[Plan],
    readout: Readout,
    *,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[list[np.ndarray]]:
    """Evaluate the queries of all plans together.

    Returns for each plan the token values of its queries, (n,) float64 for n positions.
    """
    queries = [query for plan in plans for query in plan.queries]
    values = evaluate_queries(denoiser, queries, readout, budget=budget, device=device)
    values_by_plan, start = [], 0
    for plan in plans:
        end = start + len(plan.queries)
        values_by_plan.append(values[start:end])
        start = end
    return values_by_plan


def sums(values: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of each array (n > 0,), added up from its first number on, (Q,) float64."""
    return np.array([np.cumsum(numbers)[-1] for numbers in values], dtype=np.float64)


def estimates(
    denoiser: Denoiser,
    plans: Sequence[Plan],
    readout: Readout,
    *,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[Estimate]:
    """The estimate of each plan, evaluated together. Raises ScoreError as `Plan.combine`."""
    values_by_plan = token_values(denoiser, plans, readout, budget=budget, device=device)
    return [plan.combine(sums(values)) for plan, values in zip(plans, values_by_plan, strict=True)]


def estimate(denoiser: Denoiser, plan: Plan, readout: Readout) -> Estimate:
    """The estimate of one plan."""
    return estimates(denoiser, [plan], readout)[0]
