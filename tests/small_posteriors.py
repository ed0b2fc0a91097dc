"""Posteriors as a CTC recogniser makes them, peaky and uncertain by turns, of texts."""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rescore.acoustic.posterior_file import write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Symbols

LETTERS = Symbols(("<pad>", "|", *string.ascii_lowercase, "'"), 0, "boundary", "|")

TEXTS = {
    "u1": "the old house",
    "u2": "she wrote a letter",
    "u3": "no light",
    "u4": "we walked along",
}


def spoken(text: str, symbols: Symbols = LETTERS, seed: int = 0, frames_each: int = 2):
    """(T, V) float32: each label for some frames, blanks between, every fifth label doubtful."""
    rng = np.random.default_rng([seed, len(text)])
    path = [symbols.blank]
    for label in symbols.encode(text):
        path += [label] * int(rng.integers(1, frames_each + 1))
        path += [symbols.blank] * int(rng.integers(1, 3))
    logits = 1.5 * rng.normal(size=(len(path), len(symbols)))
    margin = np.where(rng.random(len(path)) < 0.2, rng.uniform(0, 3, len(path)), 9.0)
    logits[np.arange(len(path)), path] += margin
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def posteriors_of(texts: Mapping[str, str] = TEXTS, symbols: Symbols = LETTERS, seed: int = 0):
    return [
        Posteriors(name, spoken(text, symbols, seed + number), symbols, 0.04, "", f"small|{seed}")
        for number, (name, text) in enumerate(texts.items())
    ]


def save_posteriors(
    path: Path, texts: Mapping[str, str] = TEXTS, symbols: Symbols = LETTERS, seed: int = 0
) -> str:
    write_posteriors(posteriors_of(texts, symbols, seed), path)
    return str(path)
