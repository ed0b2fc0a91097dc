"""mlm-scoring: one JSON object of utterances.

    {"<utterance>": {"ref": "...", "hyp_1": {"score": -1.2, "text": "..."}, ...}, ...}

Source: Salazar et al. 2020, arXiv:1910.14659; awslabs/mlm-scoring, `Predictions.from_dict`.
`score` is the recogniser's log-probability in that tool's inputs and a language model's in its
outputs (natural log, summed, higher is better): the caller names it. `rank` is minus the position,
from 0, in the order of the numbers (hyp_2 before hyp_10).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.base import (
    Format,
    Skipped,
    convert_each,
    read_score_option,
    write_score_option,
)
from rescore.formats.files import PathLike, atomic_writer, name_of, read_bytes
from rescore.formats.record import HYPOTHESIS_FIELDS, RECORD_FIELDS, id_of, other_fields, score_of
from rescore.formats.strict_json import (
    MISSING,
    decode,
    described,
    encode,
    field,
    first_value,
    number,
)
from rescore.ids import each_once
from rescore.types import Hypothesis, NBest

__all__ = ["MLM_SCORING", "read", "write"]

_HYPOTHESIS = re.compile(r"hyp_([0-9]{1,9})")
_ENTRY = '{"ref": ..., "hyp_1": {"score": ..., "text": ...}, ...}'


def read(
    path: PathLike, *, score: str = "first_pass", skipped: Skipped | None = None
) -> Iterator[NBest]:
    """Yield the lists of a file, which is decoded as a whole; `score` names its "score".

    Raises FormatError naming the file and the utterance; with `skipped`, counts broken utterances
    there and goes on.
    """
    name = name_of(path)
    entries = decode(
        read_bytes(path), name, lambda entries: list(_lists(entries, name, score, None))
    )
    yield from _lists(entries, name, score, skipped)


def write(lists: Iterable[NBest], path: PathLike, *, score: str = "first_pass") -> int:
    """Write texts, references and one score, an utterance a line; return the number of lists.

    Other fields are not written. Raises FormatError if the file cannot be written or an id comes
    twice, ScoreError if a hypothesis lacks the score.
    """
    count = 0
    with atomic_writer(path) as output:
        for count, nbest in enumerate(each_once(lists, "written"), 1):
            entry = encode({nbest.id: _entry(nbest, score)}, nbest.place())
            output.write((b",\n" if count > 1 else b"{\n") + entry[1:-1])
        output.write(b"\n}\n" if count else b"{}\n")
    return count


def _lists(entries: Any, name: str, score: str, skipped: Skipped | None) -> Iterator[NBest]:
    if not isinstance(entries, dict):
        raise FormatError(
            f"{name}: the file is {described(entries)}, "
            f'expected an object {{"<utterance>": {_ENTRY}}}'
        )
    numbered = enumerate(entries.items(), 1)
    return convert_each(
        numbered,
        lambda item, where: _convert(*item, score, where),
        lambda number: f"{name}: item {number}",
        skipped,
    )


def _convert(utterance: str, entry: Any, score: str, where: str) -> NBest:
    at = f"{where}: utterance {id_of({'id': utterance}, where)}"
    if not isinstance(entry, dict):
        raise FormatError(f"{at} is {described(entry)}, expected an object {_ENTRY}")
    names = sorted(
        (name for name in entry if _HYPOTHESIS.fullmatch(name)), key=lambda name: int(name[4:])
    )
    if not names:
        raise FormatError(f'{at}: "hyp_1" is missing, expected at least one hypothesis')
    hyps = tuple(
        _hypothesis(entry[name], score, -i, f"{at}, {name}") for i, name in enumerate(names)
    )
    ref = field(entry, "ref", str, at, "a string") if "ref" in entry else None
    raw = other_fields(entry, {"ref", *names}, RECORD_FIELDS, at)
    return NBest(utterance, hyps, ref, raw, where)


def _hypothesis(hyp: Any, score: str, rank: int, at: str) -> Hypothesis:
    if not isinstance(hyp, dict):
        raise FormatError(
            f'{at} is {described(hyp)}, expected an object {{"score": ..., "text": ...}}'
        )
    value = number(hyp.get("score", MISSING), at, '"score"')
    raw = other_fields(hyp, ("score", "text"), HYPOTHESIS_FIELDS, at)
    return Hypothesis(
        field(hyp, "text", str, at, "a string"), {score: value, "rank": float(rank)}, raw
    )


def _entry(nbest: NBest, score: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        f"hyp_{i + 1}": {"score": score_of(nbest, i, score), "text": hyp.text}
        for i, hyp in enumerate(nbest.hyps)
    }
    return entry if nbest.ref is None else {**entry, "ref": nbest.ref}


def _is_mlm_scoring(head: str) -> bool:
    entry = first_value(head, r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*')
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("hyp_1"), dict)
        and "text" in entry["hyp_1"]
    )


MLM_SCORING = Format(
    "mlm-scoring",
    read,
    write,
    _is_mlm_scoring,
    help="one JSON object of utterances, each an object of hyp_1, hyp_2, ... (awslabs/mlm-scoring)",
    proof="an object whose first value has `hyp_1` with a `text`",
    read_options=read_score_option('the name that "score" gets'),
    write_options=write_score_option('the score that is written as "score"'),
)
