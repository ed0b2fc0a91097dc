"""What references and lists need of lhotse's manifests: JSON lines of supervisions or of cuts (`MonoCut`, `MultiCut`, `MixedCut`), read without lhotse.

Source: lhotse-speech/lhotse, lhotse/supervision.py, lhotse/cut/ and lhotse/serialization.py (seen with 1.27.0 and 1.33.0). A supervision may leave out
`text` and `custom`; a mixed cut has tracks, cuts of their own with an offset, and those that are padding have no supervisions.
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

#: Which ids the lines of a lhotse file can go by.
REFERENCE_IDS = ("id", "supervision", "recording")

#: Where in `custom` a supervision keeps its reference once its text is a hypothesis.
REFERENCE = "ref_text"


def record_of(line: bytes, where: str) -> dict[str, Any]:
    """Return the supervision or cut of one line. Raises FormatError for a line that is no JSON object."""
    record = decode(line, where)
    if not isinstance(record, dict):
        raise FormatError(
            f"{where}: the line is {described(record)}, "
            "expected a supervision or a cut of lhotse, an object"
        )
    return record


def is_cut(record: dict[str, Any]) -> bool:
    """Whether a line is a cut and not a supervision."""
    return "supervisions" in record or "tracks" in record


def supervisions_of(cut: dict[str, Any], at: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Yield every supervision of a cut, and when (seconds) what it counts its time from starts. Raises FormatError for what is no list of objects."""
    if "tracks" in cut:
        for track in _objects(cut, "tracks", at):
            inner = field(track, "cut", dict, f"{at}: track", "an object")
            offset = number(track.get("offset", 0), f"{at}: track", '"offset"')
            for supervision in (
                _objects(inner, "supervisions", at) if "supervisions" in inner else ()
            ):
                yield supervision, offset
    else:
        for supervision in _objects(cut, "supervisions", at):
            yield supervision, 0.0


def keyed(record: dict[str, Any], ids: str, where: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, supervision) of every supervision of a line, for lists that go by `ids`: each list belongs to one supervision.

    "id": the line's own, which a cut has to have one supervision for, or none; "supervision": those of the supervisions; "recording": those of the
    recordings, which only a supervision set has. Raises FormatError for what is neither a cut nor a supervision.
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
    found = [supervision for supervision, _ in supervisions_of(record, at)]
    if ids == "supervision":
        return [(id_of(supervision, f"{at}: supervision"), supervision) for supervision in found]
    if len(found) > 1:
        raise FormatError(
            f"{at}: the cut has {len(found)} supervisions, and a list is of one; "
            "give ids=supervision, or cut.trim_to_supervisions() to lhotse"
        )
    return [(utterance, supervision) for supervision in found]


def custom_of(supervision: dict[str, Any], at: str) -> dict[str, Any]:
    """Return the fields that users added to a supervision. Raises FormatError if they are no object."""
    return (
        {}
        if supervision.get("custom") is None
        else field(supervision, "custom", dict, at, "an object")
    )


def reference_field(supervision: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the object that holds the reference and its name there: the text, or what `custom` keeps once the text is a hypothesis.

    Read as a reference, the hypothesis would be compared with itself.
    """
    custom = supervision.get("custom")
    return (
        (custom, REFERENCE)
        if isinstance(custom, dict) and REFERENCE in custom
        else (supervision, "text")
    )


def reference_of(supervision: dict[str, Any], at: str) -> str | None:
    """Return the reference of a supervision, None where it is not known. Raises FormatError for what is no text."""
    source, name = reference_field(supervision)
    return None if source.get(name) is None else field(source, name, str, at, "a string or null")


def _objects(item: dict[str, Any], name: str, at: str) -> list[dict[str, Any]]:
    found = field(item, name, list, at, "a list of objects")
    if not all(isinstance(value, dict) for value in found):
        raise FormatError(f'{at}: "{name}" holds something else than objects')
    return found
