"""The K-fold PLL as a score: folds follow the alignment, and the rest of the chain knows it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import nbest, save_small, small_checkpoint

from rescore.diffusion import masked
from rescore.diffusion.queries import shared_passes
from rescore.models.adapters import NetworkDenoiser
from rescore.models.checkpoint import save
from rescore.pipeline import score
from rescore.pipeline.cache import Cache, list_key
from rescore.pipeline.dry_run import forecast
from rescore.scorers import ScorerOptions, load_scorer

TEXTS = (
    "the old house stood at the end",
    "the old horse stood at the end",
    "the very old house stood at the end",
    "",
)
LONG = " ".join(["the old house stood at the end of the lane"] * 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_small(tmp_path_factory.mktemp("model") / "mdlm", "mdlm"))


def build(model, folds, **options):
    options = {"dtype": "float64", "estimator": "pll", **options}
    return load_scorer("mdlm", ScorerOptions(model=model, folds=folds, **options))


def windows_of(scorer, *texts):
    """The only window of each hypothesis."""
    return [window for (window,) in scorer.sequencer(nbest(*texts))]


@pytest.mark.parametrize("folds", [1, 2, 4])
def test_the_score_is_that_of_folds_along_the_alignment(model, folds):
    scorer = build(model, folds)
    denoiser = NetworkDenoiser(small_checkpoint("mdlm"), dtype=torch.float64)
    (result,) = scorer.score([nbest(*TEXTS)])
    for window, value in zip(windows_of(scorer, *TEXTS), result.values, strict=True):
        numbers = (window.anchors + window.offsets) % folds
        alone = masked.kfold_pll(denoiser, window.tokens, folds=numbers, scored=window.scored)
        assert value == pytest.approx(alone.value, abs=1e-9)
    first = windows_of(scorer, *TEXTS)[0]
    alone = masked.kfold_pll(denoiser, first.tokens, folds=folds, scored=first.scored)
    assert result.values[0] == pytest.approx(alone.value, abs=1e-9)
    assert (result.std_errors, scorer.scope, scorer.kind) == (None, "list", "pll")


def test_a_fold_for_every_token_is_the_pll(model):
    (pll,) = build(model, None).score([nbest(*TEXTS)])
    (many,) = build(model, 100).score([nbest(TEXTS[0])])
    assert many.values[0] == pytest.approx(pll.values[0], abs=1e-9)
    assert "|folds=4|" in build(model, 4).signature
    assert "folds" not in build(model, None).signature
    assert build(model, None).scope == "text"


def test_the_default_of_mdlm_is_a_pll_in_two_folds(model):
    default = build(model, None, estimator=None)
    assert default.signature == build(model, 2).signature
    assert build(model, 4, estimator=None).signature == build(model, 4).signature


def test_tokens_after_an_insertion_keep_their_folds(model):
    scorer = build(model, 4)
    (group,) = scorer.prepare([nbest(TEXTS[0], TEXTS[2])]).groups()
    first, longer = (planned.windows[0] for planned in group)
    folds = [(window.anchors + window.offsets) % 4 for window in (first, longer)]
    assert len(longer.tokens) > len(first.tokens)
    same_end = min(len(first.tokens), len(longer.tokens)) // 2
    assert folds[0][-same_end:].tolist() == folds[1][-same_end:].tolist()


def test_hypotheses_that_differ_in_one_token_share_the_pass_that_hides_it(model):
    texts = "the old lane", "the odd lane"
    for folds in (2, 3):
        scorer = build(model, folds)
        first, second = windows_of(scorer, *texts)
        differs = first.tokens != second.tokens
        positions = np.flatnonzero(differs)
        assert len(set((positions % folds).tolist())) == 1  # all inside one fold
        (group,) = scorer.prepare([nbest(*texts)]).groups()
        queries = [query for planned in group for plan in planned.plans for query in plan.queries]
        assert len(shared_passes(queries)) == 2 * folds - 1


@pytest.mark.parametrize("options", [{}, {"window": 16}, {"score_eos": False, "window": 16}])
def test_windows_score_each_token_once_and_token_scores_sum_to_the_score(model, options):
    scorer = build(model, 4, per_token=True, **options)
    (result,) = scorer.score([nbest(LONG, *TEXTS)])
    tokenizer = small_checkpoint("mdlm").tokenizer
    for text, value, tokens in zip((LONG, *TEXTS), result.values, result.token_scores, strict=True):
        pieces = tokenizer.pieces(tokenizer.encode([text])[0])
        has_end = options.get("score_eos", True) or not text
        assert [piece for piece, _ in tokens] == pieces + ["</s>"] * has_end
        assert math.fsum(x for _, x in tokens) == pytest.approx(value, rel=1e-14)
        assert value < -0.01


def test_a_network_with_a_time_input_is_told_the_share_of_hidden_tokens(tmp_path):
    save(small_checkpoint("mdlm", time_input=True), tmp_path)
    scorer = build(str(tmp_path), 3, window=16)
    (group,) = scorer.prepare([nbest(LONG, *TEXTS)]).groups()
    for planned in group:
        for window, plan in zip(planned.windows, planned.plans, strict=True):
            for query in plan.queries:
                hidden = (query.noisy == scorer.denoiser.mask_id).sum()
                assert query.noise == hidden / (~window.fixed).sum()


def test_the_cost_is_k_evaluations_and_the_dry_run_says_so(model):
    lists = [nbest(*TEXTS[:3], id=f"u{number}") for number in range(5)]
    scorer = build(model, 4)
    assert scorer.evaluations(lists[0]) == 12
    assert scorer.cost(scorer.prepare(lists)).evaluations == 60
    assert forecast(lists, scorer).evaluations == 60
    (result,) = scorer.score(lists[:1])
    assert result.evaluations == 12


def test_scores_are_cached_by_list(model, tmp_path):
    scorer = build(model, 3)
    lists = [nbest(*TEXTS), nbest(TEXTS[2], TEXTS[0], id="other")]
    scored_lists = list(score(lists, scorer, cache=tmp_path))
    cache = Cache(tmp_path, scorer.signature, scorer.kind)
    cache.restore(cache.snapshot())
    for nbest_of, scored in zip(lists, scored_lists, strict=True):
        cached = cache.get(list_key(nbest_of))
        assert cached.values == tuple(hyp.scores["mdlm_pll"] for hyp in scored.hyps)
    # the alignment to another first hypothesis deals the tokens to other folds
    first, second = scored_lists
    assert first.hyps[0].scores["mdlm_pll"] != second.hyps[1].scores["mdlm_pll"]


def test_company_changes_nothing(model, monkeypatch):
    lists = [nbest(*TEXTS, id="a"), nbest(LONG, id="b"), nbest(*TEXTS[::-1], id="c")]
    scorer = build(model, 4)
    together = [result.values for result in scorer.score(lists)]
    backwards = [result.values for result in scorer.score(lists[::-1])][::-1]
    monkeypatch.setattr("rescore.scorers.denoising.CHUNK_QUERIES", 1)
    pieces = [result.values for result in scorer.score(lists)]
    for other in (backwards, pieces):
        for a, b in zip(together, other, strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-9)
