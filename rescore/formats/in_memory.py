"""Lists that are made in Python: dictionaries and tuples where an NBest is wanted."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias, Union

from rescore.arguments import kind_of
from rescore.errors import ArgumentError, FormatError
from rescore.formats.record import from_dict
from rescore.types import Hypothesis, NBest

__all__ = ["HypothesisLike", "ListLike", "as_lists", "nbest"]

#: A hypothesis: a text, (text, {score: nats}), or the object that the native format has.
HypothesisLike: TypeAlias = Union[  # noqa: UP007 - evaluated by Python 3.10, which quotes names
    Hypothesis, str, tuple[str, Mapping[str, float]], Mapping[str, Any]
]

#: A list: an NBest, the object that the native format has, or (id, hypotheses[, reference]).
ListLike: TypeAlias = Union[  # noqa: UP007
    NBest,
    Mapping[str, Any],
    tuple[str, Sequence[HypothesisLike]],
    tuple[str, Sequence[HypothesisLike], Union[str, None]],  # noqa: UP007
]

_EXPECTED = 'an NBest, a dictionary {"id": ..., "hyps": [...]} or a tuple (id, hypotheses)'


def nbest(id: str, hyps: Iterable[HypothesisLike], *, ref: str | None = None) -> NBest:
    """A list of hypotheses, best first.

    A hypothesis is a text, a text with its scores (nats, summed, higher is better), or the object
    of the native format:

        nbest("u1", ["go do you here", "go do you hear"])
        nbest("u1", [("go do you here", {"am": -213.4})], ref="go do you hear")

    Raises ArgumentError for another type, FormatError for an empty id or list, and for a score
    that is not finite.
    """
    if not isinstance(id, str):
        raise ArgumentError(f"nbest: the id is {kind_of(id)}, expected a string")
    if not id.strip():
        raise FormatError("nbest: the id is empty, expected a string that names the utterance")
    at = f"utterance {id}"
    if isinstance(hyps, str | bytes | Mapping) or not isinstance(hyps, Iterable):
        raise ArgumentError(f"{at}: the hypotheses are {kind_of(hyps)}, expected a list of them")
    if ref is not None and not isinstance(ref, str):
        raise ArgumentError(f"{at}: the reference is {kind_of(ref)}, expected a string or None")
    made = tuple(_hypothesis(hyp, f"{at}, hypothesis {i}") for i, hyp in enumerate(hyps, 1))
    if not made:
        raise FormatError(f"{at}: there is no hypothesis, expected at least one")
    return NBest(id, made, ref)


def as_lists(lists: Iterable[ListLike], function: str) -> Iterator[NBest]:
    """The lists as NBest, as they come; `function` is named where they cannot be.

    Raises ArgumentError at once for what does not hold lists, later for an item that is none.
    """
    if isinstance(lists, str | os.PathLike):
        path = os.fspath(lists)
        raise ArgumentError(
            f"{function} takes lists, got {kind_of(path)}; read them: rescore.read({path!r})"
        )
    if isinstance(lists, NBest | Mapping):
        raise ArgumentError(f"{function} takes many lists, got one; put it in brackets: [list]")
    if not isinstance(lists, Iterable):
        raise ArgumentError(f"{function} takes lists, got {kind_of(lists)}, expected an iterable")
    return (_as_nbest(item, number, function) for number, item in enumerate(lists, 1))


def _as_nbest(item: ListLike, number: int, function: str) -> NBest:
    if isinstance(item, NBest):
        return item
    if isinstance(item, Mapping):
        return from_dict(dict(item), f"{function}: list {number}")
    if isinstance(item, tuple) and len(item) in (2, 3):
        return nbest(item[0], item[1], ref=item[2] if len(item) == 3 else None)
    raise ArgumentError(f"{function}: list {number} is {kind_of(item)}, expected {_EXPECTED}")


def _hypothesis(item: HypothesisLike, at: str) -> Hypothesis:
    if isinstance(item, Hypothesis):
        return item
    if isinstance(item, Mapping):
        [made] = from_dict({"id": "-", "hyps": [dict(item)]}, at).hyps
        return made
    text, scores = (item, {}) if isinstance(item, str) else _pair(item, at)
    return Hypothesis(text, {name: _number(value, name, at) for name, value in scores.items()})


def _pair(item: object, at: str) -> tuple[str, Mapping[str, float]]:
    if isinstance(item, tuple | list) and len(item) == 2:
        text, scores = item
        if isinstance(text, str) and isinstance(scores, Mapping):
            return text, scores
    raise ArgumentError(
        f'{at} is {kind_of(item)}, expected a text or a pair (text, {{"am": -3.0}})'
    )


def _number(value: object, name: str, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ArgumentError(f'{at}: score "{name}" is {kind_of(value)}, expected a number')
    if not math.isfinite(value):
        raise FormatError(f'{at}: score "{name}" is {value}, expected a finite number')
    return float(value)
