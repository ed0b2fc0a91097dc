"""Decisions, word confidences and temperatures against brute force and closed forms."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore.errors import FusionError
from rescore.fusion import decisions as decide
from rescore.fusion.decisions import (
    expected_errors,
    fit_temperature,
    map_choice,
    mbr_choice,
    posterior,
    word_confidences,
)
from rescore.registry import DECISIONS, lookup

texts_and_totals = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), max_size=4).map(" ".join), st.integers(-4, 4)),
    min_size=1,
    max_size=7,
)


def edits(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def brute_force(texts, totals, temperature):
    weights = [math.exp((total - max(totals)) / temperature) for total in totals]
    risks = [
        sum(w * edits(h.split(), other.split()) for w, other in zip(weights, texts, strict=True))
        / sum(weights)
        for h in texts
    ]
    tied = [i for i, risk in enumerate(risks) if risk < min(risks) + 1e-9]
    return risks, max(tied, key=lambda i: (totals[i], -i))


@given(texts_and_totals, st.sampled_from([0.3, 1.0, 5.0]))
@settings(max_examples=200, deadline=None)
def test_mbr_equals_brute_force(pairs, temperature):
    texts, totals = (
        [text for text, _ in pairs],
        np.array([total for _, total in pairs], dtype=float),
    )
    risks, best = brute_force(texts, totals.tolist(), temperature)
    np.testing.assert_allclose(
        expected_errors(texts, posterior(totals, temperature)), risks, atol=1e-12
    )
    assert mbr_choice(texts, totals, temperature) == best


@given(texts_and_totals)
def test_map_is_the_first_of_the_highest(pairs):
    totals = [total for _, total in pairs]
    assert map_choice([text for text, _ in pairs], np.array(totals, dtype=float)) == totals.index(
        max(totals)
    )


def test_mbr_prefers_the_middle_of_many_to_a_lonely_winner():
    texts = ["x y z", "a b c", "a b d", "a b e"]
    totals = np.log([0.4, 0.2, 0.2, 0.2])
    assert map_choice(texts, totals) == 0
    assert (
        mbr_choice(texts, totals) == 1
    )  # expected errors 1.6 against 1.8; its twins tie, and it comes first


def test_ties_go_to_the_highest_total_then_to_the_first():
    assert mbr_choice(["a", "b"], np.array([0.0, 0.0])) == 0
    assert (
        mbr_choice(["a", "b", "a"], np.array([-2.0, -9.0, -1.0])) == 2
    )  # the same words, the better total
    for order in permutations(range(4)):
        totals = np.full(4, 0.1)[list(order)]
        assert mbr_choice([["a", "b", "c", "d"][i] for i in order], totals) == 0


def test_a_cold_posterior_decides_as_map_and_huge_totals_do_no_harm():
    texts, totals = ["x y z", "a b c", "a b d"], np.array([-1e6, -1e6 - 1, -1e6 - 1])
    assert mbr_choice(texts, totals, 1e-3) == mbr_choice(texts, totals, 1e-320) == 0
    assert posterior(totals, 1e-320).tolist() == [1.0, 0.0, 0.0]


def test_posterior_sums_to_one_and_equal_texts_share():
    p = posterior(np.array([0.0, math.log(3.0)]), 2.0)
    assert p == pytest.approx([1 / (1 + math.sqrt(3)), math.sqrt(3) / (1 + math.sqrt(3))])
    assert expected_errors(
        ["a", "b", "a", ""], np.array([0.25, 0.25, 0.25, 0.25])
    ) == pytest.approx([0.5, 0.75, 0.5, 0.75])


def test_long_lists_go_block_by_block(monkeypatch):
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(list("abcd"), random.integers(0, 6))) for _ in range(60)]
    whole = expected_errors(texts, np.full(60, 1 / 60))
    monkeypatch.setattr(decide, "_BLOCK", 7)
    np.testing.assert_allclose(expected_errors(texts, np.full(60, 1 / 60)), whole, rtol=1e-14)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(FusionError, match="expected a positive number"):
        mbr_choice(["a"], np.array([0.0]), temperature)


def test_the_registry_finds_both():
    assert [lookup(DECISIONS, name, "decision") for name in ("map", "mbr")] == [
        map_choice,
        mbr_choice,
    ]


def test_a_word_is_as_sure_as_the_hypotheses_that_have_it_there():
    texts = ["a b c", "a c", "x b c", "c b a", "a b c c", ""]
    p = np.array([0.3, 0.25, 0.2, 0.05, 0.15, 0.05])
    # "c b a" has only its b in place, "" nothing
    assert word_confidences(texts, p, 0) == pytest.approx(
        [0.3 + 0.25 + 0.15, 0.3 + 0.2 + 0.05 + 0.15, 0.3 + 0.25 + 0.2 + 0.15]
    )
    assert word_confidences(texts, p, 5).tolist() == []


@given(texts_and_totals, st.sampled_from([0.3, 1.0, 5.0]))
@settings(max_examples=200, deadline=None)
def test_confidences_are_probabilities_and_what_is_missing_is_expected_errors(pairs, temperature):
    texts, p = (
        [text for text, _ in pairs],
        posterior(np.array([float(total) for _, total in pairs]), temperature),
    )
    for chosen, risk in enumerate(expected_errors(texts, p)):
        confidences = word_confidences(texts, p, chosen)
        assert len(confidences) == len(texts[chosen].split())
        assert np.all(confidences >= p[chosen] - 1e-12)
        assert np.all(confidences <= 1)
        assert (
            (1 - confidences).sum() <= risk + 1e-9
        )  # substitutions and insertions of the chosen one; its deletions have no word


def test_copies_vote_together():
    assert word_confidences(["a b", "a c", "a b"], np.array([0.2, 0.5, 0.3]), 0) == pytest.approx(
        [1.0, 0.5]
    )


def pairs_won(won, lost, gap=1.0):
    """Lists of two a `gap` apart; in `won` of them the higher one has fewer errors."""
    totals = np.tile([0.0, -gap], won + lost)
    errors = np.concatenate([np.tile([0, 1], won), np.tile([1, 0], lost)])
    return totals, errors, 2 * np.arange(won + lost + 1)


@pytest.mark.parametrize(
    ("won", "lost", "gap"), [(3, 1, 1.0), (3, 1, 250.0), (9, 1, 1e-3), (11, 10, 4.0)]
)
def test_the_temperature_of_lists_of_two_is_known(won, lost, gap):
    assert fit_temperature(*pairs_won(won, lost, gap)) == pytest.approx(
        gap / math.log(won / lost), rel=4e-3
    )


def test_the_temperature_finds_the_one_that_drew_the_truth():
    random = np.random.default_rng(0)
    totals = random.normal(0, 30, (2000, 8))
    truth = [random.choice(8, p=posterior(row, 25.0)) for row in totals]
    errors = np.where(
        np.arange(8) == np.array(truth)[:, None], 2, 3 + random.integers(0, 2, (2000, 8))
    )
    temperature = fit_temperature(totals.ravel(), errors.ravel(), 8 * np.arange(2001))
    assert temperature == pytest.approx(25.0, rel=0.06)
    shifted = totals + random.normal(0, 1e4, (2000, 1))  # a constant of a list means nothing
    assert fit_temperature(shifted.ravel(), errors.ravel(), 8 * np.arange(2001)) == pytest.approx(
        temperature, rel=1e-6
    )


def test_copies_of_the_best_count_together():
    totals, errors = np.array([0.0, -1.0, -1.0]), np.array([1, 0, 0])
    lists = [(totals, errors)] * 2 + [(totals, 1 - errors)] * 1
    joined = (
        np.concatenate([t for t, _ in lists]),
        np.concatenate([e for _, e in lists]),
        3 * np.arange(4),
    )
    # Two of three lists want the pair: 2 exp(-1/T) / (1 + 2 exp(-1/T)) = 2/3 at T = infinity.
    # The search stops at its end.
    assert fit_temperature(*joined) > 100
    assert (
        fit_temperature(np.tile(totals, 3), np.tile([0, 1, 1], 3), 3 * np.arange(4)) < 1e-2
    )  # the best total is always right


def test_a_temperature_needs_hypotheses_to_choose_from():
    assert fit_temperature(np.array([1.0, 2.0]), np.array([0, 1]), np.arange(3)) is None
    assert fit_temperature(np.array([1.0, 1.0]), np.array([0, 1]), np.array([0, 2])) is None
    far = fit_temperature(
        np.array([0.0, -1e9, 0.0, -1.0]), np.array([1, 0, 0, 1]), np.array([0, 2, 4])
    )
    assert math.isfinite(far)
    assert far > 1e9  # a best that is far below asks for a high temperature, and nothing underflows
