"""Lhotse's manifests as references and lists need them, read without lhotse.

They are JSON lines of supervisions or of cuts (`MonoCut`, `MultiCut`, `MixedCut`).
Source: lhotse-speech/lhotse, lhotse/supervision.py, lhotse/cut/ and lhotse/serialization.py (seen
with 1.27.0 and 1.33.0). A supervision may leave out `text` and `custom`; a mixed cut has tracks,
which are cuts with an offset, and tracks that are padding have no supervisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.record import id_of
from rescore.formats.strict_json import decode, described, field, number

__all__ = [
    "REFERENCE",
    "REFERENCE_IDS",
    "custom_of",
    "is_cut",
    "keyed",
    "record_of",
    "reference_field",
    "reference_of",
    "supervisions_of",
]

#: Which ids can name the lines of a lhotse file.
REFERENCE_IDS = ("id", "supervision", "recording")

#: Where in `custom` a supervision keeps its reference once its text is a hypothesis.
REFERENCE = "ref_text"


def record_of(line: bytes, where: str) -> dict[str, Any]:
    """Return the supervision or cut of a line. Raises FormatError if it is not a JSON object."""
    record = decode(line, where)
    if not isinstance(record, dict):
        raise FormatError(
            f"{where}: the line is {described(record)}, "
            "expected a supervision or a cut of lhotse, an object"
        )
    return record


def is_cut(record: dict[str, Any]) -> bool:
    """Whether a line is a cut rather than a supervision."""
    return "supervisions" in record or "tracks" in record


def supervisions_of(cut: dict[str, Any], at: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield every supervision of a cut, and the time (seconds) from which its start counts.

    Raises FormatError for anything but a list of objects.
    """
    if "tracks" in cut:
        for track in _objects(cut, "tracks", at):
            inner = field(track, "cut", dict, f"{at}: track", "an object")
            offset = number(track.get("offset", 0), f"{at}: track", '"offset"')
            if "supervisions" in inner:
                for supervision in _objects(inner, "supervisions", at):
                    yield supervision, offset
    else:
        for supervision in _objects(cut, "supervisions", at):
            yield supervision, 0.0


def keyed(record: dict[str, Any], ids: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, supervision) of every supervision of a line; `ids` says which id counts.

    - "id": the line's own; a cut must then have one supervision, or none.
    - "supervision": the id of each supervision.
    - "recording": the id of the recording, in supervision sets only.

    Raises FormatError for what is neither a cut nor a supervision.
    """
    utterance = id_of(record, where)
    at = f"{where}: utterance {utterance}"
    if not is_cut(record):
        recording = field(
            record, "recording_id", str, at, "a string, as every supervision of lhotse has it"
        )
        return [(id_of({"id": recording}, where) if ids == "recording" else utterance, record)]
    if ids == "recording":
        raise FormatError(
            f"{at}: a cut is not a whole recording; "
            "give the supervision set, or ids=id or ids=supervision"
        )
    supervisions = [supervision for supervision, _ in supervisions_of(record, at)]
    if ids == "supervision":
        place = f"{at}: supervision"
        return [(id_of(supervision, place), supervision) for supervision in supervisions]
    if len(supervisions) > 1:
        raise FormatError(
            f"{at}: the cut has {len(supervisions)} supervisions, and a list belongs to one; "
            "give ids=supervision, or cut.trim_to_supervisions() to lhotse"
        )
    return [(utterance, supervision) for supervision in supervisions]


def custom_of(supervision: dict[str, Any], at: str) -> dict[str, Any]:
    """Return the user's fields of a supervision. Raises FormatError if they are not an object."""
    if supervision.get("custom") is None:
        return {}
    return field(supervision, "custom", dict, at, "an object")


def reference_field(supervision: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the object that holds the reference, and the reference's name in it.

    It is the text, unless `custom` keeps the reference because the text is a hypothesis: that must
    not be compared with itself.
    """
    custom = supervision.get("custom")
    return (
        (custom, REFERENCE)
        if isinstance(custom, dict) and REFERENCE in custom
        else (supervision, "text")
    )


def reference_of(supervision: dict[str, Any], at: str) -> str | None:
    """Return the reference of a supervision, None if it is unknown.

    Raises FormatError for anything but text.
    """
    source, name = reference_field(supervision)
    if source.get(name) is None:
        return None
    return field(source, name, str, at, "a string or null")


def _objects(item: dict[str, Any], name: str, at: str) -> list[dict[str, Any]]:
    objects = field(item, name, list, at, "a list of objects")
    if not all(isinstance(value, dict) for value in objects):
        raise FormatError(f'{at}: "{name}" holds values that are not objects')
    return objects
