"""How files hold the records that `mapped-jsonl` maps: lines, an array, a map, a table.

    lines   {"id": "u1", "nbest": [...]}                  a JSON object a line
    array   [{"id": "u1", "nbest": [...]}, ...]           one JSON array
    map     {"u1": {"nbest": [...]}, "u2": ["a", "b"]}    one JSON object: id -> fields, or texts
    csv     id,text,score                                 a header, then a line a hypothesis
    tsv     the same with tabs

A guess of the shape goes into the message about a file whose format is not known. It is never
acted on: the user confirms it by an option.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Literal, get_args

from rescore.errors import FormatError
from rescore.formats.files import PathLike, at_line, byte_lines, name_of, read_bytes, text_lines
from rescore.formats.strict_json import decode, described, first_value

__all__ = ["SHAPES", "Shape", "guess", "records", "table_rows"]

Shape = Literal["lines", "array", "map", "csv", "tsv"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

#: A record, and the function that names it for a message by its number.
Records = tuple[Iterator[tuple[int, Any]], Callable[[int], str]]

#: How other tools call ids and texts, for the guess.
_IDS = ("id", "utt", "utterance", "audio_filepath", "file", "key")
_TEXTS = ("text", "transcript", "hypothesis", "sentence")


def records(path: PathLike, shape: Shape, id_field: str, hyps_field: Sequence[str]) -> Records:
    """(number, record) of every record of a file, and how messages name it.

    A record is an undecoded line of `lines`, a value of an `array`, the rows with one id of a
    table, wherever they stand (each row, if `id_field` is empty). In a `map`, the key becomes the
    field `id_field`, and a value that is no object the field `hyps_field` (its first part).
    Raises FormatError for a file of another shape.
    """
    name = name_of(path)
    if shape == "lines":
        return ((n, line) for n, line in byte_lines(path) if line.strip()), at_line(path)
    if shape in ("csv", "tsv"):
        return _table(path, shape, id_field), at_line(path)
    value = decode(read_bytes(path), name)
    if not isinstance(value, list if shape == "array" else dict):
        raise FormatError(
            f"{name}: the file is {described(value)}, expected the shape {shape}; choose another"
            f" with -O shape={'|'.join(SHAPES)}"
        )
    items = value if isinstance(value, list) else _of_map(value, id_field, *hyps_field)
    return iter(enumerate(items, 1)), lambda number: f"{name}: item {number}"


def _of_map(value: dict[str, Any], id_field: str, hyps_field: str) -> list[dict[str, Any]]:
    return [
        {id_field: key, **item} if isinstance(item, dict) else {id_field: key, hyps_field: item}
        for key, item in value.items()
    ]


def table_rows(path: PathLike, delimiter: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a table with a header; blank lines are skipped.

    CSV has quotes (RFC 4180, without line breaks inside them), TSV has none. Raises FormatError for
    a header with a repeated name, or a line with more or fewer fields.
    """
    place = at_line(path)
    header: list[str] | None = None
    for number, line in text_lines(path):
        if not line.strip():
            continue
        fields = _fields(line, delimiter, place(number))
        if header is None:
            header = [field.strip() for field in fields]
            if len(set(header)) < len(header):
                raise FormatError(f"{place(number)}: a name stands twice in the header")
        elif len(fields) != len(header):
            raise FormatError(
                f"{place(number)}: has {len(fields)} fields, expected the {len(header)} of the"
                " header"
            )
        else:
            yield number, dict(zip(header, fields, strict=True))
    if header is None:
        raise FormatError(f"{name_of(path)}: there is nothing in it, expected a header")


def _fields(line: str, delimiter: str, at: str) -> list[str]:
    if delimiter == "\t":
        return line.split("\t")
    try:
        [fields] = csv.reader([line], strict=True)
    except (csv.Error, ValueError) as error:
        raise FormatError(
            f"{at}: not a line of CSV ({error}); a field with a comma or a quote stands in quotes"
        ) from error
    return fields


def _table(path: PathLike, shape: Shape, id_field: str) -> Iterator[tuple[int, Any]]:
    grouped: dict[str, tuple[int, list[dict[str, str]]]] = {}
    for number, row in table_rows(path, "\t" if shape == "tsv" else ","):
        if id_field and id_field not in row:
            raise FormatError(
                f'{name_of(path)}: there is no column "{id_field}" for the ids, it has'
                f" {', '.join(row)}; name it with -O id=COLUMN"
            )
        key = row[id_field] if id_field else str(number)
        grouped.setdefault(key, (number, []))[1].append(row)
    yield from grouped.values()


def guess(head: str) -> str | None:
    """The options that would read a file which begins like this, as far as it seems; else None."""
    with suppress(FormatError, ValueError):
        item = first_value(head, r"\s*\[\s*")
        if isinstance(item, dict):
            return _advice("an array of records", ["shape=array", *_fields_of(item)])
        value = first_value(head, r"\s*")
        if isinstance(value, dict) and value:
            return _guess_object(value, is_alone="\n{" not in head.strip())
        lines = head.lstrip("\ufeff").splitlines()[:2]
        for shape, delimiter in (("tsv", "\t"), ("csv", ",")):
            header = lines[0].split(delimiter) if lines else []
            if len(header) > 1 and len(lines[-1].split(delimiter)) > 1 and len(lines) > 1:
                columns = dict.fromkeys(header, "")
                return _advice("a table", [f"shape={shape}", _id_of(columns), *_text_of(columns)])
    return None


def _advice(what: str, options: Sequence[str]) -> str:
    return " -O ".join([f"{what}: --from mapped-jsonl", *options])


def _guess_object(value: dict[str, Any], is_alone: bool) -> str:
    values = list(value.values())
    if is_alone and all(isinstance(item, list) and item for item in values):
        return _advice("a map of ids to texts", ["shape=map"])
    if is_alone and all(isinstance(item, dict) for item in values):
        fields = _fields_of(values[0])[1:]
        return _advice("a map of ids to records", ["shape=map", *fields])
    return _advice("a record a line", _fields_of(value))


def _fields_of(record: dict[str, Any]) -> list[str]:
    """The options that name the fields of a record, its id first, as far as they can be told."""
    lists = [name for name, value in record.items() if isinstance(value, list)]
    first = record[lists[0]][:1] if lists else [record]
    text = _text_of(first[0]) if first and isinstance(first[0], dict) else []
    return [_id_of(record), f"hyps={lists[0] if lists else ''}", *text]


def _id_of(record: dict[str, Any]) -> str:
    names = [name for name in record if name in _IDS or name.lower().endswith("id")]
    return f"id={names[0] if names else 'FIELD'}"


def _text_of(hypothesis: dict[str, Any]) -> list[str]:
    """The option for the text, where it has another name than the default."""
    names = [name for name in _TEXTS if name in hypothesis]
    return [f"text={names[0]}"] if names and names[0] != "text" else []
