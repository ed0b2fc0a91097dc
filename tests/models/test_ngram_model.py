"""The n-gram model and its directory: look-ups, digests, damaged files."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from small_ngrams import model_of, random_sentences, values_of, zipf_text

from rescore.errors import ModelError
from rescore.models.arpa import write_arpa
from rescore.models.ngram import BOS, EOS, UNK, NgramModel, find, load, save
from rescore.scorers import ScorerOptions, load_scorer


@pytest.fixture(scope="module")
def model():
    return replace(model_of(zipf_text(), 3)[0], normalizer="librispeech")


@pytest.fixture(scope="module")
def paths(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("ngram")
    save(model, root / "model")
    write_arpa(model, root / "model.arpa")
    return root


def test_the_special_words_in_a_text_are_unknown_words(model):
    _, unknown = model.token_log_probs([[BOS, "w1", EOS, UNK]])
    assert unknown.tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(
        values_of(model, f"{BOS} w1 {EOS}"), values_of(model, "never w1 never")
    )


def test_sentences_do_not_see_each_other(model):
    sentences = random_sentences(model.words[3:])
    np.testing.assert_array_equal(
        values_of(model, *sentences),
        np.concatenate([values_of(model, sentence) for sentence in sentences]),
    )
    assert values_of(model).shape == (0,)


def test_find_says_where_and_that_it_is_not_there():
    keys = np.array([2, 5, 9])
    assert find(keys, np.array([9, 2, -1, 3, 10, 2])).tolist() == [2, 0, -1, -1, -1, 0]
    assert find(np.array([], dtype=np.int64), np.array([1, -1])).tolist() == [-1, -1]


def test_a_model_directory_gives_every_bit_back(model, paths):
    loaded = load(paths / "model")
    assert (loaded.digest, loaded.normalizer, loaded.words) == (
        model.digest,
        "librispeech",
        model.words,
    )
    sentences = random_sentences(model.words[3:])
    np.testing.assert_array_equal(values_of(loaded, *sentences), values_of(model, *sentences))


def test_digests_differ_where_models_do(model):
    other = replace(model, words=[*model.words[:-1], "other"])
    changed = model.log_probs[2].copy()
    changed[0] = np.nextafter(changed[0], changed.dtype.type(0))
    digests = {
        m.digest
        for m in (
            model,
            other,
            replace(model, log_probs=(*model.log_probs[:2], changed)),
            model_of(zipf_text(), 2)[0],
        )
    }
    assert len(digests) == 4


def broken_config(**changes):
    def change(directory):
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def change_arrays(change):
    def changed(directory):
        arrays = safetensors.numpy.load_file(directory / "model.safetensors")
        change(arrays)
        safetensors.numpy.save_file(arrays, directory / "model.safetensors")

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: (d / "config.json").unlink(),
            r"model/config\.json: the model's configuration cannot be read: no such file",
        ),
        (lambda d: (d / "config.json").write_text("{"), r"model/config\.json: broken JSON"),
        (
            lambda d: (d / "config.json").write_text("[]"),
            r"model/config\.json: not a dlmrescore-model configuration",
        ),
        (
            broken_config(objective="ar"),
            r"model: holds objective 'ar', expected 'ngram'; pass --scorer ar",
        ),
        (
            broken_config(version=2),
            r"model/config\.json: version a number \(2\), this release reads 1; update dlmrescore",
        ),
        (broken_config(order="three"), r"model/config\.json: the configuration does not fit"),
        (
            broken_config(normalizer="magic"),
            r"model/config\.json: the configuration does not fit \(normaliser 'magic' is unknown",
        ),
        (
            broken_config(order=2),
            r"model/model\.safetensors: holds backoffs\.1, .*, expected .*; restore the file",
        ),
        (lambda d: (d / "words.txt").unlink(), r"model/words\.txt: cannot be read: no such file"),
        (lambda d: (d / "words.txt").write_bytes(b"\xff"), r"model/words\.txt:1: not UTF-8"),
        (
            lambda d: (d / "words.txt").write_text("a\n"),
            r"model: words\.txt lacks <s>; restore the file",
        ),
        (
            lambda d: (d / "words.txt").write_text("<s>\n</s>\n"),
            r"model/model\.safetensors: .* has the shape .*; files of two models are mixed",
        ),
        (
            lambda d: (d / "model.safetensors").unlink(),
            r"model/model\.safetensors: cannot be read: no such file",
        ),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"short"),
            r"model/model\.safetensors: the header has .* bytes and the file 5; it is cut off",
        ),
        (change_arrays(lambda arrays: arrays.pop("keys.3")), r"model/model\.safetensors: holds "),
        (
            change_arrays(lambda arrays: arrays["log_probs.3"].__setitem__(0, 0)),
            r"model: its files do not belong together",
        ),
    ],
)
def test_a_damaged_model_directory_is_one_line(damage, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(model, tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(ModelError, match=f"^{message}") as caught:
        load_scorer("ngram", ScorerOptions(model="model"))
    assert "\n" not in str(caught.value)


def test_a_model_is_plain_data(model):
    assert isinstance(model, NgramModel)
    assert {array.dtype for array in (*model.log_probs, *model.backoffs)} == {np.dtype(np.float32)}
    assert {array.dtype for array in model.keys} == {np.dtype(np.int64)}
    assert all((np.diff(keys) > 0).all() for keys in model.keys)
