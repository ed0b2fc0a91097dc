"""`ctc_greedy` and `ctc_beam`: the right texts, their exact scores, any shard or resumed run."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from small import small_tokenizer
from small_ngrams import model_of
from small_posteriors import LETTERS, TEXTS, posteriors_of, save_posteriors

import rescore
from rescore.acoustic.ctc import text_log_probs
from rescore.acoustic.ctc_paths import greedy_path
from rescore.acoustic.posterior_file import read_posteriors, write_posteriors
from rescore.acoustic.posteriors import Posteriors
from rescore.acoustic.symbols import Segmenter, Symbols
from rescore.decoding.base import DecoderOptions, load_decoder
from rescore.errors import FormatError, RescoreError, ScoreError
from rescore.formats import jsonl
from rescore.models.ngram import save
from rescore.pipeline import Journal, decoding
from rescore.pipeline.decoding import decode
from rescore.pipeline.shards import Shard
from rescore.registry import DECODERS, lookup

WORDS = [*TEXTS.values(), "the old horse", "no night", "she wrote letters", "we walk along"] * 3


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_posteriors(tmp_path / "p")
    save(model_of(WORDS, 3)[0], tmp_path / "ngram")
    save(model_of([" ".join(text.replace(" ", "|")) for text in WORDS], 4)[0], tmp_path / "letters")


def decoded(method="ctc_beam", path="p", **options):
    return list(decode(load_decoder(method, path, DecoderOptions(**options))))


def without_scores(lists):
    return [
        replace(each, hyps=tuple(replace(hyp, scores={}) for hyp in each.hyps), provenance={})
        for each in lists
    ]


def test_a_wide_beam_lists_every_text_by_its_exact_score():
    rng = np.random.default_rng(0)
    symbols = Symbols(("<b>", "a", "|", "b"), 0, "boundary", "|")
    logits = rng.normal(size=(5, 4))
    rows = (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)
    write_posteriors([Posteriors("u", rows, symbols, 0.04)], "tiny")
    [nbest] = decoded(path="tiny", count=400, min_log_prob=-99.0)
    every = {symbols.decode(labels) for labels in np.ndindex(*[4] * 5)}
    possible = [
        text for text in every if np.isfinite(text_log_probs(rows, [symbols.encode(text)], 0)[0])
    ]
    values = text_log_probs(rows, [symbols.encode(text) for text in possible], 0)
    expected = dict(zip(possible, values.tolist(), strict=True))
    assert {hyp.text: hyp.scores["am"] for hyp in nbest.hyps} == expected
    assert [hyp.scores["am"] for hyp in nbest.hyps] == sorted(expected.values(), reverse=True)


def without_command(entry):
    """What is kept of a score, but for the command that made it."""
    return {name: value for name, value in entry.items() if name != "command"}


def test_scores_are_those_of_the_scorers_and_so_are_their_signatures():
    lists = decoded(count=20, ngram="ngram", ngram_scale=0.6, ngram_bonus=1.0)
    again = rescore.score(without_scores(lists), "ctc", posteriors="p")
    again = list(rescore.score(again, "ngram", name="ngram", model="ngram"))
    for ours, theirs in zip(lists, again, strict=True):
        assert [hyp.scores for hyp in ours.hyps] == [hyp.scores for hyp in theirs.hyps]
        for name in ("am", "ngram"):
            assert ours.provenance[name].entry == without_command(theirs.provenance[name].entry)
        totals = [
            hyp.scores["am"] + 0.6 * hyp.scores["ngram"] + len(hyp.words) for hyp in ours.hyps
        ]
        assert totals == sorted(totals, reverse=True)
        assert len({hyp.text for hyp in ours.hyps}) == len(ours.hyps) == 20
        assert {hyp.raw["origin"] for hyp in ours.hyps} == {"ctc_beam"}


def errors(lists):
    return sum(list_.hyps[0].text != TEXTS[list_.id] for list_ in lists)


@pytest.mark.parametrize(("unit", "model"), [("word", "ngram"), ("symbol", "letters")])
def test_an_ngram_mends_what_the_audio_leaves_open(unit, model):
    fused = decoded(ngram=model, ngram_unit=unit, ngram_scale=1.0, ngram_bonus=1.0)
    assert errors(fused) < errors(decoded())
    assert all({"am", "ngram"} == hyp.scores.keys() for list_ in fused for hyp in list_.hyps)


def test_greedy_is_the_text_of_the_best_path():
    file = read_posteriors("p")
    for nbest in decoded("ctc_greedy"):
        [hyp] = nbest.hyps
        log_probs = file[nbest.id].log_probs
        assert hyp.text == LETTERS.decode(greedy_path(log_probs, 0).labels.tolist())
        [exact] = text_log_probs(log_probs, [LETTERS.encode(hyp.text)], 0)
        assert hyp.scores == {"am": exact}
        assert hyp.raw == {"origin": "ctc_greedy"}


def test_spans_are_the_alignment_in_seconds():
    [first, *_] = decoded("ctc_greedy", spans=True)
    spans = first.hyps[0].raw["spans"]
    path = greedy_path(read_posteriors("p")[first.id].log_probs, 0)
    assert [span["symbol"] for span in spans] == [LETTERS.pieces[k] for k in path.labels]
    assert [span["start"] for span in spans] == pytest.approx(path.first * 0.04, abs=1e-6)
    assert [span["end"] for span in spans] == pytest.approx(path.end * 0.04, abs=1e-6)
    assert [span["confidence"] for span in spans] == pytest.approx(path.confidence, abs=1e-6)
    assert all(
        len(hyp.raw["spans"]) > 3 for each in decoded(count=3, spans=True) for hyp in each.hyps
    )


def test_silence_is_an_empty_text_with_a_score():
    rows = np.full((50, len(LETTERS)), -20.0, dtype=np.float32)
    rows[:, 0] = 0
    write_posteriors([Posteriors("quiet", rows, LETTERS, 0.04)], "quiet")
    for method in ("ctc_greedy", "ctc_beam"):
        [nbest] = decoded(method, "quiet")
        assert nbest.hyps[0].text == ""
        assert nbest.hyps[0].scores["am"] == 0.0


def test_special_symbols_are_never_proposed():
    symbols = replace(LETTERS, special=frozenset({2, 20}))  # a and s
    write_posteriors([replace(each, symbols=symbols) for each in posteriors_of()], "p")
    for method in ("ctc_greedy", "ctc_beam"):
        for nbest in decoded(method):
            assert not any(set("as") & set(hyp.text) for hyp in nbest.hyps)


@pytest.fixture
def pieces(tmp_path):
    tokenizer = small_tokenizer()
    (tmp_path / "bpe.model").write_bytes(tokenizer.serialized)
    names = [name for name, _ in tokenizer.scores()][4:]
    symbols = Symbols(("<blk>", *names), 0, "mark")
    spelled = replace(symbols, segmenter=Segmenter("sentencepiece", tokenizer.serialized))
    rows = posteriors_of(symbols=spelled)
    write_posteriors([replace(each, symbols=symbols) for each in rows], "pieces")
    return symbols


def test_pieces_are_scored_as_the_sentencepiece_model_cuts_the_text(pieces):
    lists = decoded(path="pieces", bpe="bpe.model", count=15)
    again = rescore.score(without_scores(lists), "ctc", posteriors="pieces", bpe="bpe.model")
    for ours, theirs in zip(lists, again, strict=True):
        assert [hyp.scores for hyp in ours.hyps] == [hyp.scores for hyp in theirs.hyps]
        assert ours.provenance["am"].entry == without_command(theirs.provenance["am"].entry)


def test_pieces_without_a_model_are_scored_as_found_and_say_so(pieces):
    file = read_posteriors("pieces")
    for nbest in decoded(path="pieces", count=15):
        assert nbest.provenance["am"].signature.endswith("|spelling=found")
        assert len({hyp.text for hyp in nbest.hyps}) == len(nbest.hyps)
        best = decoded("ctc_greedy", "pieces")
        labels = greedy_path(file[nbest.id].log_probs, 0).labels.tolist()
        text = pieces.decode(labels)
        [exact] = text_log_probs(file[nbest.id].log_probs, [labels], 0)
        [greedy] = [each.hyps[0] for each in best if each.id == nbest.id]
        assert (greedy.text, greedy.scores["am"]) == (text, exact)
        assert max(hyp.scores["am"] for hyp in nbest.hyps if hyp.text == text) >= exact


# ---- runs


def encoded(lists):
    return [jsonl.encode(each) for each in lists]


@pytest.fixture
def many(monkeypatch):
    """A file of 20 utterances, chunks of a few."""
    monkeypatch.setattr(decoding, "_CHUNK", 60)
    texts = {f"u{number}": list(TEXTS.values())[number % 4] for number in range(20)}
    return save_posteriors("many", texts)


def test_shards_hold_the_lists_of_the_whole_run(many):
    whole = decoded(path=many, count=5, beam=20)
    assert [each.id for each in whole] == list(read_posteriors(many))
    decoder = load_decoder("ctc_beam", many, DecoderOptions(count=5, beam=20))
    parts = [encoded(decode(decoder, shard=Shard(index, 3))) for index in range(3)]
    assert sorted(line for part in parts for line in part) == sorted(encoded(whole))
    assert min(map(len, parts)) > 0


def test_a_killed_run_resumes_to_the_same_bytes(many):
    whole = decoded(path=many, count=5, beam=20, ngram="ngram")
    options = DecoderOptions(count=5, beam=20, ngram="ngram")
    for seen in (3, 9):
        with Journal("journal") as journal:
            run = decode(load_decoder("ctc_beam", many, options), journal=journal)
            for _ in range(seen):
                next(run)
            run.close()
    with Journal("journal") as journal:
        resumed = list(decode(load_decoder("ctc_beam", many, options), journal=journal))
        assert 0 < journal.added < len(journal)
    assert encoded(resumed) == encoded(whole)


def test_a_journal_belongs_to_its_options_and_its_posteriors(many):
    with Journal("journal") as journal:
        list(decode(load_decoder("ctc_greedy", many), journal=journal))
    other = posteriors_of(dict.fromkeys(read_posteriors(many), TEXTS["u2"]), seed=9)
    write_posteriors([replace(each, signature="small|0") for each in other], many)
    with Journal("journal") as journal:
        lists = list(decode(load_decoder("ctc_greedy", many), journal=journal))
    assert encoded(lists) == encoded(decoded("ctc_greedy", many))
    with Journal("journal") as journal, pytest.raises(FormatError, match="belongs to another run"):
        list(decode(load_decoder("ctc_beam", many), journal=journal))


def test_references_join_the_lists_or_are_missed_before_the_work():
    decoder = load_decoder("ctc_greedy", "p")
    assert [each.ref for each in decode(decoder, references=TEXTS)] == list(TEXTS.values())
    references = {name: text for name, text in TEXTS.items() if name != "u3"}
    with pytest.raises(FormatError, match="p: utterance u3: there is no reference"):
        next(decode(decoder, references=references))


# ---- options

VALUES = {
    "count": 3,
    "beam": 200,
    "min_log_prob": -5.0,
    "ngram": "ngram",
    "ngram_unit": "word",
    "ngram_scale": 0.5,
    "ngram_bonus": 0.5,
    "bpe": "bpe.model",
    "spans": True,
    "model": "usdm",
    "device": "meta",
    "ctc_scale": 0.5,
    "lm_scale": 0.5,
    "drafts": 2,
    "frame": "peak",
    "candidates": 2,
    "seed": 1,
    "t_start": 0.5,
    "steps": 2,
    "update": "ancestral",
    "final": "sample",
    "start": "noised",
    "hide_below": 0.5,
    "commit": "top_k",
    "commit_value": 2.0,
    "open": "random",
    "posteriors": "p",
    "seen_words": True,
    "remask": (0.5,),
    "position_decay": 0.1,
    "position_index": "rank",
    "guidance": 1.0,
    "canvas": 20,
    "edits": 2,
    "gate": 0.5,
    "draft": "mask",
    "lists": "lists.jsonl",
    "margin": 2,
    "tau": 0.5,
    "agree": True,
    "prune": False,
    "revoke": 0.1,
    "revoke_draft": True,
    "refresh": 1,
    "remote_code": True,
}


def test_every_option_has_a_value_to_try():
    assert set(VALUES) == {option.name for option in fields(DecoderOptions)}
    assert DecoderOptions(**VALUES).changed == set(VALUES)
    assert DecoderOptions().changed == set()


@pytest.mark.parametrize("method", DECODERS)
def test_an_option_that_a_method_does_not_read_is_refused_by_name(method):
    family = lookup(DECODERS, method, "decoder")
    for option in sorted(set(VALUES) - family.options):
        flag = "--" + option.replace("_", "-")
        with pytest.raises(ScoreError, match=f"--method {method} does not read {flag};"):
            load_decoder(method, "p", DecoderOptions(**{option: VALUES[option]}))


@pytest.mark.parametrize("option", ["ngram_unit", "ngram_scale", "ngram_bonus"])
def test_an_option_of_the_ngram_needs_it(option):
    flag = "--" + option.replace("_", "-")
    with pytest.raises(ScoreError, match=f"{flag} belongs to --ngram"):
        load_decoder("ctc_beam", "p", DecoderOptions(**{option: VALUES[option]}))


def test_what_cannot_be_decoded_is_one_line():
    with pytest.raises(ScoreError, match="--beam 3 cannot give 5 hypotheses"):
        load_decoder("ctc_beam", "p", DecoderOptions(beam=3, count=5))
    with pytest.raises(RescoreError, match="decoder 'magic' is unknown; known: ctc_beam, ctc_g"):
        load_decoder("magic", "p")
    with pytest.raises(FormatError, match="missing: cannot be read"):
        load_decoder("ctc_greedy", "missing")
