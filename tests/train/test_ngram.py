"""The `ngram` scorer and its three kinds of models: our directory, ARPA files, KenLM binaries."""

from __future__ import annotations

import gzip
import json
import logging
import math
import random
import re
import sys
from dataclasses import replace

import lmplz
import numpy as np
import pytest
import safetensors.numpy
from small import LINES, nbest, save_small
from test_kneser_ney import ROUNDING, model_of, zipf_text

from rescore.cli import main
from rescore.errors import FormatError, ModelError, ScoreError
from rescore.models.arpa import read_arpa, write_arpa
from rescore.models.ngram import BOS, EOS, UNK, NgramModel, find, load, save
from rescore.scorers import ScorerOptions, load_scorer

LN10 = math.log(10)

#: As SRILM writes pruned models: "b c" is a 3-gram's end but no 2-gram, a back-off may be positive, <s> has -99.
ARPA = """written by hand

\\data\\
ngram 1=6
ngram 2=3
ngram 3=1

\\1-grams:
-2\t<unk>
-99\t<s>\t-0.5
-1\t</s>
-0.75 a -0.25
-0.5\tb\t0.125
-1.5\tc

\\2-grams:
-0.25\t<s> a\t-0.125
-0.375\ta b\t-0.0625
-0.3\tb </s>\t0

\\3-grams:
-0.0625\ta b c

\\end\\
"""


def values_of(model, *sentences):
    return model.token_log_probs([sentence.split() for sentence in sentences])[0]


def random_sentences(words, count=200, seed=5):
    chance = random.Random(seed)
    return [
        " ".join(chance.choices([*words, "never"], k=chance.randrange(10))) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def model():
    return replace(model_of(zipf_text(), 3)[0], normalizer="librispeech")


@pytest.fixture(scope="module")
def paths(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("ngram")
    save(model, root / "model")
    write_arpa(model, root / "model.arpa")
    return root


# ------------------------------------------------------------------------------------------------------------------------------------- values


def test_back_off_worked_out_by_hand(tmp_path):
    (tmp_path / "x.arpa").write_text(ARPA)
    model = read_arpa(tmp_path / "x.arpa")
    expected = [
        -0.25,  # <s> a
        -0.125 - 0.375,  # <s> a b is not there: back off from <s> a, then a b
        -0.0625,  # a b c
        0 + 0 - 1,  # b c has no back-off, for it is not there; c has none; </s>
        -0.5 - 2,  # <s> zzz, unknown
        0 - 0.75,  # zzz a
        -0.25 - 0.75,  # a a
        -0.25 - 1,  # a </s>
        -0.5 - 1,  # <s> </s>
        -0.5 - 0.5,  # <s> b
        -0.3,  # <s> b is not there, b </s> is
    ]
    np.testing.assert_allclose(
        values_of(model, "a b c", "zzz a a", "", "b") / LN10, expected, rtol=2**-22
    )


def test_equals_what_lmplz_estimates_from_the_same_text(tmp_path):
    (tmp_path / "x.arpa").write_text(lmplz.ARPA)
    theirs, (ours, _) = read_arpa(tmp_path / "x.arpa"), model_of(lmplz.LINES, 3)
    assert [len(values) for values in theirs.log_probs] == [
        len(values) for values in ours.log_probs
    ]
    sentences = lmplz.LINES + random_sentences(ours.words[3:])
    np.testing.assert_allclose(
        values_of(ours, *sentences), values_of(theirs, *sentences), atol=6 * ROUNDING
    )  # both are rounded


@pytest.mark.parametrize(("order", "prune"), [(2, ()), (3, ()), (3, (0, 0, 1)), (4, (0, 1, 1, 2))])
def test_kenlm_reads_our_arpa_files_and_agrees(order, prune, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    model, _ = model_of(zipf_text(), order, prune)
    write_arpa(model, tmp_path / "x.arpa")
    theirs = kenlm.Model(str(tmp_path / "x.arpa"))
    for sentence in random_sentences(model.words[3:]):
        rows = list(theirs.full_scores(sentence))
        values, unknown = model.token_log_probs([sentence.split()])
        np.testing.assert_allclose(values / LN10, [row[0] for row in rows], atol=order * ROUNDING)
        assert unknown.tolist() == [row[2] for row in rows]


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


def test_the_special_words_in_a_text_are_unknown_words(model):
    _, unknown = model.token_log_probs([[BOS, "w1", EOS, UNK]])
    assert unknown.tolist() == [True, False, True, True, False]
    np.testing.assert_array_equal(
        values_of(model, f"{BOS} w1 {EOS}"), values_of(model, "never w1 never")
    )


def test_sentences_do_not_see_each_other(model):
    sentences = random_sentences(model.words[3:])
    np.testing.assert_array_equal(
        values_of(model, *sentences),
        np.concatenate([values_of(model, sentence) for sentence in sentences]),
    )
    assert values_of(model).shape == (0,)


def test_find_says_where_and_that_it_is_not_there():
    keys = np.array([2, 5, 9])
    assert find(keys, np.array([9, 2, -1, 3, 10, 2])).tolist() == [2, 0, -1, -1, -1, 0]
    assert find(np.array([], dtype=np.int64), np.array([1, -1])).tolist() == [-1, -1]


# -------------------------------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["x.arpa", "x.arpa.gz"])
@pytest.mark.parametrize(("order", "prune"), [(2, ()), (4, (0, 1, 1, 2)), (3, (0, 9999))])
def test_an_arpa_file_gives_every_bit_back(name, order, prune, tmp_path):
    model, _ = model_of(
        [*zipf_text(), "\u0441\u043b\u043e\u0432\u043e \u00e9t\u00e9"], order, prune
    )
    write_arpa(model, tmp_path / name)
    assert read_arpa(tmp_path / name).digest == model.digest
    if name.endswith(".gz"):
        assert gzip.decompress((tmp_path / name).read_bytes()).startswith(b"\\data\\\nngram 1=")


def test_a_model_directory_gives_every_bit_back(model, paths):
    loaded = load(paths / "model")
    assert (loaded.digest, loaded.normalizer, loaded.words) == (
        model.digest,
        "librispeech",
        model.words,
    )
    sentences = random_sentences(model.words[3:])
    np.testing.assert_array_equal(values_of(loaded, *sentences), values_of(model, *sentences))


def test_digests_differ_where_models_do(model):
    other = replace(model, words=[*model.words[:-1], "other"])
    changed = model.log_probs[2].copy()
    changed[0] = np.nextafter(changed[0], 0)
    digests = {
        m.digest
        for m in (
            model,
            other,
            replace(model, log_probs=(*model.log_probs[:2], changed)),
            model_of(zipf_text(), 2)[0],
        )
    }
    assert len(digests) == 4


def broken_config(**changes):
    def change(directory):
        config = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps({**config, **changes}))

    return change


def change_arrays(change):
    def changed(directory):
        arrays = safetensors.numpy.load_file(directory / "model.safetensors")
        change(arrays)
        safetensors.numpy.save_file(arrays, directory / "model.safetensors")

    return changed


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda d: (d / "config.json").unlink(),
            r"model/config\.json: cannot read the model's configuration \(No such file or directory\)",
        ),
        (lambda d: (d / "config.json").write_text("{"), r"model/config\.json: not JSON"),
        (
            lambda d: (d / "config.json").write_text("[]"),
            r"model/config\.json: not a dlmrescore-model configuration",
        ),
        (
            broken_config(objective="ar"),
            r"model: holds objective 'ar', expected 'ngram'; pass --scorer ar",
        ),
        (
            broken_config(version=2),
            r"model/config\.json: model version 2, this release reads 1; update dlmrescore",
        ),
        (broken_config(order="three"), r"model/config\.json: the configuration does not fit"),
        (
            broken_config(normalizer="magic"),
            r"model/config\.json: the configuration does not fit \(normaliser 'magic' is unknown",
        ),
        (
            broken_config(order=2),
            r"model/model\.safetensors: holds backoffs\.1, .*, expected .*; restore the file",
        ),
        (lambda d: (d / "words.txt").unlink(), r"model/words\.txt: cannot be read: no such file"),
        (lambda d: (d / "words.txt").write_bytes(b"\xff"), r"model/words\.txt:1: not UTF-8"),
        (
            lambda d: (d / "words.txt").write_text("a\n"),
            r"model: its files do not belong together \(digest ",
        ),
        (
            lambda d: (d / "model.safetensors").unlink(),
            r"model/model\.safetensors: cannot read the model",
        ),
        (
            lambda d: (d / "model.safetensors").write_bytes(b"short"),
            r"model/model\.safetensors: cannot read the model",
        ),
        (change_arrays(lambda arrays: arrays.pop("keys.3")), r"model/model\.safetensors: holds "),
        (
            change_arrays(lambda arrays: arrays["log_probs.3"].__setitem__(0, 0)),
            r"model: its files do not belong together",
        ),
    ],
)
def test_a_damaged_model_directory_is_one_line(damage, message, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(model, tmp_path / "model")
    damage(tmp_path / "model")
    with pytest.raises(ModelError, match=f"^{message}") as caught:
        load_scorer("ngram", ScorerOptions(model="model"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "\\data\\",
            "data",
            "x.arpa: ends after line 24, expected \\data\\; the file is cut off or no ARPA file",
        ),
        ("ngram 2=3", "ngram 3=3", "x.arpa:5: got 'ngram 3=3', expected ngram 2=<count>"),
        ("ngram 1=6", "1=6", "x.arpa:4: got '1=6', expected ngram 1=<count>"),
        ("ngram 2=3", "ngram 2=many", "x.arpa:5: got 'ngram 2=many', expected ngram 2=<count>"),
        ("\\2-grams:", "\\3-grams:", "x.arpa:16: got '\\\\3-grams:', expected \\2-grams:"),
        ("ngram 1=6", "ngram 1=5", "x.arpa:14: got '-1.5\\tc', expected \\2-grams:"),
        (
            "ngram 2=3",
            "ngram 2=4",
            "x.arpa:21: 1 fields, expected 3 or 4: log10 of a probability, 2 words, a back-off below order 3",
        ),
        (
            "a b c\n",
            "a b c\t-0.5\n",
            "x.arpa:22: 5 fields, expected 4: log10 of a probability, 3 words, a back-off below order 3",
        ),
        ("-1.5\tc", "-1.5", "x.arpa:14: 1 fields, expected 2 or 3"),
        (
            "-0.375",
            "nan",
            'x.arpa:18: the log10 of the probability is "nan", expected a finite number',
        ),
        ("-0.0625\n", "-inf\n", 'x.arpa:18: the back-off is "-inf", expected a finite number'),
        ("-0.375", "0.375", "x.arpa:18: the log10 of the probability is 0.375, expected at most 0"),
        ("-1.5\tc", "-1.5\tb", "x.arpa:14: the word 'b' was there already"),
        ("<s> a\t", "<s> d\t", "x.arpa:17: the word 'd' is not among the 1-grams"),
        ("b </s>", "a b", "x.arpa:19: this 2-gram was there already, at line 18"),
        ("a b c", "b a c", "x.arpa:22: the first 2 words of this 3-gram are not among the 2-grams"),
        (
            "\\end\\",
            "",
            "x.arpa: ends after line 24, expected \\end\\; the file is cut off or no ARPA file",
        ),
        ("\\end\\", "\\4-grams:", "x.arpa:24: got '\\\\4-grams:', expected \\end\\"),
        ("</s>", "</S>", "x.arpa: the 1-grams lack </s>; sentences could not be scored"),
        ("c", "\udcff", "x.arpa: the word '\ufffd' is not UTF-8"),
    ],
)
def test_a_broken_arpa_file_names_the_line(old, new, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = ARPA.replace(old, new) if old in ("</s>", "c") else ARPA.replace(old, new, 1)
    (tmp_path / "x.arpa").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ModelError, match=f"^{re.escape(message)}"):
        read_arpa("x.arpa")


def test_arpa_files_of_other_tools_are_read(tmp_path):
    (tmp_path / "x.arpa").write_text(ARPA)
    expected = read_arpa(tmp_path / "x.arpa")
    (tmp_path / "crlf.arpa").write_bytes(
        ARPA.replace("\n", "\r\n").replace("<unk>", "<UNK>").replace("\t", " ").encode()
    )
    (tmp_path / "zipped").write_bytes(
        gzip.compress(ARPA.replace("-2\t<unk>", "-2\t<unk>\t0").encode())
    )
    for name in ("crlf.arpa", "zipped"):
        assert read_arpa(tmp_path / name).digest == expected.digest


def test_a_file_that_cannot_be_read_or_written_is_one_line(model, tmp_path):
    with pytest.raises(ModelError, match=r"gone\.arpa: cannot be read: no such file or directory"):
        read_arpa(tmp_path / "gone.arpa")
    with pytest.raises(
        FormatError, match=r"gone/x\.arpa: cannot be written: no such file or directory"
    ):
        write_arpa(model, tmp_path / "gone" / "x.arpa")


# ------------------------------------------------------------------------------------------------------------------------------------- scorer

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
            "1 of 11 words are unknown to the model and were scored as <unk>; are its words spelled like these?",
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
        match=r"^utterance utt-1, hypothesis 2: a word is unknown and the model has no <unk>, so its score is -inf; use a model",
    ):
        list(scorer.score([nbest("a", "a zzz")]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {},
            ModelError,
            "--scorer ngram needs --model: what `dlmrescore train ngram` made, an ARPA file or a KenLM binary",
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
            "--scorer ngram does not read --draws, --window; leave them out"
            " (it reads --model, --normalizer, --per-token, --no-score-eos)",
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
        match=r"x\.bin: a KenLM binary needs the kenlm package; pip install 'dlmrescore\[kenlm\]', or give the ARPA file",
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


# ------------------------------------------------------------------------------------------------------------------------------- command line


@pytest.fixture
def dlm(capsys, monkeypatch, tmp_path):
    """Run a command in a folder with a text; returns status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("\n".join(LINES))
    (tmp_path / "in.jsonl").write_text(
        json.dumps(
            {
                "id": "a",
                "hyps": [{"text": "the old house", "scores": {"ngram": -3.5}}, {"text": ""}],
            }
        )
        + "\n"
    )

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["dlmrescore", *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        return (stopped.value.code, *capsys.readouterr())

    return call


TRAIN = ["train", "ngram", "--text", "text.txt", "--valid", "text.txt", "-o", "run"]


def test_training_and_scoring_on_the_command_line(dlm, tmp_path):
    status, out, err = dlm(
        *TRAIN,
        "--order",
        "2",
        "--prune",
        "0,1",
        "--join",
        "0",
        "--arpa",
        "x.arpa.gz",
        "--card",
        '{"text": "six lines"}',
    )
    assert (status, out) == (0, "")
    cost = load(tmp_path / "run").card["validation"]["lines"]
    assert (
        f"validation (lines): {cost['nats']:.0f} nats, {cost['words']} words, 18 sentence ends, 0 unknown words"
        in err
    )
    assert f"PPL per word {cost['valid_perplexity_per_word']:.2f}, per word and sentence end" in err
    assert (
        load(tmp_path / "run").card["training"] | {"order": 2, "prune": [0, 1], "join": 0}
        == load(tmp_path / "run").card["training"]
    )
    assert read_arpa(tmp_path / "x.arpa.gz").digest == load(tmp_path / "run").digest
    assert (
        dlm("score", "in.jsonl", "--scorer", "ngram", "--model", "run", "-o", "out.jsonl")[0] == 0
    )
    [record] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = [values_of(load(tmp_path / "run"), text).sum() for text in ("the old house", "")]
    assert [hyp["scores"]["ngram2"] for hyp in record["hyps"]] == pytest.approx(expected, rel=1e-12)
    assert record["hyps"][0]["scores"]["ngram"] == -3.5


@pytest.mark.parametrize(
    ("argv", "status", "message"),
    [
        (
            [*TRAIN, "--prune", "1,1"],
            1,
            "--prune 1,1: expected numbers that begin with 0 and never fall, such as 0,0,1",
        ),
        (
            [*TRAIN, "--min-count", "99"],
            1,
            "no word comes 99 times; give more text or a lower --min-count",
        ),
        (
            [*TRAIN[:-1], "text.txt/run"],
            1,
            "text.txt/run: cannot be made (Not a directory); write to another directory",
        ),
        (
            [*TRAIN, "--arpa", "text.txt"],
            1,
            "text.txt: is also the input (text.txt); write to another file",
        ),
        ([*TRAIN, "--prune", "few"], 2, "got 'few', expected whole numbers such as 0,0,1"),
        ([*TRAIN, "--order", "1"], 2, "1 is not in the range 2<=x<=6"),
        (["score", "in.jsonl", "--scorer", "ngram"], 1, "--scorer ngram needs --model"),
    ],
)
def test_wrong_use_is_explained(dlm, tmp_path, argv, status, message):
    found, out, err = dlm(*argv)
    assert (found, out) == (status, "")
    assert message in err.splitlines()[-1]
    assert not (tmp_path / "run" / "config.json").exists()
    assert (tmp_path / "text.txt").read_text() == "\n".join(LINES)


@pytest.mark.parametrize(("objective", "option"), [("ngram", "--steps"), ("ar", "--order")])
def test_an_option_of_another_objective_is_unknown(dlm, tmp_path, objective, option):
    status, out, err = dlm("train", objective, *TRAIN[2:], option, "3")
    assert (status, out) == (2, "")
    assert re.search(f"No such option.*{option}", err.splitlines()[-1])


def test_a_model_is_plain_data(model):
    assert isinstance(model, NgramModel)
    assert {array.dtype for array in (*model.log_probs, *model.backoffs)} == {np.dtype(np.float32)}
    assert {array.dtype for array in model.keys} == {np.dtype(np.int64)}
    assert all((np.diff(keys) > 0).all() for keys in model.keys)
