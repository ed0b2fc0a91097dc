"""Many samplers at once: the one place where a decoder calls a network.

A sampler is a generator. It yields queries and is sent what the network says at their positions,
until it returns its result. The driver advances all samplers together, round by round, and a
sampler that has ended leaves the batch. What a sampler is sent does not depend on the others: a
query has the same answer in any company, to the rounding of the network's matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from typing import TypeAlias, TypeVar

import numpy as np

from rescore.batching import Budget
from rescore.diffusion.queries import Query, evaluate_queries
from rescore.diffusion.readouts import Readout, read_rows
from rescore.interfaces import Denoiser

__all__ = ["Sampler", "run_samplers"]

T = TypeVar("T")

#: Yields queries, is sent what was read of each, (positions, ...) float64, returns a result.
Sampler: TypeAlias = Generator[Sequence[Query], Sequence[np.ndarray], T]


def run_samplers(
    denoiser: Denoiser,
    samplers: Sequence[Sampler[T]],
    *,
    readout: Readout = read_rows,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[T]:
    """The result of every sampler, in their order.

    Equal queries of a round are evaluated once: samplers that differ in what they make of an answer
    (their scales) share its cost. Raises what `evaluate_queries` raises.
    Exact check: tests/decoding/test_driver.py::test_company_changes_nothing.
    """
    results: dict[int, T] = {}
    answers: dict[int, Sequence[np.ndarray] | None] = dict.fromkeys(range(len(samplers)))
    while answers:
        asked: dict[int, Sequence[Query]] = {}
        for number, answer in answers.items():
            sampler = samplers[number]
            try:
                asked[number] = next(sampler) if answer is None else sampler.send(answer)
            except StopIteration as end:
                results[number] = end.value
        queries = [query for of_one in asked.values() for query in of_one]
        values = iter(_evaluate_once(denoiser, queries, readout, budget, device))
        answers = {
            number: list(itertools.islice(values, len(of_one))) for number, of_one in asked.items()
        }
    return [results[number] for number in range(len(samplers))]


def _evaluate_once(
    denoiser: Denoiser,
    queries: Sequence[Query],
    readout: Readout,
    budget: Budget | None,
    device: str,
) -> list[np.ndarray]:
    """What is read of every query; equal ones get the same array, which nobody may change."""
    keys = [(query.pass_key, query.positions.tobytes()) for query in queries]
    unique = dict(zip(keys, queries, strict=True))
    values = evaluate_queries(
        denoiser, list(unique.values()), readout, budget=budget, device=device
    )
    value_of = dict(zip(unique, values, strict=True))
    return [value_of[key] for key in keys]
