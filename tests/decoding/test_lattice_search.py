"""The search of a lattice with a whole-sentence scorer: its promises, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_strategies import lattices
from small_lattices import best_by_words, from_rows, random_lattice

import rescore
from rescore.decoding.lattice_search import LatticeWeights, SearchOptions, rescore_lattice
from rescore.errors import FormatError, ScoreError
from rescore.lattice.paths import n_best
from rescore.lattice.posteriors import arc_totals
from rescore.types import Score


@dataclass
class Counting:
    """A scorer of given texts that remembers what it was asked."""

    value: object
    errors: bool = False
    name: str = "new"
    kind: str = "pll"
    signature: str = "counting"
    lists: list[list[str]] = field(default_factory=list)

    def score(self, lists):
        for nbest in lists:
            texts = [hyp.text for hyp in nbest.hyps]
            self.lists.append(texts)
            values = tuple(float(self.value(text)) for text in texts)
            yield Score(
                values,
                self.signature,
                self.kind,
                3 * len(texts),
                tuple(0.1 for _ in texts) if self.errors else None,
            )


def bigrams(text):
    """A score that no arc has: by pairs of words, and by the last word given the first."""
    words = ["<", *text.split(), ">"]
    return sum(
        -((ord(a) * 7 + ord(b) * 13) % 11) / 2
        for a, b in zip([*words[:-1], words[-2]], [*words[1:], words[1]], strict=True)
    )


@given(lattices(), st.sampled_from([0.0, 0.5, 2.0]))
def test_the_result_is_consistent(lattice, new_scale):
    weights = LatticeWeights(1.0, 0.5, new_scale, 0.25)
    scorer = Counting(bigrams)
    done = rescore_lattice(
        lattice, scorer, weights, SearchOptions(posterior=0.0, cover_posterior=0.0), ref="a b"
    )
    first_round, *rounds = scorer.lists
    asked = [*first_round, *(text for texts in rounds for text in texts[1:])]
    assert len(asked) == len(set(asked)) == len(done.nbest.hyps)  # no text is scored twice
    assert all(texts[0] == first_round[0] for texts in rounds)  # but the first, for the alignment
    assert done.evaluations == 3 * sum(map(len, scorer.lists))
    expected = {
        " ".join(lattice.symbols[word] for word in words): (total, arcs)
        for words, (total, arcs) in best_by_words(
            lattice, arc_totals(lattice, 1.0, 0.5, 0.25)
        ).items()
    }
    totals = []
    for hyp in done.nbest.hyps:
        first_pass = hyp.scores["am"] + 0.5 * hyp.scores["lm"] + 0.25 * len(hyp.words)
        if expected:
            assert first_pass == pytest.approx(expected[hyp.text][0], abs=1e-9)
        assert hyp.scores["new"] == bigrams(hyp.text)
        totals.append(first_pass + new_scale * hyp.scores["new"])
    assert totals == sorted(totals, reverse=True) or np.diff(totals).max() < 1e-9
    assert {word for text in asked for word in text.split()} == {
        lattice.symbols[word] for word in lattice.word if word
    }  # every arc is on a scored path
    assert done.is_stable
    assert done.nbest.provenance["new"].entry == {
        "signature": "counting",
        "kind": "pll",
        "evaluations": done.evaluations,
    }
    assert (done.nbest.id, done.nbest.ref) == ("u", "a b")


@pytest.mark.parametrize("seed", range(30))
def test_a_score_that_follows_from_lm_and_words_is_found_out_exactly(seed):
    """score = 2 lm + 0.3 words: the cover tells every arc's share, so the best path is found."""
    lattice = random_lattice(np.random.default_rng(seed), 12, 30, words=6, span=4)
    totals = arc_totals(lattice, 0.1, 0.5)
    lm_of = {
        " ".join(lattice.symbols[w] for w in words): float(lattice.lm[list(arcs)].sum())
        for words, (_, arcs) in best_by_words(lattice, totals).items()
    }
    scorer = Counting(lambda text: 2 * lm_of[text] + 0.3 * len(text.split()))
    done = rescore_lattice(
        lattice,
        scorer,
        LatticeWeights(0.1, 0.5, 1.5, 0.0),
        SearchOptions(posterior=0.0, cover_posterior=0.0),
    )
    best = max(
        total + 1.5 * scorer.value(" ".join(lattice.symbols[w] for w in words))
        for words, (total, _) in best_by_words(lattice, totals).items()
    )
    first = done.nbest.hyps[0]
    assert 0.1 * first.scores["am"] + 0.5 * first.scores["lm"] + 1.5 * first.scores[
        "new"
    ] == pytest.approx(best)


def test_it_finds_more_than_an_n_best_list_of_the_same_cost():
    """200 random lattices, a score of word pairs: more totals are better than the list's."""
    better = worse = 0
    for seed in range(200):
        lattice = random_lattice(np.random.default_rng(seed), 20, 60, words=8, span=3)
        done = rescore_lattice(
            lattice,
            Counting(lambda text: bigrams(text.replace("w", ""))),
            LatticeWeights(0.1, 1.0, 1.0),
            SearchOptions(posterior=1e-3),
        )
        listed = n_best(lattice, arc_totals(lattice, 0.1, 1.0), len(done.nbest.hyps))
        best = max(
            path.total + bigrams(" ".join(lattice.symbols[w][1:] for w in path.words))
            for path in listed
        )
        first = done.nbest.hyps[0].scores
        gain = 0.1 * first["am"] + first["lm"] + first["new"] - best
        better, worse = better + (gain > 1e-9), worse + (gain < -1e-9)
    assert better > 2 * worse


def test_stochastic_scores_are_compared_beside_the_first_path():
    lattice = random_lattice(np.random.default_rng(4), 12, 30, words=6, span=4)
    scorer = Counting(lambda text: bigrams(text.replace("w", "")), errors=True)
    done = rescore_lattice(
        lattice, scorer, LatticeWeights(0.1, 1.0, 3.0), SearchOptions(posterior=1e-2, max_paths=3)
    )
    assert done.cover == 3
    assert done.rounds >= 1
    assert all(texts[0] == scorer.lists[0][0] for texts in scorer.lists)
    assert done.evaluations == 3 * sum(map(len, scorer.lists))
    assert all(set(hyp.raw["std_errors"]) == {"new"} for hyp in done.nbest.hyps)


def test_rounds_are_bounded():
    lattice = random_lattice(np.random.default_rng(4), 12, 30, words=6, span=4)
    scorer = Counting(lambda text: bigrams(text.replace("w", "")))
    done = rescore_lattice(
        lattice,
        scorer,
        LatticeWeights(0.1, 1.0, 3.0),
        SearchOptions(posterior=1e-2, max_paths=1, max_rounds=0),
    )
    assert (len(done.nbest.hyps), done.rounds, done.is_stable) == (1, 0, False)


def test_an_empty_lattice_is_one_empty_hypothesis():
    scorer = Counting(len)
    done = rescore_lattice(from_rows([], 1), scorer, LatticeWeights())
    assert (scorer.lists, done.is_stable, done.cover, done.arcs) == ([[""]], True, 0, 0)
    assert [(hyp.text, dict(hyp.scores)) for hyp in done.nbest.hyps] == [
        ("", {"am": 0.0, "lm": 0.0, "new": 0.0})
    ]


def test_texts_may_come_from_pieces():
    lattice = from_rows([(0, 1, 1, -1, 0), (0, 1, 2, -2, 0), (1, 2, 3, -1, 0)], 2)
    done = rescore_lattice(
        lattice,
        Counting(len),
        LatticeWeights(),
        SearchOptions(posterior=0.0, lm_name="ngram"),
        text=lambda words: "_".join("?xyz"[word] for word in words),
    )
    assert [hyp.text for hyp in done.nbest.hyps] == ["x_z", "y_z"]
    assert set(done.nbest.hyps[0].scores) == {"am", "ngram", "new"}


def test_the_embedded_scorer_fits():
    lattice = from_rows(
        [(0, 1, 1, -1, -2), (0, 1, 2, -1.5, -1), (1, 2, 3, -1, 0), (1, 2, 0, -1, 0)],
        2,
        ["", "good", "could", "morning"],
    )
    done = rescore_lattice(
        lattice,
        rescore.load_scorer("usdm"),
        LatticeWeights(),
        SearchOptions(posterior=0.0, cover_posterior=0.0),
    )
    assert {hyp.text for hyp in done.nbest.hyps} <= {
        "good morning",
        "could morning",
        "good",
        "could",
    }
    assert {"good", "could", "morning"} == {word for hyp in done.nbest.hyps for word in hyp.words}
    assert done.evaluations == len(done.nbest.hyps)


@pytest.mark.parametrize(
    ("options", "value", "error", "message"),
    [
        (
            {"max_paths": 0},
            len,
            FormatError,
            "max_paths 0, max_rounds 50, per_round 5: expected at least 1, 0 and 1",
        ),
        ({}, lambda text: float("nan"), ScoreError, 'u: score "new" of a path is nan'),
    ],
)
def test_refusals(options, value, error, message):
    with pytest.raises(error, match=message):
        rescore_lattice(
            from_rows([(0, 1, 1, -1, 0)], 1),
            Counting(value),
            LatticeWeights(),
            SearchOptions(**options),
        )


def test_a_stochastic_scorer_whose_first_text_is_empty_has_errors_for_every_path():
    """The empty text alone has an exact score; the texts of the next round do not."""
    rows = [(0, 1, 0, 0, 1), (0, 1, 1, -3.5, 0), (0, 1, 2, -4, 0)]
    lattice = from_rows(rows, 1, ["", "hello", "yes"])
    scorer = rescore.load_scorer("mdlm", rescore.ScorerOptions(estimator="nelbo"))
    done = rescore_lattice(lattice, scorer, LatticeWeights())
    assert [hyp.text for hyp in done.nbest.hyps if hyp.text == ""] == [""]
    assert len(done.nbest.hyps) > 1
    assert all(set(hyp.raw["std_errors"]) == {"mdlm_nelbo"} for hyp in done.nbest.hyps)
