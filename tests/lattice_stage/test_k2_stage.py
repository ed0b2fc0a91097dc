"""`rescore_with_dlm`: formula, keys, one call of the scorer, the self-test.

It gives what `dlmrescore score` and `fuse` give.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

import k2
import pytest
import torch
from dlm_rescore import rescore_with_dlm, rescore_with_dlm_no_ngram, stage
from dlm_rescore.dump import dump_nbest
from dlm_rescore.paths import sample_paths, word_ids
from k2_lattices import (
    SENTENCES,
    CountingScorer,
    ctc_lattice,
    hlg_lattice,
    letters_to_text,
    snapshot,
    words_to_text,
)

import rescore
from rescore.errors import ScoreError

CUTS = ["cut-a", "cut-b", "cut-c"]


def best_by_hand(paths, scorer, to_text, n, d):
    splits = paths.shape.row_splits(1).tolist()
    chosen = []
    for start, end in pairwise(splits):
        totals = [
            float(paths.am[i]) + n * float(paths.ngram[i]) + d * scorer.value(to_text(paths.ids[i]))
            for i in range(start, end)
        ]
        chosen.append(paths.ids[start + totals.index(max(totals))])
    return chosen


@pytest.mark.parametrize("seed", range(3))
def test_the_best_path_has_the_highest_total(seed):
    lattice, scorer = hlg_lattice(seed=seed, noise=3.0), CountingScorer()
    paths = sample_paths(lattice, 100, 0.5)
    best_by_key = rescore_with_dlm(
        lattice,
        100,
        scorer,
        words_to_text,
        0.5,
        ngram_lm_scale=[0, 0.5, 1, 2],
        dlm_scale=[-1, 0, 0.3, 5],
    )
    for n, d in product([0, 0.5, 1, 2], [-1, 0, 0.3, 5]):
        assert word_ids(best_by_key[f"ngram_lm_scale_{n}_dlm_scale_{d}"]) == best_by_hand(
            paths, scorer, words_to_text, n, d
        )
    assert len({str(word_ids(best)) for best in best_by_key.values()}) > 1


@pytest.mark.parametrize("seed", range(10))
def test_scales_1_and_0_are_nbest_decoding(seed):
    best_by_key = rescore_with_dlm(
        hlg_lattice(seed=seed),
        50,
        CountingScorer(),
        words_to_text,
        0.5,
        ngram_lm_scale=1,
        dlm_scale=0,
    )
    expected = stage.nbest_decoding(hlg_lattice(seed=seed), 50, nbest_scale=0.5)
    assert torch.equal(
        best_by_key["ngram_lm_scale_1_dlm_scale_0"].arcs.values(), expected.arcs.values()
    )


def test_the_scorer_is_called_once_with_one_list_an_utterance():
    scorer = CountingScorer()
    rescore_with_dlm(hlg_lattice(), 50, scorer, words_to_text, cut_ids=CUTS)
    [lists] = scorer.calls
    assert [nbest.id for nbest in lists] == CUTS
    assert all({"am", "ngram"} == hyp.scores.keys() for nbest in lists for hyp in nbest.hyps)


def test_keys_are_the_grid_where_a_scale_is_none_and_zero_is_a_scale():
    lattice = hlg_lattice()
    both = rescore_with_dlm(lattice, 20, CountingScorer(), words_to_text)
    assert list(both)[:2] == [
        "ngram_lm_scale_0.01_dlm_scale_0.01",
        "ngram_lm_scale_0.01_dlm_scale_0.05",
    ]
    assert len(both) == len(stage.DEFAULT_SCALES) ** 2 == 576
    assert list(
        rescore_with_dlm(
            lattice, 20, CountingScorer(), words_to_text, ngram_lm_scale=0, dlm_scale=0.0
        )
    ) == ["ngram_lm_scale_0_dlm_scale_0.0"]
    assert (
        len(rescore_with_dlm(lattice, 20, CountingScorer(), words_to_text, ngram_lm_scale=0)) == 24
    )
    assert list(
        rescore_with_dlm_no_ngram(lattice, 20, CountingScorer(), words_to_text, dlm_scale=0)
    ) == ["dlm_scale_0"]
    assert len(rescore_with_dlm_no_ngram(lattice, 20, CountingScorer(), words_to_text)) == 24
    for bad in (float("nan"), [], [1.0, float("inf")]):
        with pytest.raises(ScoreError, match=r"dlm_scale is .* expected a finite number"):
            rescore_with_dlm(lattice, 20, CountingScorer(), words_to_text, dlm_scale=bad)


def test_the_lattice_is_left_as_it_was_even_when_the_scorer_fails():
    lattice = hlg_lattice()
    before = snapshot(lattice)
    rescore_with_dlm(lattice, 50, CountingScorer(), words_to_text, 0.5)
    assert snapshot(lattice) == before
    with pytest.raises(ZeroDivisionError):
        rescore_with_dlm(lattice, 50, CountingScorer(lambda text: 1 / 0), words_to_text, 0.5)
    assert snapshot(lattice) == before


def test_empty_lattices_and_empty_hypotheses_keep_their_place():
    lattice = k2.index_fsa(hlg_lattice(), torch.tensor([-1, 0, -1, 2], dtype=torch.int32))
    scorer = CountingScorer()
    best_by_key = rescore_with_dlm(
        lattice, 30, scorer, words_to_text, dlm_scale=1, ngram_lm_scale=1
    )
    assert [len(ids) > 0 for ids in word_ids(best_by_key["ngram_lm_scale_1_dlm_scale_1"])] == [
        False,
        True,
        False,
        True,
    ]
    assert [nbest.id for nbest in scorer.calls[0]] == ["1", "3"]
    nothing = k2.index_fsa(lattice, torch.tensor([-1, -1], dtype=torch.int32))
    scorer = CountingScorer()
    assert word_ids(
        rescore_with_dlm(nothing, 30, scorer, words_to_text, dlm_scale=1, ngram_lm_scale=1)[
            "ngram_lm_scale_1_dlm_scale_1"
        ]
    ) == [[], []]
    assert scorer.calls == []


@pytest.mark.parametrize("value", [-float("inf"), float("nan"), float("inf")])
def test_a_score_that_is_not_finite_is_an_error_and_never_wins(value):
    with pytest.raises(
        ScoreError, match=f"utterance cut-b, hypothesis 1: scorer counting gave {value}"
    ):
        rescore_with_dlm(
            hlg_lattice(),
            20,
            CountingScorer(lambda text: value if text == "the dog ran" else -1.0),
            words_to_text,
            cut_ids=CUTS,
            dlm_scale=1,
        )


def test_a_scorer_that_leaves_a_list_out_is_an_error():
    scorer = CountingScorer()
    scorer.score = lambda lists: iter([])
    with pytest.raises(ScoreError, match=r"scorer counting gave 0 scores for [0-9]+ hypotheses"):
        rescore_with_dlm(hlg_lattice(), 20, scorer, words_to_text)


def test_a_lattice_without_an_ngram_needs_the_variant_without():
    with pytest.raises(
        ScoreError,
        match=r"lattice has no lm_scores.*HLG.lm_scores = HLG.scores.clone\(\).*variant without",
    ):
        rescore_with_dlm(ctc_lattice(), 20, CountingScorer(), letters_to_text)
    lattice = ctc_lattice()
    best_by_key = rescore_with_dlm_no_ngram(
        lattice, 50, CountingScorer(), letters_to_text, 0.5, dlm_scale=[0, 4]
    )
    assert word_ids(best_by_key["dlm_scale_0"]) == word_ids(
        stage.nbest_decoding(ctc_lattice(), 50, nbest_scale=0.5)
    )
    assert word_ids(best_by_key["dlm_scale_4"]) != word_ids(best_by_key["dlm_scale_0"])


# -------------------------------------------------------------------------------------- self-test


def wrong_scale(paths, n, d, dlm):
    # the mixed-up weighting am / s + lm
    return paths.am / max(n, 1e-9) / 20 + paths.ngram + d * dlm


def wrong_order(paths, n, d, dlm):
    return -paths.am


@pytest.mark.parametrize("wrong", [wrong_scale, wrong_order])
def test_the_self_test_catches_a_wrong_total(wrong, monkeypatch):
    monkeypatch.setattr(stage, "totals", wrong)
    with pytest.raises(
        ScoreError, match=r"with scales 1 and 0 the ids are \[.*\], but nbest_decoding gives \["
    ) as raised:
        rescore_with_dlm(
            hlg_lattice(noise=3.0),
            100,
            CountingScorer(),
            words_to_text,
            0.5,
            ngram_lm_scale=1,
            dlm_scale=1,
        )
    assert "\n" not in str(raised.value)
    rescore_with_dlm(
        hlg_lattice(noise=3.0),
        100,
        CountingScorer(),
        words_to_text,
        0.5,
        ngram_lm_scale=1,
        dlm_scale=1,
        run_self_test=False,
    )


def test_the_self_test_catches_another_sampling_and_runs_once_a_setting(monkeypatch):
    calls = []
    real = stage.nbest_decoding

    def counted(lattice, num_paths, use_double_scores, nbest_scale):
        calls.append(num_paths)
        return real(lattice, num_paths, use_double_scores, nbest_scale)

    monkeypatch.setattr(stage, "nbest_decoding", counted)
    for num_paths in (20, 20, 30):
        rescore_with_dlm(hlg_lattice(), num_paths, CountingScorer(), words_to_text, 0.5, 1, 0)
    assert calls == [20, 30]
    monkeypatch.setattr(
        stage,
        "nbest_decoding",
        lambda lattice, **_: k2.index_fsa(lattice, torch.tensor([-1, 0, 1], dtype=torch.int32)),
    )
    with pytest.raises(ScoreError, match="nbest_decoding gives"):
        rescore_with_dlm(hlg_lattice(), 40, CountingScorer(), words_to_text, 0.5, 1, 0)


def test_the_recipes_own_nbest_decoding_is_used_where_icefall_is(monkeypatch):
    calls = []
    module = type(sys)("icefall.decode")
    module.nbest_decoding = lambda **options: (
        calls.append(options) or stage.nbest_decoding(**options)
    )
    monkeypatch.setitem(sys.modules, "icefall", type(sys)("icefall"))
    monkeypatch.setitem(sys.modules, "icefall.decode", module)
    rescore_with_dlm(hlg_lattice(), 20, CountingScorer(), words_to_text, 0.5, 1, 0)
    assert [options["num_paths"] for options in calls] == [20]


# --------------------------------------------------------------- our own network, in and out of k2


@pytest.mark.parametrize("scorer", ["usdm", "mdlm", "ar"])
@pytest.mark.parametrize("kind", ["hlg", "ctc"])
def test_in_process_is_what_the_dumped_lists_give(scorer, kind, tmp_path):
    lattice, to_text = (
        (hlg_lattice(noise=3.0), words_to_text)
        if kind == "hlg"
        else (ctc_lattice(), letters_to_text)
    )
    # float64: batches differ, and with them the last bits of float32
    options = rescore.ScorerOptions(dtype="float64")
    if scorer == "mdlm":  # the others draw nothing and refuse the option
        options = replace(options, estimator="nelbo", draws=4)
    built = rescore.load_scorer(scorer, options)
    dump_nbest(
        lattice,
        CUTS,
        SENTENCES[:3],
        tmp_path / "nbest.jsonl",
        num_paths=30,
        nbest_scale=0.5,
        ids_to_text=to_text,
        ngram=kind == "hlg",
    )
    scored = list(rescore.score(rescore.read(tmp_path / "nbest.jsonl"), built, name="dlm"))
    if kind == "hlg":
        best = rescore_with_dlm(
            lattice, 30, built, to_text, 0.5, ngram_lm_scale=0.7, dlm_scale=1.3, cut_ids=CUTS
        )["ngram_lm_scale_0.7_dlm_scale_1.3"]
        weights = rescore.Fusion({"am": 1.0, "ngram": 0.7, "dlm": 1.3})
    else:
        best = rescore_with_dlm_no_ngram(
            lattice, 30, built, to_text, 0.5, dlm_scale=1.3, cut_ids=CUTS
        )["dlm_scale_1.3"]
        weights = rescore.Fusion({"am": 1.0, "dlm": 1.3})
    assert [to_text(ids) for ids in word_ids(best)] == [
        nbest.hyps[0].text for nbest in rescore.fuse(scored, weights)
    ]
    paths = sample_paths(lattice, 30, 0.5)
    values = stage.dlm_scores(paths, built, to_text, CUTS)
    flat = [float(values[path]) for group in paths.groups() for path in group]
    assert flat == pytest.approx(
        [hyp.scores["dlm"] for nbest in scored for hyp in nbest.hyps], abs=1e-9
    )


def test_without_k2_the_first_import_says_how_to_get_it():
    folder = Path(stage.__file__).parents[1]
    code = (
        "import sys; sys.modules['k2'] = None; "
        f"sys.path.insert(0, {json.dumps(str(folder))}); import dlm_rescore"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "RescoreError: k2 cannot be imported (import of k2 halted; None in sys.modules); "
        "install it with: pip install k2==1.23.4" in done.stderr
    )
