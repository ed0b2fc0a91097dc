"""Commit rules: each against its definition by brute force, and what every rule promises."""

from __future__ import annotations

import numpy as np
import pytest

from rescore.decoding.commit import (
    Choices,
    commit_rule,
    entropy_bound,
    factor,
    position_biased,
    random_remask,
    threshold,
    top_k,
)
from rescore.errors import ScoreError


def choices(size=7, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.uniform(0.05, 0.999, size)
    return Choices(np.arange(size), np.log(probabilities), rng.uniform(0.01, 2, size))


def best(these, count):
    return set(sorted(range(len(these.tokens)), key=lambda i: -these.log_probs[i])[:count])


def decided(rule, these):
    return set(np.flatnonzero(rule(these)).tolist())


RULES = [top_k(1), top_k(3), threshold(1.0), threshold(0.5), factor(0.01), factor(5.0)]
RULES += [entropy_bound(0), entropy_bound(0.5), entropy_bound(np.inf)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1, 2, 9])
def test_every_rule_decides_the_most_confident_position_at_least(rule, size):
    for seed in range(20):
        these = choices(size, seed)
        chosen = decided(rule, these)
        assert best(these, 1) <= chosen
        assert chosen == best(these, len(chosen))


@pytest.mark.parametrize("seed", range(5))
def test_the_rules_are_their_definitions(seed):
    these = choices(8, seed)
    order = np.argsort(-these.log_probs)
    p, entropies = np.exp(these.log_probs[order]), these.entropies[order]
    assert len(decided(top_k(3), these)) == 3
    assert decided(threshold(0.6), these) == set(np.flatnonzero(np.exp(these.log_probs) >= 0.6))
    sizes = [n for n in range(1, 9) if (n + 1) * (1 - p[n - 1]) < 1.5]
    assert decided(factor(1.5), these) == best(these, max(sizes, default=1))
    sizes = [n for n in range(1, 9) if entropies[:n].sum() - entropies[:n].max() <= 1.2]
    assert decided(entropy_bound(1.2), these) == best(these, max(sizes))


def test_the_entropy_bound_is_that_of_the_issue():
    these = choices(9)
    assert len(decided(entropy_bound(0.0), these)) == 1
    assert len(decided(entropy_bound(np.inf), these)) == 9
    certain = Choices(np.arange(3), np.log([0.9, 1.0, 1.0]), np.array([0.3, 0.0, 0.0]))
    assert decided(entropy_bound(0.0), certain) == {0, 1, 2}  # those without entropy are free


def test_of_equals_the_left_one_is_decided():
    equal = Choices(np.arange(3), np.log([0.5, 0.5, 0.5]), np.ones(3))
    assert decided(top_k(2), equal) == {0, 1}
    assert decided(threshold(0.9), equal) == {0}


def test_a_share_is_opened_again():
    decided_before = np.array([True, False, True, True, True])
    u = np.array([0.5, 0.0, 0.1, 0.9, 0.2])
    assert np.flatnonzero(random_remask(u, decided_before, 0.5)).tolist() == [2, 4]
    assert not random_remask(u, decided_before, 0.0).any()
    assert (random_remask(u, decided_before, 1.0) == decided_before).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("top_k", 0, "at least 1"),
        ("top_k", 1.5, "a whole number"),
        ("threshold", 1.1, "a probability"),
        ("factor", 0, "above 0"),
        ("entropy_bound", -0.1, "from 0 on"),
        ("entropy_bound", float("nan"), "from 0 on"),
    ],
)
def test_values_that_a_rule_cannot_have_are_refused(name, value, message):
    with pytest.raises(ScoreError, match=message):
        commit_rule(name, value)
    with pytest.raises(ScoreError, match="0 to 1"):
        random_remask(np.zeros(1), np.ones(1, bool), 2.0)


def test_the_biased_bound_is_that_of_the_paper():
    """Sorted by log c_i - 0.2 i; the longest prefix U with sum_U H - max_U H <= gamma."""
    for seed in range(20):
        these = choices(9, seed)
        order = np.argsort(-(these.log_probs - 0.2 * np.arange(9)), kind="stable")
        entropies = these.entropies[order]
        sizes = [n for n in range(1, 10) if entropies[:n].sum() - entropies[:n].max() <= 0.5]
        assert decided(position_biased(0.5), these) == set(order[: max(sizes)].tolist())
    spread = Choices(np.arange(2), np.log([0.5, 0.6]), np.ones(2), np.array([3, 9]))
    assert decided(position_biased(0.0, 0.15), spread) == {1}
    assert decided(position_biased(0.0, 0.15, "absolute"), spread) == {0}
