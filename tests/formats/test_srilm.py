"""SRILM's N-best lists.

The samples are written as in the manual page nbest-format(5) and lm/src/NBest.cc
(`NBestHyp::write`, `"%g %g %d"`, and what `NBestHyp::parse` accepts). The value of a bytelog is
that of lm/src/Prob.h, `BytelogToLogP`.
"""

import math

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.srilm import SRILM
from rescore.types import Hypothesis, NBest

PLAIN = "-1234.5 -20.25 2 <s> the -pau- cat </s>\n-1240 -1e+01 0\n-1e3 0 1 nan\n"
DECIPHER = "NBestList1.0\n(-1000) the cat\n(-1024.5)\n"
BACKTRACE = (
    "NBestList2.0\n"
    "(-300) the ( st: 0.00 et: 0.20 g: -12 a: -100 ) dh[ah] ( st: 0.00 et: 0.10 g: 0 a: -60 ) "
    "dh-2 ( st: 0.30 et: 0.40 g: 0 a: -1 )"
    " cat ( st: 0.21 et: 0.50 g: -8 a: -180 )\n"
    "(-400)\n"
)
LN_10 = math.log(10)
NATS = 1024 / 10000.5


def save(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def views(nbest):
    return [
        (hyp.text, {name: pytest.approx(value, rel=1e-14) for name, value in hyp.scores.items()})
        for hyp in nbest.hyps
    ]


def complaint(path, **options):
    with pytest.raises(FormatError) as caught:
        list(SRILM.read(path, **options))
    return str(caught.value).removeprefix(str(path))


def test_a_directory_is_read_in_the_order_of_its_names(tmp_path):
    for name, text in (
        ("u2.nbest.gz", DECIPHER),
        ("u1.nbest", PLAIN),
        (".hidden", "x"),
        ("u10", BACKTRACE),
    ):
        save(tmp_path / "d" / name, text)
    assert [nbest.id for nbest in read_lists(tmp_path / "d", "srilm")] == [
        "u1.nbest",
        "u10",
        "u2.nbest",
    ]
    assert [nbest.id for nbest in SRILM.read(tmp_path / "d", suffix=".nbest")] == [
        "u1",
        "u10",
        "u2",
    ]


def test_base_10_becomes_natural(tmp_path):
    [nbest] = SRILM.read(save(tmp_path / "u1", PLAIN))
    assert views(nbest) == [
        ("the cat", {"am": -1234.5 * LN_10, "lm": -20.25 * LN_10, "rank": 0.0}),
        ("", {"am": -1240 * LN_10, "lm": -10 * LN_10, "rank": -1.0}),
        ("nan", {"am": -1000 * LN_10, "lm": 0.0, "rank": -2.0}),
    ]
    assert [hyp.raw for hyp in nbest.hyps] == [
        {"nwords": 2, "words": "<s> the -pau- cat </s>"},
        {"nwords": 0},
        {"nwords": 1},
    ]
    assert (nbest.id, nbest.where) == ("u1", f"{tmp_path}/u1")


def test_bytelogs_become_natural(tmp_path):
    path = save(tmp_path / "u1", DECIPHER)
    [nbest] = read_lists(path)
    assert format_of(path) is SRILM
    assert views(nbest) == [
        ("the cat", {"first_pass": -1000 * NATS, "rank": 0.0}),
        ("", {"first_pass": -1024.5 * NATS, "rank": -1.0}),
    ]
    [bare] = SRILM.read(
        save(tmp_path / "u2", DECIPHER.split("\n", 1)[1])
    )  # SRILM takes these lines without the header, too
    assert views(bare) == views(nbest)


def test_backtraces_are_summed_without_phones_and_states(tmp_path):
    path = save(tmp_path / "u1", BACKTRACE)
    [nbest] = read_lists(path)
    assert views(nbest) == [
        ("the cat", {"am": -280 * NATS, "lm": -20 * NATS, "first_pass": -300 * NATS, "rank": 0.0}),
        ("", {"am": 0.0, "lm": 0.0, "first_pass": -400 * NATS, "rank": -1.0}),
    ]


def test_sentence_marks_are_words_inside(tmp_path):
    [nbest] = SRILM.read(
        save(
            tmp_path / "u1",
            "-1 -1 3 a <s> b </s> c\n-1 -1 0 <s> </s>\n-1 -1 0 <s>\n-1 -1 0 </s>\n-1 -1 0 -pau-\n",
        )
    )
    assert [hyp.text for hyp in nbest.hyps] == ["a <s> b </s> c", "", "", "", ""]


WORD = "( st: 0.0 et: 0.3 g: -12 a: -345 )"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ": utterance u1: the file holds no hypothesis, expected at least one"),
        ("NBestList1.0\n", ": utterance u1: the file holds no hypothesis, expected at least one"),
        (
            "-1 -2\n",
            (
                ":1: utterance u1: the line has 2 fields, expected the acoustic score, "
                "the language model's, the number of words, and the words"
            ),
        ),
        (
            "-1 -2 1 a\n-inf -2 1 a\n",
            ':2: utterance u1: the acoustic score is "-inf", expected a finite number',
        ),
        (
            "-1 a 1 a\n",
            ':1: utterance u1: the language model\'s score is "a", expected a finite number',
        ),
        ("-1 -2 a b\n", ':1: utterance u1: the number of words is "a", expected a whole number'),
        (
            "-1e308 -2 1 a\n",
            ":1: utterance u1: the score am is too large for a float as a natural log",
        ),
        (
            "NBestList1.0\n-1 -2 1 a\n",
            ':2: utterance u1: the line begins with "-1", expected a score in parentheses, (-1234)',
        ),
        (
            f"NBestList1.0\n{'x' * 400} a\n",
            (
                f':2: utterance u1: the line begins with "{"x" * 40}...", '
                "expected a score in parentheses, (-1234)"
            ),
        ),
        ("NBestList1.0\n(x) a\n", ':2: utterance u1: the score is "x", expected a finite number'),
        (
            "NBestList2.0\n(-1) a\n",
            f":2: utterance u1: after the score come 1 fields, expected 11 for each word: w {WORD}",
        ),
        (
            "NBestList2.0\n(-1) a ( st: 0 ET: 1 g: 1 a: 1 )\n",
            (
                ':2: utterance u1: after the word "a" comes ( st: 0 ET: 1 g: 1 a: 1 ), '
                f"expected {WORD}"
            ),
        ),
        (
            "NBestList2.0\n(-1) a ( st: 0 et: 1 g: x a: 1 )\n",
            ':2: utterance u1: a number of the word "a" is "x", expected a finite number',
        ),
    ],
)
def test_bad_files_are_named(tmp_path, content, expected):
    assert complaint(save(tmp_path / "u1", content)) == expected


def test_names_make_ids(tmp_path):
    assert (
        complaint(save(tmp_path / "d" / ".nbest", PLAIN), suffix=".nbest")
        == ": the file's name leaves nothing for the id; choose another suffix"
    )
    for name in ("u1", "u1.gz"):
        save(tmp_path / "e" / name, PLAIN)
    assert complaint(tmp_path / "e") == (
        f"/u1.gz: utterance u1: this id was already at {tmp_path}/e/u1; "
        "every utterance needs its own"
    )


def test_broken_files_can_be_skipped(tmp_path):
    skipped = Skipped()
    save(tmp_path / "d" / "a", "x\n")
    save(tmp_path / "d" / "b", PLAIN)
    assert [nbest.id for nbest in SRILM.read(tmp_path / "d", skipped=skipped)] == ["b"]
    assert skipped.count == 1


def test_the_lines_that_are_written(tmp_path):
    lists = [
        NBest(
            "u1",
            (
                Hypothesis("the  cat", {"am": -LN_10, "ngram": -2 * LN_10}),
                Hypothesis("", {"am": 0.0, "ngram": 0.0}, {"nwords": 4}),
            ),
        )
    ]
    assert SRILM.write(lists, tmp_path / "d", lm="ngram") == 1
    assert {file.name: file.read_text() for file in (tmp_path / "d").iterdir()} == {
        "u1": "-1.0 -2.0 2 the cat\n0.0 0.0 4\n"
    }
    SRILM.write(lists, tmp_path / "e", lm=None)
    assert (tmp_path / "e" / "u1").read_text() == "-1.0 0.0 2 the cat\n0.0 0.0 4\n"


@pytest.mark.parametrize(
    ("utterance", "text", "error", "expected"),
    [
        (
            "a/b",
            "a",
            FormatError,
            (
                'utterance a/b: the id must be a file name: without "/", no dot first, '
                'no ".gz" last; rename the utterance'
            ),
        ),
        (
            "..",
            "a",
            FormatError,
            (
                'utterance ..: the id must be a file name: without "/", no dot first, '
                'no ".gz" last; rename the utterance'
            ),
        ),
        (
            "a.gz",
            "a",
            FormatError,
            (
                'utterance a.gz: the id must be a file name: without "/", no dot first, '
                'no ".gz" last; rename the utterance'
            ),
        ),
        (
            "a",
            "b </s>",
            FormatError,
            "utterance a, hypothesis 1: <s>, </s> and -pau- are not words to SRILM; take them out",
        ),
        (
            "a",
            "b",
            ScoreError,
            (
                'utterance a, hypothesis 1: score "lm" is missing; '
                "choose one of the scores in the list: am"
            ),
        ),
    ],
)
def test_what_a_file_cannot_hold_is_refused(tmp_path, utterance, text, error, expected):
    with pytest.raises(error) as caught:
        SRILM.write([NBest(utterance, (Hypothesis(text, {"am": -1.0}),))], tmp_path / "d")
    assert str(caught.value) == expected
    assert list(tmp_path.iterdir()) == []
