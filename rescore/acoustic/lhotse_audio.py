"""Utterances of lhotse's manifests, read as JSON lines without lhotse.

Source: lhotse-speech/lhotse, lhotse/audio/recording.py, source.py and lhotse/cut/data.py (seen with
1.33.0). What only lhotse can make audible is refused by name: transforms of a recording, mixed
cuts, and sources that are not files.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rescore.acoustic.utterance import Utterance
from rescore.errors import FormatError
from rescore.formats.files import PathLike, at_line, byte_lines
from rescore.formats.lhotse_manifest import is_cut, record_of, reference_of, supervisions_of
from rescore.formats.record import id_of
from rescore.formats.strict_json import field, number

__all__ = ["lhotse_utterances"]

_SAVE = "save its audio with lhotse (cuts.save_audios) and give that manifest"


def lhotse_utterances(path: PathLike, recordings: PathLike | None = None) -> Iterator[Utterance]:
    """Yield an utterance for every recording, cut or supervision of a manifest.

    Supervisions need `recordings`, the manifest of what they are cut from. A cut with several
    supervisions has no text, for none is that of the whole. Raises FormatError that
    names the line.
    """
    known = {} if recordings is None else _by_id(recordings)
    place = at_line(path)
    for line_number, line in byte_lines(path):
        if not line.strip():
            continue
        where = place(line_number)
        record = record_of(line, where)
        if is_cut(record):
            yield _of_cut(record, where)
        elif "recording_id" in record:
            yield _of_supervision(record, known, where)
        elif "sources" in record:
            yield _of_recording(record, where)
        else:
            raise FormatError(f"{where}: not a recording, a cut or a supervision of lhotse")


def _by_id(path: PathLike) -> dict[str, dict[str, Any]]:
    place = at_line(path)
    records = (
        (record_of(line, place(line_number)), place(line_number))
        for line_number, line in byte_lines(path)
        if line.strip()
    )
    return {id_of(record, where): record for record, where in records}


def _of_recording(record: dict[str, Any], where: str) -> Utterance:
    utterance = id_of(record, where)
    at = f"{where}: utterance {utterance}"
    return Utterance(utterance, _file(record, _source(record, None, at), at), where=where)


def _of_cut(cut: dict[str, Any], where: str) -> Utterance:
    utterance = id_of(cut, where)
    at = f"{where}: utterance {utterance}"
    if "tracks" in cut:
        raise FormatError(f"{at}: a mixed cut, which only lhotse mixes; {_SAVE}")
    if cut.get("recording") is None:
        raise FormatError(f"{at}: the cut has no recording, only features; give cuts with audio")
    recording = field(cut, "recording", dict, at, "an object")
    supervisions = [supervision for supervision, _ in supervisions_of(cut, at)]
    text = reference_of(supervisions[0], at) if len(supervisions) == 1 else None
    return _stretch(utterance, cut, recording, text, where)


def _of_supervision(
    supervision: dict[str, Any], recordings: dict[str, dict[str, Any]], where: str
) -> Utterance:
    utterance = id_of(supervision, where)
    at = f"{where}: utterance {utterance}"
    name = field(supervision, "recording_id", str, at, "a string")
    if name not in recordings:
        raise FormatError(
            f"{at}: its recording {name} is not known; give the recording manifest beside the "
            "supervisions, or cuts"
        )
    return _stretch(utterance, supervision, recordings[name], reference_of(supervision, at), where)


def _stretch(
    utterance: str,
    item: dict[str, Any],
    recording: dict[str, Any],
    text: str | None,
    where: str,
) -> Utterance:
    """The part of a recording that a cut or a supervision takes."""
    at = f"{where}: utterance {utterance}"
    channel = _channel(item, at)
    source = _source(recording, channel, at)
    channels = source.get("channels", [0])
    return Utterance(
        utterance,
        _file(recording, source, at),
        number(item.get("start"), at, '"start"'),
        number(item.get("duration"), at, '"duration"'),
        None if channels == [channel] else channels.index(channel),  # as the file counts them
        text,
        where,
    )


def _channel(item: dict[str, Any], at: str) -> int:
    """The one channel that a cut or a supervision has, as the recording counts them."""
    channel = item.get("channel", 0)
    if isinstance(channel, list):
        if len(channel) != 1:
            raise FormatError(f"{at}: {len(channel)} channels, expected one; make a cut of each")
        channel = channel[0]
    if type(channel) is not int or channel < 0:
        raise FormatError(f'{at}: "channel" is {channel!r}, expected a number from 0')
    return channel


def _source(recording: dict[str, Any], channel: int | None, at: str) -> dict[str, Any]:
    """The source that holds a channel; None: the only one."""
    sources = [
        source
        for source in field(recording, "sources", list, at, "a list of objects")
        if isinstance(source, dict) and (channel is None or channel in source.get("channels", [0]))
    ]
    if len(sources) != 1:
        which = "sources" if channel is None else f"sources with channel {channel}"
        raise FormatError(f"{at}: its recording has {len(sources)} {which}, expected one")
    return sources[0]


def _file(recording: dict[str, Any], source: dict[str, Any], at: str) -> Path:
    if recording.get("transforms"):
        raise FormatError(f"{at}: its recording has transforms, which only lhotse applies; {_SAVE}")
    if source.get("type") != "file":
        raise FormatError(
            f"{at}: its audio is of type {source.get('type')!r}, expected a file; {_SAVE}"
        )
    return Path(field(source, "source", str, at, "a path"))
