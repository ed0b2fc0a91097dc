"""Words in columns: text for terminals of a given width, coloured by the caller.

Widths count columns of a terminal: a Chinese character takes two, a combining mark none.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Cell", "Paint", "blocks", "clipped", "padded", "plain", "printable", "width"]

#: Colours a text by its role, such as "substitution"; it must not change the text's width.
Paint: TypeAlias = Callable[[str, str], str]

_JOINERS = "\u200c\u200d"  # invisible, and part of the spelling in some scripts


class Cell(NamedTuple):
    """One entry of a row; `role` says how it is coloured."""

    text: str
    role: str = ""


def plain(text: str, _role: str) -> str:
    """The `Paint` without colours."""
    return text


def printable(text: str) -> str:
    """The text with control characters escaped: no list may steer a terminal."""
    return "".join(
        character
        if character.isprintable() or character in _JOINERS
        else character.encode("unicode_escape").decode()
        for character in text
    )


def width(text: str) -> int:
    """The columns that a printable text takes."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if character in _JOINERS or unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clipped(text: str, columns: int) -> str:
    """The text, cut to `columns` with an ellipsis where it is longer."""
    if width(text) <= columns:
        return text
    kept, used = "", 1  # the ellipsis
    for character in text:
        used += _columns(character)
        if used > columns:
            break
        kept += character
    return f"{kept}\u2026"


def padded(text: str, columns: int, *, to_right: bool = False) -> str:
    """The text with spaces behind it, or before it, up to `columns`."""
    spaces = " " * (columns - width(text))
    return spaces + text if to_right else text + spaces


def blocks(
    labels: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    paint: Paint = plain,
    columns: int = 80,
    to_right: bool = False,
) -> list[str]:
    """Lay rows of equally many cells out under each other, with their labels before them.

    Where they need more than `columns`, a block of all rows follows the other, with an empty line
    between them. Cells are two spaces apart where they stand `to_right` and one otherwise.
    """
    margin = max(map(width, labels))
    gap = 2 if to_right else 1
    room = columns - margin - gap
    table = [[Cell(clipped(printable(text), room), role) for text, role in row] for row in rows]
    widths = [max(width(text) for text, _ in column) for column in zip(*table, strict=True)]
    lines: list[str] = []
    for begin, end in _cuts(widths, room, gap):
        if lines:
            lines.append("")
        for label, row in zip(labels, table, strict=True):
            line = padded(label, margin)
            for (text, role), size in zip(row[begin:end], widths[begin:end], strict=True):
                spaces = " " * (size - width(text))
                painted = paint(text, role) if text else ""
                line += " " * gap + (spaces + painted if to_right else painted + spaces)
            lines.append(line.rstrip())
    return lines


def _cuts(widths: Sequence[int], room: int, gap: int) -> Iterator[tuple[int, int]]:
    """The columns of each block: as many as fit, at least one."""
    begin, used = 0, 0
    for end, size in enumerate(widths):
        if end > begin and used + size > room:
            yield begin, end
            begin, used = end, 0
        used += size + gap
    yield begin, len(widths)
