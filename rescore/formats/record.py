"""The native record: one utterance as a JSON object, to and from NBest; new scores enter it here.

    {"id": "84-121123-0000", "ref": "go do you hear",
     "hyps": [{"text": "go do you here", "scores": {"am": -213.4, "ngram": -20.1}}]}

Fields this package does not know stay where they were: `raw` keeps the object as it was read, and
the typed fields are a view of it. Only this module knows where the record keeps what made a score:
`meta.scores` of the list (`NBest.provenance`), `std_errors` and `token_scores` of a hypothesis.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Set
from dataclasses import replace
from typing import Any

from rescore.errors import FormatError, ScoreError
from rescore.formats.strict_json import described, field, number
from rescore.types import Hypothesis, NBest, Provenance, Score, TokenScores

__all__ = [
    "HYPOTHESIS_FIELDS",
    "RECORD_FIELDS",
    "check_score",
    "from_dict",
    "id_of",
    "other_fields",
    "refuse_existing",
    "score_of",
    "std_error",
    "to_dict",
    "token_scores",
    "with_score",
]

RECORD_FIELDS = frozenset({"id", "ref", "hyps", "meta"})
HYPOTHESIS_FIELDS = frozenset({"text", "scores", "std_errors", "token_scores"})

#: What a hypothesis may hold of a score, by its name, besides the value.
_DETAILS = ("std_errors", "token_scores")

_RECORD = 'an object {"id": ..., "hyps": [...]}'
_HYPOTHESIS = 'an object {"text": ..., "scores": {...}}'


def from_dict(record: object, where: str) -> NBest:
    """Return the checked view of a decoded native record.

    The record itself becomes `raw` and must not be changed afterwards. Raises FormatError, naming
    the utterance and the hypothesis, for whatever docs/formats.md does not allow.
    """
    if not isinstance(record, dict):
        raise FormatError(f"{where}: the record is {described(record)}, expected {_RECORD}")
    utterance = id_of(record, where)
    at = f"{where}: utterance {utterance}"
    hyps = field(record, "hyps", list, at, "a list of hypotheses")
    if not hyps:
        raise FormatError(f'{at}: "hyps" is an empty list, expected at least one hypothesis')
    ref = None if record.get("ref") is None else field(record, "ref", str, at, "a string or null")
    if "meta" in record:
        _check_meta(field(record, "meta", dict, at, "an object"), at)
    return NBest(
        utterance,
        tuple(_hypothesis(hyp, f"{at}, hypothesis {i}") for i, hyp in enumerate(hyps, 1)),
        ref,
        record,
        where,
        provenance=_provenance(record),
    )


def id_of(record: dict[str, Any], where: str) -> str:
    """Return the id of a record. Raises FormatError if it is missing, not a string, or blank."""
    utterance = field(record, "id", str, where, "a string")
    if not utterance.strip():
        raise FormatError(f'{where}: "id" is empty, expected a string that names the utterance')
    return utterance


def other_fields(
    item: Mapping[str, Any], known: Collection[str], reserved: Set[str], at: str
) -> dict[str, Any]:
    """Return the fields of another format's object that are not `known`; they become `raw`.

    Raises FormatError for one with the name of a native field (`reserved`: RECORD_FIELDS or
    HYPOTHESIS_FIELDS).
    """
    others = {name: value for name, value in item.items() if name not in known}
    for name in sorted(reserved & others.keys()):
        raise FormatError(
            f'{at}: the field "{name}" has a meaning of its own in the native record; rename it'
        )
    return others


def score_of(nbest: NBest, index: int, name: str) -> float:
    """Return the score `name` of one hypothesis, for a writer.

    Raises ScoreError if it is missing or not finite.
    """
    scores = nbest.hyps[index].scores
    if name not in scores:
        raise ScoreError(
            f'{nbest.place(index)}: score "{name}" is missing; '
            f"choose one of the scores in the list: {', '.join(scores) or 'none'}"
        )
    _check_finite(scores[name], nbest, index, f'score "{name}"')
    return float(scores[name])


def std_error(nbest: NBest, index: int, name: str) -> float | None:
    """Return the standard error of a score of one hypothesis; None where there is none.

    Raises FormatError if it is not a number.
    """
    value = nbest.hyps[index].raw.get("std_errors", {}).get(name)
    what = f'the standard error of "{name}"'
    return None if value is None else number(value, nbest.place(index), what)


def token_scores(nbest: NBest, index: int) -> dict[str, TokenScores]:
    """Return what each token adds to the scores of one hypothesis, for the scores that say so.

    Raises FormatError for whatever is not a list of [piece, number].
    """
    tokens: dict[str, TokenScores] = {}
    for name, entries in nbest.hyps[index].raw.get("token_scores", {}).items():
        at = f'{nbest.place(index)}: token_scores of "{name}"'
        if not isinstance(entries, list):
            raise FormatError(f"{at}: {described(entries)}, expected a list of [piece, number]")
        tokens[name] = tuple(_token(entry, at) for entry in entries)
    return tokens


def _token(entry: object, at: str) -> tuple[str, float]:
    if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)):
        raise FormatError(f"{at}: a token is {described(entry)}, expected [piece, number]")
    return entry[0], number(entry[1], at, f"the token {entry[0]!r}")


def to_dict(nbest: NBest) -> dict[str, Any]:
    """Return the native record: `raw` in its order of keys, with the typed fields as they are now.

    Raises ScoreError for a score that is not finite.
    """
    known: dict[str, Any] = {"id": nbest.id}
    if nbest.ref is not None or "ref" in nbest.raw:
        known["ref"] = nbest.ref
    known["hyps"] = [_hypothesis_dict(nbest, i) for i in range(len(nbest.hyps))]
    raw = nbest.raw
    if nbest.provenance:
        entries = {name: provenance.entry for name, provenance in nbest.provenance.items()}
        raw = {**raw, "meta": {**raw.get("meta", {}), "scores": entries}}
    return _merged(raw, known, "id")


def with_score(
    nbest: NBest, name: str, score: Score, overwrite: bool = False, command: str | None = None
) -> NBest:
    """Return a copy in which every hypothesis has the score `name`, and the list its provenance.

    Stochastic scores add `std_errors[name]` to each hypothesis (null where one draw leaves the
    error unknown); those with token scores add `token_scores[name]`, a list of [piece, nats].
    Both replace what an overwritten score had. `command` is the one that made it, if there is one.
    Raises ScoreError if the score exists and `overwrite` is false, if its length differs from the
    list's, or if a value is not finite.
    """
    if not overwrite:
        refuse_existing(nbest, name)
    check_score(nbest, name, score)
    hyps = tuple(
        Hypothesis(
            hyp.text, {**hyp.scores, name: float(value)}, _with_details(hyp.raw, name, score, index)
        )
        for index, (hyp, value) in enumerate(zip(nbest.hyps, score.values, strict=True))
    )
    entry: dict[str, Any] = {
        "signature": score.signature,
        "kind": score.kind,
        "evaluations": score.evaluations,
    }
    if command is not None:
        entry["command"] = command
    return replace(nbest, hyps=hyps, provenance={**nbest.provenance, name: Provenance(entry)})


def refuse_existing(nbest: NBest, name: str) -> None:
    """Raise ScoreError if the list, or one of its hypotheses, already has the score `name`."""
    if name in nbest.provenance or any(name in hyp.scores for hyp in nbest.hyps):
        raise ScoreError(
            f'{nbest.place()}: score "{name}" is there already; '
            "use --overwrite to replace it or --name to add it under another name"
        )


def _provenance(record: Mapping[str, Any]) -> dict[str, Provenance]:
    """What made each score, as `meta.scores` says."""
    entries = record.get("meta", {}).get("scores", {})
    return {name: Provenance(entry) for name, entry in entries.items()}


def _check_meta(meta: dict[str, Any], at: str) -> None:
    if "scores" in meta:
        field(meta, "scores", dict, f"{at}: meta", "an object of names and what made them")


def _hypothesis(hyp: object, at: str) -> Hypothesis:
    if not isinstance(hyp, dict):
        raise FormatError(f"{at} is {described(hyp)}, expected {_HYPOTHESIS}")
    text = field(hyp, "text", str, at, "a string")
    if "std_errors" in hyp:
        field(hyp, "std_errors", dict, at, "an object of names and numbers")
    if "token_scores" in hyp:
        field(hyp, "token_scores", dict, at, "an object of names and lists of [piece, number]")
    return Hypothesis(text, _scores(hyp, at) if "scores" in hyp else {}, hyp)


def _scores(hyp: dict[str, Any], at: str) -> dict[str, float]:
    """The scores as floats: the very object that was read, unless integers stand in it."""
    scores = field(hyp, "scores", dict, at, "an object of names and numbers")
    for value in scores.values():
        if type(value) is not float or not math.isfinite(value):
            return {name: number(value, at, f'score "{name}"') for name, value in scores.items()}
    return scores


def _hypothesis_dict(nbest: NBest, index: int) -> dict[str, Any]:
    hyp = nbest.hyps[index]
    for name, value in hyp.scores.items():
        _check_finite(value, nbest, index, f'score "{name}"')
    known: dict[str, Any] = {"text": hyp.text}
    if hyp.scores or "scores" in hyp.raw:
        read = hyp.raw.get("scores", {})
        known["scores"] = (
            read
            if hyp.scores is read
            else {name: _as_read(read.get(name), value) for name, value in hyp.scores.items()}
        )
    return _merged(hyp.raw, known, "text")


def _merged(raw: Mapping[str, Any], known: dict[str, Any], key: str) -> dict[str, Any]:
    """Known fields over raw ones, in the order they were read.

    The known ones come first in a record that was read from another format.
    """
    return {**raw, **known} if key in raw else {**known, **raw, **known}


def _as_read(read: object, value: float) -> float:
    """The integer that was read, as long as it equals the value: large ones have no exact float."""
    return read if isinstance(read, int) and float(read) == value else float(value)


def check_score(nbest: NBest, name: str, score: Score) -> None:
    """Raise ScoreError if a score does not fit the list, or holds a value that is not finite.

    A standard error may be NaN: it is unknown.
    """
    for what, values in (
        ("values", score.values),
        ("standard errors", score.std_errors),
        ("token scores", score.token_scores),
    ):
        if values is not None and len(values) != len(nbest.hyps):
            raise ScoreError(
                f'{nbest.place()}: score "{name}" has {len(values)} {what}, '
                f"expected one for each of {len(nbest.hyps)} hypotheses"
            )
    for index, value in enumerate(score.values):
        _check_finite(value, nbest, index, f'score "{name}"')
    for index, value in enumerate(score.std_errors or ()):
        if not math.isnan(value):
            _check_finite(value, nbest, index, f'the standard error of "{name}"')
    for index, tokens in enumerate(score.token_scores or ()):
        for piece, value in tokens:
            _check_finite(value, nbest, index, f'score "{name}" of the token {piece!r}')


def _check_finite(value: float, nbest: NBest, index: int, what: str) -> None:
    if not math.isfinite(value):
        raise ScoreError(
            f"{nbest.place(index)}: {what} is {described(float(value))}, expected a finite number"
        )


def _with_details(raw: Mapping[str, Any], name: str, score: Score, index: int) -> Mapping[str, Any]:
    """The raw hypothesis with the score's details, and without those of an older score."""
    details: dict[str, Any] = {}
    if score.std_errors is not None:
        details["std_errors"] = (
            None if math.isnan(score.std_errors[index]) else float(score.std_errors[index])
        )
    if score.token_scores is not None:
        details["token_scores"] = [
            [piece, float(value)] for piece, value in score.token_scores[index]
        ]
    hypothesis = dict(raw)
    for part in _DETAILS:
        if name in raw.get(part, {}):
            hypothesis[part] = {other: raw[part][other] for other in raw[part] if other != name}
        if part in details:
            hypothesis[part] = {**raw.get(part, {}), name: details[part]}
    return hypothesis
