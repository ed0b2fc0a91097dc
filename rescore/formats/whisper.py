"""JSON of openai-whisper and of faster-whisper: one recording a file, 1-best.

Source: openai/whisper, whisper/transcribe.py and whisper/utils.py, `WriteJSON`: an object with
`text`, `segments` and `language`; SYSTRAN/faster-whisper, faster_whisper/transcribe.py, `Segment`:
its segments as an array (`json.dump([asdict(s) for s in segments], file)`), or under `segments`.
The id is the file's name without `.json`; a directory is read file by file.

A segment's `avg_logprob` is the mean over the 30-second window that it was cut from, so that no sum
can be had of it: `am_per_token` is the mean over segments, each weighted by its tokens. Several
decodes of the same recordings (temperatures, prompts, models) become N-best lists by
`dlmrescore pool`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from rescore.errors import FormatError
from rescore.formats.base import Format, Skipped, convert_each
from rescore.formats.files import PathLike, name_of, names_in, read_bytes, stem_of
from rescore.formats.record import RECORD_FIELDS, id_of, other_fields
from rescore.formats.strict_json import decode, described, field, first_value, number
from rescore.types import Hypothesis, NBest

__all__ = ["WHISPER", "read"]

_MEAN = "avg_logprob"


def read(path: PathLike, *, skipped: Skipped | None = None) -> Iterator[NBest]:
    """Yield a list of one hypothesis for a file, or for every `.json` of a directory.

    `segments`, `language` and other fields are kept. Raises FormatError naming the file and the
    segment; with `skipped`, counts broken files there and goes on.
    """
    paths = _files(path) if os.path.isdir(path) else [path]
    return convert_each(enumerate(paths), _read_one, lambda number: name_of(paths[number]), skipped)


def _files(folder: PathLike) -> list[PathLike]:
    names = [name for name in names_in(folder) if name.removesuffix(".gz").endswith(".json")]
    if not names:
        raise FormatError(f"{name_of(folder)}: there is no .json in this directory")
    return [os.path.join(folder, name) for name in names]


def _read_one(path: PathLike, where: str) -> NBest:
    check = partial(_convert, stem=stem_of(path), where=where)
    return check(decode(read_bytes(path), where, check))


def _convert(value: Any, stem: str, where: str) -> NBest:
    record = {"segments": value} if isinstance(value, list) else value
    if not isinstance(record, dict):
        raise FormatError(
            f'{where}: the file is {described(value)}, expected an object {{"text": ...,'
            ' "segments": [...]}} or a list of segments'
        )
    utterance = id_of({"id": stem}, where)
    at = f"{where}: utterance {utterance}"
    segments = field(record, "segments", list, at, "a list of segments")
    texts = [_text(segment, f"{at}, segment {i}") for i, segment in enumerate(segments, 1)]
    text = field(record, "text", str, at, "a string") if "text" in record else "".join(texts)
    scores = {"rank": 0.0, **_scores(segments, at)}
    raw = other_fields(record, {"text"}, RECORD_FIELDS, at)
    return NBest(utterance, (Hypothesis(text.strip(), scores),), None, raw, where)


def _text(segment: Any, at: str) -> str:
    if not isinstance(segment, dict):
        raise FormatError(f'{at} is {described(segment)}, expected an object {{"text": ...}}')
    return field(segment, "text", str, at, "a string")


def _scores(segments: list[dict[str, Any]], at: str) -> dict[str, float]:
    """The mean log-probability of a token; none where a segment does not say its own."""
    if not segments or not all(_MEAN in segment and "tokens" in segment for segment in segments):
        return {}
    total, count = 0.0, 0
    for i, segment in enumerate(segments, 1):
        place = f"{at}, segment {i}"
        tokens = len(field(segment, "tokens", list, place, "a list of tokens"))
        total += tokens * number(segment[_MEAN], place, f'"{_MEAN}"')
        count += tokens
    return {"am_per_token": total / count} if count else {}


def _is_whisper(head: str) -> bool:
    if len(re.findall(r"^\{", head, re.MULTILINE)) > 1:
        return False  # JSON lines
    record = first_value(head, r"\s*")
    segments = record.get("segments") if isinstance(record, dict) else record
    first = segments[0] if isinstance(segments, list) and segments else None
    return isinstance(first, dict) and {_MEAN, "no_speech_prob", "text"} <= first.keys()


WHISPER = Format(
    "whisper",
    read,
    proven_by=_is_whisper,
    help="JSON of openai-whisper or faster-whisper, a file a recording, or a directory of them",
    proof="segments, each with `text`, `avg_logprob` and `no_speech_prob`",
)
