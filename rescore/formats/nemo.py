"""NeMo's beams: `nemo`, a TSV file `text<TAB>score` without ids, and `nemo-beams`, a manifest.

Source: NVIDIA/NeMo, scripts/asr_language_modeling/ngram_lm/eval_beamsearch_ngram.py and
neural_rescorer/eval_neural_rescorer.py (the TSV file, and the manifest beside it);
nemo/collections/asr/parts/utils/transcribe_utils.py, `write_transcription` (the manifest, whose
lines hold `"beams": [["text", score], ...]`).
The score is the total of the beam search: natural log, higher is better, including the weighted
n-gram score if there was one. The TSV file has exactly `beam_size` lines for every line of the
manifest; beams of transducers vary in size, so they do not fit. Its texts are read as they are,
while NeMo's own reader (pandas) takes an empty text, "null" and "NA" for the word "nan".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from rescore.errors import FormatError
from rescore.formats.base import (
    Format,
    Option,
    Skipped,
    convert_each,
    parse_number,
    read_score_option,
    whole_number,
    write_score_option,
)
from rescore.formats.files import (
    PathLike,
    at_line,
    atomic_writer,
    byte_lines,
    name_of,
    not_utf8,
    stem_of,
)
from rescore.formats.record import RECORD_FIELDS, id_of, other_fields, score_of
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

__all__ = ["NEMO", "NEMO_BEAMS", "read", "read_beams", "write", "write_beams"]

_ADVICE = (
    "give the beam_size of the search (beams of transducers vary in size: write them to the "
    "manifest) and the manifest of this set"
)
_BEAMS = '[["text", score], ...]'
_IDS = Option(
    "the field of the manifest that holds the ids, or number to count the lines; "
    "default: id, else the file name in audio_filepath without its suffix",
    expected="the name of a field",
)


class _Beam(NamedTuple):
    """The lines of one list, and its line of the manifest with the place of that line."""

    number: int
    lines: list[tuple[int, bytes]]
    entry: tuple[str, bytes] | None


def read(
    path: PathLike,
    *,
    beam_size: int,
    manifest: PathLike | None = None,
    ids: str | None = None,
    score: str = "first_pass",
    skipped: Skipped | None = None,
) -> Iterator[NBest]:
    """Yield the lists of a TSV file of beams, `beam_size` lines each.

    Ids and references (`text`) come from the manifest, whose other fields are kept. Without one,
    ids are the file's stem and the number of the list. `score` names the score; `rank` is minus
    the position.
    Raises FormatError for a line that is not a text, a tab and a number, and if there are not
    `beam_size` lines for every line of the manifest; with `skipped`, counts broken lists there
    and goes on.
    """
    stem = stem_of(path)

    def convert(beam: _Beam, where: str) -> NBest:
        default = f"{stem}-{beam.number:06d}"
        utterance: str = default
        ref: str | None = None
        raw: dict[str, Any] = {}
        if beam.entry is not None:
            place, line = beam.entry
            utterance, ref, raw = _entry(decode(line, place), ids, default, place)
        at = f"{where}: utterance {utterance}"
        hyps = [
            _line(line, f"{at}, hypothesis {index + 1}", index, score)
            for index, (_, line) in enumerate(beam.lines)
        ]
        return NBest(utterance, tuple(hyps), ref, raw, where)

    return convert_each(_beam_lines(path, beam_size, manifest), convert, at_line(path), skipped)


def _beam_lines(
    path: PathLike, beam_size: int, manifest: PathLike | None
) -> Iterator[tuple[int, _Beam]]:
    """(number of the first line, beam), side by side with the lines of the manifest."""
    name = name_of(path)
    entries = iter(()) if manifest is None else _entries(manifest)
    lines: list[tuple[int, bytes]] = []
    count = 0
    for line in byte_lines(path):
        lines.append(line)
        if len(lines) < beam_size:
            continue
        entry = next(entries, None)
        if manifest is not None and entry is None:
            raise FormatError(
                f"{name}:{lines[0][0]}: there are lines left after {count} lists of {beam_size}, "
                f"all that the manifest has; {_ADVICE}"
            )
        count += 1
        yield lines[0][0], _Beam(count, lines, entry)
        lines = []
    if lines:
        raise FormatError(
            f"{name}: it has {lines[-1][0]} lines, expected a multiple of the beam_size "
            f"{beam_size}; {_ADVICE}"
        )
    if next(entries, None) is not None:
        raise FormatError(
            f"{name}: it ends after {count} lists of {beam_size} lines, "
            f"but the manifest goes on; {_ADVICE}"
        )


def _entries(manifest: PathLike) -> Iterator[tuple[str, bytes]]:
    place = at_line(manifest)
    return ((place(number), line) for number, line in byte_lines(manifest) if line.strip())


def write(lists: Iterable[NBest], path: PathLike, *, score: str = "first_pass") -> int:
    """Write lists of one length, as NeMo's rescorer reads them, and return their number.

    The file has no ids: keep the order of the manifest. Raises FormatError if the file cannot be
    written, for lists of different lengths, and for a text with a tab or a line break; ScoreError
    if a hypothesis lacks the score.
    """
    count, size = 0, None
    with atomic_writer(path) as output:
        for nbest in each_once(lists, "written"):
            size = size or len(nbest.hyps)
            if len(nbest.hyps) != size:
                raise FormatError(
                    f"{nbest.place()}: has {len(nbest.hyps)} hypotheses and the first list "
                    f"{size}; this format needs lists of one length, nemo-beams does not"
                )
            for i, hyp in enumerate(nbest.hyps):
                if re.search(r"[\t\r\n]|^\ufeff", hyp.text):
                    raise FormatError(
                        f"{nbest.place(i)}: the text holds a tab, "
                        "a line break or a byte order mark, which this format cannot; "
                        "take it out"
                    )
                output.write(f"{hyp.text}\t{score_of(nbest, i, score)!r}\n".encode())
            count += 1
    return count


def read_beams(
    path: PathLike,
    *,
    ids: str | None = None,
    score: str = "first_pass",
    skipped: Skipped | None = None,
) -> Iterator[NBest]:
    """Yield the lists of a manifest with beams, one line in memory at a time.

    Other fields (`audio_filepath`, `pred_text`) are kept. Raises FormatError naming the line; with
    `skipped`, counts broken lines there and goes on.
    """
    stem = stem_of(path)
    lines = ((i, (f"{stem}-{i:06d}", line)) for i, line in byte_lines(path) if line.strip())

    def convert(item: tuple[str, bytes], where: str) -> NBest:
        check = partial(_beams, ids=ids, score=score, default=item[0], where=where)
        return check(decode(item[1], where, check))

    return convert_each(lines, convert, at_line(path), skipped)


def write_beams(lists: Iterable[NBest], path: PathLike, *, score: str = "first_pass") -> int:
    """Write a manifest with beams, the id and the fields that were read from one.

    Returns the number of lists. Raises FormatError if the file cannot be written, ScoreError if a
    hypothesis lacks the score.
    """
    count = 0
    with atomic_writer(path) as output:
        for nbest in each_once(lists, "written"):
            kept = {
                name: value
                for name, value in nbest.raw.items()
                if name not in RECORD_FIELDS | {"text", "beams"}
            }
            ref = {} if nbest.ref is None else {"text": nbest.ref}
            beams = [[hyp.text, score_of(nbest, i, score)] for i, hyp in enumerate(nbest.hyps)]
            output.write(
                encode({"id": nbest.id, **kept, **ref, "beams": beams}, nbest.place()) + b"\n"
            )
            count += 1
    return count


def _line(line: bytes, at: str, index: int, score: str) -> Hypothesis:
    try:
        text, tab, value = line.decode().rpartition("\t")
    except UnicodeDecodeError as error:
        raise FormatError(f"{at}: {not_utf8(error)}") from error
    if not tab:
        raise FormatError(f"{at}: there is no tab in the line, expected a text, a tab and a score")
    return Hypothesis(text, {score: parse_number(value, at, "the score"), "rank": float(-index)})


def _entry(
    entry: Any, ids: str | None, default: str, where: str
) -> tuple[str, str | None, dict[str, Any]]:
    """Id, reference and other fields of one line of a manifest."""
    if not isinstance(entry, dict):
        raise FormatError(
            f"{where}: the line is {described(entry)}, "
            f'expected an object {{"audio_filepath": ..., "text": ...}}'
        )
    utterance = _id(entry, ids, default, where)
    at = f"{where}: utterance {utterance}"
    ref = field(entry, "text", str, at, "the reference, a string") if "text" in entry else None
    return utterance, ref, other_fields(entry, {"id", "text", "beams"}, RECORD_FIELDS, at)


def _id(entry: dict[str, Any], ids: str | None, default: str, where: str) -> str:
    if ids == "number":
        return default
    if ids is not None:
        return id_of({"id": field(entry, ids, str, where, "the id, a string")}, where)
    if "id" in entry:
        return id_of(entry, where)
    audio = field(
        entry,
        "audio_filepath",
        str,
        where,
        "a string that names the utterance (-O ids=FIELD chooses another, -O ids=number counts)",
    )
    return id_of({"id": PurePosixPath(audio).stem}, where)


def _beams(entry: Any, ids: str | None, score: str, default: str, where: str) -> NBest:
    utterance, ref, raw = _entry(entry, ids, default, where)
    at = f"{where}: utterance {utterance}"
    beams = field(entry, "beams", list, at, f"a list {_BEAMS}")
    if not beams:
        raise FormatError(f'{at}: "beams" is an empty list, expected at least one hypothesis')
    return NBest(
        utterance,
        tuple(_beam(beam, f"{at}, hypothesis {i + 1}", i, score) for i, beam in enumerate(beams)),
        ref,
        raw,
        where,
    )


def _beam(beam: Any, at: str, index: int, score: str) -> Hypothesis:
    if not isinstance(beam, list) or len(beam) != 2:
        raise FormatError(
            f"{at} is "
            f"{described(beam) if not isinstance(beam, list) else f'a list of {len(beam)}'}, "
            'expected ["text", score]'
        )
    if not isinstance(beam[0], str):
        raise FormatError(f"{at}: the text is {described(beam[0])}, expected a string")
    return Hypothesis(beam[0], {score: number(beam[1], at, "the score"), "rank": float(-index)})


def _is_beams(head: str) -> bool:
    entry = first_value(head, r"\s*")
    beams = entry.get("beams", MISSING) if isinstance(entry, dict) else MISSING
    return isinstance(beams, list) and bool(beams) and isinstance(beams[0], list)


NEMO = Format(
    "nemo",
    read,
    write,
    help="NeMo's TSV file of beams, text<TAB>score, beside a manifest",
    read_options={
        "beam_size": Option(
            "lines of every utterance", whole_number, "a whole number from 1", required=True
        ),
        "manifest": Option("the manifest, for ids and references", is_file=True),
        "ids": _IDS,
        **read_score_option("the name that the score gets"),
    },
    write_options=write_score_option("the score that is written"),
)

NEMO_BEAMS = Format(
    "nemo-beams",
    read_beams,
    write_beams,
    _is_beams,
    help='NeMo\'s manifest with "beams": [["text", score], ...]',
    proof="the first value is an object with a list `beams` of lists",
    read_options={"ids": _IDS, **read_score_option("the name that the score gets")},
    write_options=write_score_option("the score that is written"),
)
