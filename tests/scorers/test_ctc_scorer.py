"""`ctc` and `ctc_prior`: exact scores of lists, and what CTC cannot emit."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small import nbest, small_tokenizer
from small_posteriors import LETTERS, TEXTS, posteriors_of, save_posteriors

import rescore
from rescore.acoustic.posterior_file import read_posteriors, write_posteriors
from rescore.acoustic.symbols import Segmenter, Symbols
from rescore.cli import main
from rescore.errors import ModelError, ScoreError
from rescore.formats import jsonl
from rescore.pipeline import Journal, merge
from rescore.pipeline.shards import Shard
from rescore.scorers import ScorerOptions, load_scorer

LISTS = [
    nbest("the old house", "the old horse", "The  OLD hose", "", id="u1"),
    nbest("she wrote a letter", "she wrote letter", id="u2"),
    nbest("no light", "no night", id="u3"),
]


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_posteriors(tmp_path / "p.safetensors")


def scorer(name="ctc", posteriors="p.safetensors", **options):
    return load_scorer(name, ScorerOptions(posteriors=posteriors, **options))


def ctc_loss(log_probs, labels, blank):
    return torch.nn.functional.ctc_loss(
        torch.from_numpy(log_probs).double()[:, None],
        torch.tensor([labels], dtype=torch.int64),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(labels)]),
        blank,
        reduction="none",
    ).item()


def test_the_score_is_minus_ctc_loss_of_the_spelled_text():
    file = read_posteriors("p.safetensors")
    for scored in rescore.score(LISTS, "ctc", posteriors="p.safetensors"):
        for hyp in scored.hyps:
            log_probs = file[scored.id].log_probs
            expected = -ctc_loss(log_probs, LETTERS.encode(hyp.text), 0)
            assert hyp.scores == {"am": pytest.approx(expected, rel=1e-12)}
        best = max(scored.hyps, key=lambda hyp: hyp.scores["am"])
        assert best.text == TEXTS[scored.id]
        entry = scored.provenance["am"].entry
        assert (entry["kind"], entry["evaluations"]) == ("log_prob", len(scored.hyps))
        assert entry["signature"].startswith("ctc.log_prob|model=small|0|symbols=")


def test_a_list_scores_the_same_alone_and_among_others():
    together = list(scorer().score(LISTS))
    assert together == [next(scorer().score([each])) for each in LISTS]
    alone = [next(scorer().score([nbest(hyp.text, id="u1")])).values[0] for hyp in LISTS[0].hyps]
    assert list(together[0].values) == alone


def test_the_prior_score_sums_the_priors_of_the_labels():
    file = read_posteriors("p.safetensors")
    mean = np.exp(np.concatenate([file[name].log_probs for name in file]).astype(float)).mean(0)
    prior = np.log(mean[1:] / mean[1:].sum())
    for list_, score in zip(LISTS, scorer("ctc_prior").score(LISTS), strict=True):
        expected = [sum(prior[k - 1] for k in LETTERS.encode(hyp.text)) for hyp in list_.hyps]
        assert score.values == pytest.approx(expected, rel=1e-6)
    [score] = scorer("ctc_prior").score([nbest("no audio needed", id="elsewhere")])
    assert score.values[0] < 0


LONG = "a" * 300
IMPOSSIBLE = {
    LONG: r"utterance u1, hypothesis 2: CTC cannot emit 300 labels in \d+ frames, they need 599;",
    "a 1": r"utterance u1, hypothesis 2: the recogniser has no symbol '1'",
}


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_a_text_that_ctc_cannot_emit_is_named(text):
    with pytest.raises(ScoreError, match=IMPOSSIBLE[text]):
        list(scorer().score([nbest("the", text, id="u1")]))


def test_impossible_hypotheses_are_dropped_and_counted(caplog):
    lists = [nbest("1", "the", LONG, "old", id="u1", ref="r"), nbest("no", id="u3")]
    with caplog.at_level(logging.WARNING):
        [first, second] = rescore.score(
            lists, "ctc", posteriors="p.safetensors", impossible="drop", name="x"
        )
    assert [hyp.text for hyp in first.hyps] == ["the", "old"]
    assert (first.ref, [hyp.text for hyp in second.hyps]) == ("r", ["no"])
    assert "2 hypotheses of 1 lists were dropped" in caplog.text
    expected = next(scorer().score([nbest("the", "old", id="u1")]))
    assert [hyp.scores["x"] for hyp in first.hyps] == list(expected.values)
    with pytest.raises(ScoreError, match=r"u1, hypothesis 1: .*none of the 1 hypotheses"):
        list(rescore.score([nbest("1", id="u1")], scorer(impossible="drop")))


def test_shards_that_dropped_hypotheses_merge(caplog):
    lists = [nbest(TEXTS[name], "1", "no", id=name) for name in TEXTS]
    options = {"posteriors": "p.safetensors", "impossible": "drop"}
    whole = list(rescore.score(lists, "ctc", **options))
    for index in range(2):
        shard = rescore.score(lists, "ctc", shard=Shard(index, 2), **options)
        jsonl.write(shard, f"{index}.jsonl")
    with caplog.at_level(logging.WARNING):
        merged = list(merge(lists, ["0.jsonl", "1.jsonl"]))
    assert [jsonl.encode(each) for each in merged] == [jsonl.encode(each) for each in whole]
    assert "lack 4 hypotheses of 4 lists" in caplog.text


def test_an_utterance_without_posteriors_is_named():
    for impossible in ("error", "drop"):
        with pytest.raises(ScoreError, match=r"utterance u9: p\.safetensors has no posteriors"):
            list(rescore.score([nbest("a", id="u9")], scorer(impossible=impossible)))


def test_other_audio_under_the_same_id_is_scored_anew(tmp_path):
    """Neither cache nor journal takes the score of other posteriors."""
    save_posteriors(tmp_path / "q.safetensors", seed=3)
    changed = read_posteriors("q.safetensors").values()
    write_posteriors((replace(each, signature="small|0") for each in changed), "q.safetensors")
    assert scorer().signature == scorer(posteriors="q.safetensors").signature
    values = {}
    for file in ("p.safetensors", "q.safetensors"):
        scored = rescore.score(LISTS, "ctc", posteriors=file, cache="cache")
        values[file] = [hyp.scores["am"] for each in scored for hyp in each.hyps]
        fresh = rescore.score(LISTS, "ctc", posteriors=file)
        assert values[file] == [hyp.scores["am"] for each in fresh for hyp in each.hyps]
        with Journal("journal") as journal:
            journaled = rescore.score(LISTS, "ctc", posteriors=file, journal=journal)
            assert values[file] == [hyp.scores["am"] for each in journaled for hyp in each.hyps]
    assert values["p.safetensors"] != values["q.safetensors"]


def pieces():
    """The small SentencePiece model, and symbols in another order than its pieces."""
    tokenizer = small_tokenizer()
    names = [name for name, _ in tokenizer.scores()][4:]
    return tokenizer.serialized, Symbols(("<blk>", *reversed(names), "<unk>"), 0, "mark", None)


def test_pieces_are_cut_by_the_sentencepiece_model(tmp_path):
    serialized, symbols = pieces()
    (tmp_path / "bpe.model").write_bytes(serialized)
    spelled = replace(symbols, segmenter=Segmenter("sentencepiece", serialized))
    write_posteriors(posteriors_of(symbols=spelled), "with")
    write_posteriors(
        [replace(each, symbols=symbols) for each in posteriors_of(symbols=spelled)], "p"
    )
    scores = list(scorer(posteriors="p", bpe="bpe.model").score(LISTS))
    assert scores == list(scorer(posteriors="with").score(LISTS))
    file = read_posteriors("with")
    labels = spelled.encode("the old house")
    assert scores[0].values[0] == pytest.approx(-ctc_loss(file["u1"].log_probs, labels, 0))
    with pytest.raises(ModelError, match=r"u1, hypothesis 1: .*\(--bpe\)"):
        list(scorer(posteriors="p").score(LISTS))


def test_models_that_do_not_fit_the_symbols_are_refused(tmp_path):
    serialized, symbols = pieces()
    (tmp_path / "bpe.model").write_bytes(serialized)
    (tmp_path / "noise").write_bytes(b"no model")
    with pytest.raises(ModelError, match=r"bpe.model: the recogniser's symbols are characters"):
        scorer(bpe="bpe.model")
    strange = replace(symbols, pieces=tuple(f"{piece}?" for piece in symbols.pieces))
    write_posteriors(posteriors_of({"u": ""}, strange), "strange")
    with pytest.raises(ModelError, match=r"bpe.model: 0 of its \d+ pieces are symbols"):
        scorer(posteriors="strange", bpe="bpe.model")
    other = replace(symbols, pieces=(*symbols.pieces, *(f"\u2581x{k}" for k in range(40))))
    write_posteriors(posteriors_of({"u": ""}, other), "other")
    with pytest.raises(ModelError, match=r"bpe.model: lacks 4\d of the recogniser's \d+ symbols"):
        scorer(posteriors="other", bpe="bpe.model")
    write_posteriors(posteriors_of({"u": ""}, symbols), "p")
    with pytest.raises(ModelError, match="noise: not a SentencePiece model"):
        scorer(posteriors="p", bpe="noise")
    with pytest.raises(ModelError, match="missing: "):
        scorer(posteriors="p", bpe="missing")
    with pytest.raises(ScoreError, match="--scorer ctc_prior needs --posteriors"):
        load_scorer("ctc_prior")


def test_the_command_adds_am(monkeypatch, capsys):
    jsonl.write(LISTS, "in.jsonl")
    arguments = ["score", "in.jsonl", "--scorer", "ctc", "--posteriors", "p.safetensors"]
    monkeypatch.setattr(sys, "argv", ["dlmrescore", *arguments, "-o", "out.jsonl"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0, capsys.readouterr().err
    records = [json.loads(line) for line in Path("out.jsonl").read_text("utf-8").splitlines()]
    expected = list(scorer().score(LISTS))
    for record, score in zip(records, expected, strict=True):
        assert [hyp["scores"]["am"] for hyp in record["hyps"]] == list(score.values)
        assert record["meta"]["scores"]["am"]["signature"] == score.signature
