"""The cache: what it finds, what it never finds, and what damage costs."""

from __future__ import annotations

import math
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from runs import StopError, build, lists, stopping
from small import nbest, save_small

from rescore.errors import FormatError, ScoreError
from rescore.formats import jsonl
from rescore.pipeline import Cache, Journal, Progress, score
from rescore.pipeline import chunks as chunks_module
from rescore.scorers import ScorerOptions, load_scorer
from rescore.types import Score


@pytest.mark.parametrize(
    ("family", "estimator"), [("usdm", "pll"), ("usdm", "nelbo"), ("ar", None)]
)
@pytest.mark.parametrize("per_token", [False, True])
def test_what_the_cache_knows_is_not_evaluated_again(models, family, estimator, per_token):
    few = lists(20)
    first, again = Progress(), Progress()
    expected = [
        jsonl.encode(one)
        for one in score(
            few,
            build(models, family, estimator, per_token=per_token),
            progress=first,
            cache="cache",
        )
    ]
    found = list(
        score(
            few,
            build(models, family, estimator, per_token=per_token),
            progress=again,
            cache="cache",
        )
    )
    assert first.evaluations > 0
    assert again.evaluations == 0
    assert [jsonl.encode(one) for one in found] == expected


def test_deterministic_scores_are_found_by_text_and_stochastic_ones_by_list(models):
    [one] = lists(1)
    other = nbest(*(hyp.text for hyp in reversed(one.hyps)), "a new text", id="another")
    for estimator, evaluations in (
        ("pll", 1),
        ("nelbo", 8 * len({hyp.text for hyp in other.hyps})),
    ):
        list(score([one], build(models, "usdm", estimator), cache="cache"))
        progress = Progress()
        list(score([other], build(models, "usdm", estimator), cache="cache", progress=progress))
        assert progress.evaluations == evaluations


def test_a_cache_of_another_model_or_setting_is_never_used(models, tmp_path):
    few = lists(5)
    list(score(few, build(models), cache="cache"))
    other = str(save_small(tmp_path / "other", "usdm", seed=3))
    for options in (
        {"t": 0.3},
        {"model": other},
        {"per_token": True},
        {"score_eos": False},
        {"dtype": "float64"},
    ):
        progress = Progress()
        scorer = load_scorer("usdm", ScorerOptions(**{"model": models["usdm"], **options}))
        found = list(score(few, scorer, cache="cache", progress=progress))
        assert progress.evaluations > 0
        assert [jsonl.encode(one) for one in found] == [
            jsonl.encode(one) for one in score(few, scorer)
        ]


def test_a_run_sees_the_cache_as_it_was_when_it_began(models):
    few = lists(30)
    whole = [jsonl.encode(one) for one in score(few, build(models), cache="one")]
    with Journal("x.journal") as journal, pytest.raises(StopError):
        list(score(few, stopping(build(models), 5), journal=journal, cache="two"))
    list(score(few, build(models), cache="two"))  # another run fills it meanwhile
    with Journal("x.journal") as journal:
        assert [
            jsonl.encode(one) for one in score(few, build(models), journal=journal, cache="two")
        ] == whole


def damage_header(path):
    path.write_bytes(b"this is no database" * 200)


def damage_pages(path):
    content = bytearray(path.read_bytes())
    content[5000:9000] = os.urandom(4000)
    path.write_bytes(bytes(content))


def damage_value(path):
    with sqlite3.connect(path) as connection:
        connection.execute("update scores set value = ?", (b'{"values":[-1.0],"evaluations":1}',))
    connection.close()


@pytest.mark.parametrize("damage", [damage_header, damage_pages, damage_value])
def test_a_damaged_cache_is_named_and_rebuilt(models, damage, caplog):
    few = lists(30)
    expected = [
        [hyp.scores["usdm_pll"] for hyp in one.hyps]
        for one in score(few, build(models), cache="cache")
    ]
    [path] = Path("cache").iterdir()
    damage(path)
    progress = Progress()
    found = [
        [hyp.scores["usdm_pll"] for hyp in one.hyps]
        for one in score(few, build(models), cache="cache", progress=progress)
    ]
    assert progress.evaluations > 0
    assert np.allclose(np.concatenate(found), np.concatenate(expected), atol=1e-4)
    assert str(path) in caplog.text
    assert "damaged" in caplog.text
    caplog.clear()
    list(score(few, build(models), cache="cache", progress=(after := Progress())))
    assert after.evaluations == 0
    assert "damaged" not in caplog.text


def test_a_cache_that_cannot_be_written_is_refused(models):
    Path("file").write_text("x")
    with pytest.raises(
        FormatError, match=r"^file: cannot be written: file exists; name another one$"
    ):
        Cache("file", "s", "pll")


def test_a_score_that_no_list_may_hold_does_not_reach_the_journal(models):
    class Odd:
        name, kind, signature = "odd", "pll", "odd|1"

        def score(self, some):
            for one in some:
                yield Score((math.inf,) * len(one.hyps), self.signature, self.kind, 1)

    with (
        Journal("x.journal") as journal,
        pytest.raises(ScoreError, match=r'score "odd" is infinite'),
    ):
        list(score(lists(3), Odd(), journal=journal))
    assert not Path("x.journal").exists()
    assert chunks_module.BUCKETS == 64
