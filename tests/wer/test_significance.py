"""Bootstrap intervals against a closed form, plain resampling and kaldialign."""

import kaldialign
import numpy as np
import pytest
from scipy.stats import binom

from rescore.errors import FormatError
from rescore.wer import bootstrap_ci, probability_of_improvement, significance
from rescore.wer.significance import bootstrap_sums


def test_the_interval_of_a_binomial_is_its_quantiles():
    """N one-word references, k of them wrong: the errors of a resample are Binomial(N, k / N)."""
    n, k = 400, 60
    errors = np.arange(n) < k
    low, high = bootstrap_ci(errors, np.ones(n), resamples=40_000)
    assert abs(low * n - binom.ppf(0.025, n, k / n)) <= 1
    assert abs(high * n - binom.ppf(0.975, n, k / n)) <= 1


def test_pooling_draws_what_drawing_one_by_one_does():
    random = np.random.default_rng(5)
    counts = random.integers(0, 4, (30, 2))
    naive = counts[random.integers(0, 30, (20_000, 30))].sum(axis=1)
    pooled = bootstrap_sums(counts, resamples=20_000)
    np.testing.assert_allclose(
        pooled.mean(axis=0), naive.mean(axis=0), atol=0.2
    )  # standard error 0.05
    np.testing.assert_allclose(
        np.cov(pooled.T), np.cov(naive.T), atol=2
    )  # entries near 40, standard error 0.4


def test_intervals_and_probabilities_agree_with_kaldialign():
    """Its interval is mean +- 1.96 standard deviations: percentiles up to skewness and noise."""
    random = np.random.default_rng(0)
    refs = [["w"] * n for n in random.integers(3, 20, 300)]
    first, second = (
        [["w" if good else "x" for good in random.random(len(ref)) > rate] for ref in refs]
        for rate in (0.2, 0.19)
    )
    theirs = kaldialign.bootstrap_wer_ci(refs, first, second)
    words, errors, others = (
        [len(ref) for ref in refs],
        [hyp.count("x") for hyp in first],
        [hyp.count("x") for hyp in second],
    )
    for system, counts in (("system1", errors), ("system2", others)):
        width = theirs[system]["ci95max"] - theirs[system]["ci95min"]
        assert bootstrap_ci(counts, words) == pytest.approx(
            (theirs[system]["ci95min"], theirs[system]["ci95max"]), abs=0.05 * width
        )
    assert (
        0.6 < theirs["p_s2_improv_over_s1"] < 0.99
    )  # a close call, so that the comparison says something
    assert probability_of_improvement(others, errors) == pytest.approx(
        theirs["p_s2_improv_over_s1"], abs=0.02
    )


def test_one_by_one_clusters_change_nothing_and_one_cluster_knows_no_error():
    errors, words = [1, 0, 2, 1, 5], [4, 4, 4, 3, 9]
    assert bootstrap_ci(errors, words, clusters=list("abcde")) == bootstrap_ci(errors, words)
    assert bootstrap_ci(errors, words, clusters=["a"] * 5) == (9 / 24, 9 / 24)
    merged = bootstrap_ci([3, 1, 5], [8, 7, 9], seed=4)
    assert (
        bootstrap_ci([1, 1, 2, 0, 5], [4, 3, 4, 4, 9], clusters=["s", "t", "s", "t", "u"], seed=4)
        == merged
    )


def test_clusters_widen_the_interval_of_dependent_utterances():
    errors = np.repeat([0, 1, 0, 1, 1, 0, 0, 1], 25)
    alone, together = (
        bootstrap_ci(errors, np.ones(200)),
        bootstrap_ci(errors, np.ones(200), clusters=np.repeat(np.arange(8), 25).tolist()),
    )
    assert together[1] - together[0] > 3 * (alone[1] - alone[0])


def test_the_order_of_utterances_and_the_memory_at_hand_change_nothing(monkeypatch):
    random = np.random.default_rng(1)
    errors, words, order = (
        random.integers(0, 5, 200),
        random.integers(1, 9, 200),
        random.permutation(200),
    )
    expected = bootstrap_ci(errors, words)
    assert bootstrap_ci(errors[order], words[order]) == expected
    monkeypatch.setattr(significance, "_CHUNK", 64)
    assert bootstrap_ci(errors, words) == expected


def test_the_seed_decides():
    errors, words = np.arange(50) % 4, np.full(50, 7)
    assert bootstrap_ci(errors, words, seed=1) == bootstrap_ci(errors, words, seed=1)
    assert not np.array_equal(
        bootstrap_sums(np.c_[errors, words], seed=1), bootstrap_sums(np.c_[errors, words], seed=2)
    )


def test_resamples_without_reference_words_are_left_out():
    low, high = bootstrap_ci(
        [1, 2], [0, 4]
    )  # half of the resamples hold only one of the two, a quarter no word at all
    assert (low, high) == (2 / 4, 3 / 4)


def test_ties_count_half():
    assert probability_of_improvement([1, 2, 3], [1, 2, 3]) == 0.5
    assert probability_of_improvement([0, 0], [1, 1]) == 1.0
    assert probability_of_improvement([1, 1], [0, 0]) == 0.0
    # One utterance better, one worse: resamples AA, AB, BA, BB -> better, tie, tie, worse
    assert probability_of_improvement([0, 1], [1, 0], resamples=40_000) == pytest.approx(
        0.5, abs=0.01
    )
    share = probability_of_improvement(
        [0, 1], [1, 1], resamples=40_000
    )  # better unless B is drawn twice, a tie then
    assert share == pytest.approx(3 / 4 + 1 / 8, abs=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_ci([1], [0]), "the references hold no words"),
        (lambda: bootstrap_ci([], []), "the references hold no words"),
        (lambda: probability_of_improvement([], []), "got 0 and 10000"),
        (lambda: bootstrap_ci([1], [1], resamples=0), "got 1 and 0"),
        (
            lambda: bootstrap_ci([1, 2], [1, 2], clusters=["a"]),
            "got 1 cluster names for 2 utterances",
        ),
    ],
)
def test_what_cannot_be_resampled_is_refused(call, message):
    with pytest.raises(FormatError, match=message):
        call()
