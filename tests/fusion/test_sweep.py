"""A sweep against `fuse` and `evaluate` at every setting; folds and intervals by definition."""

import math

import numpy as np
import pytest
from tuning_problems import made_up_lists

import rescore
from rescore.cli.sweep_command import parse_range
from rescore.errors import FormatError, FusionError, ScoreError
from rescore.fusion import Fusion, fuse, grid, tune
from rescore.fusion.sweep import _middle
from rescore.types import Hypothesis, NBest, Provenance
from rescore.wer import bootstrap_ci, count_errors, evaluate


def errors_of(lists, fusion):
    return evaluate(fuse(lists, fusion)).errors.errors


def counted_errors(lists, fusion):
    """The same without intervals, for which `evaluate` resamples."""
    return sum(count_errors(one.ref, one.hyps[0].text).errors for one in fuse(lists, fusion))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("word_bonus", [None, 0.35, [-0.4, 0.0, 0.1, 0.3]])
def test_every_count_is_that_of_fuse_and_evaluate(seed, word_bonus):
    lists = made_up_lists(seed)
    result = rescore.sweep(
        lists,
        {"ngram": parse_range("0:1:0.1"), "mdlm": parse_range("-0.3:1.2:0.3")},
        base={"am": 0.7},
        word_bonus=word_bonus,
        resamples=0,
    )
    assert result.errors.shape == (11, 6, 4)[: result.errors.ndim]
    counted = np.array(
        [counted_errors(lists, result.fusion(index)) for index in np.ndindex(result.errors.shape)]
    )
    assert errors_of(lists, result.fusion(result.best)) == counted.min()
    assert counted.reshape(result.errors.shape).tolist() == result.errors.tolist()
    assert len(set(counted)) > 2
    assert (
        result.wer.tolist()
        == (result.errors / sum(len(nbest.ref.split()) for nbest in lists)).tolist()
    )
    assert result.errors[result.best] == result.errors.min()


def test_lists_of_all_lengths_are_cut_into_blocks_that_change_nothing(monkeypatch):
    lists = [
        *made_up_lists(0, 6, 60),
        *(NBest(f"v{nbest.id}", nbest.hyps, nbest.ref) for nbest in made_up_lists(1, 20, 3)),
    ]
    scales = {"ngram": [0, 0.5, 1], "mdlm": np.linspace(0, 1, 9)}
    whole = rescore.sweep(lists, scales, base=["am"], cross_validate=3, resamples=50)
    monkeypatch.setattr(grid, "_PADDED", 8)
    monkeypatch.setattr(grid, "_TOTALS", 100)
    pieces = rescore.sweep(lists, scales, base=["am"], cross_validate=3, resamples=50)
    assert pieces.errors.tolist() == whole.errors.tolist()
    assert np.allclose(pieces.above_high, whole.above_high, rtol=0, atol=1e-12)
    assert pieces.folds == whole.folds


def test_the_optimum_is_the_line_search_between_the_ends():
    lists = made_up_lists(3, 60, whole=False)
    result = rescore.sweep(
        lists,
        {"mdlm": np.linspace(0.2, 1.5, 40)},
        base={"am": 1.0, "ngram": 0.5},
        word_bonus=0.1,
        resamples=0,
    )
    assert 0.2 <= result.optimum["mdlm"] <= 1.5
    assert result.optimum_errors == errors_of(
        lists, Fusion({"am": 1.0, "ngram": 0.5, **result.optimum}, 0.1)
    )
    assert result.optimum_errors <= result.errors.min()  # one scale: the search is exact
    two = rescore.sweep(
        lists, {"mdlm": [0.0, 0.1], "word_bonus": [0.0, 0.2]}, base={"am": 1.0}, resamples=0
    )
    assert all(
        0 <= two.optimum[name] <= high for name, high in (("mdlm", 0.1), ("word_bonus", 0.2))
    )


def test_names_are_tuned_and_held_and_a_fusion_is_held_as_it_is():
    lists = made_up_lists(4, 40)
    tuned = tune(lists, ["am", "ngram", "mdlm"])
    by_name = rescore.sweep(lists, {"mdlm": [0, 1]}, base=["am", "ngram"], resamples=0)
    assert by_name.held == {
        "am": 1.0,
        "ngram": tuned.scales["ngram"],
        "word_bonus": tuned.word_bonus,
    }
    assert rescore.sweep(lists, {"mdlm": [0, 1]}, base=tuned, resamples=0).held == by_name.held
    result = rescore.sweep(lists, {"mdlm": [0, 1]}, base=tuned, word_bonus=2, resamples=0)
    assert result.held["word_bonus"] == 2
    narrower = rescore.sweep(lists, {"mdlm": [0, 1], "ngram": [0.25]}, base=tuned, resamples=0)
    assert narrower.held["ngram"] == 0.25
    assert list(narrower.axes) == ["mdlm"]
    assert rescore.sweep(lists, {"mdlm": [0, 1]}, resamples=0).held.keys() == {
        "am",
        "ngram",
        "word_bonus",
    }  # the recogniser's scores; mdlm is swept


def test_the_held_out_rate_chooses_each_fold_s_setting_on_the_others():
    lists, folds = made_up_lists(5, 17), 4
    result = rescore.sweep(
        lists,
        {"ngram": [0, 0.2, 0.4, 0.6], "mdlm": [0, 0.3, 0.6]},
        base={"am": 1.0},
        cross_validate=folds,
        seed=3,
        resamples=0,
    )
    fold_of = np.random.default_rng(3).permutation(len(lists)) % folds
    for k, fold in enumerate(result.folds):
        inside = [nbest for nbest, fold in zip(lists, fold_of, strict=True) if fold == k]
        outside = [nbest for nbest, fold in zip(lists, fold_of, strict=True) if fold != k]
        chosen = Fusion({"am": 1.0, **fold.weights})
        assert fold.errors == counted_errors(inside, chosen)
        assert fold.reference_words == sum(len(nbest.ref.split()) for nbest in inside)
        assert counted_errors(outside, chosen) == min(
            counted_errors(outside, result.fusion(index)) for index in np.ndindex(4, 3)
        )
    assert result.held_out_wer == sum(fold.errors for fold in result.folds) / result.reference_words
    assert sum(fold.reference_words for fold in result.folds) == result.reference_words
    assert result.held_out_wer >= result.wer.min()


def test_of_equal_settings_the_middle_one_is_chosen():
    assert _middle(np.array([3, 1, 1, 1, 2])) == (2,)
    assert _middle(np.array([[5, 1, 1], [5, 1, 1], [5, 1, 9]])) == (1, 1)


def test_the_band_is_the_paired_bootstrap_of_the_distance_to_the_optimum():
    lists = made_up_lists(6, 80)
    result = rescore.sweep(lists, {"mdlm": [0, 0.5, 4]}, base={"am": 1.0}, resamples=10_000)
    words = [len(nbest.ref.split()) for nbest in lists]

    def each(weights):
        fusion = Fusion({"am": 1.0, **weights})
        return np.array([counted_errors([nbest], fusion) for nbest in lists])

    for i in range(3):
        low, high = bootstrap_ci(each(result.weights((i,))) - each(result.optimum), words)
        assert result.above_low[i] == pytest.approx(low, abs=0.05 * (high - low))
        assert result.above_high[i] == pytest.approx(high, abs=0.05 * (high - low))
    assert result.above_high.max() > 0


def test_equal_systems_are_not_told_apart():
    lists = [
        NBest(
            nbest.id,
            tuple(Hypothesis(hyp.text, {**hyp.scores, "none": 1.0}) for hyp in nbest.hyps),
            nbest.ref,
        )
        for nbest in made_up_lists(7)
    ]
    result = rescore.sweep(lists, {"none": [0, 1, 2]}, base={"am": 1.0}, cross_validate=2)
    assert result.above_low.tolist() == result.above_high.tolist() == [0, 0, 0]
    assert result.held_out_wer == result.optimum_wer == result.wer[0]


@pytest.mark.parametrize(
    ("scales", "options", "error", "message"),
    [
        ({"mdlm": [1.0]}, {}, FusionError, "nothing is swept"),
        ({"mdlm": []}, {}, FusionError, "expected finite numbers"),
        ({"mdlm": [0, math.nan]}, {}, FusionError, "expected finite numbers"),
        ({"mdlm": [0, 1e308]}, {}, FusionError, "a total is too large for a float"),
        ({"am": [0, 1]}, {"base": {"am": 1.0}}, FusionError, "every score is swept"),
        ({"gone": [0, 1]}, {}, ScoreError, 'utterance u0, hypothesis 1: score "gone" is missing'),
        (
            {"mdlm": np.linspace(0, 1, 4000), "ngram": np.linspace(0, 1, 4000)},
            {},
            FusionError,
            "the grid has 16000000 settings",
        ),
        ({"mdlm": [0, 1]}, {"cross_validate": 13}, FusionError, "got 13 folds for 12 utterances"),
    ],
)
def test_what_cannot_be_swept_is_one_line(scales, options, error, message):
    with pytest.raises(error, match=message) as caught:
        rescore.sweep(made_up_lists(0), scales, **{"base": {"am": 1.0}, **options})
    assert "\n" not in str(caught.value)


def test_lists_without_references_or_scored_in_two_ways_are_refused():
    [first, *others] = made_up_lists(0)
    scales, base = {"mdlm": [0, 1]}, {"am": 1.0}
    with pytest.raises(FormatError, match=r"the reference .* is missing"):
        rescore.sweep([first, NBest("x", first.hyps)], scales, base=base)
    with pytest.raises(FormatError, match="holds no words"):
        rescore.sweep([NBest("x", first.hyps, "")], scales, base=base)
    with pytest.raises(FormatError, match="there are no lists"):
        rescore.sweep([], scales, base=base)
    signed = NBest(
        first.id, first.hyps, first.ref, provenance={"mdlm": Provenance({"signature": "a"})}
    )
    with pytest.raises(
        FusionError, match='score "mdlm" was made by "unknown", earlier ones by "a"'
    ):
        rescore.sweep([signed, *others], scales, base=base)
    with pytest.raises(FusionError, match='the weights were tuned with "b"'):
        rescore.sweep([signed], scales, base=Fusion({"am": 1, "mdlm": 1}, signatures={"mdlm": "b"}))
    assert rescore.sweep([signed], scales, base=base).fusion((0,)).signatures == {"mdlm": "a"}
