"""Beam dumps of wav2letter and flashlight: lines `id | decoder score | am | lm | wer | text`.

Source: flashlight, `app/asr/Decode.cpp` with --isbeamdump (the file is <sclite folder>/<list>.hyp),
and wav2letter, `recipes/sota/2019/rescoring`.
All scores are sums, higher is better. `am` is the network's, a natural log if the network is
normalised (CTC); `lm` is without its weight and, for KenLM, a base-10 log; the decoder score is the
weighted sum that ordered the beam. `wer` is an error rate in percent, not a score.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from rescore.errors import FormatError
from rescore.formats.base import Format, Option, Skipped, convert_each, one_of, parse_number
from rescore.formats.files import PathLike, at_line, name_of, text_lines
from rescore.formats.record import id_of
from rescore.formats.strict_json import number
from rescore.types import Hypothesis, NBest

__all__ = ["WAV2LETTER", "read"]

_BASES = {"10": math.log(10), "e": 1.0}
_NUMBER = r" -?(?:[0-9]+\.[0-9]{6}|inf|nan) \|"
_PROOF = re.compile(rf"[^|\n]+ \|{_NUMBER * 4} ")


def read(path: PathLike, *, skipped: Skipped | None = None, lm_base: str = "10") -> Iterator[NBest]:
    """Yield the lists of a beam dump, which is held in memory.

    Decoder threads mix the lines of their utterances, so lines are gathered by id.
    Scores: `first_pass` (the decoder's), `am`, `lm` (times ln 10 unless `lm_base` is "e", for LMs
    other than KenLM's), `rank` (minus the position). `wer` stays with the hypothesis, null if it is
    infinite. Raises FormatError naming the line; with `skipped`, counts bad lists there.
    """
    if lm_base not in _BASES:
        raise FormatError(f'{name_of(path)}: lm_base is "{lm_base}", expected 10 (KenLM) or e')
    place = at_line(path)
    utterances: dict[str, list[tuple[int, str]]] = {}
    for i, line in text_lines(path):
        if line.strip():
            utterances.setdefault(line.partition("|")[0].strip(), []).append((i, line))
    numbered = (
        (lines[0][0], [(place(i), line) for i, line in lines]) for lines in utterances.values()
    )
    return convert_each(
        numbered, lambda lines, where: _convert(lines, _BASES[lm_base], where), place, skipped
    )


def _convert(lines: list[tuple[str, str]], lm_base: float, where: str) -> NBest:
    utterance = id_of({"id": lines[0][1].partition("|")[0].strip()}, where)
    hyps = tuple(
        _hypothesis(line, i, lm_base, f"{at}: utterance {utterance}, hypothesis {i + 1}")
        for i, (at, line) in enumerate(lines)
    )
    return NBest(utterance, hyps, where=where)


def _hypothesis(line: str, i: int, lm_base: float, at: str) -> Hypothesis:
    fields = [field.strip(" \t") for field in line.split("|", 5)]
    if len(fields) != 6:
        raise FormatError(
            f"{at} has {len(fields)} fields, expected id | decoder score | am score | lm score "
            "| wer | text"
        )
    decoder, am, lm = (
        parse_number(text, at, what)
        for text, what in zip(
            fields[1:4], ("the decoder score", "the am score", "the lm score"), strict=True
        )
    )
    wer = None if fields[4] in ("inf", "nan") else parse_number(fields[4], at, "the wer")
    return Hypothesis(
        fields[5],
        {
            "first_pass": decoder,
            "am": am,
            "lm": number(lm * lm_base, at, "the lm score as a natural log"),
            "rank": float(-i),
        },
        {"wer": wer},
    )


def _is_wav2letter(head: str) -> bool:
    return _PROOF.match(head) is not None


WAV2LETTER = Format(
    "wav2letter",
    read,
    proven_by=_is_wav2letter,
    help="beam dumps of wav2letter and flashlight",
    proof="a first line `id | score | am | lm | wer | text`, numbers with six decimals",
    read_options={
        "lm_base": Option(
            "base of the lm column's logs: 10 (default, KenLM) or e", one_of(*_BASES), "10 or e"
        )
    },
)
