"""What is wrong with a name or an argument, in one line."""

from __future__ import annotations

from collections.abc import Iterable

from rescore.errors import ArgumentError, RescoreError

__all__ = ["close_to", "kind_of", "nearest", "refuse_unknown"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` most likely stands for; None where none is near.

    Near is an edit distance (insertions, deletions, substitutions, transpositions of neighbours;
    case does not count) of one in three characters, or a beginning of at least three characters.
    """
    from rapidfuzz.distance import OSA  # noqa: PLC0415 - only where a name is wrong

    folded = name.casefold()
    best, least = None, len(name) // 3 + 1
    for other in known:
        distance = OSA.distance(folded, other.casefold(), score_cutoff=least)
        if distance < least:
            best, least = other, distance
    if best is None and len(name) >= 3:
        return next((other for other in known if other.casefold().startswith(folded)), None)
    return best


def close_to(name: str, known: Iterable[str]) -> str:
    """`; did you mean "estimator"?` for a name that is near a known one, else nothing."""
    meant = nearest(name, list(known))
    return "" if meant is None else f'; did you mean "{meant}"?'


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
