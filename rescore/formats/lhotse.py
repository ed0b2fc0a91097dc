"""Lhotse manifests: supervisions or cuts with N-best lists, or with a recogniser's words as text.

Writing takes the manifest that the recogniser was given and changes only this in each supervision:

    what=text    "text": the first hypothesis, "custom": {"ref_text": the former text}
    what=nbest   "custom": {"nbest": [{"text": ..., "scores": {...}}, ...],
                            "nbest_meta": what made the scores}

Lhotse reads the new file as it read the old one, with `supervision.nbest` and
`supervision.ref_text` (null: there was no text). Lhotse itself is not needed. Lists and manifest
are read side by side: lists that come before their supervisions wait in memory, encoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import msgspec

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, one_of
from rescore.formats.files import PathLike, at_line, atomic_writer, byte_lines, name_of
from rescore.formats.lhotse_manifest import (
    REFERENCE,
    REFERENCE_IDS,
    custom_of,
    keyed,
    record_of,
    reference_of,
)
from rescore.formats.record import RECORD_FIELDS, from_dict, other_fields, to_dict
from rescore.formats.strict_json import described, encode, field, first_value
from rescore.ids import each_once
from rescore.types import NBest

__all__ = ["LHOTSE", "read", "write"]

#: Fields of `custom`.
_LISTS = "nbest"
_META = "nbest_meta"

_READ = ("auto", "nbest", "text")
_WRITTEN = ("text", "nbest")
_MISSING = ("stop", "drop")


class _Piece(NamedTuple):
    """A supervision and the id of its list."""

    utterance: str
    supervision: dict[str, Any]


class _Held(NamedTuple):
    """What a list adds to its supervision, as JSON, and where the list was."""

    fields: dict[str, msgspec.Raw]
    place: str


def read(
    path: PathLike, *, what: str = "auto", ids: str = "id", skipped: Skipped | None = None
) -> Iterator[NBest]:
    """Yield a list for every supervision of a manifest, one line in memory at a time.

    - what: "nbest", the lists in `custom`; "text", the text as the only hypothesis; "auto", the
      lists, or the text if a reference beside it shows that it is a hypothesis.
    - ids: which ids the lists get, see docs/formats.md.

    The reference is `custom["ref_text"]`, else the text unless that is a hypothesis. Other fields
    of the supervisions are kept. Raises FormatError naming the line; with `skipped`, counts broken
    lines and lists there and goes on.
    """
    _refuse_unknown(path, "what", what, _READ)
    _refuse_unknown(path, "ids", ids, REFERENCE_IDS)
    place = at_line(path)

    def convert(item: _Piece | FormatError, where: str) -> NBest:
        if isinstance(item, FormatError):
            raise item
        return _list(item, what, where)

    return convert_each(_pieces(path, ids), convert, place, skipped)


def write(
    lists: Iterable[NBest],
    path: PathLike,
    *,
    manifest: PathLike,
    what: str = "text",
    ids: str = "id",
    missing: str = "stop",
) -> int:
    """Write the supervisions or cuts of `manifest`, in its order, filled from their lists.

    - what: "text" or "nbest", as above; an older `ref_text` stays, an older `nbest` is replaced.
    - ids: which ids name the lists.
    - missing: "drop" leaves out the lines that have no list.

    Returns the number of lists. Lists in the order of the manifest are not held in memory; others
    are, until their turn. Raises FormatError for a supervision without a list (unless dropped), a
    list without a supervision, a repeated id, a cut with several supervisions and one list, a
    broken line, and if the file cannot be written; ScoreError for a score that is not finite.
    """
    for name, value, known in (
        ("what", what, _WRITTEN),
        ("ids", ids, REFERENCE_IDS),
        ("missing", missing, _MISSING),
    ):
        _refuse_unknown(path, name, value, known)
    waiting = _Waiting(lists, what)
    place = at_line(manifest)
    with atomic_writer(path) as output:
        for number, line in byte_lines(manifest):
            if not line.strip():
                continue
            record = record_of(line, place(number))
            if _is_filled(record, waiting, ids, missing, place(number)):
                output.write(encode(record, place(number)) + b"\n")
        waiting.refuse_rest(manifest)
    return waiting.taken


class _Waiting:
    """Lists by id, read on until the requested one; those before it are held."""

    def __init__(self, lists: Iterable[NBest], what: str) -> None:
        self._lists, self._what = each_once(lists, "written"), what
        self._held: dict[str, _Held] = {}
        self._requests: dict[str, str] = {}
        self.taken = 0

    def take(self, utterance: str, where: str) -> dict[str, msgspec.Raw] | None:
        """Return what the list of this id adds, None if there is none.

        Raises FormatError if the id was requested before.
        """
        if utterance in self._requests:
            raise FormatError(
                f"{where}: utterance {utterance}: this id was already at "
                f"{self._requests[utterance]}, and a list belongs to one supervision; "
                "choose other ids"
            )
        self._requests[utterance] = where
        if utterance not in self._held:
            for nbest in self._lists:
                self._held[nbest.id] = _Held(_fields(nbest, self._what), nbest.place())
                if nbest.id == utterance:
                    break
        held = self._held.pop(utterance, None)
        if held is None:
            return None
        self.taken += 1
        return held.fields

    def refuse_rest(self, manifest: PathLike) -> None:
        """Raise FormatError naming the first list that belongs to no supervision."""
        held = (held.place for held in self._held.values())
        unread = (nbest.place() for nbest in self._lists)
        for place in chain(held, unread):
            raise FormatError(
                f"{place}: {name_of(manifest)} has no supervision for this list; "
                "give the manifest of this very set, or choose other ids"
            )


def _fields(nbest: NBest, what: str) -> dict[str, msgspec.Raw]:
    if what == "text":
        fields: dict[str, Any] = {"text": nbest.hyps[0].text}
    else:
        record = to_dict(nbest)
        fields = {_LISTS: record["hyps"]}
        if "meta" in record:
            fields[_META] = record["meta"]
    return {name: msgspec.Raw(encode(value, nbest.place())) for name, value in fields.items()}


def _is_filled(
    record: dict[str, Any], waiting: _Waiting, ids: str, missing: str, where: str
) -> bool:
    """Put the lists into the supervisions of a line; return whether to write the line."""
    pieces = [
        (utterance, supervision, waiting.take(utterance, where))
        for utterance, supervision in keyed(record, ids, where)
    ]
    if missing == "drop" and all(fields is None for _, _, fields in pieces):
        return False
    for utterance, supervision, fields in pieces:
        at = f"{where}: utterance {utterance}"
        if fields is None:
            advice = (
                "give lists for all supervisions of a cut or for none"
                if missing == "drop"
                else "choose other ids, or leave such lines out with missing=drop"
            )
            raise FormatError(f"{at}: there is no list with this id; {advice}")
        _fill(supervision, fields, at)
    return True


def _fill(supervision: dict[str, Any], fields: dict[str, msgspec.Raw], at: str) -> None:
    custom = custom_of(supervision, at)
    if "text" in fields:
        reference = reference_of(supervision, at)
        supervision["text"] = fields["text"]
        supervision["custom"] = {**custom, REFERENCE: reference}
    else:
        supervision["custom"] = {
            **{name: value for name, value in custom.items() if name != _META},
            **fields,
        }


def _pieces(path: PathLike, ids: str) -> Iterator[tuple[int, _Piece | FormatError]]:
    """The supervisions of every line; for a broken line its error, so that it can be skipped."""
    place = at_line(path)
    for number, line in byte_lines(path):
        if not line.strip():
            continue
        try:
            record = record_of(line, place(number))
            pieces = [_Piece(*pair) for pair in keyed(record, ids, place(number))]
            _refuse_repeated([piece.utterance for piece in pieces], place(number))
        except FormatError as error:
            yield number, error
        else:
            yield from ((number, piece) for piece in pieces)


def _list(piece: _Piece, what: str, where: str) -> NBest:
    supervision = piece.supervision
    at = f"{where}: utterance {piece.utterance}"
    custom = custom_of(supervision, at)
    is_text = what == "text" or (what == "auto" and _is_text(supervision, custom, at))
    ref = None if is_text and REFERENCE not in custom else reference_of(supervision, at)
    record: dict[str, Any] = {"id": piece.utterance}
    if ref is not None:
        record["ref"] = ref
    if is_text:
        record["hyps"] = [{"text": field(supervision, "text", str, at, "a string")}]
    else:
        record["hyps"] = _hyps(custom, at)
        if _META in custom:
            record["meta"] = custom[_META]
    if supervision.get("id") != piece.utterance:
        record["supervision_id"] = supervision.get("id")
    record.update(other_fields(supervision, {"id", "text", "custom"}, RECORD_FIELDS, at))
    user_fields = {
        name: value for name, value in custom.items() if name not in (_LISTS, _META, REFERENCE)
    }
    if user_fields:
        record["custom"] = user_fields
    return from_dict(record, where)


def _is_text(supervision: dict[str, Any], custom: dict[str, Any], at: str) -> bool:
    """Whether the text is the hypothesis.

    Raises FormatError where it could be either: a list whose first hypothesis differs from it.
    """
    if _LISTS not in custom or REFERENCE not in custom:
        return _LISTS not in custom and REFERENCE in custom
    first = next(iter(_hyps(custom, at)), None)
    if not isinstance(first, dict) or first.get("text") != supervision.get("text"):
        raise FormatError(
            f'{at}: the text is a hypothesis, but not the first of "{_LISTS}"; '
            "say which to read, what=text or what=nbest"
        )
    return False


def _hyps(custom: dict[str, Any], at: str) -> list[Any]:
    if _LISTS not in custom:
        raise FormatError(
            f'{at}: there is no "{_LISTS}" in "custom"; if the text is a hypothesis, give what=text'
        )
    hyps = custom[_LISTS]
    if not isinstance(hyps, list) or not hyps:
        raise FormatError(
            f'{at}: "{_LISTS}" is {"an empty list" if hyps == [] else described(hyps)}, '
            "expected a list of at least one hypothesis"
        )
    return hyps


def _refuse_repeated(ids: list[str], where: str) -> None:
    for utterance, count in Counter(ids).items():
        if count > 1:
            raise FormatError(
                f"{where}: utterance {utterance}: two supervisions of the cut have this id; "
                "every utterance needs its own"
            )


def _refuse_unknown(path: PathLike, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise FormatError(
            f'{name_of(path)}: {name} is "{value}", expected one of {", ".join(known)}'
        )


def _is_lhotse(head: str) -> bool:
    record = first_value(head, r"\s*")
    if not isinstance(record, dict):
        return False
    try:
        for _, supervision in keyed(record, "supervision", ""):
            if "recording_id" not in supervision:
                continue
            custom = custom_of(supervision, "")
            if REFERENCE in custom or _has_lists(custom.get(_LISTS)):
                return True
    except FormatError:
        pass
    return False


def _has_lists(hyps: object) -> bool:
    return isinstance(hyps, list) and bool(hyps) and isinstance(hyps[0], dict) and "text" in hyps[0]


_IDS = Option(
    "whose ids the lists have: id, the line's own (default), supervision, "
    "those of a cut's supervisions, or recording (supervision sets only)",
    one_of(*REFERENCE_IDS),
    f"one of {', '.join(REFERENCE_IDS)}",
)

LHOTSE = Format(
    "lhotse",
    read,
    write,
    _is_lhotse,
    help=(
        'lhotse supervisions or cuts (.jsonl), with lists in custom["nbest"] or hypotheses as '
        "their texts"
    ),
    proof=(
        "the first value is a supervision of lhotse, or a cut with one, "
        "whose `custom` has `nbest` or `ref_text`"
    ),
    read_options={
        "what": Option(
            "where the hypotheses are: nbest, text, or auto (default), "
            "the texts only where references stand beside them",
            one_of(*_READ),
            "auto, nbest or text",
        ),
        "ids": _IDS,
    },
    write_options={
        "manifest": Option("the manifest that gets the lists", is_file=True, required=True),
        "what": Option(
            "what is written: text (default), the first hypotheses as texts, or nbest, the lists",
            one_of(*_WRITTEN),
            "text or nbest",
        ),
        "ids": _IDS,
        "missing": Option(
            "supervisions without a list: stop (default), or drop their lines",
            one_of(*_MISSING),
            "stop or drop",
        ),
    },
)
