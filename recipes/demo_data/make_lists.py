"""Make the demo's N-best lists.

Sentences -> synthetic speech -> noise -> PocketSphinx -> lattice -> the best distinct word
sequences.

Everything about an utterance (voice, speed, noise) follows from a hash of its id, and each
utterance has a decoder of its own, because the engine carries state from one utterance to the next.
So the files do not depend on the order or the number of processes. README.md explains the choices.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np
from lattice_paths import Lattice, LatticeError, Weights, best_paths, read_slf
from tqdm import tqdm

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
PARTS = ("dev", "test")
RATE = 16_000
SPEECH_RMS = 2_000.0  # of 32,768; leaves room for the peaks
EDGE_SECONDS = 0.25  # noise alone before and after the speech

VOICES = ("rms", "rms", "awb", "kal16", "slt")  # named twice: drawn twice as often
STRETCHES = (1.0, 1.1, 1.2)
SNRS_DB = (25, 30, 35, 40)
NOISES = ("white", "pink")


class DemoError(Exception):
    """A missing tool, a bad line of the sentence file, or an utterance that could not be made.

    The message says which and what to do.
    """


@dataclass(frozen=True)
class Sentence:
    """One line of sentences.txt. `part` is the middle of the id: dev or test."""

    id: str
    text: str

    @property
    def part(self) -> str:
        return self.id.split("-")[1]


@dataclass(frozen=True)
class Sound:
    """How one utterance sounds.

    flite voice, duration factor (above 1 is slower), speech-to-noise power ratio in dB, noise
    colour, noise seed.
    """

    voice: str
    stretch: float
    snr_db: int
    noise: str
    seed: int


def read_sentences(path: Path) -> list[Sentence]:
    """Read `id<TAB>sentence` lines.

    Raises DemoError with the line number for anything else, and for a repeated id.
    """
    sentences: list[Sentence] = []
    seen: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        utterance_id, _, text = line.partition("\t")
        fields = utterance_id.split("-")
        if len(fields) != 3 or fields[1] not in PARTS or not text or utterance_id in seen:
            raise DemoError(
                f"{path}:{number}: expected a new id such as demo-dev-0001, a tab and a sentence, "
                f"got {line!r}"
            )
        seen.add(utterance_id)
        sentences.append(Sentence(utterance_id, text))
    return sentences


def choose_sound(utterance_id: str) -> Sound:
    """Draw the sound of an utterance from the SHA-256 of its id: the same on every machine."""
    digest = hashlib.sha256(utterance_id.encode()).digest()
    return Sound(
        voice=VOICES[digest[0] % len(VOICES)],
        stretch=STRETCHES[digest[1] % len(STRETCHES)],
        snr_db=SNRS_DB[digest[2] % len(SNRS_DB)],
        noise=NOISES[digest[3] % len(NOISES)],
        seed=int.from_bytes(digest[4:12], "big"),
    )


def synthesise(text: str, sound: Sound) -> NDArray[np.float64]:
    """Speak a text with flite. Returns mono samples at 16 kHz, scaled to SPEECH_RMS.

    Raises DemoError if flite fails or gives another rate.
    """
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        command = [
            "flite",
            "-voice",
            sound.voice,
            "--setf",
            f"duration_stretch={sound.stretch}",
            "-t",
            text,
            "-o",
            str(wav),
        ]
        done = subprocess.run(command, capture_output=True, check=False, text=True)
        if done.returncode or not wav.exists():
            raise DemoError(
                f"flite failed with voice {sound.voice}: "
                f"{done.stderr.strip() or done.stdout.strip()}"
            )
        with wave.open(str(wav)) as stream:
            form = (stream.getnchannels(), stream.getsampwidth(), stream.getframerate())
            data = stream.readframes(stream.getnframes())
    if form != (1, 2, RATE):
        raise DemoError(
            f"flite voice {sound.voice} gave (channels, bytes, rate) {form}, "
            f"expected (1, 2, {RATE})"
        )
    speech = np.frombuffer(data, dtype="<i2").astype(np.float64)
    return speech * (SPEECH_RMS / math.sqrt(float(np.mean(speech**2))))


def add_noise(speech: NDArray[np.float64], sound: Sound) -> NDArray[np.int16]:
    """Put noise around and over the speech; returns 16-bit samples at 16 kHz.

    The mean power of the whole speech over that of the noise is `snr_db`.
    """
    edge = round(EDGE_SECONDS * RATE)
    padded = np.pad(speech, (edge, edge))
    noise = np.random.default_rng(sound.seed).standard_normal(len(padded))
    if sound.noise == "pink":  # power falls as 1 / frequency
        spectrum = np.fft.rfft(noise)
        noise = np.fft.irfft(
            spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(padded)
        )
    ratio = math.sqrt(float(np.mean(speech**2) / np.mean(noise**2)) / 10 ** (sound.snr_db / 10))
    return cast(
        "NDArray[np.int16]", np.clip(np.rint(padded + ratio * noise), -32_768, 32_767).astype("<i2")
    )


class Engine:
    """One PocketSphinx decoder with its own US English models and default settings.

    For one utterance, since it keeps state between utterances.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415 - so that a machine without it gets one clear line

        self._decoder: Any = Decoder(loglevel="FATAL")
        self._ngram: Any = self._decoder.get_lm("_default")
        self._cache: dict[tuple[str, str, str], float] = {}
        config = self._decoder.config
        scale = float(config["bestpathlw"])
        self.weights = Weights(scale, scale / float(config["lw"]) * math.log(float(config["wip"])))

    def log_prob(self, word: str, last: str, before_last: str) -> float:
        """The engine's trigram log-probability (nats, unscaled).

        Its interface wants the word history backwards.
        """
        key = (word, last, before_last)
        if key not in self._cache:
            words = [word, last, before_last] if before_last else [word, last]
            self._cache[key] = float(self._decoder.logmath.log_to_ln(self._ngram.prob(words)))
        return self._cache[key]

    def decode(self, samples: NDArray[np.int16]) -> tuple[str, str]:
        """Decode a whole utterance.

        Returns the engine's own best text (fillers and pronunciation marks as it prints them) and
        its lattice as HTK SLF.

        Raises DemoError if the engine has no lattice.
        """
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        best = (
            self._decoder.hyp()
        )  # also runs the best-path search that the lattice's posteriors come from
        lattice = self._decoder.get_lattice()
        if lattice is None:
            raise DemoError("the decoder gave no lattice")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "utterance.slf"
            lattice.write_htk(str(path))
            return ("" if best is None else str(best.hypstr)), path.read_text(encoding="utf-8")


def list_hypotheses(lattice: Lattice, engine: Engine, depth: int) -> list[dict[str, Any]]:
    """Take the `depth` best distinct word sequences by the engine's total.

    Scores in nats, higher is better, rounded to 3 decimals.
    """
    return [
        {
            "text": " ".join(path.words),
            "scores": {"am": round(path.am, 3), "ngram": round(path.ngram, 3)},
        }
        for path in islice(best_paths(lattice, engine.log_prob, engine.weights), depth)
    ]


@dataclass(frozen=True)
class Made:
    """One finished utterance:

    Its record, the lattice it came from, and whether hypothesis 1 is the engine's own best.
    """

    part: str
    record: dict[str, Any]
    slf: str
    agrees: bool


def make_record(sentence: Sentence, depth: int) -> Made:
    """Speak, add noise, decode and list one sentence. Raises DemoError naming the utterance."""
    sound = choose_sound(sentence.id)
    try:
        samples = add_noise(synthesise(sentence.text, sound), sound)
        engine = Engine()
        best, slf = engine.decode(samples)
        hyps = list_hypotheses(read_slf(slf.splitlines()), engine, depth)
    except (DemoError, LatticeError) as error:
        raise DemoError(f"utterance {sentence.id}: {error}") from error
    about = {
        "duration": round(len(samples) / RATE, 3),
        "voice": sound.voice,
        "snr_db": sound.snr_db,
    }
    agrees = bool(hyps) and hyps[0]["text"] == " ".join(word.split("(")[0] for word in best.split())
    return Made(
        sentence.part, {"id": sentence.id, "ref": sentence.text, **about, "hyps": hyps}, slf, agrees
    )


def write_whole(path: Path, text: str) -> None:
    """Write a file completely or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_tools() -> None:
    """Raise DemoError, in one line, if flite or PocketSphinx is missing."""
    if shutil.which("flite") is None:
        raise DemoError(
            "flite is not installed; install it first (Debian and Ubuntu: apt-get install flite)"
        )
    try:
        import pocketsphinx  # noqa: F401, PLC0415
    except ImportError as error:
        raise DemoError(
            "PocketSphinx is not installed; install it first (pip install pocketsphinx==5.1.1)"
        ) from error


def make_all(sentences: list[Sentence], depth: int, jobs: int) -> list[Made]:
    """Make every utterance, in the order of the sentences, with a progress bar on stderr."""
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        finished: Iterable[Made] = pool.map(partial(make_record, depth=depth), sentences)
        return list(tqdm(finished, total=len(sentences), unit="utt", file=sys.stderr))


def save(utterances: list[Made], out_dir: Path, slf_dir: Path | None) -> None:
    """Write dev.jsonl and test.jsonl (those parts that have utterances), and the lattices if a
    folder is given.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        of_part = [item for item in utterances if item.part == part]
        if of_part:
            write_whole(
                out_dir / f"{part}.jsonl",
                "".join(json.dumps(item.record) + "\n" for item in of_part),
            )
            click.echo(
                f"{part}: {len(of_part)} utterances; hypothesis 1 is the decoder's own in "
                f"{sum(item.agrees for item in of_part)}",
                err=True,
            )
    if slf_dir is not None:
        slf_dir.mkdir(parents=True, exist_ok=True)
        for item in utterances:
            write_whole(slf_dir / f"{item.record['id']}.slf", item.slf)


@click.command(context_settings={"show_default": True})
@click.option(
    "--sentences",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    default=HERE / "sentences.txt",
    show_default="sentences.txt here",
)
@click.option(
    "--out-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder for dev.jsonl and test.jsonl.",
)
@click.option(
    "--slf-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also keep the lattices here, as HTK SLF.",
)
@click.option("--part", type=click.Choice(PARTS), multiple=True, help="Make these parts alone.")
@click.option(
    "--depth", type=click.IntRange(min=1), default=50, help="Most hypotheses per utterance."
)
@click.option("--jobs", type=click.IntRange(min=1), default=2, help="Processes.")
def main(
    sentences: Path,
    out_dir: Path,
    slf_dir: Path | None,
    part: tuple[str, ...],
    depth: int,
    jobs: int,
) -> None:
    """Make the demo's N-best lists from its sentences with flite and PocketSphinx."""
    try:
        require_tools()
        chosen = [
            sentence for sentence in read_sentences(sentences) if not part or sentence.part in part
        ]
        save(make_all(chosen, depth, jobs), out_dir, slf_dir)
    except (DemoError, OSError, BrokenProcessPool) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
