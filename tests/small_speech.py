"""Speech small enough for tests: every letter is a tone, and a word is its letters' tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rescore.train.options import CtcOptions, SpeechOptions
from rescore.train.speech_corpus import prepare_speech

soundfile = pytest.importorskip("soundfile")

RATE = 16_000
TEXTS = ["ab", "ba", "a b", "b a b", "abba", "bab a", "a", "b"]

TINY_CTC = CtcOptions(
    steps=12,
    learning_rate=5e-3,
    warmup=3,
    width=16,
    layers=1,
    heads=2,
    feed_forward=24,
    kernel=3,
    bf16=False,
    batch_seconds=3.0,
    evaluate_every=4,
    save_every=4,
)


def spoken(text: str, seed: int = 0) -> np.ndarray:
    """Samples (n,) float32: 0.2 s of a tone for each letter, 0.1 s of noise after each."""
    chance = np.random.default_rng(seed)
    parts = [0.01 * chance.standard_normal(1600)]
    for letter in text:
        time = np.arange(3200) / RATE
        pitch = {" ": 0.0, "a": 400.0, "b": 1500.0}[letter] * chance.uniform(0.95, 1.05)
        parts += [0.3 * np.sin(2 * np.pi * pitch * time), 0.01 * chance.standard_normal(1600)]
    return np.concatenate(parts).astype(np.float32)


def manifest(folder: Path, name: str = "train", texts=TEXTS, repeat: int = 1) -> Path:
    """A TSV of recordings of these texts."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    lines = []
    for number, text in enumerate(texts * repeat):
        path = folder / name / f"{number}.wav"
        soundfile.write(path, spoken(text, number), RATE)
        lines.append(f"{name}-{number}\t{path}\t{text}\n")
    (folder / f"{name}.tsv").write_text("".join(lines))
    return folder / f"{name}.tsv"


def speech_options(folder: Path, repeat: int = 1, **options) -> SpeechOptions:
    """Recordings of `TEXTS`, prepared in `folder/corpus`."""
    train, valid = manifest(folder, repeat=repeat), manifest(folder, "valid", TEXTS[:4])
    speech = SpeechOptions((train,), (valid,), folder / "corpus", **options)
    prepare_speech(speech)
    return speech
