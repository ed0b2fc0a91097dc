"""What each token adds to a score: token scores sum to the score for every estimator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import nbest, save_small, small_checkpoint

import rescore
from rescore.diffusion import masked
from rescore.diffusion.plans import token_values
from rescore.diffusion.sequence import scored_sequence
from rescore.errors import ScoreError
from rescore.formats.record import from_dict, to_dict
from rescore.models.adapters import NetworkDenoiser
from rescore.registry import SCORERS
from rescore.scorers import ScorerOptions, load_scorer

LISTS = [
    nbest("the old house stood at the end", "the old horse", "", id="a"),
    nbest(
        " ".join(["the old house stood at the end of the lane"] * 4),
        "THERE WAS no \u4f60 light!",
        id="b",
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


def build(models, family, estimator, **options):
    return load_scorer(family, ScorerOptions(model=models[family], estimator=estimator, **options))


@pytest.mark.parametrize(
    "options", [{}, {"window": 16}, {"dtype": "float64", "window": 32}, {"score_eos": False}]
)
@pytest.mark.parametrize(("family", "estimator"), ALL)
def test_token_scores_sum_to_the_score_and_change_nothing_else(
    models, family, estimator, options, monkeypatch
):
    monkeypatch.setattr("rescore.scorers.denoising.CHUNK_QUERIES", 50)
    plain, detailed = (
        build(models, family, estimator, per_token=asked, **options) for asked in (False, True)
    )
    tokenizer = small_checkpoint("ar").tokenizer
    end = [] if options.get("score_eos") is False else ["</s>"]
    for nbest_of, without, detail in zip(
        LISTS, plain.score(LISTS), detailed.score(LISTS), strict=True
    ):
        assert without.token_scores is None
        assert (detail.values, detail.std_errors, detail.signature, detail.evaluations) == (
            without.values, without.std_errors, without.signature, without.evaluations,
        )  # fmt: skip
        for hyp, value, tokens in zip(
            nbest_of.hyps, detail.values, detail.token_scores, strict=True
        ):
            pieces = tokenizer.pieces(
                tokenizer.encode([detailed.sequencer.vocabulary.normalize(hyp.text)])[0]
            )
            assert [piece for piece, _ in tokens] == pieces + (end or ["</s>"] * (not pieces))
            assert math.fsum(x for _, x in tokens) == pytest.approx(value, rel=1e-14)
            assert not any(math.copysign(1.0, x) < 0 and x == 0 for _, x in tokens)


def test_the_token_scores_of_a_network_are_its_conditionals(models):
    text = "the old house stood"
    checkpoint = small_checkpoint("ar")
    tokens = np.array(
        [
            checkpoint.tokenizer.bos_id,
            *checkpoint.tokenizer.encode([text])[0],
            checkpoint.tokenizer.eos_id,
        ]
    )
    with torch.no_grad():
        log_probs = checkpoint.network.double()(torch.from_numpy(tokens)[None]).log_softmax(-1)[0]
    [detail] = build(models, "ar", None, per_token=True, dtype="float64").score([nbest(text, text)])
    assert [x for _, x in detail.token_scores[1]] == pytest.approx(
        [float(log_probs[i, token]) for i, token in enumerate(tokens[1:])], abs=1e-9
    )

    denoiser = NetworkDenoiser(small_checkpoint("mdlm"), dtype=torch.float64)
    sequence = scored_sequence(tokens, np.arange(len(tokens)) > 0)
    for estimator, plan in (
        ("pll", masked.plan_pll(sequence, denoiser.mask_id)),
        ("chain", masked.plan_chain(sequence, denoiser.mask_id, np.arange(len(tokens) - 1))),
    ):
        [detail] = build(models, "mdlm", estimator, per_token=True, dtype="float64").score(
            [nbest(text)]
        )
        each = [
            float(values[0]) for values in token_values(denoiser, [plan], masked.read_token)[0]
        ]  # one query a token
        assert [x for _, x in detail.token_scores[0]] == pytest.approx(each, abs=1e-9)


def test_the_python_interface_writes_them_beside_the_score_and_keeps_those_of_other_scores(models):
    lists = [nbest("the old house", "")]
    once = list(rescore.score(lists, "ar", model=models["ar"], per_token=True))
    [twice] = rescore.score(once, "mdlm", model=models["mdlm"], per_token=True, folds=2)
    record = to_dict(twice)
    for hyp in record["hyps"]:
        assert list(hyp["token_scores"]) == ["ar", "mdlm_pll"]
        for name, tokens in hyp["token_scores"].items():
            assert sum(x for _, x in tokens) == pytest.approx(hyp["scores"][name], rel=1e-14)
            assert tokens[-1][0] == "</s>"
    assert to_dict(from_dict(record, "x")) == record
    [plain] = rescore.score([twice], "ar", model=models["ar"], overwrite=True)
    assert [list(hyp.raw["token_scores"]) for hyp in plain.hyps] == [["mdlm_pll"]] * 2


def test_an_existing_name_is_refused_before_anything_is_evaluated(models, monkeypatch):
    def evaluated(*_, **__):
        raise AssertionError("evaluated")

    monkeypatch.setattr("rescore.scorers.denoising.token_values", evaluated)
    monkeypatch.setattr("rescore.scorers.ar.token_log_probs", evaluated)
    for family, name in (("mdlm", "mdlm_pll"), ("ar", "ar")):
        passed = []
        lists = (
            passed.append(nbest_of) or nbest_of
            for nbest_of in [nbest("a", id="x", **{name: -1.0}), nbest("b", id="y")]
        )
        with pytest.raises(ScoreError, match=f'utterance x: score "{name}" is there already'):
            list(rescore.score(lists, family, model=models[family]))
        assert len(passed) == 1
        with pytest.raises(AssertionError, match="evaluated"):
            list(
                rescore.score(
                    [nbest("a", **{name: -1.0})], family, model=models[family], overwrite=True
                )
            )


def test_a_scorer_that_cannot_say_what_tokens_add_is_refused(monkeypatch):
    monkeypatch.setitem(SCORERS, "plain", "test_token_scores:build_plain")
    assert load_scorer("plain").name == "plain"
    with pytest.raises(
        ScoreError,
        match="--scorer plain does not say what each token adds to its score; leave --per-token",
    ):
        load_scorer("plain", ScorerOptions(per_token=True))


def build_plain(options):
    class Plain:
        name, kind, signature = "plain", "log_prob", "plain"

        def score(self, lists):
            yield from ()

    return Plain()
