"""Utterances to samples: one channel, one rate, whole or block by block.

soundfile reads (WAV, FLAC, OGG and what else libsndfile knows), soxr resamples. A file of an hour
is read in blocks, so that at most its samples at the requested rate are in memory. What cannot be
heard is an error of one line, never silence that stands for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rescore.acoustic.utterance import Utterance
from rescore.errors import AudioError
from rescore.installation import install_hint

if TYPE_CHECKING:
    import soundfile

__all__ = ["audio_blocks", "read_audio", "resample", "seconds_of"]

#: How much an utterance may outlast its file: manifests round times to hundredths of a second.
_ROUNDING = 0.01

#: Larger samples are no sound: integers of 32 bits that nobody scaled are below.
_LOUDEST = 2.0**32

_BLOCK_SECONDS = 30.0
_UNKNOWN_FRAMES = 1 << 62
#: Sizes in headers of WAV files that were written into a pipe, before their length was known.
_UNKNOWN_BYTES = 0x7FFFF000


def read_audio(utterance: Utterance, rate: int) -> np.ndarray:
    """Return the samples (n,) float32 in [-1, 1] of an utterance, at `rate` Hz.

    Raises AudioError, naming utterance and file, where the file is missing, damaged or cut off, has
    several channels and none is chosen, ends before the utterance, or holds one value only.
    """
    return np.concatenate(list(audio_blocks(utterance, rate)))


def audio_blocks(
    utterance: Utterance, rate: int, seconds: float = _BLOCK_SECONDS
) -> Iterator[np.ndarray]:
    """Yield the samples of `read_audio` in blocks of about `seconds`.

    Raises AudioError as `read_audio` does; that there is only silence is known after the last
    block.
    """
    with _opened(utterance) as file:
        blocks = _blocks(file, utterance, max(1, round(seconds * file.samplerate)))
        yield from _resampled(_with_sound(blocks, utterance), file.samplerate, rate)


def seconds_of(utterance: Utterance) -> float:
    """Return the duration in seconds, from the manifest or the file's header.

    Raises AudioError if the file is needed and cannot be opened.
    """
    if utterance.duration is not None:
        return utterance.duration
    with _opened(utterance) as file:
        return float(file.frames / file.samplerate - utterance.start)


def resample(samples: np.ndarray, source_rate: float, rate: float) -> np.ndarray:
    """Return samples (n,) float32 of `source_rate` at `rate`: (about n * rate / source_rate,).

    Only the ratio counts: `resample(x, 1.1, 1.0)` speaks 1.1 times as fast.
    """
    if source_rate == rate:
        return samples
    resampled: np.ndarray = _soxr().resample(samples, source_rate, rate)
    return resampled


@contextmanager
def _opened(utterance: Utterance) -> Iterator[soundfile.SoundFile]:
    """The open file of an utterance; what libsndfile says of it becomes one line."""
    soundfile = _soundfile()
    if not os.path.isfile(utterance.path):
        raise AudioError(f"{_place(utterance)}: no such file; check the path in the manifest")
    try:
        with soundfile.SoundFile(utterance.path) as file:
            _refuse_truncated_wav(file, utterance)
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{_place(utterance)}: cannot be read ({_reason(error)}); "
            "it is damaged, cut off or not audio: get it again"
        ) from error


def _blocks(
    file: soundfile.SoundFile, utterance: Utterance, frames_per_block: int
) -> Iterator[np.ndarray]:
    """The chosen channel of the utterance's frames, at the file's rate."""
    frames = None
    if utterance.duration is not None:
        frames = round(utterance.duration * file.samplerate)
    _check_stretch(file, utterance, frames)
    file.seek(round(utterance.start * file.samplerate))
    count = 0
    while frames is None or count < frames:
        size = frames_per_block if frames is None else min(frames_per_block, frames - count)
        block = file.read(size, dtype="float32", always_2d=True)
        if not len(block):
            break
        count += len(block)
        samples = block[:, utterance.channel or 0]
        _refuse_what_is_no_sound(samples, utterance)
        yield np.ascontiguousarray(samples)
    expected = file.frames - round(utterance.start * file.samplerate) if frames is None else frames
    if file.frames < _UNKNOWN_FRAMES and count < expected - _ROUNDING * file.samplerate:
        raise AudioError(
            f"{_place(utterance)}: cut off, {count} samples of {expected}; get it again"
        )


def _refuse_what_is_no_sound(samples: np.ndarray, utterance: Utterance) -> None:
    """Raise AudioError for samples of which features would be infinite, or no numbers."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{_place(utterance)}: holds samples that are not numbers; get it again")
    largest = float(np.abs(samples).max())
    if largest > _LOUDEST:
        raise AudioError(
            f"{_place(utterance)}: holds samples of {largest:.3g}, expected -1 to 1; get it again"
        )


def _with_sound(blocks: Iterator[np.ndarray], utterance: Utterance) -> Iterator[np.ndarray]:
    """The same blocks. Raises AudioError after them if they hold nothing, or one value."""
    values: set[float] = set()
    for block in blocks:
        values |= {float(block.min()), float(block.max())}
        yield block
    if not values:
        raise AudioError(f"{_place(utterance)}: no audio, 0 samples; leave it out of the manifest")
    if len(values) == 1:
        raise AudioError(
            f"{_place(utterance)}: silence, every sample is {values.pop():g}; "
            "leave it out of the manifest"
        )


def _check_stretch(file: soundfile.SoundFile, utterance: Utterance, frames: int | None) -> None:
    """Raise AudioError if the file lacks the channel or the stretch of the utterance."""
    if utterance.channel is None and file.channels > 1:
        raise AudioError(
            f"{_place(utterance)}: {file.channels} channels, expected one; "
            "write one channel to a file of its own, or give lhotse cuts that choose it"
        )
    if (utterance.channel or 0) >= file.channels:
        raise AudioError(
            f"{_place(utterance)}: channel {utterance.channel} of {file.channels}, "
            "counted from 0; check the manifest"
        )
    if file.frames >= _UNKNOWN_FRAMES:
        return
    start = round(utterance.start * file.samplerate)
    end = start + 1 if frames is None else start + frames
    if file.frames and end > file.frames + _ROUNDING * file.samplerate:
        raise AudioError(
            f"{_place(utterance)}: the utterance ends at {end / file.samplerate:.2f} s, the file "
            f"at {file.frames / file.samplerate:.2f} s; check the manifest"
        )


def _refuse_truncated_wav(file: soundfile.SoundFile, utterance: Utterance) -> None:
    """Raise AudioError where a WAV header promises more than the file holds.

    libsndfile reads on without a word, except in its log.
    """
    match = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if match and int(match[2]) < int(match[1]) < _UNKNOWN_BYTES:
        raise AudioError(
            f"{_place(utterance)}: cut off, {match[2]} bytes of {match[1]}; get it again"
        )


def _resampled(blocks: Iterator[np.ndarray], source_rate: int, rate: int) -> Iterator[np.ndarray]:
    if source_rate == rate:
        yield from blocks
        return
    stream = _soxr().ResampleStream(source_rate, rate, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _soxr() -> Any:
    try:
        import soxr  # noqa: PLC0415 - optional
    except ImportError as error:
        raise _missing("soxr", error) from error
    return soxr


def _soundfile() -> Any:
    try:
        import soundfile  # noqa: PLC0415 - optional
    except (ImportError, OSError) as error:  # OSError: no libsndfile
        raise _missing("soundfile", error) from error
    return soundfile


def _missing(library: str, error: Exception) -> AudioError:
    return AudioError(f"reading audio needs {library} ({error}); {install_hint('asr')}")


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "error_string", error)).split()).rstrip(".")


def _place(utterance: Utterance) -> str:
    return f"{utterance.place()}: {utterance.path}"
