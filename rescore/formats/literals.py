"""Strings and lists of strings as Python prints them, matched by pattern.

Nothing is evaluated, and nothing nests.
"""

from __future__ import annotations

import ast
import re

from rescore.errors import FormatError

__all__ = ["STRING", "string_list", "string_value"]

_ESCAPE = r"\\(?:[\\'\"abfnrtv]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"

#: Pattern of one string literal on one line, with the escapes that `repr` writes.
STRING = rf"(?:'[^'\\\r\n]*(?:{_ESCAPE}[^'\\\r\n]*)*'|\"[^\"\\\r\n]*(?:{_ESCAPE}[^\"\\\r\n]*)*\")"
_ITEM = re.compile(rf"[ \t]*({STRING})[ \t]*(,|\Z)")


def string_value(token: str, at: str) -> str:
    """Return the string that a literal matching STRING stands for.

    Raises FormatError if an escape in it is not a character.
    """
    if "\\" not in token:
        return token[1:-1]
    try:
        text: str = ast.literal_eval(token)
        text.encode()
    except (SyntaxError, ValueError) as error:  # beyond U+10FFFF, a NUL, half of a surrogate pair
        raise FormatError(
            f"{at}: the string {token[:40]} holds an escape that is not a character; "
            "write the file again in UTF-8"
        ) from error
    return text


def string_list(literal: str, at: str) -> list[str]:
    """Return the strings of a list on one line: `['A', 'B']`. Raises FormatError otherwise."""
    inside = literal.strip(" \t")[1:-1].strip(" \t")
    if not (literal.startswith("[") and literal.endswith("]")):
        raise FormatError(f"{at} is {literal[:40]}, expected a list of strings as Python prints it")
    strings, position = [], 0
    while position < len(inside):
        item = _ITEM.match(inside, position)
        if item is None:
            raise FormatError(
                f"{at} is not a list of strings as Python prints it: expected a string at "
                f"{inside[position : position + 40]}"
            )
        strings.append(string_value(item[1], at))
        position = item.end()
    return strings
