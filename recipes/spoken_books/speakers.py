"""Speak a sentence with a free speech synthesiser: flite, espeak-ng or festival.

A voice is called ENGINE/NAME. All engines are deterministic: the same versions give the same bytes.
`warp` raises pitch and formants together, as a shorter vocal tract does: the engine speaks `warp`
times more slowly, and what it says is played `warp` times faster.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
import wave
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rescore.errors import RescoreError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HELD_OUT_VOICE", "RATE", "SPEECH_RMS", "VOICES", "require", "speak"]

RATE = 16_000
SPEECH_RMS = 0.06  # of full scale; leaves room for the peaks

#: Voice -> how often it is drawn. flite's are recorded speakers, espeak-ng's are formants.
VOICES = {
    "flite/rms": 4,  # US, male
    "flite/slt": 4,  # US, female
    "flite/awb": 4,  # Scottish, male
    "flite/kal16": 4,  # US, male, diphones
    "espeak/en-us": 1,
    "espeak/en-us+f2": 1,
    "espeak/en-us+m3": 1,
    "espeak/en-gb": 1,
    "espeak/en-gb+f4": 1,
    "espeak/en-gb-scotland+m7": 1,
}

#: Nobody trains on this one: US, male, diphones.
HELD_OUT_VOICE = "festival/ked_diphone"

#: Engine -> the program, and the Debian packages that bring it.
PROGRAMS = {
    "flite": ("flite", "flite"),
    "espeak": ("espeak-ng", "espeak-ng"),
    "festival": ("text2wave", "festival festvox-kdlpc16k"),
}
ESPEAK_WORDS_PER_MINUTE = 165  # at a pace of 1


def require(voices: set[str]) -> None:
    """Raise RescoreError, in one line, if the program of one of the voices is not installed."""
    for engine in sorted({voice.partition("/")[0] for voice in voices}):
        if engine not in PROGRAMS:
            raise RescoreError(
                f"unknown engine {engine!r}, expected ENGINE/NAME with one of {', '.join(PROGRAMS)}"
            )
        program, packages = PROGRAMS[engine]
        if shutil.which(program) is None:
            raise RescoreError(
                f"{program} is not installed; install it first "
                f"(Debian and Ubuntu: apt-get install {packages})"
            )


def speak(text: str, voice: str, pace: float = 1.0, warp: float = 1.0) -> NDArray[np.float64]:
    """Return the speech at 16 kHz, scaled to a root mean square of SPEECH_RMS.

    It lasts `pace` times as long as the voice's own speech. Raises RescoreError if the engine
    fails.
    """
    import soxr  # noqa: PLC0415 - optional

    rate, samples = _synthesised(text, voice, pace * warp)
    speech = np.asarray(soxr.resample(samples, rate * warp, RATE), dtype=np.float64)
    return speech * (SPEECH_RMS / np.sqrt(np.mean(speech**2)))


def _synthesised(text: str, voice: str, stretch: float) -> tuple[int, NDArray[np.float64]]:
    """Return the engine's sampling rate and samples; `stretch` above 1 is slower."""
    engine, _, name = voice.partition("/")
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        done = subprocess.run(
            _command(engine, name, stretch, text, wav),
            capture_output=True,
            check=False,
            input=text if engine == "festival" else "",
            text=True,
        )
        data = wav.read_bytes() if wav.exists() else b""
    if done.returncode or not data:
        said = " ".join((done.stderr or done.stdout).split())
        raise RescoreError(f"voice {voice}: {PROGRAMS[engine][0]} failed ({said}) on {text!r}")
    return _samples(data, voice)


def _command(engine: str, name: str, stretch: float, text: str, wav: Path) -> list[str]:
    if engine == "flite":
        timing = f"duration_stretch={stretch:.4f}"
        return ["flite", "-voice", name, "--setf", timing, "-t", text, "-o", str(wav)]
    if engine == "espeak":
        speed = str(round(ESPEAK_WORDS_PER_MINUTE / stretch))
        return ["espeak-ng", "-v", name, "-s", speed, "-w", str(wav), text]
    timing = f"(begin (voice_{name}) (Parameter.set 'Duration_Stretch {stretch:.4f}))"
    return ["text2wave", "-eval", timing, "-o", str(wav)]


def _samples(data: bytes, voice: str) -> tuple[int, NDArray[np.float64]]:
    with wave.open(io.BytesIO(data)) as stream:
        layout = (stream.getnchannels(), stream.getsampwidth())
        frames = stream.readframes(stream.getnframes())
        rate = stream.getframerate()
    samples = np.frombuffer(frames, dtype="<i2").astype(np.float64) / 32_768
    if layout != (1, 2) or not samples.any():
        raise RescoreError(
            f"voice {voice}: got (channels, bytes) {layout} and {len(samples)} samples, "
            "expected (1, 2) and speech; does `flite -lv` or `espeak-ng --voices` list the voice?"
        )
    return rate, samples
