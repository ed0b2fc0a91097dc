"""Any JSON lines by a mapping of fields: outputs of Whisper, NeMo, Hugging Face, home-made lists.

A path names a field, with dots into objects and numbers into lists: `asr.nbest`,
`alternatives.0.text`. The options say which path is what:

    id=audio_filepath ref=text hyps=nbest text=text scores=am:acoustic,lm:-lm_cost

A score is `ours:[-][log10:]path[*count[+n]]`: `-` for a cost, `log10:` for base-10 logs, `*count`
for a mean over tokens, which is multiplied by the number of tokens (a number, or a list whose items
are counted) plus n. A path that begins with a dot is a list of the record, one number a hypothesis.
Whisper's and faster-whisper's `avg_logprob` is the sum divided by the number of tokens + 1
(openai/whisper, `decoding.py`: the end of the text counts): `am:avg_logprob*tokens+1`. Without its
count it must be called `..._per_token`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, TypeAlias

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each
from rescore.formats.files import PathLike, at_line, byte_lines, name_of, stem_of
from rescore.formats.record import HYPOTHESIS_FIELDS, RECORD_FIELDS, id_of, other_fields
from rescore.formats.strict_json import MISSING, decode, described, number
from rescore.types import Hypothesis, NBest

__all__ = ["MAPPED_JSONL", "read"]

_Path: TypeAlias = "tuple[str, ...]"

_SCORE = re.compile(
    r"(?P<name>[^:,\s]+):(?P<sign>-?)(?P<log10>(?:log10:)?)(?P<path>[^:*,\s]+)"
    r"(?:\*(?P<count>[^:*+,\s]+)(?:\+(?P<more>[0-9]{1,3}))?)?"
)
_MEANS = {"avg_logprob", "avg_log_prob", "avg_logprobs"}
_STEM = "stem:"
_INDEX = re.compile("[0-9]{1,18}")
_MOST_TOKENS = 10**9


@dataclass(frozen=True)
class _Score:
    """How one score is read: value * factor * (count + more)."""

    name: str
    path: _Path
    factor: float
    count: _Path  #: path of the number of tokens; empty: the value is a sum
    more: int
    is_column: bool  #: the path leads to a list of the record, one number a hypothesis


@dataclass(frozen=True)
class _Mapping:
    """Where the parts of a list are; an empty path means that there is none."""

    id: _Path
    is_stem: bool  #: the id is a file's name without folders and suffix
    ref: _Path
    hyps: _Path
    text: _Path
    scores: tuple[_Score, ...]
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
) -> Iterator[NBest]:
    """Yield the lists of a file of JSON objects, one a line, one line in memory at a time.

    - id: path of the id, a string or an integer; `stem:path` takes a file's name without folders
      and suffix; "" makes ids of the file's stem and the line.
    - ref: path of the reference, a string or null; "": there is none.
    - hyps: path of the list of hypotheses (strings, objects, or lists such as [text, score], whose
      paths are 0 and 1), or of one string; "": the record is the only hypothesis.
    - text: path in a hypothesis.
    - scores: as above.
    - order: the score to sort by, highest first; "": as in the file. `rank` is minus the position
      in that order.

    Fields outside the mapping are kept. Raises FormatError for a mapping that is not as above and,
    naming the line, for fields that are missing or of another type.
    """
    mapping = _mapping(id, ref, hyps, text, scores, order, path)
    lines = ((number, (number, line)) for number, line in byte_lines(path) if line.strip())
    return convert_each(
        lines, lambda line, where: _decode(*line, mapping, where), at_line(path), skipped
    )


def _mapping(
    id: str, ref: str, hyps: str, text: str, scores: str, order: str, path: PathLike
) -> _Mapping:
    specs = scores.split(",") if scores else []
    parsed = tuple(_score(spec, name_of(path)) for spec in specs)
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
        _parts(id.removeprefix(_STEM)),
        id.startswith(_STEM),
        _parts(ref),
        _parts(hyps),
        _parts(text),
        parsed,
        order,
        stem_of(path),
    )


def _score(spec: str, name: str) -> _Score:
    match = _SCORE.fullmatch(spec if ":" in spec else f"{spec}:{spec}")
    if match is None:
        raise FormatError(
            f'{name}: scores has "{spec}", expected ours:[-][log10:]path[*count[+n]], '
            "as in lm:-log10:lm_cost or am:avg_logprob*tokens+1"
        )
    if (
        match["path"].rpartition(".")[2] in _MEANS
        and not match["count"]
        and not match["name"].endswith("_per_token")
    ):
        raise FormatError(
            f'{name}: scores has "{spec}": {match["path"]} is a mean over tokens; '
            f"give its count ({spec}*tokens+1) or call it {match['name']}_per_token"
        )
    sign = -1.0 if match["sign"] else 1.0
    factor = sign * (math.log(10) if match["log10"] else 1.0)
    is_column = match["path"].startswith(".")
    return _Score(
        match["name"],
        _parts(match["path"].removeprefix(".")),
        factor,
        _parts(match["count"] or ""),
        int(match["more"] or 0),
        is_column,
    )


def _parts(path: str) -> _Path:
    return tuple(path.split(".")) if path else ()


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
    value = _at(record, mapping.id)
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise FormatError(
            f'{where}: the id, "{".".join(mapping.id)}", is {described(value)}, '
            "expected a string or an integer"
        )
    return id_of({"id": PurePosixPath(str(value)).stem if mapping.is_stem else str(value)}, where)


def _items(record: dict[str, Any], mapping: _Mapping, at: str) -> list[Any]:
    value = _at(record, mapping.hyps) if mapping.hyps else [record]
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        got = "an empty list" if value == [] else described(value)
        raise FormatError(
            f'{at}: "{".".join(mapping.hyps)}" is {got}, expected a list of at least one hypothesis'
        )
    return value


def _column(record: dict[str, Any], score: _Score, count: int, at: str) -> list[Any]:
    column = _at(record, score.path)
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
        value = row[score.name] if score.is_column else _at(fields, score.path)
        scores[score.name] = _value(value, fields, score, at)
    if not mapping.hyps:
        return Hypothesis(text, scores)
    paths = [mapping.text, *(score.path for score in mapping.scores if not score.is_column)]
    return Hypothesis(text, scores, other_fields(_rest(fields, paths), (), HYPOTHESIS_FIELDS, at))


def _value(value: Any, item: dict[str, Any], score: _Score, at: str) -> float:
    what = f'"{".".join(score.path)}"'
    count = _count(item, score, at) if score.count else 1
    product = number(value, at, what) * score.factor * count
    if not math.isfinite(product):
        raise FormatError(f'{at}: score "{score.name}" is infinite, expected a finite number')
    return product


def _count(item: dict[str, Any], score: _Score, at: str) -> int:
    value = _at(item, score.count)
    count = len(value) if isinstance(value, list) else value
    if type(count) is not int or not 1 <= count + score.more <= _MOST_TOKENS:
        raise FormatError(
            f'{at}: the count of tokens, "{".".join(score.count)}", is {described(value)}, '
            "expected a number or a list of at least one token"
        )
    return count + score.more


def _string(
    item: dict[str, Any], path: _Path, at: str, expected: str, nullable: bool = False
) -> str | None:
    value = _at(item, path)
    if isinstance(value, str) or (nullable and value is None):
        return value
    raise FormatError(f'{at}: "{".".join(path)}" is {described(value)}, expected {expected}')


def _at(value: Any, path: _Path) -> Any:
    """The value at a path, MISSING if it leads nowhere."""
    for part in path:
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list) and _INDEX.fullmatch(part) and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def _record_paths(mapping: _Mapping) -> list[_Path]:
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


def _rest(item: dict[str, Any], paths: list[_Path]) -> dict[str, Any]:
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
    help="any JSON lines by a mapping of fields (Whisper, faster-whisper, pipelines, home-made)",
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
    },
)
