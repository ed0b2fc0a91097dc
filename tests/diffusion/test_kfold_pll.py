"""The K-fold PLL: its two ends, what it has in common with published scores, what it estimates."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from tabular import Inconsistent, MaskedTable, hidden_scores, mean_log_prob, random_joint

from rescore.diffusion import masked, published
from rescore.diffusion.hidden_sets import HiddenSet
from rescore.diffusion.plans import estimates
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError

JOINT = random_joint(3, 4, seed=1)
TABLE = MaskedTable(JOINT)
TABLES = [TABLE, Inconsistent(JOINT)]
TOKENS = (2, 0, 1, 1)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("folds", [4, 5, 100])
def test_a_fold_for_every_token_is_the_pll(table, folds):
    for tokens in itertools.product(range(3), repeat=4):
        estimate = masked.kfold_pll(table, tokens, folds=folds)
        assert estimate.value == pytest.approx(masked.pll(table, tokens).value, abs=1e-12)
        assert (estimate.evaluations, estimate.std_error) == (4, 0)


@pytest.mark.parametrize("table", TABLES)
def test_one_fold_is_the_score_with_everything_hidden(table):
    for tokens in itertools.product(range(3), repeat=4):
        [all_hidden] = hidden_scores(table, tokens, 4)
        estimate = masked.kfold_pll(table, tokens, folds=1)
        assert estimate.value == pytest.approx(all_hidden, abs=1e-12)
        assert estimate.evaluations == 1


@pytest.mark.parametrize("table", TABLES)
def test_two_folds_are_the_coupled_score_of_the_paper_with_a_fixed_pattern(table):
    size, even = 4, np.array([True, False, True, False])
    value = masked.kfold_pll(table, TOKENS, folds=2).value

    coded = published.mdlm_as_coded(
        table,
        TOKENS,
        normalization="coupled",
        draws=1,
        set_sampler=lambda levels, u: [HiddenSet(0, even, 1.0)],
    )
    assert value == pytest.approx(size / 2 * coded.value, abs=1e-12)  # its weights: S / n = 2

    values = [
        published.mdlm_as_printed(table, TOKENS, normalization="coupled", draws=1, seed=seed).value
        for seed in range(60)  # 2^4 sets: some seeds draw this one or its complement
    ]
    assert any(size * printed == pytest.approx(value, abs=1e-12) for printed in values)
    assert not all(size * printed == pytest.approx(value, abs=1e-12) for printed in values)


def balanced_folds(size: int, count: int) -> list[np.ndarray]:
    """Every way to number `size` tokens with folds whose sizes differ by at most 1."""
    balanced = []
    for numbers in itertools.product(range(count), repeat=size):
        sizes = [numbers.count(fold) for fold in range(count)]
        if max(sizes) - min(sizes) <= 1:
            balanced.append(np.array(numbers))
    return balanced


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_mean_over_all_balanced_folds_is_s_times_g(table, count):
    size = len(TOKENS)
    folds = balanced_folds(size, count)
    values = [masked.kfold_pll(table, TOKENS, folds=numbers).value for numbers in folds]
    sizes = [size // count + (fold < size % count) for fold in range(count)]
    expected = sum(n * mean_log_prob(table, TOKENS, n) for n in sizes)
    assert np.mean(values) == pytest.approx(expected, abs=1e-12)
    if size % count == 0:
        g = mean_log_prob(table, TOKENS, size // count)
        assert expected == pytest.approx(size * g, abs=1e-12)


@pytest.mark.parametrize("folds", [1, 2, 3, 7])
def test_every_scored_token_is_read_once_and_context_is_never_hidden(folds):
    tokens = np.array([0, 2, 1, 0, 1, 2, 0, 2, 1])
    scored, fixed = np.ones(9, dtype=bool), np.zeros(9, dtype=bool)
    scored[[0, 3, 8]], fixed[0] = False, True
    sequence = scored_sequence(tokens, scored, fixed=fixed)
    plan = masked.plan_kfold_pll(sequence, 3, np.arange(9) % folds)
    read = Counter(int(i) for query in plan.queries for i in query.positions)
    assert read == Counter(np.flatnonzero(scored).tolist())
    for query in plan.queries:
        hidden = np.flatnonzero(query.noisy == 3)
        assert hidden.tolist() == query.positions.tolist()
        assert query.noise == len(hidden) / 8  # of the tokens that can be hidden
        assert len(set((hidden % folds).tolist())) == 1


def test_hypotheses_that_differ_inside_one_fold_share_its_pass():
    table = MaskedTable(JOINT)
    folds = np.arange(4) % 2
    plans = [
        masked.plan_kfold_pll(scored_sequence(tokens), table.mask_id, folds)
        for tokens in ((2, 0, 1, 1), (2, 1, 1, 1))
    ]
    values = [estimate.value for estimate in estimates(table, plans, masked.read_token)]
    assert table.evaluations == 3  # 4 without sharing
    assert values == [
        pytest.approx(masked.kfold_pll(table, tokens, folds=folds).value, abs=1e-12)
        for tokens in ((2, 0, 1, 1), (2, 1, 1, 1))
    ]


@pytest.mark.parametrize(
    ("folds", "message"),
    [(0, "folds must be at least 1, got 0"), (np.arange(3), r"folds must have shape \(4,\)")],
)
def test_bad_folds_are_refused(folds, message):
    with pytest.raises(ScoreError, match=message):
        masked.kfold_pll(TABLE, TOKENS, folds=folds)
