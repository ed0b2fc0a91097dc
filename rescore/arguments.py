"""What is wrong with the arguments of a Python call, in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from rescore.errors import ArgumentError, RescoreError

__all__ = ["close_to", "kind_of", "refuse_unknown"]


def close_to(name: str, known: Iterable[str]) -> str:
    """`; did you mean "estimator"?` for a name that is nearly a known one, else nothing."""
    [*matches] = get_close_matches(name, list(known), 1, 0.75)
    return f'; did you mean "{matches[0]}"?' if matches else ""


def refuse_unknown(
    names: Iterable[str],
    known: Iterable[str],
    what: str,
    error: type[RescoreError] = ArgumentError,
) -> None:
    """Raise an error for the first name that is not `known`: `what` is "option of tune", say."""
    expected = list(known)
    for name in names:
        if name not in expected:
            raise error(
                f"{what} {name!r} is unknown; known: {', '.join(expected) or 'none'}"
                f"{close_to(name, expected)}"
            )


def kind_of(value: object) -> str:
    """The type of an argument as messages name it: `a str ('dev.jsonl')`, `an NBest`."""
    name = type(value).__name__
    article = "an" if name[:1] in "AEIOaeio" or name == "NBest" else "a"
    quoted = f" ({value!r})" if isinstance(value, str | int | float) else ""
    return f"{article} {name}{quoted if len(quoted) < 60 else ''}"
