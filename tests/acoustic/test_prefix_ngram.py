"""N-gram fusion in the prefix beam search, against the enumeration of all texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from all_paths import random_log_probs, texts
from small_ngrams import model_of

from rescore.acoustic import prefix_tree
from rescore.acoustic.prefix_beam import BeamOptions, prefix_beam_search
from rescore.acoustic.prefix_ngram import NgramFusion, symbol_names
from rescore.acoustic.symbols import Symbols
from rescore.errors import ScoreError

ALL = BeamOptions(beam=1000, min_log_prob=-np.inf)

#: Sums of a few hundred float64 terms of at most 100 nats.
EXACT = 1e-10

LETTERS = Symbols(("<b>", "a", "|", "b"), 0, "boundary", "|")
PIECES = Symbols(("\u2581a", "a", "<b>", "\u2581b"), 2, "mark")


def word_model(order):
    lines = ["a b", "ab a", "b aa", "a a b", "aab b a", "b", "", "ab ab a b", "aa a"] * 3
    return model_of(lines, order)[0]


def symbol_model(order):
    lines = ["a b | a", "a | b", "a a | b b", "b | a b a", "a", "", "b | b | a"] * 3
    return model_of(lines, order)[0]


def ngram_of(model, words):
    return float(model.token_log_probs([words])[0].sum())


def searched(log_probs, fusion, options=ALL):
    [prefixes] = prefix_beam_search([log_probs], fusion.symbols.blank, options, fusion)
    return {prefix.labels: prefix.log_prob + prefix.added for prefix in prefixes}


@pytest.mark.parametrize("symbols", [LETTERS, PIECES], ids=["boundary", "mark"])
@pytest.mark.parametrize("order", [2, 3, 4])
def test_a_wide_beam_adds_the_ngram_of_the_text(symbols, order):
    log_probs, model = random_log_probs(order, 5, 4), word_model(order)
    expected = {
        labels: value
        + 0.7 * ngram_of(model, symbols.decode(labels).split())
        + 1.5 * len(symbols.decode(labels).split())
        for labels, value in texts(log_probs, symbols.blank).items()
    }
    fusion = NgramFusion(model, symbols, "word", 0.7, 1.5)
    assert searched(log_probs, fusion) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_a_wide_beam_adds_the_ngram_of_the_symbols(order):
    log_probs, model = random_log_probs(order, 5, 4), symbol_model(order)
    names = symbol_names(LETTERS)
    expected = {
        labels: value + 0.7 * ngram_of(model, [names[k] for k in labels]) + 1.5 * len(labels)
        for labels, value in texts(log_probs, 0).items()
    }
    fusion = NgramFusion(model, LETTERS, "symbol", 0.7, 1.5)
    assert searched(log_probs, fusion) == pytest.approx(expected, abs=EXACT)


def test_words_go_through_the_models_normaliser():
    symbols = Symbols(("<b>", "A", "|", "B"), 0, "boundary", "|")
    model = word_model(2)
    lower = searched(random_log_probs(1, 5, 4), NgramFusion(model, LETTERS))
    upper = NgramFusion(replace(model, normalizer="librispeech"), symbols)
    assert searched(random_log_probs(1, 5, 4), upper) == lower


@pytest.mark.parametrize("unit", ["word", "symbol"])
def test_the_model_steers_a_narrow_search(unit):
    """Two equal letters; the model knows one order of them only."""
    log_probs = np.log(np.array([[0.02, 0.48, 0.02, 0.48]] * 2 + [[0.9, 0.04, 0.02, 0.04]]))
    model = word_model(2) if unit == "word" else symbol_model(2)
    fusion = NgramFusion(model, LETTERS, unit, 3.0)
    wide = searched(log_probs, fusion)
    [narrow] = prefix_beam_search([log_probs], 0, BeamOptions(6, -9.0), fusion)
    assert narrow[0].labels == max(wide, key=lambda labels: wide[labels])


@pytest.mark.parametrize("unit", ["word", "symbol"])
def test_an_utterance_does_not_depend_on_its_batch(unit):
    rng = np.random.default_rng(3)
    utterances = [random_log_probs(seed, int(rng.integers(1, 30)), 4) for seed in range(21)]
    model = word_model(3) if unit == "word" else symbol_model(3)
    fusion, options = NgramFusion(model, LETTERS, unit, 0.5, 0.2), BeamOptions(8, -4.0)
    together = prefix_beam_search(utterances, 0, options, fusion)
    assert together == [prefix_beam_search([each], 0, options, fusion)[0] for each in utterances]


def test_fusion_that_means_nothing_is_refused():
    chinese = Symbols(("<b>", "你", "好"), 0)
    with pytest.raises(ScoreError, match="no word boundary"):
        NgramFusion(word_model(2), chinese)
    with pytest.raises(ScoreError, match=r"scale of the n-gram is 0\.0"):
        NgramFusion(word_model(2), LETTERS, scale=0.0)
    model = replace(symbol_model(2), normalizer="librispeech")
    with pytest.raises(ScoreError, match=r"normaliser 'librispeech' changes the symbol '\|'"):
        NgramFusion(model, LETTERS, "symbol")


@pytest.mark.parametrize("unit", ["word", "symbol"])
def test_dropping_prefixes_changes_no_score(unit, monkeypatch):
    model = word_model(3) if unit == "word" else symbol_model(3)
    fusion = NgramFusion(model, LETTERS, unit, 0.7, 0.5)
    utterances = [random_log_probs(seed, 20 + 9 * seed, 4, sharpness=1) for seed in range(9)]
    options = BeamOptions(12, -6.0)
    expected = prefix_beam_search(utterances, 0, options, fusion)
    monkeypatch.setattr(prefix_tree, "_ROOM", 64)
    assert prefix_beam_search(utterances, 0, options, fusion) == expected
