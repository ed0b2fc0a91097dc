"""Many samplers at once: the one place where a decoder calls a network.

A sampler is a generator. It yields queries and is sent what the network says at their positions,
until it returns its result: whole rows of log-probabilities, or, where a query names its clean
tokens, one number a token. The driver advances all samplers together, round by round, and a sampler
that has ended leaves the batch. What a sampler is sent does not depend on the others: a query has
the same answer in any company, to the rounding of the network's matrix products.

Samplers are made of samplers: `together` is one that advances several, `counted` one that counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from rescore.batching import Budget
from rescore.diffusion.queries import Query, evaluate_queries
from rescore.diffusion.readouts import Readout, read_rows, read_token
from rescore.interfaces import Denoiser

__all__ = ["Counted", "Sampler", "counted", "run_samplers", "together"]

T = TypeVar("T")

#: Yields queries, is sent what was read of each, (positions, ...) float64, returns a result.
Sampler: TypeAlias = Generator[Sequence[Query], Sequence[np.ndarray], T]


@dataclass(frozen=True)
class Counted(Generic[T]):
    """A result, and how many network evaluations the sampler alone would cost."""

    result: T
    evaluations: int


def run_samplers(
    denoiser: Denoiser,
    samplers: Sequence[Sampler[T]],
    *,
    read_clean: Readout = read_token,
    budget: Budget | None = None,
    device: str = "cpu",
) -> list[T]:
    """The result of every sampler, in their order.

    Equal queries of a round are evaluated once: samplers that differ in what they make of an answer
    (their scales) share its cost. `read_clean` reads queries that name their clean tokens. Raises
    what `evaluate_queries` raises.
    Exact check: tests/decoding/test_driver.py::test_company_changes_nothing.
    """
    every = together(samplers)
    try:
        queries = next(every)
        while True:
            rows = [query for query in queries if query.clean is None]
            tokens = [query for query in queries if query.clean is not None]
            of_rows = iter(_evaluate_once(denoiser, rows, read_rows, budget, device))
            of_tokens = iter(_evaluate_once(denoiser, tokens, read_clean, budget, device))
            queries = every.send(
                [next(of_rows if query.clean is None else of_tokens) for query in queries]
            )
    except StopIteration as end:
        results: list[T] = end.value
        return results


def together(samplers: Sequence[Sampler[T]]) -> Sampler[list[T]]:
    """One sampler that advances several, round by round; returns their results in order."""
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
        if not asked:
            break
        values = iter((yield [query for of_one in asked.values() for query in of_one]))
        answers = {
            number: list(itertools.islice(values, len(of_one))) for number, of_one in asked.items()
        }
    return [results[number] for number in range(len(samplers))]


def counted(sampler: Sampler[T]) -> Sampler[Counted[T]]:
    """The sampler with the number of its evaluations; equal queries of a round count once."""
    evaluations = 0
    answer: Sequence[np.ndarray] | None = None
    while True:
        try:
            queries = next(sampler) if answer is None else sampler.send(answer)
        except StopIteration as end:
            return Counted(end.value, evaluations)
        evaluations += len({query.pass_key for query in queries})
        answer = yield queries


def _evaluate_once(
    denoiser: Denoiser,
    queries: Sequence[Query],
    readout: Readout,
    budget: Budget | None,
    device: str,
) -> list[np.ndarray]:
    """What is read of every query; equal ones get the same array, which nobody may change."""
    keys = [(query.pass_key, query.positions.tobytes(), _clean_key(query)) for query in queries]
    unique = dict(zip(keys, queries, strict=True))
    values = evaluate_queries(
        denoiser, list(unique.values()), readout, budget=budget, device=device
    )
    value_of = dict(zip(unique, values, strict=True))
    return [value_of[key] for key in keys]


def _clean_key(query: Query) -> bytes:
    return b"" if query.clean is None else query.clean.tobytes()
