"""JSON as RFC 8259 has it, decoded by msgspec, and the words to say what is wrong with it and with the values inside.

Stricter than the standard library: NaN, Infinity, numbers too large for a float, lone surrogates and repeated names are errors.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

import msgspec

from rescore.errors import FormatError
from rescore.formats.files import not_utf8

__all__ = ["MISSING", "decode", "described", "encode", "field", "first_value", "number", "short"]

T = TypeVar("T")

#: What `described` and `number` are given for a field that is not there.
MISSING = object()
_HALF_A_PAIR = "it holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
_NOT_FINITE = "it holds NaN, Infinity or a number too large for a float, expected finite numbers"
_decode = msgspec.json.Decoder().decode


def decode(data: bytes, where: str, check: Callable[[Any], object] | None = None) -> Any:
    """Return the one JSON value in `data`; integers of any size and every float come out exact.

    `check` is called with data that only a lenient parser accepts (a NaN, say): it may raise a better error, one that names the field.
    Raises FormatError, starting with `where`, for anything that is not strict JSON in UTF-8.
    """
    try:
        value = _decode(data)
        if (
            data.count(b":") != _count_names(value)
        ):  # equal counts prove that no name is repeated; a colon in a text only costs the slow look
            _refuse_repeated_names(data, where)
    except RecursionError as error:
        raise FormatError(
            f"{where}: broken JSON: lists or objects are nested too deeply"
        ) from error
    except (
        msgspec.MsgspecError,
        ValueError,
    ) as error:  # bytes that are not UTF-8 raise a ValueError
        _explain(data, where, check, error)
    return value


def encode(value: object, where: str) -> bytes:
    """Return the value as JSON on one line. Raises FormatError for what JSON cannot hold; callers check that numbers are finite."""
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}: cannot be written as JSON: {error}") from error


def described(value: object) -> str:
    """Name a JSON value for an error message: `a string ("-3.1")`, `null`, `a list`."""
    if value is MISSING:
        return "missing"
    if isinstance(value, str):
        return f"a string ({short(json.dumps(value, ensure_ascii=False))})"
    if isinstance(value, bool):
        return f"a boolean ({str(value).lower()})"
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    if isinstance(value, int | float):
        return f"a number ({short(repr(value))})"
    return "null" if value is None else "a list" if isinstance(value, list) else "an object"


def short(text: str) -> str:
    """Return a text as error messages quote it: its first 40 characters."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def field(record: dict[str, Any], name: str, kind: type[T], at: str, expected: str) -> T:
    """Return a field that has to be there and of exactly this type. Raises FormatError saying what is there and what was `expected`."""
    value = record.get(name, MISSING)
    if type(value) is not kind:
        raise FormatError(f'{at}: "{name}" is {described(value)}, expected {expected}')
    return value


def number(value: object, at: str, what: str) -> float:
    """Return a finite number as a float. Raises FormatError for anything else: text, booleans, null, NaN, infinities, integers beyond floats."""
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int:
        with suppress(OverflowError):
            return float(value)
    raise FormatError(f"{at}: {what} is {described(value)}, expected a finite number")


def first_value(head: str, opening: str) -> Any:
    """Return the JSON value after the pattern `opening` at the start of a text, None if there is no whole one."""
    found = re.match(opening, head)
    try:
        return json.JSONDecoder().raw_decode(head, found.end())[0] if found else None
    except (ValueError, RecursionError):
        return None


def _count_names(value: object) -> int:
    """How many name-value pairs a decoded value has, at any depth."""
    count, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            count += len(item)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return count


def _refuse_repeated_names(data: bytes, where: str) -> None:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = dict(pairs)
        if len(names) < len(pairs):
            [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise FormatError(
                f"{where}: the name {short(json.dumps(twice))} stands twice in one object; "
                "keep one of them"
            )
        return names

    json.loads(data, object_pairs_hook=unique)


def _explain(
    data: bytes, where: str, check: Callable[[Any], object] | None, error: Exception
) -> NoReturn:
    """Say why msgspec refused the data: its own words are about bytes, and wrong for half a surrogate pair."""
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError as found:
        reason = not_utf8(found)
    except json.JSONDecodeError as found:
        reason = _syntax(found)
    except ValueError:
        reason = "broken JSON: it holds an integer of thousands of digits"
    else:
        if check is not None:
            check(value)
        reason = f"broken JSON: {_HALF_A_PAIR if _has_half_a_pair(value) else _NOT_FINITE}"
    raise FormatError(f"{where}: {reason}") from error


def _syntax(error: json.JSONDecodeError) -> str:
    at = (
        f"column {error.colno}"
        if "\n" not in error.doc
        else f"line {error.lineno}, column {error.colno}"
    )
    if not error.doc.strip():
        return "there is nothing in it, expected JSON"
    if error.msg == "Extra data":
        return f"more than one JSON value (the second starts at {at}), expected one"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return (
            f"broken JSON: it ends too early ({at}); was the file cut off, or a line broken in two?"
        )
    return f"broken JSON at {at}: {error.msg[:1].lower()}{error.msg[1:]}"


def _has_half_a_pair(value: object) -> bool:
    return any(
        "\ud800" <= character <= "\udfff" for character in json.dumps(value, ensure_ascii=False)
    )
