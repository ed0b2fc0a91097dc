"""The scorers against the estimators called one by one, and against plain transformers."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from small import nbest, save_small, small_checkpoint

import rescore
from rescore.diffusion import masked, uniform
from rescore.diffusion import queries as denoiser_module
from rescore.errors import ModelError, RescoreError, ScoreError
from rescore.models.adapters import NetworkDenoiser
from rescore.scorers import ScorerOptions, load_scorer
from rescore.scorers.sequences import align, cut
from rescore.types import NBest

LISTS = [
    nbest(
        "the old house stood at the end",
        "the old horse stood at the end",
        "the old house stood",
        "",
        id="a",
    ),
    nbest("she wrote a letter to her brother in the morning", id="b"),
    nbest(
        "no light",
        "there was no light in the window when they came and walked along the river",
        "THERE WAS no light!",
        id="c",
    ),
]
ALL = [
    ("mdlm", "nelbo"),
    ("mdlm", "pll"),
    ("mdlm", "pll_within_word"),
    ("mdlm", "chain"),
    ("usdm", "pll"),
    ("usdm", "nelbo"),
    ("ar", None),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {
        objective: str(save_small(root / objective, objective))
        for objective in ("mdlm", "usdm", "ar")
    }


def build(models, family, estimator=None, **options):
    return load_scorer(
        family, ScorerOptions(model=models[family], estimator=estimator, dtype="float64", **options)
    )


def encode(checkpoint, text):
    tokenizer = checkpoint.tokenizer
    tokens = np.array([tokenizer.bos_id, *tokenizer.encode([text])[0], tokenizer.eos_id])
    scored = np.ones(len(tokens), bool)
    scored[0] = False
    return tokens, scored


@pytest.mark.parametrize("texts", [hyp.text for hyp in LISTS[0].hyps[:2]])
def test_exact_scores_equal_the_estimators_called_alone(models, texts):
    mdlm, usdm = small_checkpoint("mdlm"), small_checkpoint("usdm")
    tokens, scored = encode(mdlm, texts)
    masked_lm, uniform_lm = (
        NetworkDenoiser(mdlm, dtype=torch.float64),
        NetworkDenoiser(usdm, dtype=torch.float64),
    )
    expected = {
        ("mdlm", "pll"): masked.pll(masked_lm, tokens, scored=scored).value,
        ("mdlm", "pll_within_word"): masked.pll(
            masked_lm, tokens, scored=scored, words=mdlm.tokenizer.words(tokens)
        ).value,
        ("mdlm", "chain"): masked.chain(masked_lm, tokens, scored=scored).value,
        ("usdm", "pll"): uniform.pll(uniform_lm, tokens, scored=scored, t=0.1).value,
    }
    for (family, estimator), value in expected.items():
        (result,) = build(models, family, estimator).score([nbest(texts)])
        assert result.values[0] == pytest.approx(value, abs=1e-9)
        assert result.std_errors is None


def test_the_ar_score_is_the_chain_rule(models):
    checkpoint = small_checkpoint("ar")
    for hyp in LISTS[0].hyps:
        tokens, _ = encode(checkpoint, hyp.text)
        with torch.no_grad():
            log_probs = checkpoint.network.double()(torch.from_numpy(tokens)[None]).log_softmax(-1)[
                0
            ]
        expected = sum(float(log_probs[i, tokens[i + 1]]) for i in range(len(tokens) - 1))
        (result,) = build(models, "ar").score([nbest(hyp.text)])
        assert result.values[0] == pytest.approx(expected, abs=1e-9)
        assert result.evaluations == 1


def test_monte_carlo_scores_lie_around_the_exact_value(models):
    text = "the old house"
    mdlm = small_checkpoint("mdlm")
    tokens, scored = encode(mdlm, text)
    exact = masked.nelbo_exact(
        NetworkDenoiser(mdlm, dtype=torch.float64), tokens, scored=scored
    ).value
    (result,) = build(models, "mdlm", "nelbo", draws=512).score([nbest(text)])
    assert abs(result.values[0] + exact) < 4 * result.std_errors[0]
    assert result.evaluations == 512


@pytest.mark.parametrize(("family", "estimator"), ALL)
def test_batches_order_and_company_change_nothing(models, family, estimator, monkeypatch):
    scorer = build(models, family, estimator)
    together = [score.values for score in scorer.score(LISTS)]
    backwards = [score.values for score in scorer.score(LISTS[::-1])][::-1]
    alone = [next(iter(scorer.score([nbest_of_one]))).values for nbest_of_one in LISTS]
    monkeypatch.setattr(denoiser_module, "readout_rows", lambda device: 3)
    monkeypatch.setattr("rescore.scorers.denoising.CHUNK_QUERIES", 1)
    monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 1)
    pieces = [score.values for score in scorer.score(LISTS)]
    for other in (backwards, alone, pieces):
        for a, b in zip(together, other, strict=True):
            assert np.allclose(a, b, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("family", "estimator"), ALL)
def test_an_empty_hypothesis_has_a_finite_score_that_is_not_zero(models, family, estimator):
    (result,) = build(models, family, estimator).score([nbest("", "the old house")])
    assert math.isfinite(result.values[0])
    assert result.values[0] < -0.01


@pytest.mark.parametrize(("family", "estimator"), ALL)
def test_equal_texts_have_equal_scores_and_case_is_the_normalisers_business(
    models, family, estimator
):
    (result,) = build(models, family, estimator).score(
        [nbest("the old house", "The old house.", "the old horse")]
    )
    assert result.values[0] == result.values[1]
    assert result.values[0] != result.values[2]


@pytest.mark.parametrize(("family", "estimator"), ALL)
def test_an_over_long_text_is_scored_in_windows(models, family, estimator):
    text = " ".join(["the old house stood at the end of the lane"] * 8)
    (result,) = build(models, family, estimator, window=32).score([nbest(text, "the old house")])
    (short,) = build(models, family, estimator, window=32).score([nbest("the old house")])
    assert math.isfinite(result.values[0])
    assert result.values[0] < 10 * short.values[0] / 2
    if estimator == "pll" and family == "mdlm":
        tokens, _ = encode(small_checkpoint("mdlm"), text)
        (long,) = build(models, family, estimator, window=32).score([nbest(text)])
        assert long.evaluations == len(tokens) - 1  # each token once


@pytest.mark.parametrize(
    ("length", "window"), [(5, 8), (8, 8), (9, 8), (100, 8), (101, 16), (257, 128), (1000, 128)]
)
def test_windows_score_each_position_once_where_it_is_most_central(length, window):
    windows = cut(length, window)
    owner = np.full(length, -1)
    for number, (start, end, first, last) in enumerate(windows):
        assert start <= first < last <= end <= length
        assert end - start <= window
        assert np.all(owner[first:last] == -1)
        owner[first:last] = number
    assert np.all(owner >= 0)
    for position in range(length):
        margins = [min(position - start, end - 1 - position) for start, end, _, _ in windows]
        inside = [
            m
            for m, (start, end, _, _) in zip(margins, windows, strict=True)
            if start <= position < end
        ]
        assert (
            margins[owner[position]] >= max(inside) - 1
            or position < window // 2
            or position >= length - window // 2
        )


def test_alignment_gives_anchors_and_offsets():
    anchors, offsets = align([2, 5, 6, 7, 3], [2, 5, 9, 9, 6, 8, 3])
    assert anchors.tolist() == [0, 1, 1, 1, 2, 3, 4]
    assert offsets.tolist() == [0, 0, 1, 2, 0, 0, 0]
    anchors, offsets = align([4, 5], [9, 4, 5])
    assert (anchors.tolist(), offsets.tolist()) == ([-1, 0, 1], [1, 0, 0])


def test_common_random_numbers_shrink_the_spread_of_a_difference(models):
    """Two hypotheses that differ in one word: their difference varies little."""
    texts = (
        "she wrote a letter to her brother in the morning",
        "she wrote a letter to her brother in the evening",
    )
    pairs = np.array(
        [
            next(
                iter(build(models, "mdlm", "nelbo", seed=seed, draws=4).score([nbest(*texts)]))
            ).values
            for seed in range(30)
        ]
    )
    paired = np.var(pairs[:, 0] - pairs[:, 1])
    independent = np.var(pairs[:, 0]) + np.var(pairs[:, 1])
    assert paired < 0.7 * independent


def test_unknown_script_goes_through_the_unknown_token_with_a_counted_warning(models, caplog):
    with caplog.at_level(logging.WARNING, logger="rescore"):
        (result,) = build(models, "mdlm", "pll").score(
            [nbest("the \u0434\u043e\u043c", "\u4f60\u597d")]
        )
    assert all(map(math.isfinite, result.values))
    assert "tokens are unknown to the model's vocabulary" in caplog.text


def test_the_end_of_the_sentence_may_be_left_out(models):
    (with_eos,) = build(models, "mdlm", "pll").score([nbest("the old house", "")])
    (without,) = build(models, "mdlm", "pll", score_eos=False).score([nbest("the old house", "")])
    assert without.values[0] > with_eos.values[0]
    assert (
        without.values[1] == with_eos.values[1]
    )  # an empty text keeps its end, or it would score 0


def test_signatures_tell_settings_apart(models):
    signatures = [
        build(models, "mdlm", "nelbo").signature,
        build(models, "mdlm", "nelbo", draws=16).signature,
        build(models, "mdlm", "nelbo", seed=1).signature,
        build(models, "mdlm", "pll").signature,
        build(models, "mdlm", "pll", window=32).signature,
        build(models, "mdlm", "pll", score_eos=False).signature,
        build(models, "mdlm", "pll", normalizer="none").signature,
        build(models, "usdm", "pll").signature,
        build(models, "usdm", "pll", t=0.2).signature,
        build(models, "ar").signature,
        load_scorer("ar", ScorerOptions(model=models["ar"])).signature,
    ]
    assert len(set(signatures)) == len(signatures)
    assert "|draws=8|seed=0|set_sampler=exact_count|" in signatures[0]
    assert build(models, "mdlm", "nelbo").signature == signatures[0]


def test_the_python_interface_adds_a_named_score(models):
    lists = [NBest("u", nbest("the old house", "the old horse").hyps, raw={"speaker": "x"})]
    (scored,) = rescore.score(lists, "mdlm", model=models["mdlm"], estimator="nelbo", draws=4)
    assert set(scored.hyps[0].scores) == {"mdlm_nelbo"}
    assert scored.raw["speaker"] == "x"
    assert scored.provenance["mdlm_nelbo"].evaluations == 8
    assert scored.hyps[0].raw["std_errors"]["mdlm_nelbo"] > 0
    assert not lists[0].hyps[0].scores
    with pytest.raises(ScoreError, match="is there already"):
        list(rescore.score([scored], "mdlm", model=models["mdlm"], estimator="nelbo"))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: load_scorer("magic"), RescoreError, "scorer 'magic' is unknown"),
        (
            lambda m: build(m, "mdlm", "magic"),
            ScoreError,
            "estimator 'magic' of --scorer mdlm is unknown",
        ),
        (
            lambda m: build(m, "usdm", "chain"),
            ScoreError,
            "estimator 'chain' of --scorer usdm is unknown",
        ),
        (lambda m: build(m, "ar", "pll"), ScoreError, "has no estimators"),
        (lambda m: load_scorer("mlm"), ModelError, "needs --model"),
        (
            lambda m: load_scorer("mdlm", ScorerOptions(model="nowhere")),
            ModelError,
            "no such checkpoint directory",
        ),
        (
            lambda m: load_scorer("mdlm", ScorerOptions(model=m["ar"])),
            ModelError,
            "holds objective 'ar', expected 'mdlm'",
        ),
        (lambda m: ScorerOptions(t=1.0), ScoreError, "t must lie between 0 and 1"),
        (lambda m: ScorerOptions(draws=0), ScoreError, "draws must be at least 1"),
    ],
)
def test_bad_settings_say_what_was_wrong(models, call, error, message):
    with pytest.raises(error, match=message):
        call(models)


def test_a_network_that_returns_nan_is_named_with_utterance_and_hypothesis(models):
    for family in ("mdlm", "usdm", "ar"):
        scorer = build(models, family)
        network = (scorer.model if family == "ar" else scorer.denoiser).network
        with torch.no_grad():
            network.final_norm.weight.fill_(math.nan)
        with pytest.raises(ScoreError, match="utterance utt-1, hypothesis 1"):
            list(scorer.score([nbest("the old house")]))


def test_a_device_that_torch_does_not_have_is_one_line(models):
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(ModelError, match="cannot be used") as caught:
            build(models, "mdlm", "pll", device=device)
        assert "\n" not in str(caught.value)


def test_one_draw_has_an_unknown_standard_error(models):
    options = {"model": models["mdlm"], "estimator": "nelbo", "draws": 1}
    (scored,) = rescore.score([nbest("the old house")], "mdlm", **options)
    assert scored.hyps[0].raw["std_errors"]["mdlm_nelbo"] is None
