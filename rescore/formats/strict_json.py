"""JSON exactly as in RFC 8259, decoded by msgspec, and messages about what is wrong in it.

Stricter than the standard library: NaN, Infinity, numbers too large for a float, lone surrogates
and repeated names are errors.
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

#: Stands for a field that is not there, in `described` and `number`.
MISSING = object()
_HALF_A_PAIR = "it holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character"
_NOT_FINITE = "it holds NaN, Infinity or a number too large for a float, expected finite numbers"
_decode = msgspec.json.Decoder().decode


def decode(data: bytes, where: str, check: Callable[[Any], object] | None = None) -> Any:
    """Return the one JSON value in `data`; floats, and integers up to 4,300 digits, come out exact.

    If only a lenient parser accepts the data (say, a NaN in it), `check` is called with the
    value first: it may raise a better error, one that names the field.
    Raises FormatError, starting with `where`, for anything but strict JSON in UTF-8.
    """
    try:
        return _decoded(data, where, check)
    except RecursionError as error:  # from the decoder, from what explains it, or from `check`
        raise FormatError(
            f"{where}: broken JSON: lists or objects are nested too deeply"
        ) from error
    except MemoryError as error:
        raise FormatError(
            f"{where}: needs more memory than there is; split it into smaller files"
        ) from error


def _decoded(data: bytes, where: str, check: Callable[[Any], object] | None) -> Any:
    try:
        value = _decode(data)
        # Equal counts prove that no name is repeated; a colon in a text only costs a slower look.
        if data.count(b":") != _count_names(value):
            _refuse_repeated_names(data, where)
    except (msgspec.MsgspecError, ValueError) as error:  # ValueError: bytes that are not UTF-8
        _explain(data, where, check, error)
    return value


def encode(value: object, where: str) -> bytes:
    """Return the value as JSON on one line; callers check that numbers are finite.

    Raises FormatError for what JSON cannot hold.
    """
    try:
        return msgspec.json.encode(value)
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise FormatError(f"{where}: cannot be written as JSON: {error}") from error


def described(value: object) -> str:
    """Name a JSON value in a message: `a string ("-3.1")`, `null`, `a list`."""
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
    return {type(None): "null", list: "a list"}.get(type(value), "an object")


def short(text: str) -> str:
    """Return a text as messages quote it: its first 40 characters."""
    return text if len(text) <= 40 else f"{text[:40]}..."


def field(record: dict[str, Any], name: str, kind: type[T], at: str, expected: str) -> T:
    """Return a required field of exactly this type.

    Raises FormatError that says what stands there and what was `expected`.
    """
    value = record.get(name, MISSING)
    if type(value) is not kind:
        raise FormatError(f'{at}: "{name}" is {described(value)}, expected {expected}')
    return value


def number(value: object, at: str, what: str) -> float:
    """Return a finite number as a float.

    Raises FormatError for anything else: texts, booleans, null, NaN, infinities, and integers
    beyond the range of floats.
    """
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int:
        with suppress(OverflowError):
            return float(value)
    raise FormatError(f"{at}: {what} is {described(value)}, expected a finite number")


def first_value(head: str, opening: str) -> Any:
    """Return the JSON value that follows the pattern `opening` at the start of a text.

    None if there is no complete one.
    """
    start = re.match(opening, head)
    if start is None:
        return None
    try:
        return json.JSONDecoder().raw_decode(head, start.end())[0]
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
            [(repeated, _)] = Counter(name for name, _ in pairs).most_common(1)
            raise FormatError(
                f"{where}: the name {short(json.dumps(repeated))} stands twice in one object; "
                "keep one of them"
            )
        return names

    json.loads(data, object_pairs_hook=unique)


def _explain(
    data: bytes, where: str, check: Callable[[Any], object] | None, error: Exception
) -> NoReturn:
    """Say why msgspec refused the data.

    Its own messages speak of bytes, and are wrong for half of a surrogate pair.
    """
    try:
        value = json.loads(data.decode())
    except UnicodeDecodeError as problem:
        reason = not_utf8(problem)
    except json.JSONDecodeError as problem:
        reason = _syntax(problem)
    except ValueError:
        reason = "broken JSON: it holds an integer of thousands of digits"
    else:
        if check is not None:
            check(value)
        reason = f"broken JSON: {_HALF_A_PAIR if _has_half_a_pair(value) else _NOT_FINITE}"
    raise FormatError(f"{where}: {reason}") from error


def _syntax(error: json.JSONDecodeError) -> str:
    at = f"column {error.colno}"
    if "\n" in error.doc:
        at = f"line {error.lineno}, {at}"
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
