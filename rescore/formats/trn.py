"""sclite's trn, 1-best without scores: one utterance a line, `words (id)`.

Written for `sclite -r ref.trn trn -h hyp.trn trn -i spu_id`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, one_of
from rescore.formats.files import PathLike, at_line, atomic_writer, text_lines
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["TRN", "parse_trn", "read", "write", "write_reference_trn", "write_trn"]

_LINE = re.compile(r"(.*)\(([^()]*)\)[ \t]*", re.DOTALL)
_ID = re.compile(r"[^\s()]+")


def read(path: PathLike, *, skipped: Skipped | None = None) -> Iterator[NBest]:
    """Yield a list of one hypothesis for each line, so that others' results can be evaluated.

    Blank lines are skipped. Raises FormatError naming the line for one without an id and for a
    repeated id; with `skipped`, counts such lines there and goes on.
    """
    lines = ((number, line) for number, line in text_lines(path) if line.strip())
    return convert_each(lines, _convert, at_line(path), skipped)


def parse_trn(line: str, where: str) -> tuple[str, str]:
    """Return id and words of a line. Raises FormatError if there is no id at its end."""
    match = _LINE.fullmatch(line)
    if match is None or not match[2].strip():
        raise FormatError(f"{where}: there is no id at the end of the line, expected words (id)")
    return match[2].strip(), match[1].strip()


def write(lists: Iterable[NBest], path: PathLike, *, what: str = "hyp") -> int:
    """Write first hypotheses (`what` is hyp) or references (ref) and return their number."""
    return write_reference_trn(lists, path) if what == "ref" else write_trn(lists, path)


def write_trn(lists: Iterable[NBest], path: PathLike) -> int:
    """Write the first hypothesis of every list, words joined by single spaces.

    Returns the number of lines. Raises FormatError if the file cannot be written, for a repeated
    id, and for white space or a parenthesis in an id, which trn cannot represent.
    """
    return _write(((nbest, nbest.hyps[0].text) for nbest in each_once(lists, "written")), path)


def write_reference_trn(lists: Iterable[NBest], path: PathLike) -> int:
    """Write the references as `write_trn` writes hypotheses.

    Raises FormatError also for a list without a reference.
    """
    return _write(((nbest, _reference(nbest)) for nbest in each_once(lists, "written")), path)


def _convert(line: str, where: str) -> NBest:
    utterance, text = parse_trn(line, where)
    return NBest(utterance, (Hypothesis(text),), where=where)


def _write(texts: Iterable[tuple[NBest, str]], path: PathLike) -> int:
    count = 0
    with atomic_writer(path) as output:
        for nbest, text in texts:
            if not _ID.fullmatch(nbest.id):
                raise FormatError(
                    f"{nbest.place()}: trn ids cannot hold white space or parentheses; "
                    "rename the utterance"
                )
            output.write(" ".join([*text.split(), f"({nbest.id})\n"]).encode())
            count += 1
    return count


def _reference(nbest: NBest) -> str:
    if nbest.ref is None:
        raise FormatError(f"{nbest.place()}: there is no reference to write")
    return nbest.ref


TRN = Format(
    "trn",
    read,
    write,
    help="sclite's trn: words (id), 1-best",
    write_options={
        "what": Option("hyp (default) or ref: references", one_of("hyp", "ref"), "hyp or ref")
    },
)
