"""Rooms and noise over clean speech, by seed.

Every aspect (level, room, kind of noise, ratio, the noise itself) has a random stream of its own,
keyed by the seed of the utterance. So a changed range of signal-to-noise ratios changes nothing but
the ratios: the same noise, louder or softer. Arrays are (samples,) float64 at 16 kHz, full scale 1.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from speakers import RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Signal = NDArray[np.float64]

__all__ = ["COLOURS", "KINDS", "NoiseOptions", "at_snr", "babble", "coloured", "corrupt", "reverb"]

#: Colour -> b of a power spectrum that falls as 1 / frequency ** b.
COLOURS = {"white": 0.0, "pink": 1.0, "brown": 2.0}
KINDS = (*COLOURS, "babble")

EDGE_SECONDS = (0.1, 0.4)  # noise alone, before the speech and after it
LEVEL_DB = (-6.0, 6.0)
TALKERS = (3, 6)  # of babble
DECAY_SECONDS = (0.15, 0.5)  # until the reverberation has fallen by 60 dB
DIRECT_DB = (3.0, 12.0)  # energy of the direct sound over that of the reverberation
PEAK = 0.98


@dataclass(frozen=True)
class NoiseOptions:
    """How the utterances of a data set sound. Ranges are uniform."""

    snr_db: tuple[float, float] = (5.0, 20.0)
    kinds: tuple[str, ...] = KINDS
    room: float = 0.5  #: probability of a reverberant room


def corrupt(
    speech: Signal, seed: int, options: NoiseOptions, talker: Callable[[int], Signal]
) -> Signal:
    """Put speech into a room and into noise; the result is longer by the edges.

    `talker(i)` is other speech for babble, for any i >= 0. The mean power of the speech (with its
    reverberation, without the edges) over that of the noise is the drawn ratio.
    """
    ratio = _stream(seed, "ratio").uniform(*options.snr_db)
    kind = _stream(seed, "kind").choice(options.kinds)
    room = _stream(seed, "room")
    if room.uniform() < options.room:
        speech = reverb(speech, room)
    padded = np.pad(speech, _edges(seed))
    rng = _stream(seed, "noise")
    if kind == "babble":
        noise = babble(len(padded), talker, rng)
    else:
        noise = coloured(len(padded), COLOURS[kind], rng)
    mixed = padded + at_snr(noise, float(np.mean(speech**2)), ratio)
    mixed *= 10 ** (_stream(seed, "level").uniform(*LEVEL_DB) / 20)
    return mixed * min(1.0, PEAK / float(np.abs(mixed).max()))


def at_snr(noise: Signal, speech_power: float, snr_db: float) -> Signal:
    """Scale noise so that `speech_power` over its mean power is `snr_db`."""
    factor: Signal = noise * np.sqrt(speech_power / np.mean(noise**2) / 10 ** (snr_db / 10))
    return factor


def coloured(length: int, exponent: float, rng: np.random.Generator) -> Signal:
    """Gaussian noise whose power falls as 1 / frequency ** exponent; nothing below 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    audible = frequency >= 20
    spectrum[~audible] = 0
    spectrum[audible] /= frequency[audible] ** (exponent / 2)
    return np.fft.irfft(spectrum, length)


def babble(length: int, talker: Callable[[int], Signal], rng: np.random.Generator) -> Signal:
    """Several talkers at once, each of equal power, begun anywhere and repeated as needed."""
    total = np.zeros(length)
    for _ in range(rng.integers(*TALKERS, endpoint=True)):
        speech = talker(int(rng.integers(2**31)))
        speech = np.roll(speech, int(rng.integers(len(speech))))
        total += np.resize(speech / np.sqrt(np.mean(speech**2)), length)
    return total


def reverb(speech: Signal, rng: np.random.Generator) -> Signal:
    """Reverberate: direct sound, then Gaussian noise that decays exponentially; the same length."""
    decay, direct = rng.uniform(*DECAY_SECONDS), rng.uniform(*DIRECT_DB)
    time = np.arange(1, round(decay * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    tail *= np.sqrt(10 ** (-direct / 10) / np.sum(tail**2))
    response = np.concatenate([[1.0], tail])
    size = len(speech) + len(response)
    return np.fft.irfft(np.fft.rfft(speech, size) * np.fft.rfft(response, size), size)[
        : len(speech)
    ]


def _edges(seed: int) -> Sequence[int]:
    seconds = _stream(seed, "edges").uniform(*EDGE_SECONDS, 2)
    return [round(edge * RATE) for edge in seconds.tolist()]


def _stream(seed: int, aspect: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(aspect.encode())])
