"""HyPoradise: one JSON array of `{"input": [texts, best first], "output": reference}`.

Source: Chen et al. 2023, arXiv:2309.15701, and the files of HyPoradise-v0. What they leave out:

- `id`: the item's own if it has one (ATIS), else `{file stem}-{item number from 1, six digits}`.
- `rank`: minus the position in `input`, from 0. The files pad their lists with duplicates: only the
  first of each is kept, with its rank.
- `am_score`, `score`: Whisper's mean log-probability of a token, natural log. They are not sums, so
  they become `am_per_token` and `first_pass_per_token`.
- Items without `input` have the older `input1` (the best text and a full stop) and `input2` (the
  others, each ended by ". ").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.base import Format, Skipped, convert_each
from rescore.formats.files import PathLike, name_of, read_bytes, stem_of
from rescore.formats.record import RECORD_FIELDS, id_of, other_fields
from rescore.formats.strict_json import decode, described, field, first_value, number
from rescore.types import Hypothesis, NBest

__all__ = ["HYPORADISE", "read"]

SCORES = {"am_score": "am_per_token", "score": "first_pass_per_token"}
_KNOWN = {"id", "input", "input1", "input2", "output", *SCORES}
_LIST_SIZE = 5


def read(path: PathLike, *, skipped: Skipped | None = None) -> Iterator[NBest]:
    """Yield the lists of a file, which is decoded as a whole (the largest has some 400 MB).

    Fields not named above stay in `raw`. Raises FormatError naming the file and the item, counted
    from 1; with `skipped`, counts broken items there and goes on.
    """
    name = name_of(path)
    items = decode(read_bytes(path), name, lambda items: list(_lists(items, path, None)))
    yield from _lists(items, path, skipped)


def _lists(items: Any, path: PathLike, skipped: Skipped | None) -> Iterator[NBest]:
    name, stem = name_of(path), stem_of(path)
    if not isinstance(items, list):
        raise FormatError(
            f'{name}: the file is {described(items)}, expected a list of {{"input": [...], '
            f'"output": ...}}'
        )
    numbered = ((i, _with_id(item, f"{stem}-{i:06d}")) for i, item in enumerate(items, 1))
    return convert_each(numbered, _convert, lambda number: f"{name}: item {number}", skipped)


def _with_id(item: Any, default: str) -> Any:
    return {"id": default, **item} if isinstance(item, dict) else item


def _convert(item: Any, where: str) -> NBest:
    if not isinstance(item, dict):
        raise FormatError(
            f'{where} is {described(item)}, expected an object {{"input": [...], "output": ...}}'
        )
    utterance = id_of(item, where)
    at = f"{where}: utterance {utterance}"
    hyps = _hypotheses(_texts(item, at), item, at)
    raw = other_fields(item, _KNOWN, RECORD_FIELDS, at)
    return NBest(
        utterance, hyps, field(item, "output", str, at, "the reference, a string"), raw, where
    )


def _hypotheses(texts: list[Any], item: dict[str, Any], at: str) -> tuple[Hypothesis, ...]:
    columns = {name: _score_column(item, name, len(texts), at) for name in SCORES if name in item}
    hyps: dict[str, Hypothesis] = {}
    for i, text in enumerate(texts):
        place = f"{at}, hypothesis {i + 1}"
        if not isinstance(text, str):
            raise FormatError(f"{place} is {described(text)}, expected a string")
        scores = {
            SCORES[name]: number(column[i], place, f'"{name}"') for name, column in columns.items()
        }
        hyps.setdefault(text, Hypothesis(text, {**scores, "rank": float(-i)}))
    return tuple(hyps.values())


def _score_column(item: dict[str, Any], name: str, count: int, at: str) -> list[Any]:
    column = field(item, name, list, at, "a list of numbers")
    if len(column) != count:
        raise FormatError(
            f'{at}: "{name}" has {len(column)} numbers, expected one for each of {count} hypotheses'
        )
    return column


def _texts(item: dict[str, Any], at: str) -> list[Any]:
    if "input" not in item and "input1" in item:
        return _older_texts(item, at)
    texts = field(item, "input", list, at, "a list of texts")
    if not texts:
        raise FormatError(f'{at}: "input" is an empty list, expected at least one hypothesis')
    return texts


def _older_texts(item: dict[str, Any], at: str) -> list[str]:
    best = field(item, "input1", str, at, "a string").removesuffix(".")
    others = (
        field(item, "input2", str, at, "a string").removesuffix(" ").removesuffix(".")
        if "input2" in item
        else None
    )
    texts = [best] if others is None else [best, *others.split(". ")]
    if len(texts) > _LIST_SIZE:
        raise FormatError(
            f'{at}: "input2" falls into {len(texts) - 1} texts at ". ", '
            f'expected at most {_LIST_SIZE - 1}; list them in "input"'
        )
    return texts


def _is_hyporadise(head: str) -> bool:
    item = first_value(head, r"\s*\[\s*")
    return isinstance(item, dict) and "output" in item and ("input" in item or "input1" in item)


HYPORADISE = Format(
    "hyporadise",
    read,
    proven_by=_is_hyporadise,
    help="a JSON array of five texts and their reference (HyPoradise)",
    proof="an array whose first item has `output` and `input` or `input1`",
)
