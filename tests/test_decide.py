"""Decisions against brute force."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rescore import decide
from rescore.decide import expected_errors, map_choice, mbr_choice, posterior
from rescore.errors import FusionError
from rescore.registry import DECISIONS, lookup

texts_and_totals = st.lists(st.tuples(st.lists(st.sampled_from("abc"), max_size=4).map(" ".join), st.integers(-4, 4)), min_size=1, max_size=7)


def edits(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (x != y)))
    return row[-1]


def brute_force(texts, totals, temperature):
    weights = [math.exp((total - max(totals)) / temperature) for total in totals]
    risks = [sum(w * edits(h.split(), other.split()) for w, other in zip(weights, texts, strict=True)) / sum(weights) for h in texts]
    tied = [i for i, risk in enumerate(risks) if risk < min(risks) + 1e-9]
    return risks, max(tied, key=lambda i: (totals[i], -i))


@given(texts_and_totals, st.sampled_from([0.3, 1.0, 5.0]))
@settings(max_examples=200, deadline=None)
def test_mbr_equals_brute_force(pairs, temperature):
    texts, totals = [text for text, _ in pairs], np.array([total for _, total in pairs], dtype=float)
    risks, best = brute_force(texts, totals.tolist(), temperature)
    np.testing.assert_allclose(expected_errors(texts, posterior(totals, temperature)), risks, atol=1e-12)
    assert mbr_choice(texts, totals, temperature) == best


@given(texts_and_totals)
def test_map_is_the_first_of_the_highest(pairs):
    totals = [total for _, total in pairs]
    assert map_choice([text for text, _ in pairs], np.array(totals, dtype=float)) == totals.index(max(totals))


def test_mbr_prefers_the_middle_of_many_to_a_lonely_winner():
    texts = ["x y z", "a b c", "a b d", "a b e"]
    totals = np.log([0.4, 0.2, 0.2, 0.2])
    assert map_choice(texts, totals) == 0
    assert mbr_choice(texts, totals) == 1  # expected errors 1.6 against 1.8; its twins tie, and it comes first


def test_ties_go_to_the_highest_total_then_to_the_first():
    assert mbr_choice(["a", "b"], np.array([0.0, 0.0])) == 0
    assert mbr_choice(["a", "b", "a"], np.array([-2.0, -9.0, -1.0])) == 2  # the same words, the better total
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
    assert expected_errors(["a", "b", "a", ""], np.array([0.25, 0.25, 0.25, 0.25])) == pytest.approx([0.5, 0.75, 0.5, 0.75])


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
    assert [lookup(DECISIONS, name, "decision") for name in ("map", "mbr")] == [map_choice, mbr_choice]
