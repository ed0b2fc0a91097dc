"""Texts that are longer than the window: errors, cut words, noise levels; and absent errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import nbest, save_small, small_checkpoint

from rescore.diffusion.plans import std_error, sums, token_values
from rescore.models.adapters import NetworkDenoiser
from rescore.models.checkpoint import save
from rescore.scorers import ScorerOptions, load_scorer

LONG = " ".join(["the old house stood at the end of the lane"] * 3)
EXACT = [
    ("mdlm", "pll"),
    ("mdlm", "pll_within_word"),
    ("mdlm", "chain"),
    ("usdm", "pll"),
    ("ar", None),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: str(save_small(root / name, name)) for name in ("mdlm", "usdm", "ar")}


def build(models, family, estimator=None, **options):
    return load_scorer(
        family, ScorerOptions(model=models[family], estimator=estimator, dtype="float64", **options)
    )


def draws_of_windows(scorer, text: str) -> np.ndarray:
    """The costs of each draw of each window, (windows, draws)."""
    (group,) = scorer.prepare([nbest(text)]).groups()
    plans = group[0].plans
    values = token_values(scorer.denoiser, plans, scorer.estimator.readout)
    return np.array(
        [plan.combine(sums(window)).draws for plan, window in zip(plans, values, strict=True)]
    )


@pytest.mark.parametrize("family", ["mdlm", "usdm"])
def test_windows_share_noise_levels_so_draws_are_summed_before_their_error(models, family):
    scorer = build(models, family, "nelbo", window=16, draws=8)
    (score,) = scorer.score([nbest(LONG)])
    draws = draws_of_windows(scorer, LONG)
    assert len(draws) > 2
    assert score.values[0] == pytest.approx(-draws.mean(axis=1).sum())
    assert score.std_errors[0] == pytest.approx(std_error(draws.sum(axis=0), strata=True))
    apart = math.sqrt(sum(std_error(window, strata=True) ** 2 for window in draws))
    assert score.std_errors[0] != pytest.approx(apart, rel=1e-3)


def test_the_error_of_a_windowed_score_is_its_spread_over_seeds(models):
    """Independent windows would claim an error of sqrt(3) less than that of shared levels."""
    scores = [
        next(
            iter(build(models, "mdlm", "nelbo", window=16, draws=2, seed=seed).score([nbest(LONG)]))
        )
        for seed in range(60)
    ]
    spread = np.std([score.values[0] for score in scores], ddof=1)
    claimed = math.sqrt(np.mean([score.std_errors[0] ** 2 for score in scores]))
    assert 0.7 < claimed / spread < 1.6


def test_later_pieces_of_a_word_that_windows_cut_are_hidden(models):
    scorer = build(models, "mdlm", "pll_within_word", window=8)
    text = "weather" * 4  # one word of many pieces
    (group,) = scorer.prepare([nbest(text)]).groups()
    is_cut = False
    for window, plan in zip(group[0].windows, group[0].plans, strict=True):
        for query in plan.queries:
            (position,) = query.positions
            later = np.flatnonzero(window.words == window.words[position])
            later = later[later > position]
            assert (query.noisy[later] == scorer.denoiser.mask_id).all()
            is_cut |= bool((~window.scored[later]).any())
    assert is_cut


@pytest.mark.parametrize("estimator", ["nelbo", "pll", "pll_within_word", "chain"])
@pytest.mark.parametrize("options", [{"window": 16}, {"score_eos": False}, {}])
def test_a_network_with_a_time_input_is_told_the_share_of_hidden_tokens_it_sees(
    estimator, options, tmp_path
):
    save(small_checkpoint("mdlm", time_input=True), tmp_path)
    scorer = load_scorer("mdlm", ScorerOptions(model=str(tmp_path), estimator=estimator, **options))
    levels = []
    encode = NetworkDenoiser.encode

    def watched(self, noisy, noise, padding, *rest):
        hidden = (noisy == self.mask_id).sum(dim=1)
        seen = (~padding).sum(dim=1) - (
            noisy[:, 0] == scorer.sequencer.vocabulary.tokenizer.bos_id
        ).long()
        levels.append((noise.double() - hidden / seen).abs().max())
        return encode(self, noisy, noise, padding, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NetworkDenoiser, "encode", watched)
        list(scorer.score([nbest(LONG, "the old house", "")]))
    assert levels
    assert float(torch.stack(levels).max()) < 1e-6


def test_errors_are_absent_iff_nothing_is_drawn(models):
    """One hidden set is possible of an empty text: its error is exactly 0, and still an error."""
    texts = ["", "the old house"]
    for lists in ([nbest("")], [nbest(*texts)], [nbest(*texts[::-1])]):
        for family, estimator in EXACT:
            (score,) = build(models, family, estimator).score(lists)
            assert score.std_errors is None
        for family in ("mdlm", "usdm"):
            (score,) = build(models, family, "nelbo").score(lists)
            assert len(score.std_errors) == len(lists[0].hyps)
    (score,) = build(models, "mdlm", "nelbo").score([nbest("")])
    assert score.std_errors == (0.0,)


def test_scopes_say_what_scores_depend_on(models):
    assert {build(models, *key).scope for key in EXACT} == {"text"}
    assert {build(models, family, "nelbo").scope for family in ("mdlm", "usdm")} == {"list"}
