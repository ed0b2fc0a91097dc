"""The file of posteriors: write then read is the identity, and what is broken is named."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load_file

from rescore.acoustic.posterior_file import read_posteriors, write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Symbols
from rescore.errors import ScoreError

LETTERS = Symbols(("<pad>", "<unk>", "|", "a", "b"), 0, "boundary", "|", frozenset({1}))


def log_softmax(logits):
    logits = logits - logits.max(axis=1, keepdims=True)
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def posteriors(name, frames, symbols=LETTERS, seed=0):
    random = np.random.default_rng([seed, frames])
    rows = log_softmax(4 * random.normal(size=(frames, len(symbols))))
    return Posteriors(name, rows, symbols, 0.02, signature="model")


def test_write_then_read_is_the_identity(tmp_path):
    items = [posteriors("u 1", 7), posteriors("ü/2", 1), posteriors("0", 300)]
    path = tmp_path / "p.safetensors"
    assert write_posteriors(iter(items), path) == 3
    file = read_posteriors(path)
    assert (file.symbols, file.frame_shift, file.signature) == (LETTERS, 0.02, "model")
    assert set(file) == {"u 1", "ü/2", "0"}
    for item in items:
        assert file.frames(item.id) == len(item.log_probs)
        assert np.array_equal(file[item.id].log_probs, item.log_probs)
    assert set(load_file(path)) == set(file)


def test_float16_halves_the_file_and_keeps_values_to_its_rounding(tmp_path):
    item = posteriors("u", 500)
    write_posteriors([item], tmp_path / "p", dtype="float16")
    back = read_posteriors(tmp_path / "p")["u"].log_probs
    assert back.dtype == np.float16
    np.testing.assert_allclose(back, item.log_probs, rtol=2**-11, atol=2**-24)


def test_an_utterance_without_posteriors_is_named(tmp_path):
    write_posteriors([posteriors("u", 3)], tmp_path / "p")
    with pytest.raises(ScoreError, match=r"dev.jsonl:3: utterance v: .* has no posteriors of it"):
        read_posteriors(tmp_path / "p").of("v", "dev.jsonl:3: utterance v")
    with pytest.raises(KeyError):
        read_posteriors(tmp_path / "p")["v"]
