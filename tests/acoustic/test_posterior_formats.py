"""Posteriors of other tools: what their own writers write comes back, and errors name the place."""

from __future__ import annotations

import json
import os
import random
from contextlib import suppress

import kaldiio
import numpy as np
import pytest
import torch
from damage import damaged
from lhotse import CutSet, MonoCut, NumpyFilesWriter
from small import small_tokenizer

from rescore.acoustic.formats import arrays, kaldi, lhotse, nemo, posteriors
from rescore.acoustic.formats.layout import read_symbols
from rescore.acoustic.posterior_file import write_posteriors
from rescore.errors import FormatError, ModelError, RescoreError

SYMBOLS = ["<blk>", "<unk>", "\u2581a", "b", "c"]


def rows(frames, blank=4):
    """Log-probabilities of a network that prefers the blank."""
    logits = 3 * np.random.default_rng(frames).normal(size=(frames, len(SYMBOLS)))
    logits[:, 0] += blank
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


UTTERANCES = {"u1": rows(5), "u2": rows(7), "u3": rows(1)}


@pytest.fixture
def layout(tmp_path):
    table = [f"{symbol} {k}" for k, symbol in enumerate(SYMBOLS)]
    (tmp_path / "tokens.txt").write_text("\n".join([*table, "#0 5", ""]), encoding="utf-8")
    return {"symbols": tmp_path / "tokens.txt", "frame_shift": 0.04}


def refuses(read, message):
    with pytest.raises(FormatError) as error:
        list(read)
    assert message in str(error.value)


def equal(read, expected=None):
    found = {item.id: item for item in read}
    expected = UTTERANCES if expected is None else expected
    assert list(found) == list(expected)
    for name, matrix in expected.items():
        np.testing.assert_array_equal(found[name].log_probs, matrix)
        assert found[name].frame_shift == 0.04
        assert found[name].symbols.pieces == tuple(SYMBOLS)
        assert (found[name].symbols.blank, found[name].symbols.special) == (0, {1})


def test_a_sentencepiece_model_of_other_symbols_is_refused(tmp_path, layout):
    (tmp_path / "bpe.model").write_bytes(small_tokenizer().serialized)
    with pytest.raises(ModelError, match=r"bpe.model: \d of its \d+ pieces are symbols"):
        read_symbols(layout["symbols"], bpe=tmp_path / "bpe.model")


def test_a_folder_of_arrays(tmp_path, layout):
    for name, matrix in UTTERANCES.items():
        if name == "u2":
            np.savez(tmp_path / name, log_probs=matrix)
        else:
            np.save(tmp_path / name, matrix)
    equal(arrays.read(tmp_path, **layout))


def test_kaldi_archives_and_tables_as_kaldiio_writes_them(tmp_path, layout):
    ark, scp, text = (str(tmp_path / name) for name in ("p.ark", "p.scp", "text.ark"))
    kaldiio.save_ark(ark, UTTERANCES, scp=scp)
    kaldiio.save_ark(text, UTTERANCES, text=True)
    equal(kaldi.read(ark, **layout))
    equal(kaldi.read(scp, **layout))
    wide = {name: matrix.astype(np.float64) for name, matrix in UTTERANCES.items()}
    kaldiio.save_ark(ark, wide)
    equal(kaldi.read(ark, **layout))
    back = {item.id: item.log_probs for item in kaldi.read(text, **layout)}
    for name, matrix in UTTERANCES.items():
        np.testing.assert_allclose(back[name], matrix, rtol=1e-5)  # six digits of text


def test_a_table_may_take_utterances_of_several_archives_in_any_order(tmp_path, layout):
    lines = []
    for name, matrix in UTTERANCES.items():
        kaldiio.save_ark(str(tmp_path / f"{name}.ark"), {name: matrix}, scp=str(tmp_path / "one"))
        lines += (tmp_path / "one").read_text().splitlines()
    (tmp_path / "p.scp").write_text("\n".join(reversed(lines)))
    equal(kaldi.read(tmp_path / "p.scp", **layout), dict(reversed(UTTERANCES.items())))


def test_compressed_matrices_are_rounded_so_they_are_normalised_anew(tmp_path, layout):
    ark = str(tmp_path / "p.ark")
    kaldiio.save_ark(ark, UTTERANCES, compression_method=2)
    refuses(kaldi.read(ark, **layout), "utterance u1, frame 0: the log of the row's sum is")
    back = {item.id: item.log_probs for item in kaldi.read(ark, **layout, logits="yes")}
    assert np.abs(back["u2"] - UTTERANCES["u2"]).max() < 0.2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.scp", b"u1 touch hacked |", "commands are not run"),
        ("p.scp", b"u1 p.ark:0[0:3]", "ranges are not cut"),
        ("p.scp", b"u1 nowhere.ark:3", "p.scp:1: nowhere.ark: cannot be read"),
        ("p.ark", b"u1 PKLcposix\nsystem\n(S'touch hacked'\ntR.", "neither a binary matrix"),
        ("p.ark", b"u1 \0BFM \x04\x00\x00\x00\x7f\x04\xff\xff\xff\x7f", "do not fit in the rest"),
        ("p.ark", b"u1 \0BFV \x04\x01\x00\x00\x00\0\0\0\0", "type 'FV', expected a matrix"),
        ("p.ark", b"u1 \0BFM \x04\x01", "utterance u1: "),
        ("p.ark", b"x" * 5000, "an id is longer"),
        ("p.ark", b"u1  [ 0 1\n x ]", "utterance u1: no whole matrix"),
    ],
)
def test_archives_that_are_damaged_or_would_run_code_are_refused(
    tmp_path, layout, name, content, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    refuses(kaldi.read(name, **layout), message)
    assert not (tmp_path / "hacked").exists()


def test_log_probabilities_of_nemo_hypotheses(tmp_path):
    vocabulary = ["<unk>", "\u2581a", "b", "c"]  # the blank follows
    (tmp_path / "symbols.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    tensors = {f"/audio/{name}.wav": torch.tensor(m) for name, m in UTTERANCES.items()}
    tensors["/audio/u2.wav"] = (tensors["/audio/u2.wav"], torch.zeros(7))  # preserve_alignments
    torch.save(tensors, tmp_path / "logits.pt")
    settings = {"symbols": tmp_path / "symbols.txt", "frame_shift": 0.08}
    back = list(nemo.read(tmp_path / "logits.pt", **settings))
    assert [item.id for item in back] == ["u1", "u2", "u3"]
    assert back[0].symbols.pieces[back[0].symbols.blank] == "<blank>"
    assert back[0].symbols.blank == 4
    np.testing.assert_array_equal(back[1].log_probs, UTTERANCES["u2"])


class Hypothesis:
    """Stands for a Python object of another package."""


def test_whole_hypotheses_are_not_unpickled(tmp_path, layout):
    torch.save({"u1": Hypothesis()}, tmp_path / "logits.pt")
    refuses(nemo.read(tmp_path / "logits.pt", **layout), "could run code")
    torch.save([1], tmp_path / "logits.pt")
    refuses(nemo.read(tmp_path / "logits.pt", **layout), "holds list")
    torch.save({"u1": 3}, tmp_path / "logits.pt")
    refuses(nemo.read(tmp_path / "logits.pt", **layout), "utterance u1: got int")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(1).expand(10**6, 10**6), "utterance u1: got torch.float32 of shape (1000000,"),
        (torch.zeros(2, 5, dtype=torch.int64), "utterance u1: got torch.int64 of shape (2, 5)"),
        (torch.zeros(2, 5).to_sparse(), "utterance u1: its tensor has no plain numbers"),
    ],
)
def test_tensors_that_are_no_stored_numbers_are_refused(tmp_path, layout, tensor, message):
    torch.save({"u1": tensor}, tmp_path / "logits.pt")
    refuses(nemo.read(tmp_path / "logits.pt", **layout), message)


def test_temporal_arrays_of_lhotse(tmp_path, layout):
    cuts = []
    with NumpyFilesWriter(str(tmp_path / "arrays")) as writer:
        for name, matrix in UTTERANCES.items():
            cut = MonoCut(name, 0, len(matrix) * 0.04, 0)
            cut.log_probs = writer.store_array(
                key=name, value=matrix, frame_shift=0.04, temporal_dim=0, start=0
            )
            cuts.append(cut)
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl.gz")
    del layout["frame_shift"]
    equal(lhotse.read(tmp_path / "cuts.jsonl.gz", **layout))


def test_arrays_of_lhotse_that_cannot_be_loaded_are_refused(tmp_path, layout):
    del layout["frame_shift"]
    array = {"array": {"storage_type": "kaldiio"}, "temporal_dim": 0, "frame_shift": 0.04}
    path = tmp_path / "cuts.jsonl"

    def with_custom(custom):
        path.write_text(json.dumps({"id": "u1", "supervisions": [], "custom": custom}))
        return lhotse.read(path, **layout)

    refuses(with_custom({"p": array}), "stored as 'kaldiio'")
    refuses(with_custom({"p": array, "q": array}), "has 2 TemporalArrays p q")
    refuses(with_custom(None), "has 0 TemporalArrays")
    refuses(with_custom([array]), '"custom" is a list, expected an object')
    array["array"]["storage_type"] = "numpy_files"
    refuses(with_custom({"p": array}), 'utterance u1: "storage_path" is missing, expected a string')
    os.mkfifo(tmp_path / "pipe")
    for folder, name, reason in (
        (str(tmp_path), "pipe", "pipe: is a named pipe, expected a regular file"),
        ("https://example.org/arrays", "u1.npy", "cannot be read: no such file"),
        (str(tmp_path), "cuts.jsonl", "ValueError: "),
    ):
        array["array"] |= {"storage_path": folder, "storage_key": name, "shape": [1, 5]}
        refuses(with_custom({"p": array | {"start": 0}}), "u1: its array cannot be loaded (")
        refuses(with_custom({"p": array | {"start": 0}}), reason)


def test_the_files_of_shards_become_one_that_equals_the_whole(tmp_path, layout):
    np.save(tmp_path / "u1", UTTERANCES["u1"])
    np.save(tmp_path / "u2", UTTERANCES["u2"])
    items = list(arrays.read(tmp_path, **layout))
    shards = tmp_path / "shards"
    shards.mkdir()
    write_posteriors([items[1]], shards / "0.safetensors")
    write_posteriors([items[0]], shards / "1.safetensors")
    write_posteriors(items, tmp_path / "whole.safetensors")
    write_posteriors(posteriors.read(shards), tmp_path / "joined.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    assert (tmp_path / "joined.safetensors").read_bytes() == whole
    (shards / "2.safetensors").write_bytes((shards / "0.safetensors").read_bytes())
    refuses(posteriors.read(shards), "utterance u2: this id was read before")


@pytest.mark.parametrize(
    ("name", "content", "options", "columns"),
    [
        ("a.txt", "<blank>\n|\na\n", {}, (("<blank>", "|", "a"), 0, "|", set())),
        (
            "a.txt",
            "a\n<space>\n",
            {"blank": "last"},
            (("a", "<space>", "<blank>"), 2, "<space>", set()),
        ),
        ("a.txt", "<eps> 0\na 1\n<unk> 2\n", {}, (("<eps>", "a", "<unk>"), 0, None, {2})),
        (
            "v.json",
            '{"|": 1, "[PAD]": 0, "a": 2}',
            {"blank": "[PAD]"},
            (("[PAD]", "|", "a"), 0, "|", set()),
        ),
    ],
)
def test_symbol_files_of_the_toolkits(tmp_path, name, content, options, columns):
    (tmp_path / name).write_text(content)
    symbols = read_symbols(tmp_path / name, **options)
    assert (symbols.pieces, symbols.blank, symbols.boundary, symbols.special) == columns


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", "a\nb\n", {}, "no symbol is called like a blank; name the blank (-O blank"),
        ("a.txt", "a\nb\n", {"blank": "c"}, "no symbol 'c'"),
        ("a.txt", "<blk> 0\na 2\n", {}, "none has the number 1"),
        ("a.txt", "<blk> 0\na 0\n", {}, "none has the number 1"),
        ("a.txt", "<blk>\na\na\n", {}, "a.txt: symbols: 'a' has two columns"),
        ("a.txt", "", {}, "holds no symbol"),
        ("v.json", "[1]", {}, "expected an object"),
        ("v.json", "{", {}, "broken JSON: it ends too early"),
        ("v.json", "[" * 5000, {}, "broken JSON: lists or objects are nested too deeply"),
        ("v.json", '{"\\ud800": 0}', {}, "broken JSON: it holds half of a surrogate pair"),
        ("a.txt", "<blk> " + "9" * 5000, {}, "no symbol is called like a blank"),
    ],
)
def test_symbol_files_that_do_not_tell_the_columns_are_refused(
    tmp_path, name, content, options, message
):
    (tmp_path / name).write_text(content)
    with pytest.raises(FormatError) as error:
        read_symbols(tmp_path / name, **options)
    assert message in str(error.value)


def test_symbols_of_another_model_and_a_wrong_blank_are_refused(tmp_path, layout):
    np.save(tmp_path / "u1", rows(50, blank=12))
    (tmp_path / "other.txt").write_text("<blk>\na\n")
    refuses(
        arrays.read(tmp_path, **{**layout, "symbols": tmp_path / "other.txt"}),
        "has 5 columns, expected 2, one for each symbol; are these the symbols of another model?",
    )
    wrong = arrays.read(tmp_path, **layout, blank="c")
    with pytest.raises(FormatError, match=r"the blank 'c' has a mean .* but '<blk>' \(column 0\)"):
        write_posteriors(wrong, tmp_path / "p.safetensors")
    assert not (tmp_path / "p.safetensors").exists()


DAMAGED = ["p.ark", "text.ark", "p.scp", "logits.pt", "p.safetensors", "u.npy", "u.npz"]


def samples(folder, layout):
    """Files of every kind, and their readers."""
    kaldiio.save_ark(str(folder / "p.ark"), UTTERANCES, scp=str(folder / "p.scp"))
    kaldiio.save_ark(str(folder / "text.ark"), UTTERANCES, text=True)
    tensors = {name: torch.tensor(matrix) for name, matrix in UTTERANCES.items()}
    torch.save(tensors, folder / "logits.pt")
    write_posteriors(kaldi.read(folder / "p.ark", **layout), folder / "p.safetensors")
    np.save(folder / "u.npy", UTTERANCES["u1"])
    np.savez(folder / "u.npz", UTTERANCES["u1"])
    return {
        "logits.pt": lambda path: nemo.read(path, **layout, blank="<blk>"),
        "p.safetensors": posteriors.read,
        "u.npy": lambda path: arrays.read(path.parent, **layout),
        "u.npz": lambda path: arrays.read(path.parent, **layout),
    }


@pytest.mark.filterwarnings("ignore")  # of kaldiio and NumPy, about what they read
@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path, layout, name):
    reads = samples(tmp_path, layout)
    read = reads.get(name, lambda path: kaldi.read(path, **layout))
    content, chance = (tmp_path / name).read_bytes(), random.Random(name)
    path = tmp_path / "damaged" / name
    path.parent.mkdir()
    for _ in range(60):
        path.write_bytes(damaged(content, chance))
        with suppress(RescoreError):  # which is one line by itself
            for item in read(path):
                assert np.isfinite(item.log_probs).all()
