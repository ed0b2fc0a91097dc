"""Which audio there is: lhotse manifests, Kaldi's wav.scp, tables and folders to utterances.

The name of the path says what it is; none of these needs lhotse or Kaldi:

    NAME.jsonl, NAME.jsonl.gz  lhotse recordings or cuts; supervisions with `recordings` beside them
    NAME.scp                   Kaldi's wav.scp, with `segments` and `text` of the same folder
    NAME.tsv                   id, path[, text], tab-separated; a first line `id path` is a header
    a folder                   every .wav, .flac and .ogg in it, at any depth, named by its stem

Relative paths count from the current directory in lhotse's and Kaldi's files, as both read them,
and from the table's own folder in a .tsv.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rescore.acoustic.lhotse_audio import lhotse_utterances
from rescore.acoustic.utterance import Utterance
from rescore.errors import FormatError
from rescore.formats.files import PathLike, at_line, name_of, text_lines
from rescore.ids import UniqueIds

__all__ = ["Utterance", "read_utterances"]

_SUFFIXES = (".wav", ".flac", ".ogg")
_EXPECTED = (
    "expected a lhotse manifest (.jsonl, .jsonl.gz), a Kaldi .scp, a table .tsv (id, path[, text]) "
    "or a folder of .wav, .flac or .ogg"
)


def read_utterances(path: PathLike, recordings: PathLike | None = None) -> Iterator[Utterance]:
    """Yield the utterances of a manifest, in its order; no audio is opened.

    `recordings` is the recording manifest that lhotse supervisions refer to. Raises FormatError,
    naming the line, for a broken line, an id that comes again, and where there is no utterance.
    """
    ids, is_empty = UniqueIds("read"), True
    for utterance in _utterances(path, recordings):
        ids.add(utterance)
        is_empty = False
        yield utterance
    if is_empty:
        raise FormatError(f"{name_of(path)}: no audio in it; {_EXPECTED}")


def _utterances(path: PathLike, recordings: PathLike | None) -> Iterable[Utterance]:
    name = os.fspath(path)
    if name.endswith((".jsonl", ".jsonl.gz")):
        return lhotse_utterances(path, recordings)
    if recordings is not None:
        raise FormatError(
            f"{name}: recordings are for a lhotse supervision manifest (.jsonl); leave them out"
        )
    if os.path.isdir(path):
        return _folder(Path(path))
    if name.endswith(".scp"):
        return _kaldi(Path(path))
    if name.endswith((".tsv", ".tsv.gz")):
        return _table(path)
    exists = "not a known kind of manifest" if os.path.exists(path) else "no such file or folder"
    raise FormatError(f"{name}: {exists}; {_EXPECTED}")


# ------------------------------------------------------------------------------ tables, folders


def _table(path: PathLike) -> Iterator[Utterance]:
    place, folder = at_line(path), Path(os.fspath(path)).parent
    for number, line in text_lines(path):
        fields = line.split("\t")
        is_header = number == 1 and fields in (["id", "path"], ["id", "path", "text"])
        if is_header or not line.strip():
            continue
        if len(fields) not in (2, 3) or not fields[1].strip():
            raise FormatError(
                f"{place(number)}: {len(fields)} tab-separated fields, expected id, path and, "
                "optionally, text"
            )
        text = fields[2] if len(fields) == 3 else None
        yield Utterance(fields[0], folder / fields[1], text=text, where=place(number))


def _folder(folder: Path) -> Iterator[Utterance]:
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield Utterance(path.stem, path, where=str(path))


# ---------------------------------------------------------------------------------------- Kaldi


@dataclass(frozen=True)
class _Line:
    """A line of a Kaldi file: its key, the rest, and where it is."""

    key: str
    value: str
    where: str


def _kaldi(path: Path) -> Iterator[Utterance]:
    """A data directory: `segments` cuts the recordings of wav.scp, `text` says what was spoken."""
    recordings = list(_kaldi_lines(path))
    texts = {line.key: line.value for line in _beside(path, "text")}
    segments = path.with_name("segments")
    if not segments.is_file():
        for line in recordings:
            yield Utterance(line.key, _path(line), text=texts.get(line.key), where=line.where)
        return
    lines = {line.key: line for line in recordings}
    for segment in _kaldi_lines(segments):
        recording, start, end = _segment(segment)
        if recording not in lines:
            raise FormatError(
                f"{segment.where}: recording {recording} is not in {path}; "
                "give the wav.scp that these segments belong to"
            )
        yield Utterance(
            segment.key,
            _path(lines[recording]),
            start,
            end - start,
            text=texts.get(segment.key),
            where=segment.where,
        )


def _beside(path: Path, name: str) -> Iterator[_Line]:
    file = path.with_name(name)
    return _kaldi_lines(file) if file.is_file() else iter(())


def _kaldi_lines(path: Path) -> Iterator[_Line]:
    place = at_line(path)
    for number, line in text_lines(path):
        key, _, value = line.strip().partition(" ")
        if key:
            yield _Line(key, value.strip(), place(number))


def _path(line: _Line) -> Path:
    if not line.value or line.value.endswith("|"):
        raise FormatError(
            f"{line.where}: {line.key} has no path but {line.value or 'nothing'!r}, and commands "
            "are not run; write the audio to files (wav-copy) and name those"
        )
    return Path(line.value)


def _segment(line: _Line) -> tuple[str, float, float]:
    try:
        recording, start, end = line.value.split()
        begin, finish = float(start), float(end)
    except ValueError as error:
        raise FormatError(
            f"{line.where}: {line.key} {line.value!r}, expected utterance, recording, start and "
            "end in seconds"
        ) from error
    if not 0 <= begin < finish < float("inf"):
        raise FormatError(f"{line.where}: {line.key} starts at {start} s and ends at {end} s")
    return recording, begin, finish
