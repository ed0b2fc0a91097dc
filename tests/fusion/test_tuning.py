"""Lists in, weights out: tuning against `fuse` and `evaluate`."""

from dataclasses import replace

import numpy as np
import pytest
from tuning_problems import errors_at, made_up_table

from rescore.errors import FormatError, FusionError, ScoreError
from rescore.fusion import ScoreTable, SearchSettings, fuse, tune, tune_arrays
from rescore.fusion.decisions import fit_temperature
from rescore.fusion.descent import minimize_errors
from rescore.fusion.totals import totals
from rescore.fusion.tuning import cross_validation
from rescore.types import Hypothesis, NBest, Provenance
from rescore.wer import evaluate, list_errors


def dev_lists(utterances=30, signature="m:1"):
    random = np.random.default_rng(1)
    lists = []
    for u in range(utterances):
        ref = random.choice(list("abcdef"), random.integers(2, 9)).tolist()
        hyps = []
        for _ in range(6):
            wrong = random.random(len(ref)) < 0.3
            words = [
                random.choice(list("xyz")) if bad else word
                for word, bad in zip(ref, wrong, strict=True)
            ][random.integers(0, 2) :]
            cost = wrong.sum() + len(ref) - len(words)
            hyps.append(
                Hypothesis(
                    " ".join(words),
                    {"am": 10 * random.normal(-cost, 2), "lm": random.normal(-cost, 1)},
                )
            )
        lists.append(
            NBest(
                f"u{u}",
                tuple(hyps),
                " ".join(ref),
                where=f"dev.jsonl:{u + 1}",
                provenance={"lm": Provenance({"signature": signature})},
            )
        )
    return lists


def test_tuned_weights_make_the_errors_they_promise():
    lists = dev_lists()
    fusion = tune(iter(lists), ["am", "lm"], cross_validate=3)
    before, after = evaluate(lists), evaluate(fuse(lists, fusion))
    assert (
        fusion.dev.wer
        == after.wer
        < before.wer
        == fusion.dev.first_pass_wer
        <= fusion.dev.cross_validated_wer + 0.2
    )
    assert fusion.dev.oracle_wer == after.oracle_wer
    assert fusion.dev.wer <= fusion.dev.cross_validated_wer
    assert (fusion.dev.utterances, fusion.dev.reference_words, fusion.dev.folds) == (
        30,
        before.errors.reference_words,
        3,
    )
    assert (fusion.scales["am"], list(fusion.scales)) == (1.0, ["am", "lm"])
    assert fusion.signatures == {"lm": "m:1"}
    assert fusion.overlap(nbest.id for nbest in lists) == 30
    table = ScoreTable.of(lists, ["am", "lm"])
    errors = np.concatenate([list_errors(nbest) for nbest in lists])
    assert fusion.temperature == fit_temperature(
        totals(table, fusion.scales, fusion.word_bonus), errors, table.offsets
    )
    assert tune(lists, ["am", "lm"], cross_validate=3) == fusion


def test_lists_and_arrays_give_the_same_weights():
    lists = dev_lists()
    table = ScoreTable.of(lists, ["am", "lm"])
    errors = [
        [
            sum(r != h for r, h in zip(nbest.ref.split()[::-1], hyp.words[::-1], strict=False))
            for hyp in nbest.hyps
        ]
        for nbest in lists
    ]
    missing = [
        [len(nbest.ref.split()) - len(hyp.words) for hyp in nbest.hyps] for nbest in lists
    ]  # only deletions at the front
    split = [np.split(array, table.offsets[1:-1]) for array in (table.features, table.words)]
    optimum = tune_arrays(
        split[0],
        [np.add(e, m) for e, m in zip(errors, missing, strict=True)],
        words=split[1],
        names=["am", "lm"],
    )
    fusion = tune(lists, ["am", "lm"])
    assert (optimum.scales, optimum.word_bonus, optimum.plateaus) == (
        fusion.scales,
        fusion.word_bonus,
        fusion.dev.plateaus,
    )


def test_characters_and_normalisers_are_what_is_counted():
    lists = [NBest("u", (Hypothesis("Ab", {"am": 1.0}), Hypothesis("ab cd", {"am": 0.0})), "ab")]
    assert tune(lists, ["am"], word_bonus=False).dev.wer == 1.0
    result = tune(lists, ["am"], word_bonus=False, unit="char", normalizer="librispeech").dev
    assert (result.wer, result.reference_words, result.unit, result.normalizer) == (
        0.0,
        2,
        "char",
        "librispeech",
    )


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda lists: [*lists, replace(lists[0], ref=None)],
            FormatError,
            r'^dev\.jsonl:1: utterance u0: the reference \("ref"\) is missing',
        ),
        (
            lambda lists: [replace(nbest, ref="") for nbest in lists],
            FormatError,
            r"^dev\.jsonl:1: utterance u0: the reference holds no words, like",
        ),
        (lambda lists: [], FormatError, "there are no lists"),
        (
            lambda lists: [*lists, replace(lists[3], hyps=(Hypothesis("a", {"am": 1.0}),))],
            ScoreError,
            'u3, hypothesis 1: score "lm" is missing',
        ),
        (
            lambda lists: lists + dev_lists(1, "m:2"),
            FusionError,
            'u0: score "lm" was made by "m:2", earlier ones by "m:1"; score all lists alike',
        ),
        (
            lambda lists: [*lists, replace(lists[0], provenance={})],
            FusionError,
            'score "lm" was made by "unknown", earlier ones by "m:1"',
        ),
    ],
)
def test_bad_lists_are_named(change, error, message):
    with pytest.raises(error, match=message):
        tune(change(dev_lists(4)), ["am", "lm"])


@pytest.mark.parametrize(
    ("count", "place"),
    [(4, "dev.jsonl:1: utterance u0 and 3 others"), (1, "dev.jsonl:1: utterance u0")],
)
def test_too_many_folds_name_the_lists_before_the_search_begins(count, place, monkeypatch):
    monkeypatch.setattr("rescore.fusion.tuning.minimize_errors", None)
    with pytest.raises(FusionError) as caught:
        tune(dev_lists(count), ["am", "lm"], cross_validate=5)
    assert (
        str(caught.value) == f"{place}: got 5 folds for {count} utterances, expected 2 to {count}"
    )


def test_cross_validation_counts_every_utterance_with_weights_that_never_saw_it():
    table, errors = made_up_table(9)
    result = cross_validation(table, errors, 4, SearchSettings(seed=3))
    fold_of = np.random.default_rng(3).permutation(40) % 4
    pooled = 0
    for fold, optimum in enumerate(result.folds):
        rest, rows = table.take(np.flatnonzero(fold_of != fold))
        assert optimum == minimize_errors(rest, errors[rows], SearchSettings(seed=3))
        held, rows = table.take(np.flatnonzero(fold_of == fold))
        pooled += errors_at(held, errors[rows], optimum.scales, optimum.word_bonus)
    assert (result.errors, len(result.folds)) == (pooled, 4)
    assert minimize_errors(table, errors).errors <= result.errors
