"""Results as bytes, for journal and cache: any frozen record with a codec of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeVar

import msgspec

from rescore.types import Score, ScoreKind

__all__ = ["Codec", "ScoreCodec"]

T = TypeVar("T")


class Codec(Protocol[T]):
    """Writes and reads one kind of result as a JSON text."""

    def encode(self, result: T) -> bytes:
        """The JSON text of a result."""

    def decode(self, data: bytes) -> T:
        """The result of a JSON text. Raises ValueError or RecursionError for anything else."""


class _StoredScore(msgspec.Struct, omit_defaults=True):
    """A Score without what all scores of a run share; NaN, an unknown standard error, is null."""

    values: tuple[float, ...]
    evaluations: int
    std_errors: tuple[float | None, ...] | None = None
    token_scores: tuple[tuple[tuple[str, float], ...], ...] | None = None


@dataclass(frozen=True)
class ScoreCodec:
    """Scores of one signature and kind."""

    signature: str
    kind: ScoreKind

    def encode(self, score: Score) -> bytes:
        """See Codec."""
        errors = score.std_errors
        if errors is not None:
            stored_errors = tuple(None if math.isnan(error) else float(error) for error in errors)
        stored = _StoredScore(
            values=tuple(map(float, score.values)),
            evaluations=score.evaluations,
            std_errors=None if errors is None else stored_errors,
            token_scores=score.token_scores,
        )
        return msgspec.json.encode(stored)

    def decode(self, data: bytes) -> Score:
        """See Codec."""
        stored = msgspec.json.decode(data, type=_StoredScore)
        for column in (stored.std_errors, stored.token_scores):
            if column is not None and len(column) != len(stored.values):
                raise ValueError("a score whose columns have different lengths")
        errors = stored.std_errors
        if errors is not None:
            errors = tuple(math.nan if error is None else error for error in errors)
        return Score(
            values=stored.values,
            signature=self.signature,
            kind=self.kind,
            evaluations=stored.evaluations,
            std_errors=errors,
            token_scores=stored.token_scores,
        )
