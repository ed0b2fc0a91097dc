"""lattice-rescore: columns that only the caller can name, numbers that touch, one file or many."""

import pytest

from rescore.errors import FormatError, ScoreError
from rescore.formats import Skipped, format_of, read_lists
from rescore.formats.lattice_rescore import LATTICE_RESCORE
from rescore.types import Hypothesis, NBest

# write_nbest: "{}-{:<6}".format(uttid, idx) + ''.join('{:10.3f}'.format(x)) + " |    {}\n"
LINES = """\
AMI_0003427-00-0        172.140   -11.734    -9.304 |    HERE WE GO
AMI_0003427-00-1        176.800   -17.031   -17.053 |   \x20
b-0      -123456.789-654321.012     0.000 |    nan | x
b-2          1.000     2.000123456.789 |    null
"""


def save(path, text):
    path.write_text(text)
    return path


def test_every_column_becomes_a_score(tmp_path):
    path = save(tmp_path / "x.nbest", LINES)
    first, second = LATTICE_RESCORE.read(path, scores="am,lm,rnnlm")
    assert (first.id, first.where, second.id, second.where) == (
        "AMI_0003427-00",
        f"{path}:1",
        "b",
        f"{path}:3",
    )
    assert [(hyp.text, dict(hyp.scores)) for hyp in first.hyps] == [
        ("HERE WE GO", {"am": 172.14, "lm": -11.734, "rnnlm": -9.304, "rank": 0.0}),
        ("", {"am": 176.8, "lm": -17.031, "rnnlm": -17.053, "rank": -1.0}),
    ]
    assert [(hyp.text, list(hyp.scores.values())) for hyp in second.hyps] == [
        ("nan | x", [-123456.789, -654321.012, 0.0, 0.0]),
        ("null", [1.0, 2.0, 123456.789, -2.0]),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "c-0  1.0 2.0 | a",
            (
                "utterance c, hypothesis 1 has 2 scores, expected 3 (am, lm, rnnlm); "
                "name them all, as in -O scores=am,lm,rnnlm"
            ),
        ),
        (
            "c-0  1.0 2.0 3.0 4.0 | a",
            (
                "utterance c, hypothesis 1 has 4 scores, expected 3 (am, lm, rnnlm); "
                "name them all, as in -O scores=am,lm,rnnlm"
            ),
        ),
        (
            "c-0  1.0 2.0 nan | a",
            'utterance c, hypothesis 1: score "rnnlm" is "nan", expected a finite number',
        ),
        (
            "c-0  1.0 2.0 3.0 a",
            (
                'utterance c, hypothesis 1: there is no "|", expected utt-n, the scores, '
                '"|" and the words'
            ),
        ),
        ("c 1.0 2.0 3.0 | a", "the line begins with 'c', expected utt-n and then the scores"),
        ("| a", "the line begins with '', expected utt-n and then the scores"),
        (
            "b-2 1.0 2.0 3.0 | a",
            "utterance b: the line is 'b-2', expected a number above that of the line before",
        ),
    ],
)
def test_bad_lines_are_named(tmp_path, line, expected):
    path = save(tmp_path / "x", f"{LINES}{line}\n")
    with pytest.raises(FormatError) as caught:
        list(LATTICE_RESCORE.read(path, scores="am,lm,rnnlm"))
    assert str(caught.value) == f"{path}:5: {expected}"


def test_lists_of_one_utterance_in_two_places_are_refused_or_skipped(tmp_path):
    path = save(tmp_path / "x", LINES + LINES[: LINES.index("b-0")])
    with pytest.raises(
        FormatError,
        match=(
            r":5: utterance AMI_0003427-00: this id was already at .*:1; "
            r"every utterance needs its own$"
        ),
    ):
        list(LATTICE_RESCORE.read(path, scores="am,lm,rnnlm"))
    skipped = Skipped()
    assert len(list(LATTICE_RESCORE.read(path, scores="am,lm,rnnlm", skipped=skipped))) == 2
    assert skipped.count == 1


@pytest.mark.parametrize("scores", ["", "am,", "am,am", "am,rank"])
def test_bad_names_are_refused(tmp_path, scores):
    with pytest.raises(FormatError, match=r"expected a name for every column, as in am,lm,rnnlm$"):
        read_lists(save(tmp_path / "x", LINES), "lattice-rescore", scores=scores)


def test_writing_keeps_every_digit_in_the_tools_layout(tmp_path):
    nbest = NBest(
        "u-1",
        (Hypothesis("a  b", {"am": -1.5, "x": 1 / 3}), Hypothesis("", {"am": 1e300, "x": 0.0})),
        where="x:1",
    )
    assert LATTICE_RESCORE.write([nbest], tmp_path / "x", scores="am,x") == 1
    assert (tmp_path / "x").read_text() == (
        "u-1-0           -1.5 0.3333333333333333 |    a b\nu-1-1         1e+300       0.0 |    \n"
    )
    [again] = LATTICE_RESCORE.read(tmp_path / "x", scores="am,x")
    assert [(hyp.text, hyp.scores["am"], hyp.scores["x"]) for hyp in again.hyps] == [
        ("a b", -1.5, 1 / 3),
        ("", 1e300, 0.0),
    ]


def test_writing_refuses_what_the_lines_cannot_hold(tmp_path):
    def refusal(nbest, error=FormatError):
        with pytest.raises(error) as caught:
            LATTICE_RESCORE.write([nbest], tmp_path / "x", scores="am")
        return str(caught.value)

    assert refusal(NBest("a b", (Hypothesis("a", {"am": 1.0}),))) == (
        'utterance a b: the ids of this format cannot hold white space or "|"; rename the utterance'
    )
    assert (
        refusal(NBest("u", (Hypothesis("a|b", {"am": 1.0}),)))
        == 'utterance u, hypothesis 1: the texts of this format cannot hold "|"'
    )
    missing = refusal(NBest("u", (Hypothesis("a", {"lm": 1.0}),)), ScoreError)
    assert missing == (
        'utterance u, hypothesis 1: score "am" is missing; choose one of the scores in the list: lm'
    )
    assert list(tmp_path.iterdir()) == []


def test_the_content_proves_the_format(tmp_path):
    assert format_of(save(tmp_path / "x", LINES)) is LATTICE_RESCORE
    with pytest.raises(FormatError, match="does not prove its format"):
        format_of(
            save(tmp_path / "y", "u-0 " + "1.5 " * 20000 + "x")
        )  # and at once: no pattern that backtracks
