"""What each token adds to a score: the shares sum to the score for every scorer and estimator, and are the right ones where they are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from small import nbest, save_small, small_checkpoint
from tabular import MaskedTable, UniformTable, markov_joint, random_joint

import rescore
from rescore.diffusion import masked, uniform
from rescore.diffusion.draws import Draws
from rescore.diffusion.queries import sums, token_values
from rescore.errors import ScoreError
from rescore.formats.record import from_dict, to_dict
from rescore.models.adapters import NetworkDenoiser
from rescore.registry import SCORERS
from rescore.scorers import ScorerOptions, load_scorer

JOINT = random_joint(3, 4, seed=1)
TOKENS = (2, 0, 1, 1)
SCORED = np.array([False, True, True, True])
EVERY = np.ones(4, bool)


def product_joint(*marginals) -> np.ndarray:
    joint = np.ones(())
    for marginal in marginals:
        joint = joint[..., None] * np.asarray(marginal)
    return joint


#: Independent tokens: the share of each is log p of that token, whatever is hidden.
MARGINALS = ([0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.4, 0.4, 0.2])
INDEPENDENT = product_joint(*MARGINALS)
ALONE = np.log([marginal[token] for marginal, token in zip(MARGINALS, TOKENS, strict=True)])


def shares(denoiser, plans, readout, length=4) -> np.ndarray:
    """The shares of each plan, (plans, length), checked to sum to the plan's value."""
    found = []
    for plan, values in zip(plans, token_values(denoiser, plans, readout), strict=True):
        found.append(plan.shares(values, length))
        value = plan.combine(sums(values)).value
        assert math.fsum(found[-1]) == pytest.approx(value, rel=1e-14, abs=1e-14)
    return np.array(found)


def masked_plans(estimator, seeds, scored=EVERY, **options):
    return [
        masked.plan_nelbo(np.array(TOKENS), scored, 3, Draws(seed), estimator=estimator, **options)
        for seed in range(seeds)
    ]


def agree(samples, exact) -> bool:
    """Whether the means of samples (n, length) lie within 4 standard errors of the exact values; the latter may be 0."""
    return bool(
        np.all(
            np.abs(samples.mean(0) - exact) <= 4 * samples.std(0) / math.sqrt(len(samples)) + 1e-12
        )
    )


@pytest.mark.parametrize("scored", [EVERY, SCORED])
@pytest.mark.parametrize("estimator", list(masked.ESTIMATORS))
def test_the_shares_of_every_masked_nelbo_sum_to_it(estimator, scored):
    for draws in (1, 5, 8):
        found = shares(
            MaskedTable(JOINT), masked_plans(estimator, 20, scored, draws=draws), masked.read_token
        )
        assert np.all(found >= 0)  # costs
        assert np.all(found[:, ~scored] == 0)


@pytest.mark.parametrize(
    "estimator", ["exact_count", "realised_ratio_unbiased", "pair_empty", "pair_full"]
)
def test_a_share_of_the_nelbo_is_on_average_the_mean_over_all_orders(estimator):
    table = MaskedTable(JOINT)
    exact = np.zeros(4)
    for order in itertools.permutations(range(4)):
        for step, position in enumerate(order):
            noisy = torch.tensor(
                [[token if i in order[:step] else 3 for i, token in enumerate(TOKENS)]]
            )
            log_probs = table.log_probs(
                noisy, torch.tensor([1 - step / 4]), torch.zeros(1, 4, dtype=torch.bool)
            )
            exact[position] -= float(log_probs[0, position, TOKENS[position]]) / math.factorial(4)
    assert exact.sum() == pytest.approx(-math.log(JOINT[TOKENS]))
    assert agree(shares(table, masked_plans(estimator, 500), masked.read_token), exact)


def test_the_share_of_an_independent_token_is_its_own_log_probability():
    for estimator in ("exact_count", "pair_empty", "pair_full"):
        assert agree(
            shares(MaskedTable(INDEPENDENT), masked_plans(estimator, 300), masked.read_token),
            -ALONE,
        )
    tokens = np.array(TOKENS)
    for prediction in ("leave_one_out", "posterior"):
        table = UniformTable(INDEPENDENT, prediction)
        plans = [uniform.plan_nelbo(tokens, EVERY, 3, Draws(seed)) for seed in range(300)]
        assert agree(shares(table, plans, uniform.read_loss(prediction)), -ALONE)
        assert shares(
            table, [uniform.plan_pll(tokens, EVERY, 0.3)], uniform.read_token(prediction)
        )[0] == pytest.approx(ALONE)


def test_a_token_that_no_draw_hides_adds_nothing():
    plan = next(
        plan
        for plan in masked_plans("exact_count", 20, draws=1)
        if len(plan.queries[0].positions) < 4
    )
    [found] = shares(MaskedTable(JOINT), [plan], masked.read_token)
    assert np.flatnonzero(found).tolist() == plan.queries[0].positions.tolist()


def test_the_shares_of_exact_scores_are_their_conditionals():
    table, tokens = MaskedTable(JOINT), np.array(TOKENS)
    conditionals = np.array(
        [
            math.log(JOINT[TOKENS] / JOINT[(*TOKENS[:i], slice(None), *TOKENS[i + 1 :])].sum())
            for i in range(4)
        ]
    )
    assert shares(table, [masked.plan_pll(tokens, EVERY, 3)], masked.read_token)[
        0
    ] == pytest.approx(conditionals)
    prefixes = [math.log(JOINT[TOKENS[:i]].sum()) for i in range(5)]
    assert shares(table, [masked.plan_chain(tokens, EVERY, 3, np.arange(4))], masked.read_token)[
        0
    ] == pytest.approx(np.diff(prefixes))
    suffixes = [math.log(JOINT[(..., *TOKENS[4 - i :])].sum()) for i in range(5)]
    assert shares(
        table, [masked.plan_chain(tokens, EVERY, 3, np.arange(4)[::-1])], masked.read_token
    )[0] == pytest.approx(np.diff(suffixes)[::-1])
    uniform_table = UniformTable(JOINT, "leave_one_out")
    assert shares(uniform_table, [uniform.plan_pll(tokens, EVERY, 1e-7)], masked.read_token)[
        0
    ] == pytest.approx(conditionals, abs=1e-4)


@pytest.mark.parametrize("prediction", ["leave_one_out", "posterior"])
@pytest.mark.parametrize("power", [1, 2, 3])
def test_the_shares_of_a_uniform_nelbo_sum_to_it(power, prediction):
    joint = markov_joint(3, 4, 0.7)
    plans = [
        uniform.plan_nelbo(np.array(TOKENS), SCORED, 3, Draws(seed), draws=6, power=power)
        for seed in range(20)
    ]
    found = shares(UniformTable(joint, prediction), plans, uniform.read_loss(prediction))
    assert np.all(found >= -1e-9)
    assert np.all(found[:, 0] == 0)


# -------------------------------------------------------------------------------------------------------------------------------- scorers

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
    for one, without, found in zip(LISTS, plain.score(LISTS), detailed.score(LISTS), strict=True):
        assert without.token_scores is None
        assert (found.values, found.std_errors, found.signature, found.evaluations) == (
            without.values, without.std_errors, without.signature, without.evaluations,
        )  # fmt: skip
        for hyp, value, tokens in zip(one.hyps, found.values, found.token_scores, strict=True):
            own = tokenizer.pieces(
                tokenizer.encode([detailed.sequencer.vocabulary.normalize(hyp.text)])[0]
            )
            assert [piece for piece, _ in tokens] == own + (end or ["</s>"] * (not own))
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
    [found] = build(models, "ar", None, per_token=True, dtype="float64").score([nbest(text, text)])
    assert [x for _, x in found.token_scores[1]] == pytest.approx(
        [float(log_probs[i, token]) for i, token in enumerate(tokens[1:])], abs=1e-9
    )

    denoiser = NetworkDenoiser(small_checkpoint("mdlm"), dtype=torch.float64)
    scored = np.arange(len(tokens)) > 0
    for estimator, plan in (
        ("pll", masked.plan_pll(tokens, scored, denoiser.mask_id)),
        ("chain", masked.plan_chain(tokens, scored, denoiser.mask_id, np.arange(len(tokens) - 1))),
    ):
        [found] = build(models, "mdlm", estimator, per_token=True, dtype="float64").score(
            [nbest(text)]
        )
        each = [
            float(values[0]) for values in token_values(denoiser, [plan], masked.read_token)[0]
        ]  # one query a token
        assert [x for _, x in found.token_scores[0]] == pytest.approx(each, abs=1e-9)


def test_the_python_interface_writes_them_beside_the_score_and_keeps_those_of_other_scores(models):
    lists = [nbest("the old house", "")]
    once = list(rescore.score(lists, "ar", model=models["ar"], per_token=True))
    [twice] = rescore.score(once, "mdlm", model=models["mdlm"], per_token=True, draws=2)
    record = to_dict(twice)
    for hyp in record["hyps"]:
        assert list(hyp["token_scores"]) == ["ar", "mdlm_nelbo"]
        for name, tokens in hyp["token_scores"].items():
            assert sum(x for _, x in tokens) == pytest.approx(hyp["scores"][name], rel=1e-14)
            assert tokens[-1][0] == "</s>"
    assert to_dict(from_dict(record, "x")) == record
    [plain] = rescore.score([twice], "ar", model=models["ar"], overwrite=True)
    assert [list(hyp.raw["token_scores"]) for hyp in plain.hyps] == [["mdlm_nelbo"]] * 2


def test_an_existing_name_is_refused_before_anything_is_evaluated(models, monkeypatch):
    def evaluated(*_, **__):
        raise AssertionError("evaluated")

    monkeypatch.setattr("rescore.scorers.denoising.token_values", evaluated)
    monkeypatch.setattr("rescore.scorers.ar.token_log_probs", evaluated)
    for family, name in (("mdlm", "mdlm_nelbo"), ("ar", "ar")):
        passed = []
        lists = (
            passed.append(one) or one
            for one in [nbest("a", id="x", **{name: -1.0}), nbest("b", id="y")]
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
        match="--scorer plain does not say what each token adds to its score; leave --per-token out",
    ):
        load_scorer("plain", ScorerOptions(per_token=True))


def build_plain(options):
    class Plain:
        name, kind, signature = "plain", "log_prob", "plain"

        def score(self, lists):
            yield from ()

    return Plain()
