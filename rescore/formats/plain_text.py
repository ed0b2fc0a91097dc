"""Plain texts, one a line: what `score --from text` reads. Each is a list of one hypothesis.

Every line counts, an empty one too, so that line n of the input is list n of the output.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rescore.errors import FormatError
from rescore.formats.base import Format, Skipped, convert_each
from rescore.formats.files import PathLike, at_line, atomic_writer, stem_of, text_lines
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["TEXT", "read", "write"]


def read(path: PathLike, *, skipped: Skipped | None = None) -> Iterator[NBest]:
    """Yield a list for each line; ids are made of the file's stem and the line: `stdin-000012`.

    Raises FormatError naming a line that is not UTF-8.
    """
    stem = stem_of(path)

    def convert(numbered: tuple[int, str], where: str) -> NBest:
        number, text = numbered
        return NBest(f"{stem}-{number:06d}", (Hypothesis(text),), where=where)

    lines = ((number, (number, text)) for number, text in text_lines(path))
    return convert_each(lines, convert, at_line(path), skipped)


def write(lists: Iterable[NBest], path: PathLike) -> int:
    """Write the text of every first hypothesis as a line and return their number.

    Raises FormatError if the file cannot be written, a text holds a line break, or an id comes
    again.
    """
    count = 0
    with atomic_writer(path) as output:
        for nbest in each_once(lists, "written"):
            text = nbest.hyps[0].text
            if re.search(r"\n|\r\Z", text) or (count == 0 and text.startswith("\ufeff")):
                raise FormatError(
                    f"{nbest.place(0)}: the text holds a line break or a byte order mark, which a "
                    "line cannot; take it out"
                )
            output.write(f"{text}\n".encode())
            count += 1
    return count


TEXT = Format("text", read, write, help="plain texts, one a line: lists of one hypothesis")
