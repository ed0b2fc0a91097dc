"""The file of posteriors: write then read is the identity, and what is broken is named."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from rescore.acoustic.posterior_file import read_posteriors, write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Segmenter, Symbols
from rescore.errors import FormatError, ScoreError

LETTERS = Symbols(("<pad>", "<unk>", "|", "a", "b"), 0, "boundary", "|", frozenset({1}))
SEGMENTER = Segmenter("tokenizers", b"{}")


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


def test_float16_stays_float16(tmp_path):
    narrow = replace(posteriors("u", 5), log_probs=posteriors("u", 5).log_probs.astype(np.float16))
    write_posteriors([narrow], tmp_path / "p")
    assert read_posteriors(tmp_path / "p").header.dtype == "float16"
    with pytest.raises(FormatError, match="utterance u: is float16, too coarse for a file of flo"):
        write_posteriors([narrow], tmp_path / "q", dtype="float32")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "u"}, "utterance u: this id came before"),
        ({"id": "__metadata__"}, "this id is reserved"),
        ({"frame_shift": 0.04}, "utterance v: has a frame shift of 0.04 s, expected 0.02 s"),
        ({"signature": "other"}, "utterance v: made by 'other', expected 'model'"),
        ({"symbols": Symbols(LETTERS.pieces, 1)}, "utterance v: has other symbols"),
    ],
)
def test_utterances_of_two_recognisers_and_repeated_ids_are_refused(tmp_path, changes, message):
    items = [posteriors("u", 3), replace(posteriors("v", 3), **changes)]
    with pytest.raises(FormatError) as error:
        write_posteriors(items, tmp_path / "p")
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def with_metadata(path, **changes):
    """The file with other metadata; None takes a value away."""
    with safe_open(path, framework="np") as file:
        metadata = {**file.metadata(), **changes}
    kept = {name: text for name, text in metadata.items() if text is not None}
    save_file(load_file(path), path, kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "p: its metadata lack the format 'dlmrescore-posteriors 1'"),
        ({"blank": None}, "p: its metadata are broken (Object missing required field `blank`)"),
        ({"pieces": "["}, "p: its metadata 'pieces': broken JSON: it ends too early"),
        (
            {"pieces": "[" * 5000},
            "p: its metadata 'pieces': broken JSON: lists or objects are nested",
        ),
        ({"pieces": '["\\ud800"]'}, "p: its metadata 'pieces': broken JSON: it holds half of a"),
        (
            {"blank": "true"},
            "p: its metadata are broken (Expected `int`, got `bool` - at `$.blank`)",
        ),
        ({"special": "[0.5]"}, "p: its metadata are broken (Expected `int`, got `float`"),
        ({"blank": "9"}, "p: symbols: blank is column 9, expected 0 to 4"),
        ({"pieces": '["<pad>", "|"]', "special": "[]"}, "utterance u: has 5 columns, expected 2"),
        ({"frame_shift": "-1"}, "utterance u: the frame shift is -1.0"),
        ({"dtype": '"int8"'}, "p: dtype 'int8', expected float16 or float32"),
    ],
)
def test_metadata_that_are_broken_are_refused(tmp_path, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    write_posteriors([posteriors("u", 3)], "p")
    with_metadata("p", **changes)
    with pytest.raises(FormatError) as error:
        read_posteriors("p")["u"]
    assert message in str(error.value)


def test_files_that_are_no_posteriors_are_refused(tmp_path):
    write_posteriors([posteriors("u", 3)], tmp_path / "p")
    (tmp_path / "cut").write_bytes((tmp_path / "p").read_bytes()[:-4])
    (tmp_path / "text").write_text("no")
    for name in ("cut", "text"):
        with pytest.raises(FormatError, match=f"{name}: is no whole safetensors file"):
            read_posteriors(tmp_path / name)
    with pytest.raises(FormatError, match="none: cannot be read: no such file"):
        read_posteriors(tmp_path / "none")


def test_a_header_that_the_file_does_not_hold_is_refused_before_it_is_mapped(tmp_path):
    write_posteriors([posteriors("u", 3)], tmp_path / "p")
    os.truncate(tmp_path / "p", 1 << 40)  # sparse
    with pytest.raises(FormatError, match=r"p: is no whole .* file \(holds 10995"):
        read_posteriors(tmp_path / "p")


def test_rows_of_another_shape_are_refused_when_frames_are_counted(tmp_path):
    write_posteriors([posteriors("u", 3)], tmp_path / "p")
    with safe_open(tmp_path / "p", framework="np") as file:
        metadata = file.metadata()
    save_file({"u": np.zeros((), np.float32)}, tmp_path / "p", metadata)
    with pytest.raises(FormatError, match=r"p: utterance u: has shape \(\), expected \(frames"):
        read_posteriors(tmp_path / "p")


def test_one_utterance_is_read_at_a_time(tmp_path):
    """A broken row is an error of its utterance; the others are read."""
    write_posteriors([posteriors("u", 3), posteriors("v", 3)], tmp_path / "p")
    data = bytearray((tmp_path / "p").read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"  # NaN
    (tmp_path / "p").write_bytes(data)
    file = read_posteriors(tmp_path / "p")
    assert file["u"].seconds == 0.06
    with pytest.raises(FormatError, match="p: utterance v, frame 2: symbol 'b' has nan"):
        file["v"]


def test_symbols_with_their_segmenter_come_back(tmp_path):
    symbols = replace(LETTERS, word_rule="mark", boundary=None, segmenter=SEGMENTER)
    write_posteriors([posteriors("u", 3, symbols)], tmp_path / "p")
    assert read_posteriors(tmp_path / "p").symbols == symbols


def test_an_utterance_without_posteriors_is_named(tmp_path):
    write_posteriors([posteriors("u", 3)], tmp_path / "p")
    with pytest.raises(ScoreError, match=r"dev.jsonl:3: utterance v: .* has no posteriors of it"):
        read_posteriors(tmp_path / "p").of("v", "dev.jsonl:3: utterance v")
    with pytest.raises(KeyError):
        read_posteriors(tmp_path / "p")["v"]
