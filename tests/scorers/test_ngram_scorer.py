"""The `ngram` scorer and its three kinds of models: our directory, ARPA files, KenLM binaries."""

from __future__ import annotations

import logging
import math
import re
import sys
from dataclasses import replace

import lmplz
import pytest
from small import nbest, save_small
from small_ngrams import ARPA, ROUNDING, model_of, values_of, zipf_text

from rescore.errors import ModelError, ScoreError
from rescore.models.arpa import write_arpa
from rescore.models.ngram import save
from rescore.scorers import ScorerOptions, load_scorer


@pytest.fixture(scope="module")
def model():
    return replace(model_of(zipf_text(), 3)[0], normalizer="librispeech")


@pytest.fixture(scope="module")
def paths(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("ngram")
    save(model, root / "model")
    write_arpa(model, root / "model.arpa")
    return root


def test_kenlm_binaries_give_the_scores_of_their_arpa_files(tmp_path):
    pytest.importorskip("kenlm")
    (tmp_path / "x.arpa").write_text(lmplz.ARPA)
    (tmp_path / "x.bin").write_bytes(lmplz.BINARY)
    lists = [nbest(*lmplz.LINES, "the zebra sat", "<s> a </s>", id="a"), nbest("on", id="b")]
    arpa, binary = (
        load_scorer("ngram", ScorerOptions(model=str(tmp_path / name)))
        for name in ("x.arpa", "x.bin")
    )
    assert binary.name == arpa.name == "ngram3"
    for theirs, ours in zip(binary.score(lists), arpa.score(lists), strict=True):
        assert theirs.values == pytest.approx(ours.values, abs=8 * 3 * ROUNDING)
    assert (binary.words, binary.unknown) == (arpa.words, arpa.unknown) == (24, 3)
    assert re.fullmatch(
        r"ngram\.log_prob\|model=[0-9a-f]{16}\|normalizer=identity\|eos=1\|version=1",
        binary.signature,
    )


LISTS = [
    nbest("w0 w1 w2", "W0, w1!", "", id="a"),
    nbest("w3 never w1", id="b"),
    nbest("w5", "w5 w5", id="c"),
]


def test_a_score_is_the_sum_over_words_and_the_end(model, paths):
    scorer = load_scorer("ngram", ScorerOptions(model=str(paths / "model")))
    scores = list(scorer.score(LISTS))
    for texts, score in zip(
        [["w0 w1 w2", "w0 w1", ""], ["w3 never w1"], ["w5", "w5 w5"]], scores, strict=True
    ):
        assert score.values == pytest.approx(
            [values_of(model, text).sum() for text in texts], rel=1e-12
        )
        assert (score.kind, score.evaluations, score.std_errors, score.signature) == (
            "log_prob",
            len(texts),
            None,
            scorer.signature,
        )


@pytest.mark.parametrize("score_eos", [True, False])
def test_token_scores_are_the_words_and_sum_to_the_score(score_eos, model, paths):
    options = ScorerOptions(model=str(paths / "model"), score_eos=score_eos)
    for one, plain, found in zip(
        LISTS,
        *(
            load_scorer("ngram", replace(options, per_token=asked)).score(LISTS)
            for asked in (False, True)
        ),
        strict=True,
    ):
        assert (plain.values, plain.token_scores) == (found.values, None)
        for hyp, value, tokens in zip(one.hyps, found.values, found.token_scores, strict=True):
            words = hyp.text.lower().replace(",", "").replace("!", "").split()
            assert [word for word, _ in tokens] == [
                *words,
                *(["</s>"] if score_eos or not words else []),
            ]
            assert [nats for _, nats in tokens] == pytest.approx(
                values_of(model, " ".join(words))[: len(tokens)], rel=1e-12
            )
            assert math.fsum(nats for _, nats in tokens) == pytest.approx(value, rel=1e-12)


def test_the_end_can_be_left_out_but_for_an_empty_text(model, paths):
    [score, *_] = load_scorer(
        "ngram", ScorerOptions(model=str(paths / "model"), score_eos=False)
    ).score(LISTS)
    assert score.values == pytest.approx(
        [
            values_of(model, "w0 w1 w2")[:3].sum(),
            values_of(model, "w0 w1")[:2].sum(),
            values_of(model, "")[0],
        ],
        rel=1e-12,
    )


@pytest.mark.parametrize("chunk", [1, 4])
def test_scores_do_not_depend_on_chunks(chunk, paths, monkeypatch):
    scorer = load_scorer("ngram", ScorerOptions(model=str(paths / "model")))
    whole = list(scorer.score(LISTS))
    monkeypatch.setattr("rescore.scorers.chunks.CHUNK", chunk)
    assert list(scorer.score(LISTS)) == whole
    assert list(scorer.score([])) == []


def test_the_signature_is_that_of_the_numbers_whatever_the_file(paths):
    directory = load_scorer("ngram", ScorerOptions(model=str(paths / "model")))
    arpa = load_scorer(
        "ngram", ScorerOptions(model=str(paths / "model.arpa"), normalizer="librispeech")
    )
    assert arpa.signature == directory.signature
    assert list(arpa.score(LISTS)) == list(directory.score(LISTS))
    others = [{"normalizer": "none"}, {"score_eos": False}]
    assert (
        len(
            {
                load_scorer("ngram", ScorerOptions(model=str(paths / "model"), **other)).signature
                for other in others
            }
            | {arpa.signature}
        )
        == 3
    )
    assert (
        load_scorer("ngram", ScorerOptions(model=str(paths / "model.arpa"))).normalize.__name__
        == "identity"
    )


def test_unknown_words_are_counted_and_said_once(paths, caplog):
    list(load_scorer("ngram", ScorerOptions(model=str(paths / "model"))).score(LISTS))
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (
            logging.WARNING,
            (
                "1 of 11 words are unknown to the model and were scored as <unk>; "
                "are its words spelled like these?"
            ),
        )
    ]
    caplog.clear()
    list(load_scorer("ngram", ScorerOptions(model=str(paths / "model"))).score(LISTS[:1]))
    assert caplog.records == []


def test_an_unknown_word_that_has_no_probability_is_named(tmp_path):
    (tmp_path / "x.arpa").write_text(ARPA.replace("-2\t<unk>\n", "").replace("1=6", "1=5"))
    scorer = load_scorer("ngram", ScorerOptions(model=str(tmp_path / "x.arpa")))
    [score] = scorer.score([nbest("a b c", "")])
    assert all(map(math.isfinite, score.values))
    with pytest.raises(
        ScoreError,
        match=r"^utterance utt-1, hypothesis 2: a word is unknown and the model has no <unk>, "
        "so its score is -inf; use a model",
    ):
        list(scorer.score([nbest("a", "a zzz")]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            ModelError,
            (
                "--scorer ngram needs --model: what `dlmrescore train ngram` made, "
                "an ARPA file or a KenLM binary"
            ),
        ),
        ({"model": "gone"}, ModelError, "gone: no such file or directory; give what"),
        (
            {"model": "x", "estimator": "pll"},
            ScoreError,
            "--scorer ngram has no estimators, got 'pll'; leave --estimator out",
        ),
        (
            {"model": "x", "window": 64, "draws": 3},
            ScoreError,
            (
                "--scorer ngram does not read --draws, --window; leave them out"
                " (it reads --model, --normalizer, --per-token, --no-score-eos)"
            ),
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(options, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        load_scorer("ngram", ScorerOptions(**options))


def test_a_network_is_refused(tmp_path):
    with pytest.raises(
        ModelError, match=r"ar: holds objective 'ar', expected 'ngram'; pass --scorer ar"
    ):
        load_scorer("ngram", ScorerOptions(model=str(save_small(tmp_path / "ar", "ar"))))


def test_a_kenlm_binary_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.bin").write_bytes(lmplz.BINARY)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(
        ModelError,
        match=r"x\.bin: a KenLM binary needs the kenlm package; "
        r"run, .*: pip install '.\[kenlm\]', or give the ARPA file",
    ):
        load_scorer("ngram", ScorerOptions(model=str(tmp_path / "x.bin")))


def test_a_kenlm_binary_that_is_cut_off_is_one_line(tmp_path):
    pytest.importorskip("kenlm")
    (tmp_path / "x.bin").write_bytes(lmplz.BINARY[:200])
    with pytest.raises(
        ModelError, match=r"x\.bin: KenLM cannot read it \(.*\); build it again"
    ) as caught:
        load_scorer("ngram", ScorerOptions(model=str(tmp_path / "x.bin")))
    assert "\n" not in str(caught.value)
