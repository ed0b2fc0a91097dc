"""Kaldi's archives of nbest-to-linear.

The samples are written as Kaldi writes text archives (src/latbin/nbest-to-linear.cc,
src/util/kaldi-holder-inl.h): the id, a space, and every number with a space after it. The files are
named as in egs/wsj/s5/steps/rnnlmrescore.sh.
"""

import gzip

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.kaldi import KALDI
from rescore.types import Hypothesis, NBest

FILES = {
    "ali": "u1-1 2 2 \nu1-2 2 \nu2-x-1 3 \n",
    "words": "u1-1 12 7 \nu1-2 \nu2-x-1 7 \n",
    "lmwt": "u1-1 5.25 \nu1-2 -0.5 \nu2-x-1 1e-05 \n",
    "acwt": "u1-1 1234.56 \nu1-2 1240 \nu2-x-1 -7.5 \n",
    "lmwt.rnn": "u1-1 3\nu1-2 4\nu2-x-1 0\n",
}
SYMBOLS = "<eps> 0\ncat 7\nthe\t12\n#0 13\n"


def save(root, files=None, symbols=SYMBOLS):
    root.mkdir(exist_ok=True)
    for name, text in (files or FILES).items():
        (root / name).write_text(text, encoding="utf-8")
    (root.parent / "words.txt").write_text(symbols, encoding="utf-8")
    return root


def read(root, **options):
    return list(KALDI.read(root, symbols=str(root.parent / "words.txt"), **options))


def views(nbest):
    return nbest.id, [(hyp.text, hyp.scores) for hyp in nbest.hyps]


def complaint(root, **options):
    with pytest.raises(FormatError) as caught:
        read(root, **options) if "symbols" not in options else list(KALDI.read(root, **options))
    return str(caught.value).replace(f"{root}", "").replace(str(root.parent), "")


def test_costs_become_scores(tmp_path):
    first, second = read(save(tmp_path / "a"))
    assert views(first) == (
        "u1",
        [
            ("the cat", {"am": -1234.56, "lm": -5.25, "lm_rnn": -3.0, "rank": 0.0}),
            ("", {"am": -1240.0, "lm": 0.5, "lm_rnn": -4.0, "rank": -1.0}),
        ],
    )
    assert first.where == f"{tmp_path}/a/words:1"
    assert views(second) == (
        "u2-x",
        [("cat", {"am": 7.5, "lm": -1e-05, "lm_rnn": 0.0, "rank": 0.0})],
    )
    assert format_of(tmp_path / "a") is KALDI


def test_words_that_are_words(tmp_path):
    root = save(tmp_path / "a", {**FILES, "words_text": "u1-1 the cat\nu1-2\nu2-x-1 7\n"})
    assert [hyp.text for nbest in read_lists(root) for hyp in nbest.hyps] == ["the cat", "", "7"]
    assert [
        hyp.text for nbest in read_lists(root, words="words", symbols="none") for hyp in nbest.hyps
    ] == ["12 7", "", "7"]
    assert complaint(root, words="words", symbols=None) == (
        "/words:1: utterance u1: all words are numbers; "
        "give the table that names them, -O symbols=words.txt, "
        "or -O symbols=none if they are words"
    )


def test_the_id_is_never_a_word_and_numbers_order_the_list(tmp_path):
    path = tmp_path / "text"
    path.write_text("a-1-1 b\na-1-10\na-1-2  c \t d \nb-1\n")
    first, second = read_lists(path, "kaldi")
    assert views(first) == (
        "a-1",
        [("b", {"rank": 0.0}), ("c d", {"rank": -1.0}), ("", {"rank": -9.0})],
    )
    assert views(second) == ("b", [("", {"rank": 0.0})])


def test_one_hypothesis_an_utterance(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"84-121123-0000 go do you hear\n84-121123-1234\n"))
    lists = list(KALDI.read(path, ids="plain"))
    assert [views(nbest) for nbest in lists] == [
        ("84-121123-0000", [("go do you hear", {"rank": 0.0})]),
        ("84-121123-1234", [("", {"rank": 0.0})]),
    ]
    with pytest.raises(FormatError) as caught:
        list(KALDI.read(path))
    assert str(caught.value) == (
        f'{path}:1: the id "84-121123-0000" does not end in -1, -2, ...; '
        "if every utterance has one hypothesis, give -O ids=plain"
    )


ORDER = "the archives need the same lines in the same order"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            {"acwt": "u1-1 x\nu1-2 1\nu2-x-1 1\n"},
            '/words:1: utterance u1, hypothesis 1: the cost of am is "x", expected a finite number',
        ),
        (
            {"acwt": "u1-1 1\nu1-2 inf\nu2-x-1 1\n"},
            (
                '/words:1: utterance u1, hypothesis 2: the cost of am is "inf", '
                "expected a finite number"
            ),
        ),
        (
            {"lmwt": "u1-1 1\nu1-2\nu2-x-1 1\n"},
            '/words:1: utterance u1, hypothesis 2: the cost of lm is "", expected a finite number',
        ),
        (
            {"acwt": "u1-1 1\nu2-x-1 1\n"},
            f"/acwt:2: got u2-x-1, expected u1-2 as at /words:2; {ORDER}",
        ),
        (
            {"acwt": "u1-1 1\nu1-2 1\n"},
            f"/acwt: got the end of the file, expected u2-x-1 as at /words:3; {ORDER}",
        ),
        ({"acwt": FILES["acwt"] + "u3-1 1\n"}, f"/acwt:4: u3-1 is not in /words; {ORDER}"),
        (
            dict.fromkeys(FILES, "u1-1 7\nu1-1 7\n"),
            "/words:1: utterance u1: hypothesis 1 is there twice; keep one of them",
        ),
        (
            {"words": "u1-1 99\nu1-2\nu2-x-1 7\n"},
            (
                '/words:1: utterance u1, hypothesis 1: the word "99" is not a number in the '
                "table of "
                "symbols; use the words.txt of this recogniser"
            ),
        ),
        (
            {"words": "u1-01 7\n"},
            (
                '/words:1: the id "u1-01" does not end in -1, -2, ...; '
                "if every utterance has one hypothesis, give -O ids=plain"
            ),
        ),
        ({"words": " 7\n"}, "/words:1: the line begins with a space, expected an id"),
        (
            {"words": "u1-1 \0B\4\n"},
            "/words:1: this is a binary archive; write it as text, ark,t: instead of ark:",
        ),
    ],
)
def test_bad_archives_are_named(tmp_path, changed, expected):
    assert complaint(save(tmp_path / "a", {**FILES, **changed})) == expected


@pytest.mark.parametrize(
    ("symbols", "expected"),
    [
        (
            "cat 7\ndog 7\n",
            "/words.txt:2: the number 7 is there twice; this is not a table of symbols",
        ),
        ("cat seven\n", "/words.txt:1: expected a word, a space and its number"),
        ("cat\n", "/words.txt:1: expected a word, a space and its number"),
    ],
)
def test_bad_tables_are_named(tmp_path, symbols, expected):
    assert complaint(save(tmp_path / "a", symbols=symbols)) == expected


def test_an_utterance_in_two_places_is_an_error(tmp_path):
    path = tmp_path / "text"
    path.write_text("a-1 b\nb-1 b\na-2 c\n")
    with pytest.raises(FormatError) as caught:
        list(KALDI.read(path))
    assert (
        str(caught.value)
        == f"{path}:3: utterance a: this id was already at {path}:1; every utterance needs its own"
    )


def test_missing_archives_are_named(tmp_path):
    (tmp_path / "acwt").touch()
    with pytest.raises(FormatError) as caught:
        list(KALDI.read(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: there is no words_text or words in this directory; "
        "-O words=NAME names the archive of words"
    )
    with pytest.raises(FormatError, match="cannot be read: no such file or directory"):
        list(KALDI.read(tmp_path / "none"))


def test_lists_with_a_bad_cost_can_be_skipped(tmp_path):
    skipped = Skipped()
    root = save(tmp_path / "a", {**FILES, "acwt": FILES["acwt"].replace("1240", "nan")})
    assert [nbest.id for nbest in read(root, skipped=skipped)] == ["u2-x"]
    assert skipped.count == 1


LISTS = [
    NBest(
        "u1",
        (
            Hypothesis("the  cat", {"am": -1.5, "ngram": -2.0}),
            Hypothesis("", {"am": 0.25, "ngram": 0.0}),
        ),
    )
]


def test_the_archives_that_are_written(tmp_path):
    assert KALDI.write(LISTS, tmp_path / "a", lm="ngram") == 1
    assert {file.name: file.read_text() for file in (tmp_path / "a").iterdir()} == {
        "words_text": "u1-1 the cat\nu1-2\n",
        "acwt": "u1-1 1.5\nu1-2 -0.25\n",
        "lmwt": "u1-1 2.0\nu1-2 -0.0\n",
    }
    KALDI.write(LISTS, tmp_path / "b", am=None, lm=None)
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["words_text"]


def test_a_score_that_is_missing_is_named(tmp_path):
    with pytest.raises(ScoreError) as caught:
        KALDI.write(LISTS, tmp_path / "a")
    assert str(caught.value) == (
        'utterance u1, hypothesis 1: score "lm" is missing; '
        "choose one of the scores in the list: am, ngram"
    )
    assert list(tmp_path.iterdir()) == []
