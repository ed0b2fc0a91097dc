"""Corpus directories: prepared once, never for other text, and unusable text is named."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from small import LINES, small_tokenizer
from small_runs import TEXT, Killed, prepared

from rescore.errors import RescoreError, TrainError
from rescore.models.tokenizer import train_tokenizer
from rescore.train import prepare as prepare_module
from rescore.train.corpus import open_corpus
from rescore.train.options import CorpusOptions
from rescore.train.prepare import prepare


@pytest.mark.parametrize("given", [True, False])
def test_text_that_is_not_utf_8_is_named_with_its_line(given, tmp_path):
    (tmp_path / "given.model").write_bytes(small_tokenizer().serialized)
    (tmp_path / "books.txt").write_bytes("fine\nalso fine\nd\u00e9j\u00e0 vu\n".encode("latin-1"))
    vocabulary = tmp_path / "given.model" if given else None
    with pytest.raises(
        TrainError,
        match=r"books\.txt:3: not UTF-8 \(byte 0xe9 at position 2\); convert the file first",
    ):
        prepare(
            CorpusOptions(
                (tmp_path / "books.txt",),
                (),
                tmp_path / "corpus",
                tokenizer=vocabulary,
                vocab_size=64,
                normalizer="none",
            )
        )
    assert not (tmp_path / "corpus" / "ready.json").exists()


def test_a_missing_text_is_named(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    for paths in (["gone.txt"], ["text.txt", "gone.txt"]):
        with pytest.raises(
            TrainError,
            match=r"gone\.txt: cannot be read: no such file or directory; .* check --text",
        ):
            prepare(
                CorpusOptions(
                    tuple(tmp_path / path for path in paths), (), tmp_path / "corpus", vocab_size=64
                )
            )


def test_an_interrupted_vocabulary_is_an_interruption(tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.setattr(
        prepare_module, "read_text", lambda *_: (line or interrupted(line) for line in [*LINES, ""])
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(CorpusOptions((tmp_path / "text.txt",), (), tmp_path / "corpus", vocab_size=64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"valid": "\n...\n"}, "the text holds no words"),
        ({"vocab_size": 5000}, "vocabulary of 5000 pieces cannot be trained on this text"),
        ({"text": "a\n"}, "vocabulary of 64 pieces cannot be trained"),
        ({"normalizer": "magic"}, "normaliser 'magic' is unknown"),
    ],
)
def test_text_that_cannot_be_used_is_refused_in_one_line(options, message, tmp_path):
    with pytest.raises(RescoreError, match=message):
        prepared(tmp_path, **options)
    assert not (tmp_path / "corpus" / "ready.json").exists()


def test_a_corpus_is_prepared_once_and_an_unfinished_one_again(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "encode_corpus", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        prepared(tmp_path)
    monkeypatch.undo()
    corpus = prepared(tmp_path)
    before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    monkeypatch.setattr(prepare_module, "encode_corpus", lambda *_: pytest.fail("tokenised again"))
    prepared(tmp_path)
    assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before


def test_a_given_vocabulary_is_used(tmp_path):
    serialized = small_tokenizer().serialized
    (tmp_path / "given.model").write_bytes(serialized)
    corpus = prepared(
        tmp_path,
        text="the old house\n",
        valid="no light\n",
        tokenizer=tmp_path / "given.model",
    )
    assert (corpus / "tokenizer.model").read_bytes() == serialized


@pytest.mark.parametrize(
    "change",
    [{"join": 0.5}, {"vocab_size": 65}, {"seed": 1}, {"normalizer": "none"}],
)
def test_a_prepared_corpus_is_not_taken_for_another(change, tmp_path):
    prepared(tmp_path)
    [name] = change
    with pytest.raises(TrainError, match=rf"ready\.json: .* other text or settings \(.*{name}.*\)"):
        prepared(tmp_path, **change)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),  # half written
        ('{"text": ["a.t', "not JSON"),
        ("\xff", "not JSON"),
        ("[1]", "not the settings of a corpus that dlmrescore prepared"),
        ('{"port": 80}', "not the settings of a corpus that dlmrescore prepared"),
    ],
)
def test_a_foreign_or_half_written_ready_file_is_one_line(content, message, tmp_path):
    corpus = prepared(tmp_path)
    (corpus / "ready.json").write_text(content, encoding="latin-1")
    with pytest.raises(
        TrainError, match=rf"ready\.json: {message}.*; .*another --corpus"
    ) as caught:
        prepared(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_an_earlier_version_prepared_is_used(tmp_path, monkeypatch):
    corpus = prepared(tmp_path)
    settings = {  # as 0.1 wrote it
        "text": [str(tmp_path / "text.txt")],
        "valid": [str(tmp_path / "valid.txt")],
        "join": 0.0,
        "seed": 0,
        "normalizer": "librispeech",
        "vocab_size": 64,
    }
    (corpus / "ready.json").write_text(json.dumps(settings) + "\n")
    monkeypatch.setattr(prepare_module, "encode_corpus", lambda *_: pytest.fail("tokenised again"))
    prepared(tmp_path)


@pytest.mark.parametrize("file", ["tokens.bin", "offsets.npy"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut"])
def test_a_damaged_corpus_is_one_line(file, damage, tmp_path):
    part = prepared(tmp_path) / "train"
    content = (part / file).read_bytes()
    if damage == "gone":
        (part / file).unlink()
    else:
        (part / file).write_bytes(b"" if damage == "empty" else content[:-2])
    with pytest.raises(TrainError, match=r"train: .*delete the corpus folder") as caught:
        open_corpus(part, small_tokenizer())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("offsets.npy", lambda whole: np.concatenate([[0], whole[:0:-1][1:], whole[-1:]])),
        ("offsets.npy", lambda whole: whole + 0.0),
        ("offsets.npy", lambda whole: whole[None]),
        ("header", lambda data: data.replace(b"{", b"(")),
        ("tokens.bin", lambda whole: whole + np.uint16(64)),
    ],
)
def test_sentences_and_tokens_that_cannot_be_are_one_line(file, values, tmp_path):
    part = prepared(tmp_path) / "train"
    if file == "tokens.bin":
        values(np.fromfile(part / file, np.uint16)).tofile(part / file)
    elif file == "header":
        (part / "offsets.npy").write_bytes(values((part / "offsets.npy").read_bytes()))
    else:
        np.save(part / file, values(np.load(part / file)))
    with pytest.raises(TrainError, match=r"train: .*delete the corpus folder"):
        open_corpus(part, small_tokenizer())


@pytest.mark.parametrize("file", ["tokens.bin", "offsets.npy"])
def test_a_pipe_in_a_corpus_is_refused_and_not_waited_for(file, tmp_path):
    part = prepared(tmp_path) / "train"
    (part / file).unlink()
    os.mkfifo(part / file)
    with pytest.raises(TrainError, match="is a named pipe"):
        open_corpus(part, small_tokenizer())


def test_a_prepared_corpus_serves_every_run_of_its_vocabulary(tmp_path):
    corpus = prepared(tmp_path / "own")
    (tmp_path / "copy.model").write_bytes((corpus / "tokenizer.model").read_bytes())
    # as a run does that starts from a model of this corpus
    prepared(tmp_path / "own", tokenizer=tmp_path / "copy.model")
    prepared(tmp_path / "own")
    (tmp_path / "other.model").write_bytes(train_tokenizer(LINES, 48).serialized)
    with pytest.raises(TrainError, match="prepared from other text or settings"):
        prepared(tmp_path / "own", tokenizer=tmp_path / "other.model")
