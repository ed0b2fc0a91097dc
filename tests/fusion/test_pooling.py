"""Lists of several systems, joined by text."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rescore
from rescore.errors import FormatError, FusionError
from rescore.fusion import Fusion, fuse
from rescore.fusion.pooling import pool
from rescore.types import Hypothesis, NBest, Provenance


def system(id, hyps, **options):
    made = tuple(
        Hypothesis(text, scores, {} if p is None else {"posterior": p}) for text, scores, p in hyps
    )
    return NBest(id, made, **options)


A = [
    system("u1", [("a b", {"am": -1.0}, 0.7), ("a c", {"am": -2.0}, 0.3)], ref="a b"),
    system("u2", [("x", {"am": -1.0}, 1.0)]),
]
B = [
    system("u2", [("y", {"am": -5.0, "lm": -2.0}, 0.5), ("x ", {"am": -6.0, "lm": -1.0}, 0.5)]),
    system("u1", [("a  c", {"am": -7.0, "lm": -3.0}, 0.9), ("d", {"am": -8.0, "lm": -4.0}, 0.1)]),
]


def test_the_pool_is_the_log_of_the_mixture():
    first, second = pool({"a": A, "b": B}, [3, 1])
    assert (first.id, first.ref, second.ref) == ("u1", "a b", None)
    expected = {"a b": 0.75 * 0.7, "a c": 0.75 * 0.3 + 0.25 * 0.9, "d": 0.25 * 0.1}
    assert {hyp.text: math.exp(hyp.scores["pool"]) for hyp in first.hyps} == pytest.approx(expected)
    assert [hyp.text for hyp in first.hyps] == ["a b", "a c", "d"]
    assert sum(math.exp(hyp.scores["pool"]) for hyp in first.hyps) == pytest.approx(1.0)
    assert [hyp.text for hyp in second.hyps] == ["x", "y"]


def test_scores_are_kept_apart_and_none_is_made_up():
    first, _ = pool({"a": A, "b": B})
    by_text = {hyp.text: hyp for hyp in first.hyps}
    assert set(by_text["a b"].scores) == {"a.am", "pool"}
    assert set(by_text["a c"].scores) == {"a.am", "b.am", "b.lm", "pool"}
    assert by_text["a c"].scores["b.am"] == -7.0
    assert by_text["a c"].raw["systems"] == ["a", "b"]
    assert "posterior" not in by_text["a c"].raw
    assert first.provenance["pool"].signature == "pool|a:0.5,b:0.5|version=1"


def test_a_score_of_one_model_keeps_its_name():
    made = {"lm": Provenance({"signature": "ar|1"})}
    a = [system("u", [("a", {"lm": -1.0}, None)], provenance=made)]
    b = [system("u", [("b", {"lm": -2.0}, None), ("a", {"lm": -1.0}, None)], provenance=made)]
    [pooled] = pool({"a": a, "b": b})
    assert {hyp.text: hyp.scores["lm"] for hyp in pooled.hyps} == {"a": -1.0, "b": -2.0}
    assert pooled.provenance["lm"].signature == "ar|1"
    other = {"lm": Provenance({"signature": "ar|2"})}
    b = [system("u", [("b", {"lm": -2.0}, None)], provenance=other)]
    [pooled] = pool({"a": a, "b": b})
    assert [set(hyp.scores) - {"pool"} for hyp in pooled.hyps] == [{"a.lm"}, {"b.lm"}]


def test_without_posteriors_the_order_counts():
    a = [system("u", [("x", {}, None), ("y", {}, None)])]
    [pooled] = pool({"a": a, "b": a})
    p = 1 / (1 + math.exp(-1))
    assert [math.exp(hyp.scores["pool"]) for hyp in pooled.hyps] == pytest.approx([p, 1 - p])


def test_what_fuse_wrote_is_pooled_by_its_posteriors():
    weights = Fusion({"am": 1.0}, temperature=2.0)
    fused = list(fuse(A, weights, posteriors=True))
    [first, _] = rescore.pool({"a": fused, "b": fused})
    odds = first.hyps[0].scores["pool"] - first.hyps[1].scores["pool"]
    assert odds == pytest.approx(0.5)  # (-1 + 2) / 2
    best = list(fuse(pool({"a": A, "b": B}), Fusion({"pool": 1.0}), "mbr", posteriors=True))
    probabilities = [hyp.raw["posterior"] for hyp in best[0].hyps]
    assert sorted(probabilities) == pytest.approx(
        sorted(math.exp(hyp.scores["pool"]) for hyp in best[0].hyps)
    )


def test_utterances_that_a_system_lacks():
    extra = [system("u3", [("z", {"am": -1.0}, 1.0)])]
    with pytest.raises(FormatError, match="utterance u2: system b has no list of this utterance"):
        list(pool({"a": A, "b": B[1:]}))
    with pytest.raises(FormatError, match="utterance u3: system a has no list of this utterance"):
        list(pool({"a": A, "b": [*B, *extra]}))
    pooled = list(pool({"a": A, "b": [B[1], *extra]}, keep_incomplete=True))
    assert [nbest.id for nbest in pooled] == ["u1", "u2", "u3"]
    assert pooled[1].hyps[0].scores["pool"] == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("systems", "weights", "error", "message"),
    [
        ({"a": A}, None, FusionError, "there is one system, a; pool joins two or more"),
        ({"a": A, "b": B}, [1.0], FusionError, "expected a positive number for each of a, b"),
        ({"a": A, "b": B}, [1.0, 0.0], FusionError, "expected a positive number for each of a, b"),
        ({"a": A, "b": B}, [1.0, np.inf], FusionError, "expected a positive number for each"),
        ({"a": [*A, A[0]], "b": B}, None, FormatError, "utterance u1: this id was pooled before"),
        (
            {"a": A, "b": [system("u1", [("a", {}, 1.0)], ref="q"), B[0]]},
            None,
            FormatError,
            "utterance u1: the systems have different references",
        ),
        (
            {"a": A, "b": [system("u1", [("a", {}, 0.0)]), B[0]]},
            None,
            FormatError,
            "utterance u1: all posteriors are 0",
        ),
    ],
)
def test_what_cannot_be_pooled(systems, weights, error, message):
    with pytest.raises(error, match=message):
        list(pool(systems, weights))
