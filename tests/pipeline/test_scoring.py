"""`rescore.score`: equal to the scorer alone, equal texts once, errors that name the hypothesis."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
from runs import WORDS, build, lists
from small import nbest

from rescore.errors import ScoreError
from rescore.pipeline import Progress, Shard, forecast, score


@pytest.mark.parametrize(
    ("family", "estimator"), [("usdm", "pll"), ("mdlm", "nelbo"), ("mdlm", "pll"), ("ar", None)]
)
def test_the_engine_gives_what_the_scorer_gives_list_by_list(models, family, estimator):
    scorer = build(models, family, estimator, dtype="float64")
    found = list(score(lists(40), scorer))
    for before, after in zip(lists(40), found, strict=True):
        (alone,) = scorer.score([before])
        assert (after.id, after.ref, [hyp.text for hyp in after.hyps]) == (
            before.id,
            before.ref,
            [hyp.text for hyp in before.hyps],
        )
        assert [hyp.scores[scorer.name] for hyp in after.hyps] == pytest.approx(
            alone.values, abs=1e-9
        )
        if alone.std_errors is not None:
            assert [hyp.raw["std_errors"][scorer.name] for hyp in after.hyps] == pytest.approx(
                alone.std_errors, abs=1e-9
            )


@pytest.mark.parametrize(
    ("family", "estimator", "draws"), [("usdm", "pll", 1), ("mdlm", "nelbo", 8)]
)
def test_a_text_that_stands_twice_is_evaluated_once(models, family, estimator, draws):
    twice = [nbest("the old house", "the lane", "the old house", "", "", id="a")]
    progress = Progress()
    [found] = score(twice, build(models, family, estimator), progress=progress)
    assert (progress.utterances, progress.hypotheses, progress.evaluations) == (1, 5, 3 * draws)
    values = [next(iter(hyp.scores.values())) for hyp in found.hyps]
    assert values[0] == values[2]
    assert values[3] == values[4]
    assert len(set(values)) == 3


def test_deterministic_scores_are_shared_by_lists_that_are_evaluated_together(models, monkeypatch):
    monkeypatch.setattr("rescore.pipeline.chunks.BUCKETS", 1)
    same = [nbest("the old house", "the lane", id=name) for name in "abc"]
    for family, estimator, evaluations in (("usdm", "pll", 2), ("usdm", "nelbo", 3 * 2 * 8)):
        monkeypatch.setattr("rescore.scorers.chunks.CHUNK", 100)
        progress = Progress()
        found = list(score(same, build(models, family, estimator), progress=progress))
        assert progress.evaluations == evaluations
        assert (found[0].hyps[0].scores == found[2].hyps[0].scores) == (estimator == "pll")


def test_an_error_names_the_hypothesis_by_its_number_in_the_list(models, monkeypatch):
    scorer = build(models)
    whole = scorer.denoiser.readout
    monkeypatch.setattr(
        scorer.budget, "tokens", 1
    )  # every hypothesis is a batch, and known by its size
    bad = "the lane"
    size = len(scorer.sequencer.vocabulary.tokenizer.encode([bad])[0]) + 1
    monkeypatch.setattr(
        scorer.denoiser,
        "readout",
        lambda hidden: whole(hidden) * (math.nan if len(hidden) == size else 1),
    )
    other = "there was no light in the window when they came"
    with pytest.raises(ScoreError, match=r"utterance u7, hypothesis 4: the network returned NaN"):
        list(score([nbest(other, other, other, bad, id="u7")], scorer))


@pytest.mark.parametrize("family", ["usdm", "mdlm", "ar"])
def test_scorers_are_picklable_and_work_in_a_dataloader(models, family):
    scorer = build(models, family)
    again = pickle.loads(pickle.dumps(scorer))  # noqa: S301 - made a moment ago
    few = lists(3)
    expected = [one.values for one in scorer.score(few)]
    assert [one.values for one in again.score(few)] == expected
    loader = torch.utils.data.DataLoader(
        few,
        batch_size=None,
        num_workers=1,
        collate_fn=lambda one: next(iter(scorer.score([one]))).values,
    )
    if family == "ar":  # one worker process is enough to see it
        assert [np.allclose(a, b, atol=1e-4) for a, b in zip(loader, expected, strict=True)] == [
            True
        ] * 3


def test_one_pathological_utterance_among_normal_ones(models):
    few = lists(6)
    random = np.random.default_rng(1)
    long = nbest(" ".join(random.choice(WORDS, 20_000)), "the old house", id="long")
    many = nbest(*(" ".join(random.choice(WORDS, 3)) for _ in range(10_000)), id="many")
    scorer = build(models)
    found = list(score([*few[:3], long, many, *few[3:]], scorer))
    assert [one.id for one in found] == [
        *(one.id for one in few[:3]),
        "long",
        "many",
        *(one.id for one in few[3:]),
    ]
    assert len(found[4].hyps) == 10_000
    assert found[3].hyps[0].scores["usdm_pll"] < 1000 * found[3].hyps[1].scores["usdm_pll"]
    alone = list(score(few, scorer))
    for a, b in zip(alone, [*found[:3], *found[5:]], strict=True):
        assert [hyp.scores["usdm_pll"] for hyp in a.hyps] == pytest.approx(
            [hyp.scores["usdm_pll"] for hyp in b.hyps], abs=1e-4
        )


def test_a_forecast_is_what_the_run_takes(models, monkeypatch):
    scorer = build(models, "mdlm", "pll")
    progress = Progress()
    list(score(lists(30), scorer, progress=progress))
    found = forecast(lists(30), scorer)
    assert (found.utterances, found.hypotheses) == (30, 150)
    assert found.evaluations == progress.evaluations
    assert 0 <= found.padding < 0.3
    monkeypatch.setattr("rescore.pipeline.dry_run.SAMPLE", 50)
    sampled = forecast(lists(30), scorer)
    assert (sampled.hypotheses, sampled.is_sampled) == (150, True)
    assert sampled.evaluations == pytest.approx(progress.evaluations, rel=0.25)
    assert "about" in str(sampled)
    assert found.seconds > 0
    assert "150" in str(found)
    assert forecast(lists(30), scorer, shard=Shard(0, 2)).utterances == sum(
        one.id in Shard(0, 2) for one in lists(30)
    )
