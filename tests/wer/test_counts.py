"""Error counts against hand counts, jiwer (3.0, 4.0) and kaldialign (0.9, 0.12)."""

from itertools import product

import jiwer
import kaldialign
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wer_cases import dynamic_programming, nbest, sentences, split

from rescore.errors import FormatError
from rescore.types import ErrorCounts
from rescore.wer import count_errors, counts, edit_distances, list_errors, oracle, reference_length

# reference, hypothesis, (substitutions, insertions, deletions), reference words; counted by hand
HAND = [
    ("the cat sat", "the cat sat", (0, 0, 0), 3),
    ("the cat sat", "a cat sat", (1, 0, 0), 3),
    ("the cat sat", "the cat", (0, 0, 1), 3),
    ("the cat sat", "the big cat sat down", (0, 2, 0), 3),
    ("the cat sat", "", (0, 0, 3), 3),
    ("", "uh oh", (0, 2, 0), 0),
    ("", "", (0, 0, 0), 0),
    ("a", "b", (1, 0, 0), 1),
    ("日本 語", "日本 人", (1, 0, 0), 2),
    ("  spaced\t out \n", "spaced out", (0, 0, 0), 2),
]


@pytest.mark.parametrize(("ref", "hyp", "expected", "words"), HAND)
def test_counts_equal_counts_by_hand(ref, hyp, expected, words):
    counts = count_errors(ref, hyp)
    assert (split(counts), counts.reference_words) == (expected, words)
    assert reference_length(ref) == words


@given(st.lists(st.tuples(sentences.filter(bool), sentences), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_counts_equal_jiwer(pairs):
    """References with words: jiwer 3 refuses others, jiwer 4 calls their insertions a rate."""
    refs, hyps = [ref for ref, _ in pairs], [hyp for _, hyp in pairs]
    words = sum((count_errors(ref, hyp) for ref, hyp in pairs), ErrorCounts())
    chars = sum((count_errors(ref, hyp, "char") for ref, hyp in pairs), ErrorCounts())
    by_word, by_char = jiwer.process_words(refs, hyps), jiwer.process_characters(refs, hyps)
    assert split(words) == (by_word.substitutions, by_word.insertions, by_word.deletions)
    assert split(chars) == (by_char.substitutions, by_char.insertions, by_char.deletions)
    assert (words.wer, chars.wer) == (by_word.wer, by_char.cer)


@given(sentences, sentences, st.sampled_from(["word", "char"]))
@settings(max_examples=150, deadline=None)
def test_totals_equal_kaldialign_and_the_recursion(ref, hyp, unit):
    r, h = (ref.split(), hyp.split()) if unit == "word" else (list(ref), list(hyp))
    total = count_errors(ref, hyp, unit).errors
    assert total == kaldialign.edit_distance(r, h)["total"] == dynamic_programming(r, h)
    assert edit_distances([ref], [hyp], unit).tolist() == [total]


def test_a_space_is_a_character_and_runs_of_them_are_one():
    assert split(count_errors("a b", "ab", "char")) == (0, 0, 1)
    assert count_errors(" a \t b ", "a b", "char") == ErrorCounts(0, 0, 0, 3)


def test_edit_distances_in_order_and_each_pair_once(monkeypatch):
    refs = [ref for ref, *_ in HAND for _ in range(3)]
    hyps = [hyp for _, hyp, *_ in HAND for _ in range(3)]
    seen = []
    cdist = counts.cdist

    def recording(refs, hyps, scorer):
        seen.extend(product(map(tuple, refs), map(tuple, hyps)))
        return cdist(refs, hyps, scorer=scorer)

    monkeypatch.setattr(counts, "cdist", recording)
    distances = edit_distances(refs, hyps)
    assert distances.dtype == np.int64
    assert distances.tolist() == [sum(counts) for *_, counts, _ in HAND for _ in range(3)]
    assert len(seen) == len(set(seen)) == len({(ref, hyp) for ref, hyp, *_ in HAND})


def test_edit_distances_need_pairs():
    with pytest.raises(FormatError, match="got 2 references for 1 hypotheses"):
        edit_distances(["a", "b"], ["a"])
    assert edit_distances([], []).tolist() == []


def test_oracle_takes_the_first_of_equals():
    lists = nbest("1", "a b c", "a", "a b", "b c", "x y z", "x a b c y")
    assert list_errors(lists).tolist() == [2, 1, 1, 3, 2]
    assert oracle(lists) == 1


def test_list_errors_normalises_both_sides():
    assert list_errors(nbest("1", "A B", "a  b", "a c"), normalize=str.lower).tolist() == [0, 1]


def test_a_missing_reference_is_named():
    with pytest.raises(
        FormatError, match=r"^dev\.jsonl:7: utterance 7: the reference .* is missing"
    ):
        list_errors(nbest("7", None, "a"))
