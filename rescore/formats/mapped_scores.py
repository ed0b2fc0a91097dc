"""Paths into records, and the scores of `mapped-jsonl`: `ours:[-][log10:]path[*count[+n]]`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, TypeAlias

from rescore.errors import FormatError
from rescore.formats.strict_json import MISSING, described, number

__all__ = ["MappedScore", "Path", "at_path", "parse_score", "parts", "value_of"]

#: The parts of a path: `asr.nbest` leads from an object to a list in it.
Path: TypeAlias = tuple[str, ...]

_SCORE = re.compile(
    r"(?P<name>[^:,\s]+):(?P<sign>-?)(?P<log10>(?:log10:)?)(?P<path>[^:*,\s]+)"
    r"(?:\*(?P<count>[^:*+,\s]+)(?:\+(?P<more>[0-9]{1,3}))?)?"
)
_MEANS = {"avg_logprob", "avg_log_prob", "avg_logprobs"}
_INDEX = re.compile("[0-9]{1,18}")
_MOST_TOKENS = 10**9


@dataclass(frozen=True)
class MappedScore:
    """How one score is read: value * factor * (count + more)."""

    name: str
    path: Path
    factor: float
    count: Path  #: path of the number of tokens; empty: the value is a sum
    more: int
    is_column: bool  #: the path leads to a list of the record, one number a hypothesis


def parse_score(spec: str, name: str) -> MappedScore:
    """Parse the specification of one score. Raises FormatError, beginning with `name`."""
    match = _SCORE.fullmatch(spec if ":" in spec else f"{spec}:{spec}")
    if match is None:
        raise FormatError(
            f'{name}: scores has "{spec}", expected ours:[-][log10:]path[*count[+n]], '
            "as in lm:-log10:lm_cost or am:avg_logprob*tokens+1"
        )
    if (
        match["path"].rpartition(".")[2] in _MEANS
        and not match["count"]
        and not match["name"].endswith("_per_token")
    ):
        raise FormatError(
            f'{name}: scores has "{spec}": {match["path"]} is a mean over tokens; '
            f"give its count ({spec}*tokens+1) or call it {match['name']}_per_token"
        )
    sign = -1.0 if match["sign"] else 1.0
    factor = sign * (math.log(10) if match["log10"] else 1.0)
    is_column = match["path"].startswith(".")
    return MappedScore(
        match["name"],
        parts(match["path"].removeprefix(".")),
        factor,
        parts(match["count"] or ""),
        int(match["more"] or 0),
        is_column,
    )


def value_of(value: Any, item: dict[str, Any], score: MappedScore, at: str) -> float:
    """The score of a hypothesis `item` whose field is `value`. Raises FormatError."""
    what = f'"{".".join(score.path)}"'
    count = _count(item, score, at) if score.count else 1
    product = number(value, at, what) * score.factor * count
    if not math.isfinite(product):
        raise FormatError(f'{at}: score "{score.name}" is infinite, expected a finite number')
    return product


def _count(item: dict[str, Any], score: MappedScore, at: str) -> int:
    value = at_path(item, score.count)
    count = len(value) if isinstance(value, list) else value
    if type(count) is not int or not 1 <= count + score.more <= _MOST_TOKENS:
        raise FormatError(
            f'{at}: the count of tokens, "{".".join(score.count)}", is {described(value)}, '
            "expected a number or a list of at least one token"
        )
    return count + score.more


def parts(path: str) -> Path:
    """The parts of a path; none of an empty one."""
    return tuple(path.split(".")) if path else ()


def at_path(value: Any, path: Path) -> Any:
    """The value at a path, MISSING if it leads nowhere."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value
