"""The guard against fitting noise: which systems are kept, and which is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from rescore.errors import FusionError
from rescore.fusion import DevSet, Fusion, fuse
from rescore.fusion.selection import ORIGINAL, choose, first_pass, tune_kept
from rescore.fusion.tuning import Tuned, tune_and_validate
from rescore.types import Hypothesis, NBest
from rescore.wer import probability_of_improvement


def nbest(number, errors, scores=None):
    """A list whose hypotheses make these errors against a reference of four words."""
    texts = [
        " ".join("x" if k < count else word for k, word in enumerate("abcd")) for count in errors
    ]
    hyps = tuple(
        Hypothesis(text, {name: values[k] for name, values in (scores or {}).items()})
        for k, text in enumerate(texts)
    )
    return NBest(f"utterance-{number}", hyps, "a b c d")


#: The first hypotheses make 1 error each.
DEV = DevSet.of([nbest(number, (1, 0, 2)) for number in range(40)])


def tuned(errors):
    return Tuned(Fusion({"am": 1.0}), np.array(errors, dtype=np.int64))


def test_a_system_is_kept_if_it_beats_a_simpler_one():
    """base: 30 of 40 errors; a: 20 and so better than base; b: as good as base, a coin's throw."""
    base, a, b = [1] * 30 + [0] * 10, [1] * 20 + [0] * 20, [0] * 10 + [1] * 30
    systems = {"base": tuned(base), "a": tuned(a), "b": tuned(b), "all": tuned([1] * 19 + [0] * 21)}
    simpler = {"base": (), "a": ("base",), "b": ("base",), "all": ("base", "a", "b")}
    choice = choose(DEV, systems, simpler, keep=0.9)
    kept = {name: verdict.is_kept for name, verdict in choice.verdicts.items()}
    assert kept == {"base": True, "a": True, "b": False, "all": False}
    assert choice.system == "a"
    assert choice.verdicts["b"].simpler == "base"
    assert choice.verdicts["b"].probability == probability_of_improvement(b, base)
    assert choice.verdicts["all"].simpler == "a"  # the best of those that were kept
    assert choose(DEV, systems, simpler, keep=0.6).system == "all"


def test_a_system_that_was_not_kept_is_nobody_s_rival():
    """base is worse than the first pass, so a has to beat the first pass, and does not."""
    systems = {"base": tuned([1] * 39 + [3]), "a": tuned([1] * 39 + [2])}
    choice = choose(DEV, systems, {"base": (), "a": ("base",)}, keep=0.9)
    assert (choice.verdicts["a"].simpler, choice.system) == (ORIGINAL, ORIGINAL)


@pytest.mark.parametrize("keep", [-0.1, 1.1, float("nan")])
def test_the_guard_needs_a_probability(keep):
    with pytest.raises(FusionError, match="expected 0 to 1"):
        choose(DEV, {}, {}, keep)


def test_the_weights_of_the_first_pass_change_no_order():
    lists = [nbest(number, (2, 0, 1), {"am": (-3.0, -1.0, -2.0)}) for number in range(3)]
    for before, after in zip(lists, fuse(lists, first_pass()), strict=True):
        assert [hyp.text for hyp in after.hyps] == [hyp.text for hyp in before.hyps]


def noisy_lists(weight):
    """am knows something of the truth; lm is noise and `weight` times the truth."""
    random = np.random.default_rng(5)
    lists = []
    for number in range(60):
        errors = random.permutation(3)
        am = random.normal(size=3) - errors
        lm = random.normal(size=3) - weight * errors
        lists.append(nbest(number, errors, {"am": am.tolist(), "lm": lm.tolist()}))
    return lists


def test_held_out_errors_are_those_of_cross_validation():
    dev = DevSet.of(noisy_lists(1.0))
    result = tune_and_validate(dev, ["am", "lm"], 5)
    held_out = int(result.held_out_errors.sum()) / dev.reference_words
    assert result.fusion.dev.cross_validated_wer == held_out
    assert (len(result.held_out_errors), result.fusion.dev.folds) == (60, 5)


def test_a_score_that_is_noise_is_left_out_and_one_that_helps_is_kept():
    choice, fusion = tune_kept(DevSet.of(noisy_lists(0.0)), ["am", "lm"], keep=0.9)
    assert (choice.system, list(fusion.scales)) == ("am", ["am"])
    assert not choice.verdicts["am,lm"].is_kept
    choice, fusion = tune_kept(DevSet.of(noisy_lists(5.0)), ["am", "lm"], keep=0.9)
    assert (choice.system, list(fusion.scales)) == ("am,lm", ["am", "lm"])


def test_where_nothing_helps_the_first_pass_is_kept():
    lists = [nbest(n, (0, 1, 2), {"am": (0.0, 1.0, 0.0)}) for n in range(10)]
    choice, fusion = tune_kept(DevSet.of(lists), ["am"], keep=0.9)
    assert (choice.system, fusion) == (ORIGINAL, first_pass())
