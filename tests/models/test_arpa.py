"""ARPA files and KenLM binaries: exact both ways, and broken ones name the line."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace

import lmplz
import numpy as np
import pytest
from small_ngrams import ARPA, LN10, ROUNDING, model_of, random_sentences, values_of, zipf_text

from rescore.errors import FormatError, ModelError
from rescore.models.arpa import read_arpa, write_arpa


@pytest.fixture(scope="module")
def model():
    return replace(model_of(zipf_text(), 3)[0], normalizer="librispeech")


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
            (
                "x.arpa:21: 1 fields, expected 3 or 4: "
                "log10 of a probability, 2 words, a back-off below order 3"
            ),
        ),
        (
            "a b c\n",
            "a b c\t-0.5\n",
            (
                "x.arpa:22: 5 fields, expected 4: "
                "log10 of a probability, 3 words, a back-off below order 3"
            ),
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
