"""`joint` and `joint_mdlm`: lists of a real file of posteriors by real networks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small import small_checkpoint, small_tokenizer
from small_posteriors import LETTERS, TEXTS, posteriors_of, save_posteriors

from rescore.acoustic.ctc import text_log_probs
from rescore.acoustic.posterior_file import read_posteriors, write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Segmenter, Symbols
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.decoding.ctc import greedy_transcript
from rescore.decoding.joint_search import ctc_draft, draft_paths
from rescore.decoding.vocabulary import joint_vocabulary
from rescore.errors import ModelError, ScoreError
from rescore.models.checkpoint import Checkpoint, save
from rescore.models.network import Network, NetworkConfig
from rescore.pipeline.decoding import decode
from rescore.pipeline.shards import Shard
from rescore.train.tokenizers import tokenizer_of

UPPER = Symbols(tuple(piece.upper() for piece in LETTERS.pieces), 0, "boundary", "|")


def checkpoint(objective, tokenizer):
    """A random network of this vocabulary."""
    torch.manual_seed(1)
    rows = tokenizer.size + (objective == "mdlm")
    network = Network(NetworkConfig(rows, 16, 1, 2, 24, False, objective == "usdm"))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    prediction = "leave_one_out" if objective == "usdm" else "masked"
    return Checkpoint(network.eval(), tokenizer, objective, prediction)


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_posteriors(tmp_path / "p.safetensors")
    letters = tokenizer_of(tmp_path / "p.safetensors")
    for objective in ("usdm", "mdlm"):
        save(checkpoint(objective, letters), tmp_path / objective)


def decoded(method="joint", path="p.safetensors", shard=None, **options):
    options = {"model": method.replace("joint_", "").replace("joint", "usdm"), **options}
    return list(decode(load_decoder(method, path, DecoderOptions(**options)), shard=shard))


def test_characters_of_a_recogniser_become_a_vocabulary_and_are_the_same_one(tmp_path):
    tokenizer = tokenizer_of(tmp_path / "p.safetensors")
    [tokens] = tokenizer.encode(["it's an old house"])
    assert tokenizer.decode(tokens) == "it's an old house"
    assert tokenizer.pieces(tokens)[4:6] == ["\u2581", "a"]
    assert tokenizer.words(tokens)[[0, 3, 4, 5, 7]].tolist() == [0, 0, 1, 1, 2]
    assert tokenizer_of(tmp_path / "p.safetensors").serialized == tokenizer.serialized
    for symbols in (LETTERS, UPPER):
        shared = joint_vocabulary(symbols, tokenizer, tokenizer.size, "p")
        labels = symbols.encode("the old house")
        canvas = shared.to_tokens(labels)
        assert canvas.tolist() == [2, *tokenizer.encode(["the old house"])[0], 3]
        assert shared.to_labels(canvas[1:-1]) == tuple(labels)


def test_a_draft_says_what_ctc_says_without_its_blank(tmp_path):
    posteriors = posteriors_of()[0]
    tokenizer = tokenizer_of(tmp_path / "p.safetensors")
    shared = joint_vocabulary(LETTERS, tokenizer, tokenizer.size + 1, "p")
    for frame in ("first", "peak"):
        path = greedy_transcript(posteriors)
        draft = ctc_draft(posteriors, path, shared, frame)
        p = np.exp(draft.ctc)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)
        assert (p[:, [0, 1, 2, 3, -1]] == 0).all()  # padding, unknown, BOS, EOS, mask
        assert p.argmax(axis=1).tolist() == draft.canvas.tokens[1:-1].tolist()
        frames = path.first if frame == "first" else path.peak
        kept = np.exp(posteriors.log_probs[frames].astype(float))[:, 1:]
        chosen = kept[np.arange(len(frames)), path.labels - 1] / kept.sum(axis=1)
        np.testing.assert_allclose(p.max(axis=1), chosen, rtol=1e-9)


@pytest.mark.parametrize("method", ["joint", "joint_mdlm"])
def test_without_the_language_model_a_list_is_greedy(method):
    greedy = decoded("ctc_greedy", model=None)
    for ours, theirs in zip(decoded(method, lm_scale=0.0), greedy, strict=True):
        assert [hyp.text for hyp in ours.hyps] == [hyp.text for hyp in theirs.hyps]
        assert ours.hyps[0].scores == theirs.hyps[0].scores
        assert ours.provenance["am"].entry == theirs.provenance["am"].entry


@pytest.mark.parametrize("method", ["joint", "joint_mdlm"])
def test_a_list_is_the_joint_transcript_and_its_draft_with_exact_scores(method):
    lists = decoded(method, lm_scale=5.0)
    file = read_posteriors("p.safetensors")
    changed = 0
    for nbest in lists:
        origins = [hyp.raw["origin"] for hyp in nbest.hyps]
        assert origins in ([method, "ctc_greedy"], [method])
        changed += len(origins) == 2
        labels = [LETTERS.encode(hyp.text) for hyp in nbest.hyps]
        exact = text_log_probs(file[nbest.id].log_probs, labels, 0)
        assert [hyp.scores["am"] for hyp in nbest.hyps] == exact.tolist()
    assert changed  # a random language model of this weight moves something


def test_more_drafts_bring_other_lengths():
    logits = np.random.default_rng(2).normal(scale=2, size=(14, len(LETTERS)))
    rows = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    vague = Posteriors("vague", rows, LETTERS, 0.04)
    write_posteriors([vague], "vague.safetensors")
    [paths] = draft_paths([vague], 8)
    assert paths[0].labels.tolist() == greedy_transcript(vague).labels.tolist()
    texts = [tuple(path.labels.tolist()) for path in paths]
    assert len(set(texts)) == 8
    assert len(set(map(len, texts))) > 1
    [single] = decoded(path="vague.safetensors")
    [nbest] = decoded(path="vague.safetensors", drafts=8)
    assert nbest.hyps[0] == single.hyps[0]
    assert len({len(hyp.text) for hyp in nbest.hyps}) > 1
    assert {hyp.raw["origin"] for hyp in nbest.hyps} == {"joint", "ctc_greedy", "ctc_beam"}


def test_candidates_are_drawn_by_seed_and_utterance_whatever_the_company():
    options = {"candidates": 6, "final": "sample", "t_start": 0.8, "steps": 3, "lm_scale": 2.0}
    lists = decoded(**options, seed=4)
    assert len(lists[0].hyps) > 2
    assert decoded(**options, seed=4) == lists
    assert decoded(**options, seed=5) != lists
    parts = [
        each for index in range(2) for each in decoded(**options, seed=4, shard=Shard(index, 2))
    ]
    assert sorted(parts, key=lambda nbest: nbest.id) == lists


def test_a_file_of_silence_has_an_empty_transcript():
    rows = np.log(np.full((4, len(LETTERS)), 0.01 / (len(LETTERS) - 1), np.float32))
    rows[:, 0] = np.log(0.99)
    write_posteriors([Posteriors("quiet", rows, LETTERS, 0.04)], "quiet.safetensors")
    for method in ("joint", "joint_mdlm"):
        [nbest] = decoded(method, "quiet.safetensors")
        assert [hyp.text for hyp in nbest.hyps] == [""]


def test_another_vocabulary_is_refused_with_the_command_that_trains_the_right_one(tmp_path):
    save(small_checkpoint("usdm"), tmp_path / "pieces")
    with pytest.raises(ModelError, match="the language model lacks") as error:
        decoded(model="pieces")
    assert "dlmrescore train usdm --tokenizer p.safetensors --text" in str(error.value)
    few = Symbols(("<pad>", "|", "a", "b"), 0, "boundary", "|")
    save_posteriors(tmp_path / "few.safetensors", {"u": "a b"}, few)
    with pytest.raises(ModelError, match=r"the recogniser lacks .*'c', 'd', 'e', 'f' and 20 more"):
        decoded(path="few.safetensors")


def test_pieces_of_words_share_a_sentencepiece_model(tmp_path):
    tokenizer = small_tokenizer()
    pieces = tokenizer.pieces(range(tokenizer.size))
    segmenter = Segmenter("sentencepiece", tokenizer.serialized)
    special = frozenset({1, 2, 3})
    symbols = Symbols(tuple(pieces), 0, "mark", special=special, segmenter=segmenter)
    save_posteriors(tmp_path / "pieces.safetensors", {"u": TEXTS["u1"]}, symbols)
    assert tokenizer_of(tmp_path / "pieces.safetensors").serialized == tokenizer.serialized
    save(checkpoint("usdm", tokenizer), tmp_path / "lm")
    [nbest] = decoded(path="pieces.safetensors", model="lm", lm_scale=4.0, candidates=3)
    assert nbest.hyps[-1].raw["origin"] in ("ctc_greedy", "joint")
    bare = dataclasses.replace(symbols, segmenter=None)
    save_posteriors_of = read_posteriors("pieces.safetensors")["u"]
    write_posteriors([dataclasses.replace(save_posteriors_of, symbols=bare)], "bare.safetensors")
    with pytest.raises(ModelError, match="no SentencePiece model"):
        tokenizer_of(tmp_path / "bare.safetensors")


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("joint", {"commit": "top_k"}, "joint does not read --commit"),
        ("joint_mdlm", {"steps": 3}, "joint_mdlm does not read --steps"),
        ("joint", {"ngram": "x"}, "joint does not read --ngram"),
        ("joint_mdlm", {"commit": "top_k", "commit_value": 0.5}, "a whole number"),
        ("joint", {"ctc_scale": 0.0, "lm_scale": 0.0}, "not both 0"),
        ("joint", {"model": "mdlm"}, "mdlm"),
    ],
)
def test_options_of_another_method_are_refused(method, options, message):
    with pytest.raises((ScoreError, ModelError), match=message):
        decoded(method, **options)
