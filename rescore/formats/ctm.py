"""NIST CTM, 1-best without scores: `file channel start duration word [confidence]`, `;;` comments.

Source: NIST SCTK, doc/infmts.htm. Words are joined in the order of their start times. CTM has no
line for an utterance without words, so such an utterance is not in the file: compare the number of
utterances that `eval` reports. There is no writer, because lists have no times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, one_of, parse_number
from rescore.formats.files import PathLike, at_line, name_of, text_lines
from rescore.formats.strict_json import short
from rescore.types import Hypothesis, NBest

__all__ = ["CTM", "read"]

_IDS = ("file", "file-channel")


def read(path: PathLike, *, skipped: Skipped | None = None, id: str = "file") -> Iterator[NBest]:
    """Yield a list of one hypothesis for each utterance; the file is held in memory.

    Lines may stand in any order. `id` says which column names the utterance: "file" (Kaldi's CTM
    by utterance), or "file-channel" where files have several channels. The hypothesis keeps
    `words`: start and duration in seconds, and the confidence where there is one (null for NA).
    Raises FormatError naming the line; with `skipped`, counts bad utterances there and goes on.
    """
    if id not in _IDS:
        raise FormatError(f'{name_of(path)}: id is "{id}", expected one of {", ".join(_IDS)}')
    place = at_line(path)
    utterances: dict[str, list[tuple[int, list[str]]]] = {}
    for number, line in text_lines(path):
        fields = line.split()
        if fields and not line.startswith(";;"):
            utterances.setdefault(fields[0] if id == "file" else "-".join(fields[:2]), []).append(
                (number, fields)
            )
    lines = (
        (rows[0][0], (utterance, [(place(number), fields) for number, fields in rows]))
        for utterance, rows in utterances.items()
    )
    return convert_each(lines, _convert, place, skipped)


def _convert(entry: tuple[str, list[tuple[str, list[str]]]], where: str) -> NBest:
    utterance, rows = entry
    for at, fields in rows:
        if len(fields) < 5:
            raise FormatError(
                f"{at}: utterance {utterance}: the line has {len(fields)} fields, "
                "expected file channel start duration word [confidence]"
            )
        if fields[1] != rows[0][1][1]:
            raise FormatError(
                f"{at}: utterance {utterance}: the file has channels {short(rows[0][1][1])} "
                f"and {short(fields[1])}; give -O id=file-channel"
            )
    words = sorted(
        (_word(fields, f"{at}: utterance {utterance}") for at, fields in rows),
        key=lambda word: float(word["start"]),
    )
    return NBest(
        utterance,
        (Hypothesis(" ".join(word["word"] for word in words), raw={"words": words}),),
        where=where,
    )


def _word(fields: list[str], at: str) -> dict[str, Any]:
    word: dict[str, Any] = {"word": fields[4]}
    word["start"], word["duration"] = (
        parse_number(fields[2], at, "the start"),
        parse_number(fields[3], at, "the duration"),
    )
    if len(fields) > 5:
        word["confidence"] = (
            None if fields[5] == "NA" else parse_number(fields[5], at, "the confidence")
        )
    return word


CTM = Format(
    "ctm",
    read,
    help="NIST CTM: one word a line with its times, 1-best",
    read_options={
        "id": Option(
            "the column that is the utterance: file (default) or file-channel",
            one_of(*_IDS),
            "file or file-channel",
        )
    },
)
