"""References from their own files, and how they join the lists.

The suffix (before `.gz`) says the kind of file:

- `.trn`: sclite's `words (id)`.
- `.csv`, `.tsv`: a header with `id` and `ref`, `reference`, `text` or `transcript`.
- `.jsonl`: objects with `id` and `ref` or `text` (native lists; lhotse supervisions, whose
  `custom.ref_text` takes precedence), or lhotse cuts.
- anything else: Kaldi text, `id words`.

Words are kept as they are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from rescore.errors import FormatError
from rescore.formats.files import PathLike, at_line, byte_lines, name_of, not_utf8
from rescore.formats.lhotse_manifest import REFERENCE_IDS, is_cut, reference_field, supervisions_of
from rescore.formats.record import id_of
from rescore.formats.shapes import table_rows
from rescore.formats.strict_json import MISSING, decode, described, field, number
from rescore.formats.trn import parse_trn
from rescore.types import NBest

__all__ = ["REFERENCE_IDS", "join_references", "read_references"]

#: The columns of a table that may hold a reference, the first of them that is there.
_TEXT_COLUMNS = ("ref", "reference", "text", "transcript")
_DELIMITERS = {"csv": ",", "tsv": "\t"}

_KALDI = re.compile(r"([^ \t]+)[ \t]*(.*)")


@dataclass(frozen=True)
class _Piece:
    """A reference, or one of several that make it; `start` (seconds) orders them."""

    utterance: str
    text: str
    where: str
    start: float = 0.0


def read_references(path: PathLike, *, ids: str = "id") -> dict[str, str]:
    """Return id -> reference.

    A Kaldi line that is only an id, and a trn line that is only `(id)`, are empty references; blank
    lines are skipped. `ids` says which id names a line of lhotse: "id", its own (a cut joins the
    texts of its supervisions in the order of time); "supervision", that of every supervision of a
    cut; or "recording" (all supervisions of a recording in the file are joined in the order of
    time). A cut without supervisions has no reference.

    Raises FormatError naming the line: no id, a repeated id, not UTF-8, a JSON line without a text.
    """
    if ids not in REFERENCE_IDS:
        raise FormatError(
            f'{name_of(path)}: ids is "{ids}", expected one of {", ".join(REFERENCE_IDS)}'
        )
    pieces = list(_pieces(path, ids))
    if ids == "recording":
        pieces = _joined(sorted(pieces, key=attrgetter("utterance")))
    references: dict[str, str] = {}
    places: dict[str, str] = {}
    for piece in pieces:
        if piece.utterance in places:
            raise FormatError(
                f"{piece.where}: utterance {piece.utterance}: this id was already at "
                f"{places[piece.utterance]}; keep one of them"
            )
        references[piece.utterance], places[piece.utterance] = piece.text, piece.where
    return references


def _pieces(path: PathLike, ids: str) -> Iterator[_Piece]:
    place, suffix = at_line(path), name_of(path).removesuffix(".gz").rpartition(".")[2]
    if suffix in _DELIMITERS and ids == "id":
        for line_number, row in table_rows(path, _DELIMITERS[suffix]):
            yield _row(row, place(line_number))
        return
    parse = _parser(path, ids)
    for line_number, line in byte_lines(path):
        if line.strip():
            yield from parse(line, place(line_number))


def _row(row: dict[str, str], where: str) -> _Piece:
    """The reference of one line of a table."""
    names = [name for name in _TEXT_COLUMNS if name in row]
    if "id" not in row or not names:
        raise FormatError(
            f"{where}: the columns are {', '.join(row)}, expected id and one of"
            f" {', '.join(_TEXT_COLUMNS)}; rename them in the header"
        )
    return _Piece(id_of({"id": row["id"].strip()}, where), row[names[0]].strip(), where)


def join_references(lists: Iterable[NBest], references: Mapping[str, str]) -> Iterator[NBest]:
    """Yield each list with its reference, which replaces one that the list had.

    References without a list are ignored. Raises FormatError naming the first list without a
    reference.
    """
    for nbest in lists:
        if nbest.id not in references:
            raise FormatError(
                f"{nbest.place()}: there is no reference with this id; "
                "give the references of this very set"
            )
        yield replace(nbest, ref=references[nbest.id])


def _joined(pieces: Iterable[_Piece]) -> list[_Piece]:
    """One piece for each run of pieces with one id: their texts in the order of time."""
    joined = []
    for utterance, group in groupby(pieces, key=attrgetter("utterance")):
        parts = sorted(group, key=attrgetter("start"))
        text = parts[0].text
        if len(parts) > 1:
            text = " ".join(part.text.strip() for part in parts if part.text.strip())
        joined.append(_Piece(utterance, text, parts[0].where))
    return joined


def _parser(path: PathLike, ids: str) -> Callable[[bytes, str], list[_Piece]]:
    name = name_of(path).removesuffix(".gz")
    if name.endswith(".jsonl"):
        return partial(_json_line, ids=ids)
    if ids != "id":
        raise FormatError(f'{name_of(path)}: ids is "{ids}", which needs a .jsonl file of lhotse')
    return _trn_line if name.endswith(".trn") else _kaldi_line


def _json_line(line: bytes, where: str, ids: str) -> list[_Piece]:
    record = decode(line, where)
    if not isinstance(record, dict):
        raise FormatError(
            f'{where}: the line is {described(record)}, expected an object {{"id": ..., '
            f'"ref": ...}}'
        )
    utterance = id_of(record, where)
    at = f"{where}: utterance {utterance}"
    if "ref" not in record and is_cut(record):
        if ids == "recording":
            raise FormatError(
                f"{at}: a cut has no place in its recording for its texts; give the supervision set"
            )
        pieces = [
            _supervision(supervision, start, where, f"{at}: supervision", "id")
            for supervision, start in supervisions_of(record, at)
        ]
        if ids == "supervision":
            return pieces
        return _joined([replace(piece, utterance=utterance) for piece in pieces])
    if ids == "recording":
        return [_supervision(record, 0.0, where, at, "recording_id")]
    source, name = (record, "ref") if "ref" in record else reference_field(record)
    return [
        _Piece(
            utterance, field(source, name if name in source else "ref", str, at, "a string"), where
        )
    ]


def _supervision(record: dict[str, Any], start: float, where: str, at: str, key: str) -> _Piece:
    source, name = reference_field(record)
    text = field(source, name, str, at, "a string")
    return _Piece(
        field(record, key, str, at, "a string"),
        text,
        where,
        start + number(record.get("start", MISSING), at, '"start"'),
    )


def _trn_line(line: bytes, where: str) -> list[_Piece]:
    return [_Piece(*parse_trn(_text(line, where), where), where)]


def _kaldi_line(line: bytes, where: str) -> list[_Piece]:
    match = _KALDI.fullmatch(_text(line, where))
    if match is None:
        raise FormatError(
            f"{where}: the line begins with a space, expected an id and then the words"
        )
    return [_Piece(match[1], match[2].strip(), where)]


def _text(line: bytes, where: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{where}: {not_utf8(error)}") from error
