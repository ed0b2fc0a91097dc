"""References from their own files, and how they join the lists.

The suffix (before `.gz`) says the kind: `.trn` is sclite's `words (id)`, `.jsonl` has objects with `id` and `ref` or `text` (native lists and lhotse
supervisions too), anything else is Kaldi text, `id words`. Words are kept as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from rescore.errors import FormatError
from rescore.formats.files import PathLike, at_line, byte_lines, name_of, not_utf8
from rescore.formats.record import id_of
from rescore.formats.strict_json import decode, described, field
from rescore.types import NBest

__all__ = ["join_references", "read_references"]

_TRN = re.compile(r"(.*)\(([^()]*)\)[ \t]*")
_KALDI = re.compile(r"([^ \t]+)[ \t]*(.*)")


def read_references(path: PathLike) -> dict[str, str]:
    """Return id -> reference. A Kaldi line that is an id alone, and a trn line that is `(id)` alone, are empty references; blank lines hold nothing.

    Raises FormatError naming the line: no id, an id that was there before, not UTF-8, a JSON line without a text.
    """
    place, parse = at_line(path), _parser(path)
    references: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in byte_lines(path):
        if line.strip():
            utterance, text = parse(line, place(number))
            if utterance in lines:
                raise FormatError(f"{place(number)}: utterance {utterance}: this id was already at {place(lines[utterance])}; keep one of them")
            references[utterance], lines[utterance] = text, number
    return references


def join_references(lists: Iterable[NBest], references: Mapping[str, str]) -> Iterator[NBest]:
    """Yield each list with its reference from `references`, which replaces one that it had; references without a list are left aside.

    Raises FormatError naming the first list that has none.
    """
    for nbest in lists:
        if nbest.id not in references:
            raise FormatError(f"{nbest.place()}: there is no reference with this id; give the references of this very set")
        yield replace(nbest, ref=references[nbest.id])


def _parser(path: PathLike) -> Callable[[bytes, str], tuple[str, str]]:
    name = name_of(path).removesuffix(".gz")
    return _json_line if name.endswith(".jsonl") else _trn_line if name.endswith(".trn") else _kaldi_line


def _json_line(line: bytes, where: str) -> tuple[str, str]:
    record = decode(line, where)
    if not isinstance(record, dict):
        raise FormatError(f'{where}: the line is {described(record)}, expected an object {{"id": ..., "ref": ...}}')
    utterance = id_of(record, where)
    return utterance, field(record, "text" if "text" in record and "ref" not in record else "ref", str, f"{where}: utterance {utterance}", "a string")


def _trn_line(line: bytes, where: str) -> tuple[str, str]:
    found = _TRN.fullmatch(_text(line, where))
    if found is None or not found[2].strip():
        raise FormatError(f"{where}: there is no id at the end of the line, expected words (id)")
    return found[2].strip(), found[1].strip()


def _kaldi_line(line: bytes, where: str) -> tuple[str, str]:
    found = _KALDI.fullmatch(_text(line, where))
    if found is None:
        raise FormatError(f"{where}: the line begins with a space, expected an id and then the words")
    return found[1], found[2].strip()


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: {not_utf8(error)}") from error
