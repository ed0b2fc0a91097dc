"""Modified Kneser-Ney: the values of Chen and Goodman's formulas, worked out slowly.

Probabilities sum to 1 in every context.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from small import LINES
from small_ngrams import ROUNDING, model_of, zipf_text

from rescore.errors import TrainError
from rescore.models.ngram import BOS, EOS, UNK, load
from rescore.train.corpus import joined
from rescore.train.kneser_ney import FALLBACK, discounts, encode, thresholds
from rescore.train.ngram import NgramOptions, Perplexity, perplexity, train_ngram


class Reference:
    """The formulas with dictionaries of tuples: Chen and Goodman 1998, interpolated.

    Pruned counts are given to the shorter context.
    """

    def __init__(self, lines, order, prune=(), min_count=1):
        frequency = Counter(word for line in lines for word in line.split())
        sentences = [
            [BOS, *(word if frequency[word] >= min_count else UNK for word in line.split()), EOS]
            for line in lines
        ]
        self.vocabulary = {UNK, EOS} | {word for sentence in sentences for word in sentence[1:]}
        self.order = order
        self.prune = [*prune, *[prune[-1] if prune else 0] * order][:order]
        self.counts = {n: Counter() for n in range(1, order + 1)}
        for sentence in sentences:
            for n, end in itertools.product(range(1, order + 1), range(1, len(sentence))):
                if end - n + 1 >= 0:
                    self.counts[n][tuple(sentence[end - n + 1 : end + 1])] += 1
        self.adjusted = {
            n: {gram: self._adjusted(gram) for gram in self.counts[n]} for n in self.counts
        }
        self.discounts = {n: self._discounts(n) for n in self.counts}
        self.followers = {n: {} for n in self.counts}
        for n, grams in self.adjusted.items():
            for gram, count in grams.items():
                self.followers[n].setdefault(gram[:-1], {})[gram] = count

    def _adjusted(self, gram):
        if len(gram) == self.order or gram[0] == BOS:
            return self.counts[len(gram)][gram]
        return len({longer[0] for longer in self.counts[len(gram) + 1] if longer[1:] == gram})

    def _discounts(self, n):
        n1, n2, n3, n4 = (
            sum(count == k for count in self.adjusted[n].values()) for k in (1, 2, 3, 4)
        )
        if not (n1 and n2 and n3):
            return FALLBACK
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        return found if all(0 < d <= k for k, d in enumerate(found, 1)) else FALLBACK

    def prob(self, word, context):
        n = len(context) + 1
        lower = self.prob(word, context[1:]) if context else 1 / len(self.vocabulary)
        followers = self.followers[n].get(tuple(context))
        if not followers:
            return lower
        total, gamma, own = sum(followers.values()), 0.0, 0.0
        for gram, count in followers.items():
            discount = self.discounts[n][min(count, 3) - 1]
            is_pruned = self.counts[n][gram] <= self.prune[n - 1]
            gamma += (count if is_pruned else discount) / total
            own += (count - discount) / total if gram[-1] == word and not is_pruned else 0.0
        return own + gamma * lower


def distribution(model, context):
    """p(word | <s> context) of every word that can be predicted."""
    words = [word for word in model.words if word not in (BOS, EOS)]
    values, _ = model.token_log_probs([[*context, word] for word in words])
    ends, _ = model.token_log_probs([context])
    return dict(
        zip(
            [*words, EOS],
            np.exp([*values.reshape(len(words), -1)[:, len(context)], ends[-1]]).tolist(),
            strict=True,
        )
    )


def contexts(words, length):
    """Every sequence of at most so many of these words and one that was never seen."""
    return [
        list(context)
        for n in range(length + 1)
        for context in itertools.product([*words, "never"], repeat=n)
    ]


CASES = [
    (2, (), 1),
    (3, (), 1),
    (3, (0, 0, 1), 1),
    (3, (0, 1, 1), 1),
    (3, (0, 2, 5), 3),
    (3, (0, 9999), 1),  # nothing but words is left
    (4, (), 2),
    (4, (0, 0, 1, 1), 1),
]


@pytest.mark.parametrize(("order", "prune", "min_count"), CASES)
def test_equals_the_formulas(order, prune, min_count):
    lines = zipf_text(size=6)
    model, found = model_of(lines, order, prune, min_count)
    reference = Reference(lines, order, prune, min_count)
    assert found == [pytest.approx(reference.discounts[n]) for n in range(1, order + 1)]
    assert set(model.words) == reference.vocabulary | {BOS, UNK}
    known = [word for word in model.words if word not in (BOS, EOS, UNK)]
    for context in contexts(
        known[:3] + known[-1:], min(order, 3)
    ):  # for orders 2 and 3 longer than they look back, too
        seen = [BOS, *(word if word in known else UNK for word in context)][-(order - 1) :]
        for word, prob in distribution(model, context).items():
            assert math.log(prob) == pytest.approx(
                math.log(reference.prob(word, seen)), abs=order * ROUNDING
            ), (context, word)


@pytest.mark.parametrize(("order", "prune", "min_count"), CASES)
def test_probabilities_sum_to_1_in_every_context(order, prune, min_count):
    model, _ = model_of(zipf_text(seed=1, size=8), order, prune, min_count)
    for context in contexts([word for word in model.words if word not in (BOS, EOS, UNK)], 2):
        assert math.fsum(distribution(model, context).values()) == pytest.approx(
            1, abs=2 * order * ROUNDING
        ), context


def test_the_cases_prune_something_and_estimate_discounts():
    lines = zipf_text(size=6)
    whole, found = model_of(lines, 4)
    assert FALLBACK not in found[1:]
    assert [
        len(a) > len(b)
        for a, b in zip(whole.log_probs, model_of(lines, 4, (0, 0, 1, 1))[0].log_probs, strict=True)
    ] == [False, False, True, True]


def test_a_text_too_small_for_discounts_gets_the_known_ones_and_a_word(caplog):
    model, found = model_of(["a b", "a"], 3)
    assert found == [FALLBACK] * 3
    assert [record.message.split(" to ")[0] for record in caplog.records] == [
        f"too few {n}-grams" for n in (1, 2, 3)
    ]
    reference = Reference(["a b", "a"], 3)
    for word, prob in distribution(model, ["a"]).items():
        assert math.log(prob) == pytest.approx(
            math.log(reference.prob(word, [BOS, "a"])), abs=3 * ROUNDING
        )
    assert math.fsum(distribution(model, ["a"]).values()) == pytest.approx(1, abs=6 * ROUNDING)


def test_discounts_worked_out_by_hand():
    # n1 = 4, n2 = 2, n3 = 1, n4 = 1: Y = 4 / 8, D1 = 1 - 2 Y 2/4, D2 = 2 - 3 Y 1/2, D3+ = 3 - 4 Y 1
    assert discounts(np.array([0, 1, 1, 1, 1, 2, 2, 3, 4, 9])) == pytest.approx((0.5, 1.25, 1.0))
    assert discounts(np.array([1, 1, 2, 2, 4])) is None  # no 3
    assert discounts(np.array([1, 2, 3, *[4] * 9])) is None  # D3+ would be below 0


def test_encode_numbers_words_by_frequency_and_keeps_sentences_apart():
    words, tokens = encode(["b a b", "", "c a"], 2)
    assert words == [UNK, BOS, EOS, "a", "b"]
    assert tokens.tolist() == [1, 4, 3, 4, 2, 1, 2, 1, 0, 3, 2]


@pytest.mark.parametrize(
    ("lines", "min_count", "message"),
    [
        ([], 1, "the text holds no words; check --text"),
        (["a b"], 2, "no word occurs 2 times; give more text or a lower --min-count"),
        (["a </s> b"], 1, "the text has <s> or </s> as words"),
        (["<s> a"], 1, "the text has <s> or </s> as words"),
    ],
)
def test_a_text_that_cannot_be_used_is_refused(lines, min_count, message):
    with pytest.raises(TrainError, match=f"^{message}"):
        encode(lines, min_count)


def test_thresholds_go_on_and_may_not_fall():
    assert thresholds((), 3) == thresholds((0,), 3) == [0, 0, 0]
    assert thresholds((0, 0, 1), 4) == [0, 0, 1, 1]
    assert thresholds((0, 0, 1), 2) == [0, 0]
    for wrong in ((1,), (0, 2, 1), (-1,)):
        with pytest.raises(
            TrainError,
            match=f"--prune {','.join(map(str, wrong))}: expected numbers that begin with 0",
        ):
            thresholds(wrong, 3)


def write(path: Path, lines) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def test_training_normalises_joins_and_reports_the_perplexity_of_both_texts(tmp_path):
    lines = zipf_text(seed=2)
    text, valid = (
        write(tmp_path / "text.txt", [line.upper() + "." for line in lines]),
        write(tmp_path / "valid.txt", ["W0, w1!", "", "w2 quite", "W1", *LINES]),
    )
    options = NgramOptions(order=2, join=0.5)
    model, found = train_ngram([text], [valid], tmp_path / "run", options, {"text": "random"})
    expected, _ = model_of(list(joined([line for line in lines if line], 0.5, 0)), 2)
    assert model.digest == expected.digest == load(tmp_path / "run").digest
    values, unknown = model.token_log_probs(
        [["w0", "w1"], ["w2", "quite"], ["w1"], *(line.split() for line in LINES)]
    )
    assert found["lines"] == Perplexity(
        pytest.approx(-values.sum()),
        len(values) - 21,
        21,
        int(unknown.sum()),
        pytest.approx(-values[unknown].sum()),
    )
    assert unknown[:8].tolist() == [False, False, False, False, True, False, False, False]
    assert found["joined"] == perplexity(model, joined(["w0 w1", "w2 quite", "w1", *LINES], 0.5, 0))
    assert 5 < found["joined"].sentences < 16
    card = load(tmp_path / "run").card
    assert card["text"] == "random"
    assert card["training"]["words"] == sum(len(line.split()) for line in lines)
    assert card["training"]["entries"] == [len(array) for array in model.log_probs]
    assert card["validation"]["lines"]["valid_perplexity_per_word"] == found["lines"].per_word


def test_perplexities_count_what_they_say():
    cost = Perplexity(nats=12.0, words=4, sentences=2, unknown=1, unknown_nats=5.0)
    assert (cost.per_word, cost.per_token, cost.per_known_token) == pytest.approx(
        (math.exp(3), math.exp(2), math.exp(7 / 5))
    )


def test_perplexity_does_not_depend_on_chunks():
    model, _ = model_of(zipf_text(), 3)
    lines = zipf_text(seed=3, sentences=11)
    whole = perplexity(model, lines)
    assert [whole.words, whole.sentences] == [sum(len(line.split()) for line in lines), 11]
    assert perplexity(model, lines, chunk=2).nats == pytest.approx(whole.nats, rel=1e-12)


def test_the_wrong_options_and_an_empty_validation_text_are_refused_before_the_text_is_read(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("rescore.train.ngram.encode", lambda *_: pytest.fail("the text was read"))
    text, empty = write(tmp_path / "text.txt", LINES), write(tmp_path / "empty.txt", ["", " ... "])
    with pytest.raises(TrainError, match=r"^--prune 1: expected"):
        train_ngram([text], [text], tmp_path / "run", NgramOptions(prune=(1,)), {})
    with pytest.raises(TrainError, match=r"^the validation text holds no words; check --valid$"):
        train_ngram([text], [empty], tmp_path / "run", NgramOptions(), {})
    assert not (tmp_path / "run").exists()


def test_the_same_text_gives_the_same_bytes(tmp_path):
    text = write(tmp_path / "text.txt", LINES)
    for name in ("a", "b"):
        train_ngram([text], [text], tmp_path / name, NgramOptions(), {})
    for file in ("config.json", "words.txt", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
