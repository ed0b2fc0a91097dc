"""Text to tokens to batches: every word once, in order, within the budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small import LINES, small_tokenizer
from small_runs import TEXT, TINY, prepared

from rescore.models.tokenizer import read_tokenizer
from rescore.text import normalizer
from rescore.train.corpus import batches, collate, encode_corpus, joined, open_corpus, read_text
from rescore.train.trainer import train


def read_corpus(lines, directory):
    return encode_corpus(iter(lines), small_tokenizer(), directory)


@pytest.mark.parametrize("budget", [40, 64, 101, 400])
def test_an_epoch_has_each_sentence_once_within_the_budget(budget, tmp_path):
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(LINES[0].split(), size=rng.integers(1, 9))) for _ in range(300)]
    corpus, tokenizer = read_corpus(lines, tmp_path), small_tokenizer()
    assert corpus.lengths.max() <= 40
    for seed in range(3):
        epoch = batches(corpus, budget, seed)
        assert sorted(np.concatenate(epoch).tolist()) == list(range(300))
        sizes = [collate(corpus, rows, tokenizer)[0].numel() for rows in epoch]
        assert max(sizes) <= budget
        padded = sum(bool(collate(corpus, rows, tokenizer)[1].any()) for rows in epoch)
        # only where one length ends and the next begins
        assert padded < len(np.unique(corpus.lengths))
    assert [rows.tolist() for rows in batches(corpus, budget, 0)] != [
        rows.tolist() for rows in epoch
    ]


def test_a_sentence_beyond_the_budget_is_a_batch_of_its_own(tmp_path):
    corpus = read_corpus(["the old house", " ".join(LINES[:3]), "no light"], tmp_path)
    epoch = batches(corpus, 32, 0)
    assert sorted(map(tuple, epoch)) in ([(0,), (1,), (2,)], [(0, 2), (1,)], [(1,), (2, 0)])


def test_a_collated_batch_is_the_sentences_between_bos_and_eos(tmp_path):
    tokenizer = small_tokenizer()
    corpus = read_corpus(LINES[:4], tmp_path)
    tokens, padding = collate(corpus, np.array([2, 0]), tokenizer)
    for row, line in zip(range(2), (LINES[2], LINES[0]), strict=True):
        kept = tokens[row][~padding[row]].tolist()
        assert kept == [tokenizer.bos_id, *tokenizer.encode([line])[0], tokenizer.eos_id]
    assert set(tokens[padding].tolist()) <= {tokenizer.pad_id}
    assert corpus.words == sum(len(line.split()) for line in LINES[:4])


def test_a_corpus_tokenised_in_chunks_is_the_same(tmp_path):
    whole = read_corpus(LINES, tmp_path / "a")
    pieces = encode_corpus(iter(LINES), small_tokenizer(), tmp_path / "b", chunk=4)
    assert np.array_equal(whole.tokens, pieces.tokens)
    assert np.array_equal(whole.offsets, pieces.offsets)


def test_empty_lines_hold_nothing_and_every_word_is_kept(tmp_path):
    (tmp_path / "text").write_bytes(b"\nThe old house.\r\n\n   \n...\nno light\n")
    assert list(read_text([tmp_path / "text"], normalizer("librispeech"))) == [
        "the old house",
        "no light",
    ]


@pytest.mark.parametrize("join", [0.0, 0.5, 1.0])
def test_joined_lines_keep_every_word_in_order_and_are_cut_at_60(join):
    lines = [
        " ".join(f"{line}_{word}" for word in range(count))
        for line, count in enumerate([3, 60, 61, 1, 150, 10, 50, 11, 120])
    ]
    found = list(joined(lines, join, seed=0))
    assert " ".join(found).split() == " ".join(lines).split()
    assert max(len(text.split()) for text in found) <= 60
    assert list(joined(lines, join, seed=0)) == found
    short = [f"word_{i}" for i in range(200)]
    count = len(list(joined(short, join, seed=0)))
    assert count == 200 if join == 0 else 80 < count < 120 if join == 0.5 else count == 4


def test_a_line_of_one_endless_word_is_cut_and_trained_on(tmp_path):
    corpus = prepared(tmp_path, text=TEXT + "\n" + "tonight" * 800 + "\n\n" + "\n".join(LINES))
    opened = open_corpus(corpus / "train", read_tokenizer(corpus / "tokenizer.model"))
    assert opened.lengths.max() == 258  # with BOS and EOS
    train(corpus, tmp_path / "run", replace(TINY, steps=30), {})
    assert (tmp_path / "run" / "config.json").exists()
