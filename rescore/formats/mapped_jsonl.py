"""Any JSON or table by a mapping of fields: Whisper, NeMo, Hugging Face, home-made lists.

A path names a field, with dots into objects and numbers into lists: `asr.nbest`,
`alternatives.0.text`. The options say which path is what:

    id=audio_filepath ref=text hyps=nbest text=text scores=am:acoustic,lm:-lm_cost

A score is `ours:[-][log10:]path[*count[+n]]`: `-` for a cost, `log10:` for base-10 logs, `*count`
for a mean over tokens, which is multiplied by the number of tokens (a number, or a list whose items
are counted) plus n. A path that begins with a dot is a list of the record, one number a hypothesis.
Whisper's and faster-whisper's `avg_logprob` is the sum divided by the number of tokens + 1
(openai/whisper, `decoding.py`: the end of the text counts): `am:avg_logprob*tokens+1`. Without its
count it must be called `..._per_token`. How the file holds its records is its shape
(rescore.formats.shapes): JSON lines unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, one_of, parse_number
from rescore.formats.files import PathLike, name_of, stem_of
from rescore.formats.mapped_scores import MappedScore, Path, at_path, parse_score, parts, value_of
from rescore.formats.record import HYPOTHESIS_FIELDS, RECORD_FIELDS, id_of, other_fields
from rescore.formats.shapes import SHAPES, Shape, records
from rescore.formats.strict_json import decode, described
from rescore.types import Hypothesis, NBest

__all__ = ["MAPPED_JSONL", "read"]

_STEM = "stem:"


@dataclass(frozen=True)
class _Mapping:
    """Where the parts of a list are; an empty path means that there is none."""

    id: Path
    is_stem: bool  #: the id is a file's name without folders and suffix
    ref: Path
    hyps: Path
    text: Path
    scores: tuple[MappedScore, ...]
    order: str
    stem: str  #: the stem of the file, of which ids are made


def read(
    path: PathLike,
    *,
    skipped: Skipped | None = None,
    id: str = "id",
    ref: str = "",
    hyps: str = "nbest",
    text: str = "text",
    scores: str = "",
    order: str = "",
    shape: Shape = "lines",
) -> Iterator[NBest]:
    """Yield the lists of a file of records; of JSON lines, one line in memory at a time.

    - id: path of the id, a string or an integer; `stem:path` takes a file's name without folders
      and suffix; "" makes ids of the file's stem and the line.
    - ref: path of the reference, a string or null; "": there is none.
    - hyps: path of the list of hypotheses (strings, objects, or lists such as [text, score], whose
      paths are 0 and 1), or of one string; "": the record is the only hypothesis.
    - text: path in a hypothesis.
    - scores: as above.
    - order: the score to sort by, highest first; "": as in the file. `rank` is minus the position
      in that order.
    - shape: lines, array, map, csv or tsv.

    Fields outside the mapping are kept. Raises FormatError for a mapping that is not as above and,
    naming the line, for fields that are missing or of another type.
    """
    if shape != "lines":  # a key of a map is an id, and the rows of a table are hypotheses
        id, hyps = (
            id or ("id" if shape == "map" else ""),
            hyps or ("" if shape == "array" else "nbest"),
        )
    mapping = _mapping(id, ref, hyps, text, scores, order, path)
    is_table = shape in ("csv", "tsv")
    found, place = records(path, shape, mapping.id[0] if mapping.id else "", mapping.hyps[:1])

    def read_one(item: tuple[int, Any], where: str) -> NBest:
        number, record = item
        if shape == "lines":
            return _decode(number, record, mapping, where)
        if is_table:
            record = _of_table(record, mapping, where)
        return _convert(record, mapping, f"{mapping.stem}-{number:06d}", where)

    numbered = ((number, (number, record)) for number, record in found)
    return convert_each(numbered, read_one, place, skipped)


def _of_table(rows: list[dict[str, str]], mapping: _Mapping, where: str) -> dict[str, Any]:
    """The record of the rows of one utterance: its id and reference, and a hypothesis a row."""
    record: dict[str, Any] = {}
    for path in (mapping.id, mapping.ref):
        if path and path[0] in rows[0]:
            record[path[0]] = rows[0][path[0]]
            if any(row[path[0]] != record[path[0]] for row in rows):
                raise FormatError(f'{where}: the lines of this id differ in "{path[0]}"')
    record[mapping.hyps[0]] = [_with_numbers(row, mapping, where) for row in rows]
    return record


def _with_numbers(row: dict[str, str], mapping: _Mapping, where: str) -> dict[str, Any]:
    """A row of a table with numbers where the mapping reads them, without id and reference."""
    columns = {path[0] for path in (mapping.id, mapping.ref) if path}
    numbers: dict[str, Any] = {name: row[name] for name in row if name not in columns}
    for score in mapping.scores:
        for path in (score.path, score.count):
            if path and path[0] in row:
                value = parse_number(row[path[0]], where, f'"{path[0]}"')
                numbers[path[0]] = int(value) if path == score.count else value
    return numbers


def _mapping(
    id: str, ref: str, hyps: str, text: str, scores: str, order: str, path: PathLike
) -> _Mapping:
    specs = scores.split(",") if scores else []
    parsed = tuple(parse_score(spec, name_of(path)) for spec in specs)
    names = [score.name for score in parsed]
    if len(set(names)) < len(names):
        raise FormatError(f'{name_of(path)}: scores is "{scores}", expected every name once')
    if order and order not in names:
        raise FormatError(
            f'{name_of(path)}: order is "{order}", '
            f"expected one of the scores: {', '.join(names) or 'none is given'}"
        )
    if not hyps and text == ref:
        raise FormatError(
            f'{name_of(path)}: "{text}" cannot be both reference and hypothesis; '
            "give ref and text their own fields"
        )
    return _Mapping(
        parts(id.removeprefix(_STEM)),
        id.startswith(_STEM),
        parts(ref),
        parts(hyps),
        parts(text),
        parsed,
        order,
        stem_of(path),
    )


def _decode(line_number: int, line: bytes, mapping: _Mapping, where: str) -> NBest:
    default_id = f"{mapping.stem}-{line_number:06d}"
    check = partial(_convert, mapping=mapping, default_id=default_id, where=where)
    return check(decode(line, where, check))


def _convert(record: Any, mapping: _Mapping, default_id: str, where: str) -> NBest:
    if not isinstance(record, dict):
        raise FormatError(f"{where}: the line is {described(record)}, expected an object")
    utterance = _id(record, mapping, default_id, where)
    at = f"{where}: utterance {utterance}"
    ref = None
    if mapping.ref:
        ref = _string(record, mapping.ref, at, "a string or null", nullable=True)
    hyps = _hypotheses(record, mapping, at)
    others = _rest(record, _record_paths(mapping))
    return NBest(utterance, hyps, ref, other_fields(others, (), RECORD_FIELDS, at), where)


def _hypotheses(record: dict[str, Any], mapping: _Mapping, at: str) -> tuple[Hypothesis, ...]:
    """The hypotheses in their order, each with its rank."""
    items = _items(record, mapping, at)
    columns = {
        score.name: _column(record, score, len(items), at)
        for score in mapping.scores
        if score.is_column
    }
    hyps = []
    for index, item in enumerate(items):
        row = {name: column[index] for name, column in columns.items()}
        hyps.append(_hypothesis(item, mapping, row, f"{at}, hypothesis {index + 1}"))
    if mapping.order:
        hyps.sort(key=lambda hyp: -hyp.scores[mapping.order])
    return tuple(
        Hypothesis(hyp.text, {**hyp.scores, "rank": hyp.scores.get("rank", float(-i))}, hyp.raw)
        for i, hyp in enumerate(hyps)
    )


def _id(record: dict[str, Any], mapping: _Mapping, default_id: str, where: str) -> str:
    if not mapping.id:
        return default_id
    value = at_path(record, mapping.id)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise FormatError(
            f'{where}: the id, "{".".join(mapping.id)}", is {described(value)}, '
            "expected a string or an integer"
        )
    return id_of({"id": PurePosixPath(str(value)).stem if mapping.is_stem else str(value)}, where)


def _items(record: dict[str, Any], mapping: _Mapping, at: str) -> list[Any]:
    value = at_path(record, mapping.hyps) if mapping.hyps else [record]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        got = "an empty list" if value == [] else described(value)
        raise FormatError(
            f'{at}: "{".".join(mapping.hyps)}" is {got}, expected a list of at least one hypothesis'
        )
    return value


def _column(record: dict[str, Any], score: MappedScore, count: int, at: str) -> list[Any]:
    column = at_path(record, score.path)
    if not isinstance(column, list):
        raise FormatError(
            f'{at}: "{".".join(score.path)}" is {described(column)}, expected a list of numbers'
        )
    if len(column) != count:
        raise FormatError(
            f'{at}: "{".".join(score.path)}" has {len(column)} numbers, '
            f"expected one for each of {count} hypotheses"
        )
    return column


def _hypothesis(item: Any, mapping: _Mapping, row: dict[str, Any], at: str) -> Hypothesis:
    """`row` holds the values of this hypothesis in the columns of the record."""
    if isinstance(item, list):
        item = {str(i): value for i, value in enumerate(item)}
    if isinstance(item, str):
        fields: dict[str, Any] = {}
        text = item
    elif isinstance(item, dict):
        fields, text = item, _string(item, mapping.text, at, "a string") or ""
    else:
        raise FormatError(f"{at} is {described(item)}, expected a string, an object or a list")
    scores = {}
    for score in mapping.scores:
        value = row[score.name] if score.is_column else at_path(fields, score.path)
        scores[score.name] = value_of(value, fields, score, at)
    if not mapping.hyps:
        return Hypothesis(text, scores)
    paths = [mapping.text, *(score.path for score in mapping.scores if not score.is_column)]
    return Hypothesis(text, scores, other_fields(_rest(fields, paths), (), HYPOTHESIS_FIELDS, at))


def _string(
    item: dict[str, Any], path: Path, at: str, expected: str, nullable: bool = False
) -> str | None:
    value = at_path(item, path)
    if isinstance(value, str) or (nullable and value is None):
        return value
    raise FormatError(f'{at}: "{".".join(path)}" is {described(value)}, expected {expected}')


def _record_paths(mapping: _Mapping) -> list[Path]:
    """The fields of a record that the mapping moves elsewhere.

    A field whose stem is the id, say a file name, stays.
    """
    paths = [
        mapping.ref,
        mapping.hyps,
        *(score.path for score in mapping.scores if score.is_column),
    ]
    if not mapping.is_stem or mapping.id == ("id",):
        paths.append(mapping.id)
    if not mapping.hyps:
        paths += [mapping.text, *(score.path for score in mapping.scores)]
    return [path for path in paths if path]


def _rest(item: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    """The object without the fields at these paths.

    Objects that are left empty go, too; lists stay whole.
    """
    rest: dict[str, Any] = {}
    for name, value in item.items():
        below = [path[1:] for path in paths if path[0] == name]
        if () in below:
            continue
        kept = _rest(value, below) if below and isinstance(value, dict) else value
        if kept or not below:
            rest[name] = kept
    return rest


MAPPED_JSONL = Format(
    "mapped-jsonl",
    read,
    help="any JSON, CSV or TSV by a mapping of fields (Whisper, pipelines, home-made)",
    read_options={
        "id": Option(
            "path of the id; stem:path takes a file's name; empty: ids are made; default id",
            expected="a path",
        ),
        "ref": Option("path of the reference; empty (default): there is none", expected="a path"),
        "hyps": Option(
            "path of the list of hypotheses; empty: the record is the one hypothesis; "
            "default nbest",
            expected="a path",
        ),
        "text": Option("path of the text in a hypothesis; default text", expected="a path"),
        "scores": Option("ours:[-][log10:]path[*count[+n]], commas between", expected="a mapping"),
        "order": Option("one of our scores to sort by, highest first", expected="a name"),
        "shape": Option(
            "lines (default), array, map (id -> record or texts), csv or tsv (a header, a line a"
            " hypothesis)",
            one_of(*SHAPES),
            f"one of {', '.join(SHAPES)}",
        ),
    },
)
